"""A Gaussian process: what is known of a function, and how surely, from values at some points.

Rasmussen & Williams, "Gaussian Processes for Machine Learning", MIT Press 2006: algorithm 2.1, and equation 5.9 for
the gradient. Matérn 5/2 kernel with a length scale for each parameter, all hyper-parameters at their most probable
under log-normal priors.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

Array = np.ndarray
LENGTH, AMPLITUDE, NOISE = 0.5, 1.0, 0.1
"""The priors' medians (variances, the last two); each may well be a factor of e off."""
LEARNED_FROM = 80
"""Points that hyper-parameters are learned from: an iteration costs the cube of it."""
ITERATIONS = 10
JITTER = 1e-6


@dataclass(frozen=True)
class Kernel:
    """``lengths``: one for each column of the inputs."""

    lengths: Array
    amplitude: float
    noise: float

    def __call__(self, ones: Array, others: Array) -> Array:
        ones, others = ones / self.lengths, others / self.lengths
        squares = (ones**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * ones @ others.T
        scaled = np.sqrt(5 * np.maximum(squares, 0))
        covariance: Array = self.amplitude * (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
        return covariance


@dataclass(frozen=True)
class GaussianProcess:
    """``inputs`` (n × columns), ``targets`` (n), about 0 and 1 in mean and variance."""

    kernel: Kernel
    inputs: Array
    targets: Array

    @cached_property
    def _inverse_factor(self) -> Array:
        covariance = self.kernel(self.inputs, self.inputs)
        covariance[np.diag_indices(len(covariance))] += self.kernel.noise + JITTER
        factor: Array = solve_triangular(np.linalg.cholesky(covariance), np.eye(len(covariance)), lower=True)
        return factor

    @cached_property
    def _weights(self) -> Array:
        weights: Array = self._inverse_factor.T @ (self._inverse_factor @ self.targets)
        return weights

    def mean(self, inputs: Array) -> Array:
        mean: Array = self.kernel(inputs, self.inputs) @ self._weights
        return mean

    def mean_and_deviation(self, inputs: Array) -> tuple[Array, Array]:
        covariance = self.kernel(inputs, self.inputs)
        explained = ((covariance @ self._inverse_factor.T) ** 2).sum(1)
        return covariance @ self._weights, np.sqrt(np.maximum(self.kernel.amplitude - explained, 1e-9))

    def believing(self, inputs: Array) -> "GaussianProcess":
        """As if its means at ``inputs`` had been seen there (Ginsbourger et al., 2010)."""
        if not len(inputs):
            return self
        targets = np.concatenate([self.targets, self.mean(inputs)])
        return GaussianProcess(self.kernel, np.vstack([self.inputs, inputs]), targets)


def learned(inputs: Array, targets: Array, groups: Array, rng: np.random.Generator) -> GaussianProcess:
    """``groups``: of each column the number of the parameter whose length scale it has."""
    chosen = _chosen(targets, rng)
    kernel = _most_probable(inputs[chosen], targets[chosen], groups)
    return GaussianProcess(kernel, inputs, targets)


def _chosen(targets: Array, rng: np.random.Generator) -> Array:
    """All points, or half the best and half others: the function is wanted where it is high."""
    order = np.argsort(-targets, kind="stable")
    half = LEARNED_FROM // 2
    if len(order) <= LEARNED_FROM:
        return order
    return np.concatenate([order[:half], rng.choice(order[half:], half, replace=False)])


def _most_probable(inputs: Array, targets: Array, groups: Array) -> Kernel:
    count = int(groups.max()) + 1
    squares = np.stack([_squares(inputs[:, groups == group]) for group in range(count)])
    prior = np.log([*[LENGTH] * count, AMPLITUDE, NOISE])
    bounds = [(np.log(0.03), np.log(30))] * count + [(-3, 3), (np.log(1e-4), np.log(2))]
    found = minimize(
        _loss, prior, (squares, targets, prior), "L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": ITERATIONS}
    )
    best = np.exp(found.x)
    return Kernel(best[groups], float(best[count]), float(best[count + 1]))


def _squares(columns: Array) -> Array:
    """Squared distances between all rows."""
    squares: Array = ((columns[:, None] - columns[None]) ** 2).sum(2)
    return squares


def _loss(logs: Array, squares: Array, targets: Array, prior: Array) -> tuple[float, Array]:
    """The negative logarithm of the posterior of the hyper-parameters, and its gradient by their logarithms."""
    lengths, amplitude, noise = np.exp(logs[:-2]), np.exp(logs[-2]), np.exp(logs[-1])
    shares = squares / lengths[:, None, None] ** 2
    scaled = np.sqrt(5 * shares.sum(0))
    decay = np.exp(-scaled)
    signal = amplitude * (1 + scaled + scaled**2 / 3) * decay
    factor = np.linalg.cholesky(signal + (noise + JITTER) * np.eye(len(targets)))
    inverse_factor = solve_triangular(factor, np.eye(len(targets)), lower=True)
    inverse = inverse_factor.T @ inverse_factor
    weights = inverse @ targets
    off = logs - prior
    loss = 0.5 * (targets @ weights + off @ off) + np.log(np.diag(factor)).sum()
    sensitivity = 0.5 * (inverse - np.outer(weights, weights))
    by_length = (sensitivity * amplitude * 5 / 3 * (1 + scaled) * decay).ravel() @ shares.reshape(len(shares), -1).T
    return loss, np.array([*by_length, (sensitivity * signal).sum(), noise * np.trace(sensitivity)]) + off
