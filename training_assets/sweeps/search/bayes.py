"""Bayesian optimisation over all that trials have shown, the early epochs of stopped ones included.

A Gaussian process over parameters and epochs predicts how good a point is after a whole training; the next trial is
where that is expected to improve most on the best so far (Jones et al., 1998), times the probability that constraints
are kept (Gardner et al., 2014). Epochs as one more input of the model: Swersky et al., 2013. Ranks in place of values:
Salinas et al., "A Quantile-based Approach for Hyperparameter Transfer Learning", ICML 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from training_assets.sweeps.goals import Goals
from training_assets.sweeps.search.random import rng_of
from training_assets.sweeps.space import Space
from training_assets.sweeps.trials import Suggestion, Trials

if TYPE_CHECKING:
    from training_assets.sweeps.search.suggesting import Suggester

FIRST_AT_RANDOM = 8
"""Trials with a value before the model is asked."""
RANDOM_SHARE = 0.1
"""Of the trials after them: whatever the model believes, the whole space is searched in the end."""


@dataclass(frozen=True)
class Bayes:
    """``rungs``: the epochs at which trials are compared, and last that of a whole training."""

    space: Space
    goals: Goals
    rungs: Sequence[int]
    seed: int = 0

    def propose(self, trial_id: int, trials: Trials) -> Suggestion:
        rng = rng_of(self.seed, trial_id)
        anywhere = list(rng.random(len(self.space)))
        known = sum(bool(trial.curve) and trial.epoch >= self.rungs[0] for trial in trials)
        if known < FIRST_AT_RANDOM or rng.random() < RANDOM_SHARE:
            return Suggestion(self.space.at(anywhere))
        return Suggestion(self.space.at(self._suggester.suggest(trials, rng)))

    @cached_property
    def _suggester(self) -> "Suggester":
        from training_assets.sweeps.search.suggesting import Suggester

        return Suggester(self.space, self.goals, self.rungs)
