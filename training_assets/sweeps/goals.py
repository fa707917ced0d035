"""What a sweep is after: objectives with directions, and constraints that a trial must keep."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]
CONSTRAINT = re.compile(r"^\s*(?P<metric>[^\s<>=](?:[^<>=]*[^\s<>=])?)\s*(?P<sign><=|>=)\s*(?P<bound>\S+)\s*$")
SIGNS: dict[str, Callable[[float, float], float]] = {"<=": operator.sub, ">=": lambda value, bound: bound - value}


@dataclass(frozen=True)
class Objective:
    """A metric (``<task>/<metric>``) to be made as large, or as small, as it can be."""

    metric: str
    direction: Direction = "maximize"

    def score(self, metrics: Mapping[str, float]) -> float:
        """The metric, larger is better; NaN where there is none."""
        value = metrics.get(self.metric, math.nan)
        return value if self.direction == "maximize" else -value


@dataclass(frozen=True)
class Constraint:
    """``<metric> <= <bound>`` or ``>=``."""

    metric: str
    sign: Literal["<=", ">="]
    bound: float

    @classmethod
    def parse(cls, text: str) -> "Constraint":
        """
        Raises:
            ValueError: not of that form.
        """
        expected = f"{text!r}: a constraint is '<metric> <= <number>' or '<metric> >= <number>'"
        found = CONSTRAINT.match(text)
        if found is None:
            raise ValueError(expected)
        try:
            return cls(found["metric"], found["sign"], float(found["bound"]))  # type: ignore[arg-type]
        except ValueError:
            raise ValueError(expected) from None

    def violation(self, metrics: Mapping[str, float]) -> float:
        """By how much it is broken: 0 or less is kept, NaN where the metric is not known."""
        return float(SIGNS[self.sign](metrics.get(self.metric, math.nan), self.bound))

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.bound:g}"


@dataclass(frozen=True)
class Goals:
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    @property
    def first(self) -> Objective:
        """The one that rungs and rankings go by, where one number is needed."""
        return self.objectives[0]

    def scores(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Of each objective, larger is better, NaN where there is none."""
        return tuple(objective.score(metrics) for objective in self.objectives)

    def feasible(self, metrics: Mapping[str, float]) -> bool | None:
        """Whether every constraint is kept; None where nothing is known to be broken, but not all are known."""
        violations = [constraint.violation(metrics) for constraint in self.constraints]
        if any(violation > 0 for violation in violations):
            return False
        return None if any(math.isnan(violation) for violation in violations) else True
