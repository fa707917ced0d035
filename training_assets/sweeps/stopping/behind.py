"""What the quantile and the running median share: a trial ends that is behind the others in every objective."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.stopping.columns import Columns
from training_assets.sweeps.stopping.standing import Standing, finite_score, violation_of
from training_assets.sweeps.trials import CONTINUE, Decision, Trial, Trials


@dataclass(frozen=True)
class Lag:
    """A trial is behind in an objective: what it has, what it had to have, and of how many others that is."""

    objective: Objective
    own: Standing
    limit: Standing
    peers: int


class BehindOthers(ABC):
    """Asked at every epoch from ``after_epochs`` on, once ``min_trials`` others have come as far."""

    name: str

    def __init__(self, goals: Goals, after_epochs: int, min_trials: int) -> None:
        self.goals, self.after_epochs, self.min_trials = goals, after_epochs, min_trials
        self.columns = Columns(goals.objectives, self.others_show)

    @abstractmethod
    def has(self, objective: Objective, trial: Trial, epoch: int) -> float | None:
        """What the trial is judged by, larger is better."""

    @abstractmethod
    def shows(self, objective: Objective, trial: Trial, epoch: int) -> float | None:
        """What it is to the others."""

    @abstractmethod
    def limit(self, others: Sequence[Standing]) -> Standing:
        """What has to be reached; ``others`` are sorted, the worst is first."""

    @abstractmethod
    def in_words(self, lag: Lag) -> str: ...

    def others_show(self, objective: Objective, trial: Trial, epoch: int) -> Standing | None:
        return self._standing(self.shows(objective, trial, epoch), trial, epoch)

    def decide(self, trial: Trial, epoch: int, trials: Trials) -> Decision:
        if epoch < self.after_epochs:
            return CONTINUE
        lags: list[Lag] = []
        for objective in self.goals.objectives:
            own = self._standing(self.has(objective, trial, epoch), trial, epoch)
            if own is None:
                continue
            others = self.columns.others(objective, trial, epoch, trials)
            limit = self.limit(others) if len(others) >= self.min_trials else own
            if own >= limit:
                return CONTINUE
            lags.append(Lag(objective, own, limit, len(others)))
        return self._stop(epoch, lags) if lags else CONTINUE

    def _standing(self, score: float | None, trial: Trial, epoch: int) -> Standing | None:
        if score is None:
            return None
        return Standing.of(score, violation_of(self.goals.constraints, trial.curve[epoch]))

    def _stop(self, epoch: int, lags: Sequence[Lag]) -> Decision:
        first = lags[0]
        threshold = first.limit.value if first.limit.feasible else None
        reason = f"after epoch {epoch} " + " and ".join(self._reason(lag) for lag in lags)
        return Decision("stop", reason, self.name, epoch, threshold, first.peers)

    def _reason(self, lag: Lag) -> str:
        if lag.own.feasible:
            return self.in_words(lag)
        if lag.limit.feasible:
            return f"constraints are broken that most of the {lag.peers} others keep"
        return f"constraints are broken by more than most of the {lag.peers} others break them"


def score_of(objective: Objective, trial: Trial, epoch: int) -> float | None:
    return finite_score(trial, epoch, objective)


def as_measured(objective: Objective, score: float) -> str:
    """A score in the metric's own sign."""
    return f"{score if objective.direction == 'maximize' else -score:.4g}"


def side(objective: Objective) -> str:
    return "below" if objective.direction == "maximize" else "above"
