"""Distributions map the unit interval to values and back, within their bounds."""

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from training_assets.sweeps.space import DISTRIBUTIONS, Categorical, Constant, IntUniform, Parameter, Space, Uniform

UNITS = st.floats(0, 1)
SMALL = st.floats(-20, 20)
POSITIVE = st.floats(1e-6, 1e6)
STEPS = st.sampled_from([1, 2, 0.1, 0.25, 3.7])
KEYS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "int_uniform": {"min": st.integers(-1000, 1000), "max": st.integers(-1000, 1000)},
    "uniform": {"min": SMALL, "max": SMALL},
    "q_uniform": {"min": SMALL, "max": SMALL, "q": STEPS},
    "log_uniform": {"min": SMALL, "max": SMALL},
    "log_uniform_values": {"min": POSITIVE, "max": POSITIVE},
    "q_log_uniform": {"min": SMALL, "max": SMALL, "q": STEPS},
    "q_log_uniform_values": {"min": POSITIVE, "max": POSITIVE, "q": STEPS},
    "inv_log_uniform": {"min": SMALL, "max": SMALL},
    "inv_log_uniform_values": {"min": POSITIVE, "max": POSITIVE},
    "normal": {"mu": SMALL, "sigma": st.floats(0.01, 10)},
    "q_normal": {"mu": SMALL, "sigma": st.floats(0.01, 10), "q": STEPS},
    "log_normal": {"mu": st.floats(-3, 3), "sigma": st.floats(0.01, 2)},
    "q_log_normal": {"mu": st.floats(-3, 3), "sigma": st.floats(0.01, 2), "q": STEPS},
    "beta": {"a": st.floats(0.5, 5), "b": st.floats(0.5, 5)},
    "q_beta": {"a": st.floats(0.5, 5), "b": st.floats(0.5, 5), "q": st.sampled_from([1, 0.1, 0.25])},
}
BOUNDS = {
    "log_uniform": lambda low, high: (math.exp(low), math.exp(high)),
    "q_log_uniform": lambda low, high: (math.exp(low), math.exp(high)),
    "inv_log_uniform": lambda low, high: (math.exp(-high), math.exp(-low)),
}


@st.composite
def declared(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A distribution's name and keys as W&B has them, ordered bounds."""
    name = draw(st.sampled_from(sorted(KEYS)))
    keys = {key: draw(values) for key, values in KEYS[name].items()}
    if "min" in keys:
        keys["min"], keys["max"] = sorted((keys["min"], keys["max"]))
        assume(keys["max"] - keys["min"] > 2 * keys.get("q", 0) + 1e-3)
    if "log" in name and "min" in keys and "q" in keys:
        low, high = BOUNDS.get(name, lambda *bounds: bounds)(keys["min"], keys["max"])
        assume(high - low > 2 * keys["q"])
    return name, keys


@given(declared(), UNITS)
def test_every_value_lies_within_the_declared_bounds(declaration: tuple[str, dict[str, Any]], unit: float) -> None:
    name, keys = declaration
    value = DISTRIBUTIONS[name](**keys).at(unit)
    assert isinstance(value, int | float)
    if "min" in keys:
        low, high = BOUNDS.get(name, lambda *bounds: bounds)(keys["min"], keys["max"])
        slack = 1e-9 * (abs(low) + abs(high)) if "q" in keys else 0.0
        assert low - slack <= value <= high + slack
    assert math.isfinite(value)


@given(declared(), UNITS)
def test_a_value_and_its_coordinate_lead_to_one_another(declaration: tuple[str, dict[str, Any]], unit: float) -> None:
    name, keys = declaration
    distribution = DISTRIBUTIONS[name](**keys)
    value = distribution.at(unit)
    again = distribution.at(distribution.unit(value))
    assert 0 <= distribution.unit(value) <= 1
    assert again == (pytest.approx(value, rel=1e-6, abs=1e-6) if "q" not in keys else value)


@given(declared(), UNITS, UNITS)
def test_values_rise_with_their_coordinate(declaration: tuple[str, dict[str, Any]], one: float, other: float) -> None:
    name, keys = declaration
    distribution = DISTRIBUTIONS[name](**keys)
    low, high = (distribution.at(unit) for unit in sorted((one, other)))
    assert low <= high  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "keys", "reference"),
    [
        ("uniform", {"min": 2, "max": 6}, stats.uniform(2, 4)),
        ("log_uniform", {"min": -3, "max": 1}, stats.loguniform(math.exp(-3), math.exp(1))),
        ("log_uniform_values", {"min": 0.1, "max": 10}, stats.loguniform(0.1, 10)),
        ("inv_log_uniform_values", {"min": 0.1, "max": 10}, stats.loguniform(0.1, 10)),
        ("inv_log_uniform", {"min": -3, "max": 1}, stats.loguniform(math.exp(-1), math.exp(3))),
        ("normal", {"mu": 3, "sigma": 2}, stats.norm(3, 2)),
        ("log_normal", {"mu": 1, "sigma": 0.5}, stats.lognorm(0.5, scale=math.exp(1))),
        ("beta", {"a": 2, "b": 5}, stats.beta(2, 5)),
        ("int_uniform", {"min": 3, "max": 9}, stats.randint(3, 10)),
    ],
)
def test_values_are_scipys_quantiles(name: str, keys: dict[str, float], reference: Any) -> None:
    distribution = DISTRIBUTIONS[name](**keys)
    for unit in (0.01, 0.2, 0.5, 0.77, 0.99):
        assert distribution.at(unit) == pytest.approx(reference.ppf(unit))


def test_steps_are_whole_multiples_within_the_bounds_that_read_well() -> None:
    tenths = Uniform(0.05, 0.35, 0.1)
    assert [tenths.at(unit) for unit in (0.0, 0.5, 1.0)] == [0.1, 0.2, 0.3]
    assert (tenths.size, tenths.nth(0), tenths.nth(2)) == (3, 0.1, 0.3)
    assert Uniform(0.1, 0.3, 0.1).size == 3
    assert isinstance(DISTRIBUTIONS["q_log_uniform_values"](min=16, max=512).at(0.4), int)


def test_categories_come_by_their_probabilities() -> None:
    weighted = Categorical(("adam", "sgd", "lamb"), (0.5, 0.25, 0.25))
    assert [weighted.at(unit) for unit in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)] == ["adam"] * 2 + ["sgd"] * 2 + [
        "lamb"
    ] * 2
    assert weighted.unit("sgd") == 0.625
    assert Categorical((True, 1, None), (0.5, 0.5, 0.0)).at(1.0) == 1
    assert Categorical((True, 1)).index(1) == 1


def test_a_number_out_of_bounds_is_clipped() -> None:
    fifths = Uniform(0.0, 1.0, 0.2)
    assert fifths.at(fifths.unit(7.0)) == 1.0
    assert IntUniform(1, 5).at(IntUniform(1, 5).unit(-3)) == 1


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("uniform", {"min": 2, "max": 1}, "min 2 is above max 1"),
        ("uniform", {"min": 0, "max": math.inf}, "must be finite"),
        ("int_uniform", {"min": 0.5, "max": 3}, "whole numbers"),
        ("q_uniform", {"min": 0.1, "max": 0.9, "q": 1}, "no multiple of it lies between 0.1 and 0.9"),
        ("q_uniform", {"min": 0, "max": 1, "q": 0}, "q 0: must be positive"),
        ("log_uniform_values", {"min": 0, "max": 1}, "min 0: must be positive"),
        ("log_uniform", {"min": 0, "max": 1e4}, "max 10000: the bound is e to its power"),
        ("normal", {"sigma": 0}, "sigma 0: must be positive"),
        ("beta", {"a": 0}, "must be positive"),
        ("categorical", {"values": ()}, "at least one"),
        ("categorical_w_probabilities", {"values": (1, 2), "probabilities": (0.5,)}, "1 for 2 values"),
        ("categorical_w_probabilities", {"values": (1, 2), "probabilities": (0.5, 0.6)}, "add up to 1.1"),
    ],
)
def test_bad_bounds_are_named(name: str, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DISTRIBUTIONS[name](**keys)


def test_a_space_counts_off_its_grid_with_the_last_parameter_fastest() -> None:
    parameters = [("a", Categorical(("x", "y"))), ("b", IntUniform(1, 2)), ("c", Constant(7))]
    space = Space(tuple(Parameter(name, distribution) for name, distribution in parameters))
    points = [space.nth(index) for index in range(int(space.size))]
    assert [(point["a"], point["b"]) for point in points] == [("x", 1), ("x", 2), ("y", 1), ("y", 2)]
    assert list(points[0].items()) == [("a", "x"), ("b", 1), ("c", 7)]
    assert space.at(space.units(points[2])) == points[2]
    assert Space((Parameter("lr", Uniform(0, 1)),)).size == math.inf


def test_a_parameter_given_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"optim\.lr: given twice"):
        Space((Parameter("optim.lr", Uniform(0, 1)), Parameter("optim.lr", Uniform(0, 2))))
