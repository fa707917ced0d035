from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from trainer.contract.manifest import Row
from trainer.contract.slices import Slices, parse_slices
from trainer.evaluation.evaluate import Evaluated
from trainer.evaluation.slices import compare_split, score_split
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
    name = "task"

    def statistics(self, records: list[float]) -> Mean:
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


def scored(values: np.ndarray, slices: Slices = SLICES):  # type: ignore[no-untyped-def]
    return score_split(samples(values), [Task()], slices)  # type: ignore[list-item]


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
    low, high = score_split(ours, [Task()], SLICES).intervals["task/mean"]  # type: ignore[list-item]
    assert low < 0 < high
    changes = compare_split(ours, [Task()], theirs, [Task()], SLICES)  # type: ignore[list-item]
    change = changes["all"]["task/mean"]
    assert change.value - change.reference == pytest.approx(0.5, abs=0.05)
    assert 0.4 < change.interval[0] < change.interval[1] < 0.6
    assert set(changes) == {"all", "night", "day", "rain", "snow"}
    assert changes["snow"] == {}


def test_a_model_beside_itself_differs_by_nothing() -> None:
    ours = samples(np.random.default_rng(4).normal(size=30))
    change = compare_split(ours, [Task()], ours, [Task()], SLICES)["all"]["task/mean"]  # type: ignore[list-item]
    assert change.interval == (0.0, 0.0)
