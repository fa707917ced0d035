"""A search put together from a proposer (where to look) and stopping rules (how long)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from training_assets.sweeps.goals import Goals
from training_assets.sweeps.stopping.base import Rule, verdict_of
from training_assets.sweeps.trials import Decision, Suggestion, Trial, Trials, TrialState

Clock = Callable[[], float]
NOT_FINITE = "finite"
"""The rule that stops a trial whose objective is no finite number."""


class Proposer(Protocol):
    """Where to look. A strategy is one file beside this one and a line in ``search/__init__.py``."""

    def propose(self, trial_id: int, trials: Trials) -> Suggestion | None:
        """What to try, from what is recorded and the trial's number alone; None: the search is through."""
        ...


class Composed:
    """The search that records: what it said of a trial once, it says again."""

    def __init__(self, proposer: Proposer, rules: Sequence[Rule], goals: Goals, trials: Trials, clock: Clock) -> None:
        self.proposer, self.rules, self.goals = proposer, rules, goals
        self.trials, self.clock = trials, clock

    def suggest(self, trial_id: int) -> Suggestion | None:
        if trial_id in self.trials:
            return self.trials[trial_id].suggestion
        suggestion = self.proposer.propose(trial_id, self.trials)
        if suggestion:
            self.trials.asked(trial_id, suggestion, self.clock())
        return suggestion

    def resume(self) -> int | None:
        """The paused trial with the lowest number."""
        for trial in self.trials:
            if trial.state == "paused":
                self.trials.became(trial.id, "running", self.clock())
                return trial.id
        return None

    def report(self, trial_id: int, epoch: int, metrics: Mapping[str, float]) -> Decision:
        trial = self.trials[trial_id]
        if epoch in trial.decisions:
            return trial.decisions[epoch]
        if epoch not in trial.curve:
            self.trials.reported(trial_id, epoch, metrics, self.clock())
        decision = self._decide(trial, epoch)
        self.trials.decided(trial_id, epoch, decision, self.clock())
        return decision

    def finish(self, trial_id: int, state: TrialState) -> None:
        if self.trials[trial_id].state == "running":
            self.trials.became(trial_id, state, self.clock())

    def _decide(self, trial: Trial, epoch: int) -> Decision:
        return not_finite(trial, epoch, self.goals) or verdict_of(self.rules, trial, epoch, self.trials)


def not_finite(trial: Trial, epoch: int, goals: Goals) -> Decision | None:
    """A stop where an objective is NaN or infinite; one that is absent was not evaluated."""
    for objective in goals.objectives:
        value = trial.curve[epoch].get(objective.metric, 0.0)
        if not math.isfinite(value):
            return Decision("stop", f"{objective.metric} is {value} after epoch {epoch}", rule=NOT_FINITE)
    return None
