from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from trainer.contract.manifest import Row
from trainer.contract.train_config import Task as TaskConfig
from trainer.data.augment import View, whole
from trainer.data.sample import Labelled
from trainer.tasks.lanes import STRIDE, build, places_at, slots_of

SIZE = (128, 256)
LANES = (((100.0, 40.0), (20.0, 120.0)), ((140.0, 40.0), (200.0, 127.0)), ((150.0, 50.0), (250.0, 110.0)))


def labelled(lanes: tuple | None = LANES, view: View | None = None) -> Labelled:
    row = Row(
        sample_id="a", source_ref="a.jpg", sha256="0" * 64, captured_at=datetime(2026, 1, 1, tzinfo=UTC), lanes=lanes,
        licence="CC0-1.0", origin="test",
    )  # fmt: skip
    return Labelled(row, view or whole(SIZE, SIZE), SIZE, None)


def perfect_outputs(targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a head would say that knows the targets: the two columns next to the place, by how near they are."""
    columns = torch.arange(SIZE[1] // STRIDE)
    near = (1 - (targets["place"][..., None] - columns).abs()).clamp(min=1e-6)
    return {"where": near.log(), "present": 20 * targets["present"] - 10}


def test_decoding_the_targets_gives_the_lanes_back() -> None:
    task = build(TaskConfig())
    sample = labelled()
    found = task.decode(perfect_outputs(task.targets(sample)), sample)
    assert len(found) == len(LANES)
    for lane, truth in zip(
        sorted(found, key=lambda lane: lane[-1, 0]), sorted(LANES, key=lambda lane: lane[-1][0]), strict=True
    ):
        inside = (lane[:, 1] >= truth[0][1]) & (lane[:, 1] <= truth[1][1])
        assert inside.sum() >= 5
        expected = np.interp(lane[inside, 1], [y for _, y in truth], [x for x, _ in truth])
        assert np.abs(lane[inside, 0] - expected).max() < 0.5


def test_perfect_outputs_score_one() -> None:
    task = build(TaskConfig())
    sample = labelled()
    metrics = task.metrics([task.record(perfect_outputs(task.targets(sample)), sample)])
    assert metrics["F1"] == 1.0
    assert (metrics["FP"], metrics["FN"]) == (0.0, 0.0)
    assert metrics["accuracy"] > 0.85  # the ends of a lane lie between two rows


def test_the_loss_of_perfect_outputs_is_far_below_an_untrained_heads() -> None:
    task = build(TaskConfig())
    targets = {name: value[None] for name, value in task.targets(labelled()).items()}
    perfect = task.loss(
        {name: value[None] for name, value in perfect_outputs(task.targets(labelled())).items()}, targets
    )
    torch.manual_seed(0)
    head = task.head(16)
    untrained = task.loss(head([torch.randn(1, 16, SIZE[0] // s, SIZE[1] // s) for s in (4, 8, 16, 32)]), targets)
    assert float(perfect) < 0.2 * float(untrained)


def test_a_sample_that_was_not_annotated_has_no_loss_and_no_record() -> None:
    task = build(TaskConfig())
    targets = {name: value[None] for name, value in task.targets(labelled(None)).items()}
    outputs = {"where": torch.randn(1, 6, 16, 32), "present": torch.randn(1, 6, 16)}
    assert float(task.loss(outputs, targets)) == 0.0
    assert task.record({}, labelled(None)) is None
    assert task.metrics([None])["F1"] is None


def test_a_road_without_lanes_is_told_from_one_that_was_not_annotated() -> None:
    task = build(TaskConfig())
    targets = {name: value[None] for name, value in task.targets(labelled(())).items()}
    outputs = {"where": torch.randn(1, 6, 16, 32), "present": torch.full((1, 6, 16), 5.0)}
    assert float(task.loss(outputs, targets)) > 1.0


def test_slots_count_from_the_middle_outwards_and_the_outermost_go_without() -> None:
    lanes = [np.array([(x, 0.0), (x, 100.0)]) for x in (10.0, 60.0, 90.0, 110.0, 150.0)]
    assert [(slot, lane[0, 0]) for slot, lane in slots_of(lanes, 200, 100, 4)] == [
        (1, 90.0), (0, 60.0), (2, 110.0), (3, 150.0)
    ]  # fmt: skip


def test_a_mirrored_view_mirrors_the_slots() -> None:
    task = build(TaskConfig())
    plain = task.targets(labelled())["present"]
    mirrored = task.targets(labelled(view=View(0, 0, SIZE[1], SIZE[0], *SIZE, mirrored=True)))["present"]
    assert torch.equal(plain.flip(0), mirrored)


@given(x=st.floats(-50, 50), y=st.floats(0, 100), slope=st.floats(-2, 2))
def test_a_straight_lane_is_met_where_its_line_is(x: float, y: float, slope: float) -> None:
    lane = np.array([(x + slope * step, y + step) for step in (30.0, 0.0, 60.0)])
    levels = np.array([y - 1, y, y + 12.5, y + 60])
    found = places_at(lane, levels)
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx(x + slope * (levels[1:] - y), abs=1e-6)


def test_an_option_that_is_wrong_is_named() -> None:
    with pytest.raises(ContractError, match=r"tasks\.lanes\.options field 'slots': found 5"):
        build(TaskConfig(options={"slots": 5}))
