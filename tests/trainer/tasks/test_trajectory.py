from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from trainer.contract.manifest import Row, Track, tracks_sha256
from trainer.contract.train_config import Task as TaskConfig
from trainer.data.augment import View, whole
from trainer.data.sample import BLIND, Labelled
from trainer.metrics.forecasting import constant_velocity
from trainer.tasks.trajectory import STILL, Trajectory, build

OPTIONS = {"observed": 4, "predicted": 6, "max_agents": 5, "hidden": 16}


def trajectory(**options: object) -> Trajectory:
    return build(TaskConfig(options={**OPTIONS, **options}))


def sample_of(paths: np.ndarray, rng: np.random.Generator | None = None, **more: object) -> Labelled:
    """A sample without an image; ``paths`` A×10×2."""
    tracks = tuple(
        Track(track_id=str(number), hz=2.5, observed=4, points=tuple(map(tuple, path.tolist())))
        for number, path in enumerate(paths)
    )
    row = Row(
        sample_id="a", sha256=tracks_sha256(tracks), captured_at=datetime(2026, 1, 1, tzinfo=UTC), tracks=tracks,
        licence="CC0-1.0", origin="test",
    )  # fmt: skip
    return Labelled(row, BLIND, (0, 0), None, rng)


def walks(seed: int, agents: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 10, (agents, 1, 2)) + np.cumsum(rng.normal(0.3, 0.5, (agents, 10, 2)), axis=1)


def batch_of(task: Trajectory, *samples: Labelled) -> dict[str, torch.Tensor]:
    parts = [task.observed(sample) for sample in samples]
    return {name: torch.stack([part[name] for part in parts]) for name in task.inputs}


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), agents=st.integers(1, 5))
def test_what_goes_into_an_agents_frame_comes_out_again(seed: int, agents: int) -> None:
    paths = walks(seed, agents)
    assume((np.hypot(*(paths[:, 3] - paths[:, 2]).T) > STILL).all())  # who stands looks where it last went
    found = trajectory().agents(sample_of(paths).row)
    own = found.inward(found.past)
    assert own[:, -1] == pytest.approx(np.zeros((agents, 2)), abs=1e-9)
    assert own[:, -2, 1] == pytest.approx(np.zeros(agents), abs=1e-9)  # the last movement is along the first axis
    assert (own[:, -2, 0] < 0).all()
    assert found.outward(found.inward(found.future)[:, None])[:, 0] == pytest.approx(paths[:, 4:], abs=1e-9)


def untrained(task: Trajectory) -> torch.nn.Module:
    """A head that departs by nothing."""
    torch.manual_seed(0)
    head = task.head(0)
    torch.nn.init.zeros_(head.future[-1].weight)  # type: ignore[union-attr, arg-type]
    torch.nn.init.zeros_(head.future[-1].bias)  # type: ignore[union-attr, arg-type]
    return head.eval()


def test_a_head_that_learnt_nothing_goes_on_at_constant_velocity() -> None:
    task, paths = trajectory(), walks(1)
    sample = sample_of(paths)
    with torch.inference_mode():
        outputs = untrained(task)(None, *batch_of(task, sample).values())
    found, probabilities = task.decode({name: value[0] for name, value in outputs.items()}, task.agents(sample.row))
    assert found[:, 0] == pytest.approx(constant_velocity(paths[:, :4], 6), abs=1e-4)
    assert probabilities == pytest.approx(np.ones((3, 1)))
    expected = np.linalg.norm(constant_velocity(paths[:, :4], 6) - paths[:, 4:], axis=2)
    metrics = task.metrics([task.record({name: value[0] for name, value in outputs.items()}, sample)])
    assert metrics["ADE"] == pytest.approx(expected.mean(), abs=1e-4)
    assert metrics["FDE"] == pytest.approx(expected[:, -1].mean(), abs=1e-4)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), angle=st.floats(-3, 3))
def test_forecasts_turn_and_move_with_the_world(seed: int, angle: float) -> None:
    task, paths = trajectory(), walks(seed)
    torch.manual_seed(1)
    head = task.head(0).eval()
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = paths @ turn.T + (100.0, -40.0)
    found = []
    for one in (paths, moved):
        sample = sample_of(one)
        with torch.inference_mode():
            outputs = {name: value[0] for name, value in head(None, *batch_of(task, sample).values()).items()}
        found.append(task.decode(outputs, task.agents(sample.row))[0])
    assert found[0] @ turn.T + (100.0, -40.0) == pytest.approx(found[1], abs=1e-2)


def test_empty_places_change_nothing_and_neighbours_do() -> None:
    paths = {}
    for agents, room in ((1, 5), (2, 5), (2, 9)):
        task = trajectory(max_agents=room)
        torch.manual_seed(1)
        given = batch_of(task, sample_of(walks(2, 2)[:agents]))
        paths[agents, room] = task.head(0).eval()(None, *given.values())["paths"][0, 0]
    assert torch.allclose(paths[2, 5], paths[2, 9], atol=1e-6)
    assert not torch.allclose(paths[1, 5], paths[2, 5], atol=1e-4)


def test_training_mirrors_and_scales_past_and_future_alike() -> None:
    task = trajectory(scale=[0.5, 2.0])
    seen = set()
    for seed in range(8):
        targets = task.targets(sample_of(walks(5), np.random.default_rng(seed)))
        own = task.observed(sample_of(walks(5)))
        agents = task.agents(sample_of(walks(5)).row)
        ratio = targets["past"][:3] / own["past"][:3]
        factor = float(ratio[0, 0, 0])
        mirrored = float(ratio[0, 0, 1]) < 0
        seen.add(mirrored)
        expected = agents.inward(agents.future) * factor * (1, -1 if mirrored else 1)
        assert 0.5 <= factor <= 2.0
        assert targets["future"][:3].numpy() == pytest.approx(expected, abs=1e-4)
    assert seen == {True, False}


def test_an_agents_place_in_the_image_follows_the_view() -> None:
    track = Track(track_id="a", hz=2.5, observed=4, points=tuple((float(t), 0.0) for t in range(10)), at=(75.0, 50.0))
    row = Row(
        sample_id="a", source_ref="a.jpg", sha256="0" * 64, captured_at=datetime(2026, 1, 1, tzinfo=UTC),
        tracks=(track,), licence="CC0-1.0", origin="test",
    )  # fmt: skip
    task, size = trajectory(), (100, 100)
    assert task.observed(Labelled(row, whole(size, size), size, None))["at"][0].tolist() == [0.5, 0.0, 1.0]
    cropped = Labelled(row, View(50, 0, 50, 100, 64, 64, mirrored=True), size, None)
    assert task.observed(cropped)["at"][0].tolist() == pytest.approx([0.0, 0.0, 1.0])
    outside = Labelled(row, View(0, 0, 50, 100, 64, 64), size, None)
    assert task.observed(outside)["at"][0].tolist() == [0.0, 0.0, 0.0]


def test_the_image_at_the_agent_changes_its_forecast() -> None:
    task = trajectory()
    torch.manual_seed(1)
    head = task.head(8).eval()
    given = batch_of(task, sample_of(walks(3)))
    given["at"][:, :, 2] = 1.0
    pyramid = [torch.randn(1, 8, 64 // stride, 64 // stride) for stride in (4, 8, 16, 32)]
    other = [torch.randn_like(level) for level in pyramid]
    assert not torch.allclose(head(pyramid, *given.values())["paths"], head(other, *given.values())["paths"])


def test_of_several_modes_the_best_one_learns_and_is_named() -> None:
    task = trajectory(modes=3)
    targets = {name: value[None] for name, value in task.targets(sample_of(walks(1), np.random.default_rng(0))).items()}
    paths = torch.zeros(1, 5, 3, 6, 2) + 100.0
    paths[:, :, 1] = targets["future"]
    sure = torch.tensor([-9.0, 9.0, -9.0]).expand(1, 5, 3)
    assert float(task.loss({"paths": paths, "modes": sure}, targets)) == pytest.approx(0.0, abs=2e-3)
    assert float(task.loss({"paths": paths, "modes": -sure}, targets)) > 10


def test_more_agents_than_there_is_room_for_are_refused_by_name() -> None:
    with pytest.raises(ContractError, match=r"sample 'a': found 6 agents, expected at most 5"):
        trajectory().observed(sample_of(walks(0, 6)))


def test_a_sample_without_agents_has_no_loss_and_no_metrics() -> None:
    task = trajectory()
    tracks = (Track(track_id="short", hz=2.5, observed=2, points=((0, 0), (1, 0), (2, 0))),)
    row = sample_of(walks(0)).row.model_copy(update={"tracks": tracks})
    sample = Labelled(row, BLIND, (0, 0), None, np.random.default_rng(0))
    targets = {name: value[None] for name, value in task.targets(sample).items()}
    with torch.inference_mode():
        outputs = task.head(0)(None, *batch_of(task, sample).values())
    assert float(task.loss(outputs, targets)) == 0.0
    assert task.metrics([task.record({n: v[0] for n, v in outputs.items()}, sample)])["ADE"] is None


def test_what_is_trained_on_does_not_depend_on_the_room_for_agents():
    task = build(TaskConfig(options={"observed": 3, "predicted": 2, "max_agents": 6, "hidden": 8, "modes": 2}))
    torch.manual_seed(0)
    head = task.head(0)
    past, pose, at = torch.randn(2, 6, 3, 2), torch.randn(2, 6, 4), torch.zeros(2, 6, 3)
    here = torch.tensor([[1.0, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]])
    trained = head.train()(None, past, pose, here, at)
    evaluated = head.eval()(None, past, pose, here, at)
    for name, value in evaluated.items():
        assert trained[name].shape == value.shape
        torch.testing.assert_close(trained[name][here.bool()], value[here.bool()])
        assert not trained[name][:, 3:].any()


def test_noise_shifts_the_past_alone_and_is_the_same_for_the_same_draw():
    paths = walks(2, agents=2)
    plain, shaken, again = (
        trajectory(noise=noise).targets(sample_of(paths, np.random.default_rng(3))) for noise in (0.0, 0.05, 0.05)
    )
    assert torch.equal(shaken["past"], again["past"])
    assert torch.equal(shaken["future"], plain["future"])
    shift = (shaken["past"] - plain["past"])[:2]
    assert 0.0 < shift.abs().max() < 0.3
    assert not shaken["past"][2:].any()
