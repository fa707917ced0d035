"""What is searched: parameters by the dotted name of the recipe's field, each with a distribution.

A distribution maps a unit coordinate to a value (its inverse cumulative distribution function) and back, so that a
strategy only ever sees the unit cube. The distributions are those of a W&B sweep file; ``DISTRIBUTIONS`` makes each by
the name and the keys that it has there.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from statistics import NormalDist
from typing import Protocol

from training_assets.sweeps.trials import Params, Value

TINY = 1e-9
"""How near to 0 and 1 a coordinate comes: distributions without bounds are infinite there."""
SLACK = 1e-9
"""By what share of a step ``q`` a bound may miss a multiple of it and still be one: 0.3 is 3 × 0.1."""


class Distribution(Protocol):
    @property
    def numeric(self) -> bool:
        """Whether values between two of its values mean something between."""
        ...

    @property
    def size(self) -> float:
        """How many values there are; ``math.inf`` where they cannot be counted off."""
        ...

    def at(self, unit: float) -> Value:
        """The value at a coordinate in [0, 1]; equally spread coordinates give the declared distribution."""
        ...

    def unit(self, value: Value) -> float:
        """The coordinate of a value, for a step of several coordinates their middle.

        Of a number out of bounds that of the nearest within: ``at(unit(value))`` clips.

        Raises:
            ValueError: not a value of this distribution.
        """
        ...

    def nth(self, index: int) -> Value:
        """The values in order, where they can be counted off."""
        ...


@dataclass(frozen=True)
class Parameter:
    name: str
    distribution: Distribution


@dataclass(frozen=True)
class Space:
    """All parameters; a point is one coordinate for each, in their order."""

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: given twice")

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def size(self) -> float:
        """Points of the grid; ``math.inf`` where a parameter has no end of values."""
        return math.prod(parameter.distribution.size for parameter in self.parameters)

    def at(self, units: Sequence[float]) -> dict[str, Value]:
        return {
            parameter.name: parameter.distribution.at(unit)
            for parameter, unit in zip(self.parameters, units, strict=True)
        }

    def units(self, params: Params) -> list[float]:
        """
        Raises:
            KeyError: a parameter is missing.
            ValueError: not a value of its distribution.
        """
        return [parameter.distribution.unit(params[parameter.name]) for parameter in self.parameters]

    def nth(self, index: int) -> dict[str, Value]:
        """A point of the grid, the last parameter changing fastest."""
        point = {}
        for parameter in reversed(self.parameters):
            index, place = divmod(index, int(parameter.distribution.size))
            point[parameter.name] = parameter.distribution.nth(place)
        return {parameter.name: point[parameter.name] for parameter in self.parameters}


@dataclass(frozen=True)
class Constant:
    value: Value

    numeric = False
    size = 1.0

    def at(self, unit: float) -> Value:
        return self.value

    def unit(self, value: Value) -> float:
        return 0.5

    def nth(self, index: int) -> Value:
        return self.value


@dataclass(frozen=True)
class Categorical:
    """One of ``values``; equally likely without ``probabilities``."""

    values: tuple[Value, ...]
    probabilities: tuple[float, ...] | None = None

    numeric = False

    def __post_init__(self) -> None:
        _check(bool(self.values), "values: at least one is needed")
        if self.probabilities is not None:
            count, given = len(self.values), len(self.probabilities)
            _check(given == count, f"probabilities: {given} for {count} values")
            _check(all(share >= 0 for share in self.probabilities), "probabilities: none may be negative")
            _check(abs(sum(self.probabilities) - 1) < 1e-3, f"probabilities: add up to {sum(self.probabilities):g}")

    @property
    def size(self) -> float:
        return len(self.values)

    @cached_property
    def _ends(self) -> list[float]:
        shares = self.probabilities or (1 / len(self.values),) * len(self.values)
        return [end / sum(shares) for end in accumulate(shares)]

    def at(self, unit: float) -> Value:
        last = max(index for index, end in enumerate(self._ends) if end > (self._ends[index - 1] if index else 0.0))
        return self.values[next((index for index, end in enumerate(self._ends) if unit < end), last)]

    def unit(self, value: Value) -> float:
        index = self.index(value)
        return (self._ends[index] + (self._ends[index - 1] if index else 0.0)) / 2

    def index(self, value: Value) -> int:
        """The place of a value; True is not 1, but 1.0 is."""
        for index, one in enumerate(self.values):
            if one == value and isinstance(one, bool) == isinstance(value, bool):
                return index
        raise ValueError(f"{value!r} is none of {', '.join(map(repr, self.values))}")

    def nth(self, index: int) -> Value:
        return self.values[index]


class Numeric(ABC):
    """Numbers within ``bounds``, in steps of ``q`` where it is given (whole numbers where ``q`` is one)."""

    q: float | None
    numeric = True

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]: ...

    @abstractmethod
    def quantile(self, unit: float) -> float:
        """The inverse of ``cdf``, steps left aside."""

    @abstractmethod
    def cdf(self, value: float) -> float:
        """The probability of a smaller value, steps left aside, for a value within the bounds."""

    @property
    def size(self) -> float:
        if not self.q:
            return 1 if self.bounds[0] == self.bounds[1] else math.inf
        first, last = self._steps
        return last - first + 1

    def at(self, unit: float) -> Value:
        value = self.quantile(min(max(unit, TINY), 1 - TINY))
        return self._step(self._place(value)) if self.q else self._within(value)

    def unit(self, value: Value) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise ValueError(f"{value!r} is not a number")
        if not self.q:
            return self.cdf(self._within(value))
        place = self._place(value)
        return (self._end(place - 1) + self._end(place)) / 2

    def nth(self, index: int) -> Value:
        return self._step(int(self._steps[0]) + index) if self.q else self.bounds[0]

    def _within(self, value: float) -> float:
        return min(max(value, self.bounds[0]), self.bounds[1])

    @property
    def _steps(self) -> tuple[float, float]:
        """The first and the last multiple of ``q`` within the bounds."""
        q = self.q or 1.0
        low, high = (bound / q for bound in self.bounds)
        first = math.ceil(low - SLACK) if math.isfinite(low) else low
        return first, math.floor(high + SLACK) if math.isfinite(high) else high

    def _place(self, value: float) -> int:
        first, last = self._steps
        return int(min(max(round(value / (self.q or 1.0)), first), last))

    def _step(self, place: int) -> Value:
        q = self.q or 1.0
        return int(place * q) if float(q).is_integer() else float(f"{place * q:.12g}")

    def _end(self, place: int) -> float:
        """The coordinate at which the step ``place`` ends and the next begins."""
        first, last = self._steps
        if place < first or place >= last:
            return float(place >= last)
        return self.cdf(self._within((place + 0.5) * (self.q or 1.0)))

    def _check_bounds(self) -> None:
        low, high = self.bounds
        _check(math.isfinite(low) and math.isfinite(high), f"min {low:g} and max {high:g}: must be finite")
        _check(low <= high, f"min {low:g} is above max {high:g}")
        self._check_q()

    def _check_q(self) -> None:
        if self.q is None:
            return
        _check(math.isfinite(self.q) and self.q > 0, f"q {self.q}: must be positive")
        first, last = self._steps
        _check(first <= last, f"q {self.q}: no multiple of it lies between {self.bounds[0]:g} and {self.bounds[1]:g}")


@dataclass(frozen=True)
class IntUniform(Numeric):
    """Whole numbers from ``min`` to ``max``, both included, equally likely."""

    min: int
    max: int

    q = 1

    def __post_init__(self) -> None:
        whole = all(float(bound).is_integer() for bound in (self.min, self.max))
        _check(whole, f"min {self.min:g} and max {self.max:g}: must be whole numbers")
        self._check_bounds()

    @property
    def bounds(self) -> tuple[float, float]:
        return self.min, self.max

    def quantile(self, unit: float) -> float:
        return self.min - 0.5 + unit * (self.max - self.min + 1)

    def cdf(self, value: float) -> float:
        return (value - self.min + 0.5) / (self.max - self.min + 1)


@dataclass(frozen=True)
class Uniform(Numeric):
    min: float
    max: float
    q: float | None = None

    def __post_init__(self) -> None:
        self._check_bounds()

    @property
    def bounds(self) -> tuple[float, float]:
        return self.min, self.max

    def quantile(self, unit: float) -> float:
        return self.min + unit * (self.max - self.min)

    def cdf(self, value: float) -> float:
        return (value - self.min) / (self.max - self.min) if self.max > self.min else 0.5


@dataclass(frozen=True)
class LogUniform(Numeric):
    """The logarithm is uniform; ``min`` and ``max`` are values, ``of_exponents`` takes their natural logarithms.

    W&B's inverse log uniform (the logarithm of 1/x is uniform) is the same distribution, its exponents negated.
    """

    min: float
    max: float
    q: float | None = None

    @classmethod
    def of_exponents(cls, min: float, max: float, q: float | None = None) -> "LogUniform":
        return cls(_exp("min", min), _exp("max", max), q)

    @classmethod
    def of_inverse_exponents(cls, min: float, max: float) -> "LogUniform":
        return cls(_exp("max", -max), _exp("min", -min))

    def __post_init__(self) -> None:
        _check(self.min > 0, f"min {self.min:g}: must be positive, a logarithm is taken of it")
        self._check_bounds()

    @property
    def bounds(self) -> tuple[float, float]:
        return self.min, self.max

    def quantile(self, unit: float) -> float:
        return self.min * math.exp(unit * math.log(self.max / self.min))

    def cdf(self, value: float) -> float:
        return math.log(value / self.min) / math.log(self.max / self.min) if self.max > self.min else 0.5


@dataclass(frozen=True)
class Normal(Numeric):
    mu: float = 0.0
    sigma: float = 1.0
    q: float | None = None

    bounds = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        _check_normal(self.mu, self.sigma)
        self._check_q()

    def quantile(self, unit: float) -> float:
        return self.mu + self.sigma * NormalDist().inv_cdf(unit)

    def cdf(self, value: float) -> float:
        return NormalDist().cdf((value - self.mu) / self.sigma)


@dataclass(frozen=True)
class LogNormal(Numeric):
    """The natural logarithm is normal with ``mu`` and ``sigma``."""

    mu: float = 0.0
    sigma: float = 1.0
    q: float | None = None

    bounds = (0.0, math.inf)

    def __post_init__(self) -> None:
        _check_normal(self.mu, self.sigma)
        self._check_q()

    def quantile(self, unit: float) -> float:
        return math.exp(self.mu + self.sigma * NormalDist().inv_cdf(unit))

    def cdf(self, value: float) -> float:
        return NormalDist().cdf((math.log(value) - self.mu) / self.sigma) if value > 0 else 0.0


@dataclass(frozen=True)
class Beta(Numeric):
    """Numbers from 0 to 1 with the density x^(a-1) · (1-x)^(b-1)."""

    a: float = 1.0
    b: float = 1.0
    q: float | None = None

    bounds = (0.0, 1.0)

    def __post_init__(self) -> None:
        _check(self.a > 0 and self.b > 0, f"a {self.a:g} and b {self.b:g}: must be positive")
        self._check_q()

    def quantile(self, unit: float) -> float:
        from scipy.special import betaincinv

        return float(betaincinv(self.a, self.b, unit))

    def cdf(self, value: float) -> float:
        from scipy.special import betainc

        return float(betainc(self.a, self.b, value))


DISTRIBUTIONS: Mapping[str, Callable[..., Distribution]] = {
    "constant": Constant,
    "categorical": Categorical,
    "categorical_w_probabilities": Categorical,
    "int_uniform": IntUniform,
    "uniform": Uniform,
    "q_uniform": lambda min, max, q=1: Uniform(min, max, q),
    "log_uniform": LogUniform.of_exponents,
    "log_uniform_values": LogUniform,
    "q_log_uniform": lambda min, max, q=1: LogUniform.of_exponents(min, max, q),
    "q_log_uniform_values": lambda min, max, q=1: LogUniform(min, max, q),
    "inv_log_uniform": LogUniform.of_inverse_exponents,
    "inv_log_uniform_values": LogUniform,
    "normal": Normal,
    "q_normal": lambda mu=0.0, sigma=1.0, q=1: Normal(mu, sigma, q),
    "log_normal": LogNormal,
    "q_log_normal": lambda mu=0.0, sigma=1.0, q=1: LogNormal(mu, sigma, q),
    "beta": Beta,
    "q_beta": lambda a=1.0, b=1.0, q=1: Beta(a, b, q),
}
"""By W&B's name, taking W&B's keys: ``DISTRIBUTIONS["q_uniform"](min=0, max=1, q=0.1)``."""


def _check(right: bool, message: str) -> None:
    if not right:
        raise ValueError(message)


def _check_normal(mu: float, sigma: float) -> None:
    _check(math.isfinite(mu), f"mu {mu:g}: must be finite")
    _check(math.isfinite(sigma) and sigma > 0, f"sigma {sigma:g}: must be positive")


def _exp(key: str, exponent: float) -> float:
    try:
        return math.exp(exponent)
    except OverflowError:
        raise ValueError(f"{key} {exponent:g}: the bound is e to its power, which is too large") from None
