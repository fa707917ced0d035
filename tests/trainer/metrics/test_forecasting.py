import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from trainer.contract.metrics import direction
from trainer.metrics.forecasting import ForecastStatistics, constant_velocity, forecast_errors
from trainer.metrics.statistics import draws, point

OBSERVED, PREDICTED = 8, 12
SCENES = {"eth": "biwi_eth", "hotel": "biwi_hotel", "zara1": "crowds_zara01"}


def test_nuscenes_devkits_own_test_cases_have_their_values(real_data: Path) -> None:
    vectors = json.loads((real_data / "metric_vectors" / "forecasting" / "nuscenes.json").read_text())
    modes, truth = np.array(vectors["pred_modes"], float), np.array(vectors["gt"], float)
    errors = forecast_errors(modes, truth, np.array(vectors["mode_probs"]))
    found = point(ForecastStatistics([[errors]], (1, 2, 3), miss_threshold=10))
    for name, expected in (
        ("minADE", vectors["min_ade_top1_2_3"]),
        ("minFDE", vectors["min_fde_top1_2_3"]),
        ("miss_rate", [float(missed) for missed in vectors["miss_rate_top1_2_3_at_10m"]]),
    ):
        assert [found[f"{name}{k}"] for k in (1, 2, 3)] == pytest.approx(expected, abs=vectors["tolerance"])
    by_probability = np.argsort(vectors["mode_probs"])[::-1]
    assert errors[:, 0] == pytest.approx(np.array(vectors["ade_per_mode"])[by_probability], abs=vectors["tolerance"])
    largest = np.array(vectors["fde_and_max_per_mode"])[by_probability]
    assert errors[:, 1] == pytest.approx(largest, abs=vectors["tolerance"])
    assert errors[:, 2] == pytest.approx(largest, abs=vectors["tolerance"])


ARGOVERSE = {
    "stationary": (np.ones((10, 2)), 2**0.5, 2**0.5),
    "straight": (np.stack([np.arange(10), np.zeros(10)], axis=1), 4.5, 9.0),
    "diagonal": (np.stack([np.arange(10), np.arange(10)], axis=1), 6.36396103, np.hypot(9, 9)),
}
"""Path, ADE and FDE against a truth that stays at 0, 0: ``motion_forecasting/eval/test_metrics.py`` of av2-api."""


@pytest.mark.parametrize("case", ARGOVERSE)
def test_argoverses_own_test_cases_have_their_values(case: str) -> None:
    path, ade, fde = ARGOVERSE[case]
    errors = forecast_errors(path[None], np.zeros((10, 2)), np.ones(1))
    found = point(ForecastStatistics([[errors]], (1,), miss_distance="final"))
    assert found == pytest.approx(
        {"ADE": ade, "FDE": fde, "minADE1": ade, "minFDE1": fde, "miss_rate1": float(fde > 2)}
    )


def test_a_path_that_strays_and_comes_back_misses_by_its_largest_distance_only() -> None:
    truth = np.zeros((3, 2))
    errors = forecast_errors(np.array([[[0, 0], [0, 3], [0, 1]]], float), truth, np.ones(1))
    assert point(ForecastStatistics([[errors]], (1,)))["miss_rate1"] == 1
    assert point(ForecastStatistics([[errors]], (1,), miss_distance="final"))["miss_rate1"] == 0


def test_at_the_threshold_nuscenes_misses_and_argoverse_does_not() -> None:
    errors = forecast_errors(np.full((1, 2, 2), [0.0, 2.0]), np.zeros((2, 2)), np.ones(1))
    assert point(ForecastStatistics([[errors]], (1,)))["miss_rate1"] == 1
    assert point(ForecastStatistics([[errors]], (1,), miss_distance="final"))["miss_rate1"] == 0


def test_modes_count_by_probability_of_equal_ones_the_later_first_and_fewer_than_k_all_count() -> None:
    modes = np.arange(4.0)[:, None, None] * np.ones((4, 5, 2)) / 2**0.5  # mode m is m metres away
    errors = forecast_errors(modes, np.zeros((5, 2)), np.array([0.1, 0.3, 0.3, 0.3]))
    found = point(ForecastStatistics([[errors]], (1, 2, 3, 10)))
    assert [found[f"minADE{k}"] for k in (1, 2, 3, 10)] == pytest.approx([3, 2, 1, 0])
    assert (found["ADE"], found["FDE"]) == pytest.approx((3, 3))


def test_every_agent_counts_once_however_many_a_sample_has() -> None:
    def away(metres: float) -> np.ndarray:
        return forecast_errors(np.full((1, 4, 2), [metres, 0.0]), np.zeros((4, 2)), np.ones(1))

    samples = [[away(1)], [away(3), away(5), away(7)], []]
    assert point(ForecastStatistics(samples))["ADE"] == pytest.approx(4)
    drawn = draws(3, 10)
    expected = [
        np.mean([value for one, count in zip(([1], [3, 5, 7], []), row, strict=True) for value in one * int(count)])
        if row[:2].any()
        else np.nan
        for row in drawn
    ]
    assert ForecastStatistics(samples).metrics(drawn)["ADE"] == pytest.approx(expected, nan_ok=True)


def test_every_error_of_a_forecast_is_better_when_lower() -> None:
    assert all(direction(f"trajectory/{name}") < 0 for name in ForecastStatistics([]).names)


def windows(path: Path, least: int) -> list[np.ndarray]:
    """Agents×20×2 of each run of 20 recorded frames in which ``least`` people or more are seen throughout."""
    frames: dict[float, dict[float, tuple[float, float]]] = defaultdict(dict)
    for frame, person, x, y in np.loadtxt(path):
        frames[frame][person] = (x, y)
    ordered = [frames[number] for number in sorted(frames)]
    found = []
    for begin in range(len(ordered) - OBSERVED - PREDICTED + 1):
        run = ordered[begin : begin + OBSERVED + PREDICTED]
        people = set.intersection(*(set(frame) for frame in run))
        if len(people) >= least:
            found.append(np.array([[frame[person] for frame in run] for person in sorted(people)]))
    return found


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("least", [1, 2])
def test_constant_velocity_on_eth_ucy_has_its_known_errors(real_data: Path, scene: str, least: int) -> None:
    known = json.loads((real_data / "eth_ucy" / "window_counts_and_baselines.json").read_text())
    expected = known[scene][f"test_minped>{least - 1}"]
    found = windows(real_data / "eth_ucy" / "raw" / "all_data" / f"{SCENES[scene]}.txt", least)
    assert (len(found), sum(map(len, found))) == (expected["windows"], expected["trajectories"])
    forecasts = [constant_velocity(window[:, :OBSERVED], PREDICTED) for window in found]
    metrics = point(
        ForecastStatistics(
            [
                [forecast_errors(path[None], agent[OBSERVED:], np.ones(1)) for path, agent in zip(*pair, strict=True)]
                for pair in zip(forecasts, found, strict=True)
            ]
        )
    )
    assert (metrics["ADE"], metrics["FDE"]) == pytest.approx((expected["cv_ade"], expected["cv_fde"]), abs=5e-4)
