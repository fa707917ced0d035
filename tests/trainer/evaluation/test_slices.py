from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from trainer.contract.eval_report import SplitScore
from trainer.contract.manifest import Row
from trainer.contract.slices import parse_slices
from trainer.evaluation.evaluate import Evaluated
from trainer.evaluation.slices import Part, compare_split, lost, parts_of, score_split
from trainer.metrics.statistics import ratio

SLICES = parse_slices(
    {
        "slices": [
            {"name": name, "where": {f"attributes.{key}": name}}
            for key, name in (("time", "night"), ("time", "day"), ("weather", "rain"), ("weather", "snow"))
        ]
    }
)


@dataclass
class Mean:
    """Statistics whose only metric is the mean of one number a sample."""

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": ratio(counts @ self.values, counts.sum(axis=1))}


class Task:
    """``asked`` has how many samples there were whenever it was asked for their statistics."""

    name = "task"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def statistics(self, records: list[float]) -> Mean:
        self.asked.append(len(records))
        return Mean(np.array(records, float))


def samples(values: np.ndarray) -> list[Evaluated]:
    """The first half by night, every third in the rain."""
    found = []
    for place, value in enumerate(values):
        night, rain = place < len(values) // 2, place % 3 == 0
        row = Row(
            sample_id=f"s{place}", source_ref="a.jpg", sha256="0" * 64, captured_at=datetime(2026, 1, 1, tzinfo=UTC),
            attributes={"time": "night" if night else "day", "weather": "rain" if rain else "clear"},
            licence="CC0-1.0", origin="test",
        )  # fmt: skip
        found.append(Evaluated(place, row, {"task": float(value)}))
    return found


def parts(evaluated: list[Evaluated], crossed: bool = True) -> dict[str, Part]:
    return parts_of(evaluated, [Task()], SLICES, crossed)  # type: ignore[list-item]


def scored(values: np.ndarray) -> SplitScore:
    return score_split(parts(samples(values)), SLICES)


def test_slices_and_their_pairs_have_their_own_samples_metrics_and_intervals() -> None:
    values = np.arange(60.0)
    split = scored(values)
    assert (split.samples, split.metrics["task/mean"]) == (60, pytest.approx(29.5))
    assert split.slices["night"].metrics["task/mean"] == pytest.approx(14.5)
    assert split.slices["snow"].samples == 0
    assert split.slices["snow"].metrics["task/mean"] is None
    assert split.slices["snow"].intervals == {}
    assert set(split.crossed) == {"night × rain", "day × rain"}
    assert split.crossed["night × rain"].samples == 10
    assert split.crossed["night × rain"].metrics["task/mean"] == pytest.approx(np.arange(0, 30, 3).mean())


def test_an_interval_is_that_of_the_central_limit_theorem() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = scored(values).intervals["task/mean"]
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.03)
    assert high == pytest.approx(values.mean() + error, abs=0.03)


def test_the_same_samples_give_the_same_interval() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert scored(values) == scored(values)


def test_a_paired_comparison_sees_what_two_intervals_would_not() -> None:
    noise = np.random.default_rng(2).normal(0, 5, 100)
    ours, theirs = samples(noise + 0.5), samples(noise + np.random.default_rng(3).normal(0, 0.1, 100))
    low, high = score_split(parts(ours), SLICES).intervals["task/mean"]
    assert low < 0 < high
    changes = compare_split(parts(ours), parts(theirs, crossed=False))
    change = changes["all"]["task/mean"]
    assert change.value - change.reference == pytest.approx(0.5, abs=0.05)
    assert 0.4 < change.interval[0] < change.interval[1] < 0.6
    assert set(changes) == {"all", "night", "day", "rain", "snow"}
    assert changes["snow"] == {}


def test_a_model_beside_itself_differs_by_nothing() -> None:
    ours = parts(samples(np.random.default_rng(4).normal(size=30)))
    assert compare_split(ours, ours)["all"]["task/mean"].interval == (0.0, 0.0)
    assert lost(ours, ours) == ()


def test_what_only_the_reference_has_is_lost() -> None:
    nothing, something = parts([]), parts(samples(np.arange(6.0)))
    assert lost(nothing, something) == ("task/mean",)
    assert lost(something, nothing) == ()


def test_scores_and_comparisons_resample_each_part_once() -> None:
    task = Task()
    found = parts_of(samples(np.arange(60.0)), [task], SLICES)  # type: ignore[list-item]
    score_split(found, SLICES)
    compare_split(found, found)
    assert sorted(task.asked) == sorted(part.samples for part in found.values())


def test_slices_of_the_same_samples_are_resampled_once() -> None:
    task, where = Task(), {"attributes.time": "night"}
    slices = parse_slices({"slices": [{"name": "night", "where": where}, {"name": "dark", "where": where}]})
    found = parts_of(samples(np.arange(60.0)), [task], slices)  # type: ignore[list-item]
    assert (sorted(task.asked), set(found)) == ([30, 60], {"all", "night", "dark"})
    assert found["dark"] is found["night"]
