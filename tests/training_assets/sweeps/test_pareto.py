"""The front is what Optuna calls it, and what the definition says."""

import optuna
from hypothesis import given
from hypothesis import strategies as st

from training_assets.sweeps.report.pareto import pareto_layers

POINTS = st.integers(1, 3).flatmap(
    lambda size: st.lists(st.tuples(*[st.integers(0, 6).map(float)] * size), min_size=1, max_size=25)
)


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


@given(POINTS)
def test_each_layer_is_dominated_by_the_one_before_and_by_none_behind(points: list[tuple[float, ...]]) -> None:
    layers = pareto_layers(points)
    for point, layer in zip(points, layers, strict=True):
        above = {other for n, other in zip(layers, points, strict=True) if dominates(other, point) for _ in [n]}
        depths = [layers[points.index(other)] for other in above]
        assert layer == max(depths, default=-1) + 1


@given(POINTS.filter(lambda points: len(points[0]) > 1))
def test_the_front_is_optunas(points: list[tuple[float, ...]]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize"] * len(points[0]))
    for point in points:
        study.add_trial(optuna.create_trial(values=list(point)))
    assert {number for number, layer in enumerate(pareto_layers(points)) if layer == 0} == {
        trial.number for trial in study.best_trials
    }


def test_nothing_has_no_front() -> None:
    assert pareto_layers([]) == []
