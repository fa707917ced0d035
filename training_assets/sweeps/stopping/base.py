"""When a trial is not worth its next epoch. A rule is one file beside this one."""

from collections.abc import Sequence
from typing import Protocol

from training_assets.sweeps.trials import CONTINUE, Decision, Trial, Trials


class Rule(Protocol):
    """A function of what has been recorded; what it keeps beside that must be made again from it."""

    def decide(self, trial: Trial, epoch: int, trials: Trials) -> Decision:
        """Of ``trial``, whose metrics after ``epoch`` have just been recorded among ``trials``."""
        ...


def verdict_of(rules: Sequence[Rule], trial: Trial, epoch: int, trials: Trials) -> Decision:
    """The first that stops, else the first that pauses, else the first with anything to say.

    Every rule is asked, so that each sees every epoch.
    """
    decisions = [rule.decide(trial, epoch, trials) for rule in rules]
    for verdict in ("stop", "pause"):
        for decision in decisions:
            if decision.verdict == verdict:
                return decision
    return next((decision for decision in decisions if decision.reason), CONTINUE)
