"""Asynchronous successive halving: of the trials at a rung the best of every ``eta`` go on.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020; the variant that stops a trial where
it would pause there, as in Ray Tune and Optuna: nobody waits, and no checkpoint has to be gone back to.
"""

from training_assets.sweeps.stopping.hyperband import Hyperband
from training_assets.sweeps.stopping.standing import Place


class Asha(Hyperband):
    """Hyperband's most eager bracket, of all trials. A trial stands by the best that it had up to the rung."""

    name = "asha"

    def bracket_of(self, trial_id: int) -> int:
        return 0

    def _reason(self, own: Place, epoch: int, threshold: float | None, ahead: str, places: int, where: str) -> str:
        """Where one number decides, that number; ``where`` without its bracket."""
        where = where.partition(" of ")[0]
        if threshold is None or own.violation:
            return super()._reason(own, epoch, threshold, ahead, places, where)
        sign = 1 if self.goals.first.direction == "maximize" else -1
        verb = "reaches" if own.scores[0] >= threshold else "misses"
        count = ahead.partition(" of ")[2]
        return (
            f"{sign * own.scores[0]:.4g} after epoch {epoch} {verb} {sign * threshold:.4g}, "
            f"the best {places} of {count} trials at {where}"
        )
