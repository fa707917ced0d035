"""Ends a trial that breaks a bound which it has to keep while it runs."""

from collections.abc import Sequence

from training_assets.sweeps.goals import Constraint
from training_assets.sweeps.trials import CONTINUE, Decision, Trial, Trials


class Guardrails:
    """Asked from ``after_epochs`` on. A metric that is not known after an epoch breaks nothing."""

    name = "guardrails"

    def __init__(self, constraints: Sequence[Constraint], after_epochs: int) -> None:
        self.constraints, self.after_epochs = constraints, after_epochs

    def decide(self, trial: Trial, epoch: int, trials: Trials) -> Decision:
        metrics = trial.curve.get(epoch, {})
        broken = [constraint for constraint in self.constraints if constraint.violation(metrics) > 0]
        if epoch < self.after_epochs or not broken:
            return CONTINUE
        first = broken[0]
        threshold = first.bound if first.sign == ">=" else -first.bound
        said = [f"{one.metric} is {metrics[one.metric]:.4g}, not {one.sign} {one.bound:g}" for one in broken]
        return Decision("stop", f"after epoch {epoch} " + " and ".join(said), self.name, epoch, threshold)
