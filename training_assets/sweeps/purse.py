"""The budget as the controller asks it: the books of a sweep's trials, made anew from what each says it has taken."""

from collections.abc import Callable
from dataclasses import dataclass

from training_assets.launchers.base import Estimate
from training_assets.sweeps.budget import Ledger, Refusal, TrialCost, expected_seconds
from training_assets.sweeps.place import SweepPlace
from training_assets.sweeps.sweep_file import Settled
from training_assets.sweeps.trials import Trial, Trials


@dataclass(frozen=True)
class SweepPurse:
    """``estimate`` is of one trial, ``started_at`` in seconds of ``clock``, ``longest`` a trial's hard wall.

    With ``ahead``, the seconds till it is asked again, it is exhausted before a cap is passed.
    """

    place: SweepPlace
    sweep: Settled
    trials: Trials
    estimate: Estimate
    started_at: float
    clock: Callable[[], float]
    longest: float | None = None
    ahead: float = 0.0

    def exhausted(self) -> str | None:
        if stop := self.place.stop:
            return stop.reason
        if excess := self.ledger().exceeded(self.ahead):
            return str(excess[0])
        return self._reached()

    def refusal(self, trial: int) -> str | None:
        asked = self.ledger().reserve(trial)
        return str(asked) if isinstance(asked, Refusal) else None

    def ledger(self) -> Ledger:
        return Ledger(
            self.sweep.budget,
            self.sweep.epochs,
            self.estimate,
            tuple(map(self._cost, self.trials)),
            self.started_at,
            self.clock(),
            expected_seconds(self.sweep.budget, self.longest),
        )

    def _cost(self, trial: Trial) -> TrialCost:
        begun = trial.suggestion.epoch
        running, epochs = trial.state == "running", trial.epoch - begun
        spent = self.place.trial(trial.id).spent
        if spent is None:
            return TrialCost(trial.id, running, epochs=epochs, begun_at=begun)
        return TrialCost(trial.id, running, spent.seconds, spent.gpu_hours, spent.usd, epochs, begun)

    def _reached(self) -> str | None:
        """Whether a trial has what the sweep was to reach (``metric.target``)."""
        target, aim = self.sweep.target, self.sweep.goals.first
        if target is None:
            return None
        for trial in self.trials:
            for epoch, metrics in trial.curve.items():
                if aim.score(metrics) >= aim.score({aim.metric: target}):
                    reached = f"{aim.metric} {metrics[aim.metric]:.4g} after epoch {epoch}"
                    return f"trial {trial.id} has {reached}, the target is {target:.4g}"
        return None
