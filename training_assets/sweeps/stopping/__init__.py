"""Rules that end a trial early. Those that ``early_stop`` of a sweep file turns on are made here."""

from collections.abc import Callable

from training_assets.sweeps.goals import Constraint, Goals
from training_assets.sweeps.settings import EarlyStop
from training_assets.sweeps.stopping.base import Rule
from training_assets.sweeps.stopping.guardrails import Guardrails
from training_assets.sweeps.stopping.plateau import Plateau
from training_assets.sweeps.stopping.quantile import Quantile
from training_assets.sweeps.stopping.running_median import RunningMedian


def _guardrails(asked: EarlyStop, goals: Goals) -> Rule | None:
    constraints = tuple(Constraint.parse(text) for text in asked.guardrails)
    return Guardrails(constraints, asked.after_epochs) if constraints else None


def _plateau(asked: EarlyStop, goals: Goals) -> Rule | None:
    return Plateau(goals, asked.plateau, asked.min_delta) if asked.plateau else None


def _quantile(asked: EarlyStop, goals: Goals) -> Rule | None:
    return Quantile(goals, asked.quantile, asked.after_epochs, asked.min_trials) if asked.quantile else None


def _running_median(asked: EarlyStop, goals: Goals) -> Rule | None:
    return RunningMedian(goals, asked.after_epochs, asked.min_trials) if asked.running_median else None


OPTIONAL: tuple[Callable[[EarlyStop, Goals], Rule | None], ...] = (_guardrails, _plateau, _quantile, _running_median)


def rules_of(early_stop: EarlyStop, goals: Goals) -> list[Rule]:
    """The optional rules that are turned on, in the order in which their reasons are given.

    Raises:
        ValueError: a guardrail is not '<metric> <= <number>' or '<metric> >= <number>'.
    """
    made = (make(early_stop, goals) for make in OPTIONAL)
    return [rule for rule in made if rule is not None]
