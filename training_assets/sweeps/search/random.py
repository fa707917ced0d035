"""Random search: every trial drawn from the declared distributions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training_assets.sweeps.space import Space
from training_assets.sweeps.trials import Suggestion, Trials

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Random:
    space: Space
    seed: int = 0

    def propose(self, trial_id: int, trials: Trials) -> Suggestion:
        return Suggestion(self.space.at(self.point(trial_id)))

    def point(self, trial_id: int) -> Sequence[float]:
        return list(rng_of(self.seed, trial_id).random(len(self.space)))


def rng_of(seed: int, trial_id: int) -> "np.random.Generator":
    """Each trial has its own stream: what it draws does not depend on how often the search was made again."""
    import numpy as np

    return np.random.default_rng([seed, trial_id])
