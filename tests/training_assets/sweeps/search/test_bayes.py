"""The model: Gaussian process regression against scikit-learn's, and what a search makes of it."""

import math

import numpy as np
import pytest
from scipy.optimize import check_grad

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.search.bayes import Bayes
from training_assets.sweeps.search.cube import Cube
from training_assets.sweeps.search.evidence import lifted, ranked, ranked_about_zero
from training_assets.sweeps.search.gaussian_process import JITTER, GaussianProcess, Kernel, _loss, _squares
from training_assets.sweeps.space import Categorical, Constant, IntUniform, LogUniform, Parameter, Space, Uniform
from training_assets.sweeps.trials import Trials

RNG = np.random.default_rng(0)
MIXED = Space(
    (
        Parameter("lr", LogUniform(1e-4, 1e-1)),
        Parameter("optimizer", Categorical(("sgd", "adam", "lamb"))),
        Parameter("batch", Categorical((8, 16, 32))),
        Parameter("fixed", Constant("x")),
        Parameter("depth", IntUniform(1, 5)),
    )
)


def test_predictions_are_scikit_learns() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    inputs, targets, unseen = RNG.random((30, 3)), RNG.normal(size=30), RNG.random((10, 3))
    kernel = Kernel(np.array([0.3, 0.7, 2.0]), 1.4, 0.05)
    reference = ConstantKernel(1.4, "fixed") * Matern(kernel.lengths, "fixed", nu=2.5)
    theirs = GaussianProcessRegressor(reference, alpha=0.05 + JITTER).fit(inputs, targets)
    mean, deviation = GaussianProcess(kernel, inputs, targets).mean_and_deviation(unseen)
    expected_mean, expected_deviation = theirs.predict(unseen, return_std=True)
    assert mean == pytest.approx(expected_mean)
    assert deviation == pytest.approx(expected_deviation)


def test_the_gradient_is_that_of_the_loss() -> None:
    inputs, targets = RNG.random((20, 3)), RNG.normal(size=20)
    squares = np.stack([_squares(inputs[:, [place]]) for place in range(3)])
    prior = np.log([0.5, 0.5, 0.5, 1.0, 0.1])
    at = prior + RNG.normal(0, 0.3, 5)
    loss, gradient = (lambda x, part=part: _loss(x, squares, targets, prior)[part] for part in (0, 1))
    error = check_grad(loss, gradient, at)
    assert error < 1e-4


def test_values_at_early_rungs_are_lifted_by_what_those_that_went_on_gained() -> None:
    nan = math.nan
    bests = np.array([[0.1, nan, nan], [0.5, 0.6, nan], [0.4, 0.6, 0.9], [0.6, 0.7, 0.8]])
    assert lifted(bests)[:, 0] == pytest.approx([0.4, 0.8, 0.7, 0.9])  # 0.1 and then 0.2 more
    assert lifted(bests)[3] == pytest.approx([0.9, 0.9, 0.8])


def test_ranks_take_no_notice_of_scale_and_keep_the_border() -> None:
    values = np.array([-3.0, -1.0, 2.0, 1e9])
    assert ranked(values) == pytest.approx(ranked(np.array([1.0, 2.0, 3.0, 4.0])))
    assert ranked(values).sum() == pytest.approx(0)
    assert list(ranked_about_zero(values) <= 0) == [True, True, False, False]
    assert list(ranked_about_zero(np.array([-5.0, -1.0])) <= 0) == [True, True]


def test_candidates_are_points_that_values_have() -> None:
    cube = Cube(MIXED)
    points = np.vstack([cube.anywhere(200, RNG), cube.near(cube.anywhere(5, RNG), 200, RNG)])
    for point in points:
        params = MIXED.at(cube.full(point))
        assert params["fixed"] == "x"
        assert cube.reduced(MIXED.units(params)) == pytest.approx(list(point), abs=1e-8)
    assert {MIXED.at(cube.full(point))["optimizer"] for point in points} == {"sgd", "adam", "lamb"}


def test_any_two_categories_are_as_far_apart_and_numbers_keep_their_order() -> None:
    cube = Cube(MIXED)
    assert list(cube.groups) == [0, 1, 1, 1, 2, 3]
    rows = [
        MIXED.units({"lr": 1e-2, "optimizer": name, "batch": batch, "fixed": "x", "depth": 2})
        for name, batch in (("sgd", 8), ("adam", 8), ("lamb", 8), ("sgd", 16), ("sgd", 32))
    ]
    encoded = cube.encoded(np.array([cube.reduced(row) for row in rows]))
    distances = np.linalg.norm(encoded - encoded[0], axis=1)
    assert distances == pytest.approx([0, 1, 1, 1 / 3, 2 / 3])


def run(space: Space, count: int, seed: int = 0) -> Trials:
    """Each trial's value is known at once; the best is in the middle of the first parameter's bounds."""
    trials, proposer = Trials(), Bayes(space, Goals((Objective("mAP"),)), (1,), seed)
    for trial_id in range(count):
        suggestion = proposer.propose(trial_id, trials)
        trials.asked(trial_id, suggestion, 0.0)
        trials.reported(trial_id, 1, {"mAP": -sum((unit - 0.5) ** 2 for unit in space.units(suggestion.params))}, 0.0)
        trials.became(trial_id, "completed", 0.0)
    return trials


def test_a_smooth_function_is_climbed_faster_than_at_random() -> None:
    space = Space(tuple(Parameter(f"x{place}", Uniform(0, 1)) for place in range(4)))
    values = [trial.metrics["mAP"] for trial in run(space, 40)]
    assert max(values) > -0.003  # at random the best of 40 is about -0.05
    assert sorted(values)[-10] > -0.05


def test_a_small_space_is_not_searched_twice_before_it_is_searched_once() -> None:
    space = Space((Parameter("a", IntUniform(0, 4)), Parameter("b", Categorical(("x", "y", "z")))))
    tried = {tuple(trial.params.values()) for trial in run(space, 40)}
    assert len(tried) == 15
