"""Grid search: every combination once, the last parameter changing fastest."""

import math
from dataclasses import dataclass

from training_assets.sweeps.space import Space
from training_assets.sweeps.trials import Suggestion, Trials


@dataclass(frozen=True)
class Grid:
    """
    Raises:
        ValueError: a parameter has no end of values.
    """

    space: Space

    def __post_init__(self) -> None:
        endless = [one.name for one in self.space.parameters if math.isinf(one.distribution.size)]
        if endless:
            raise ValueError(f"{', '.join(endless)}: a grid needs values that can be counted off (values, or a step q)")

    def propose(self, trial_id: int, trials: Trials) -> Suggestion | None:
        return Suggestion(self.space.nth(trial_id)) if trial_id < self.space.size else None
