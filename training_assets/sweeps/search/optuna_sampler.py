"""Optuna by ask and tell: TPE for one objective, NSGA-II for several; constraints are Optuna's own.

The study is made again from the trials for every suggestion, so that it is a function of what has been recorded. TPE
looks at each parameter alone and not at running trials: with successive halving its defaults do worse than random.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from training_assets.sweeps.goals import Goals
from training_assets.sweeps.search.random import rng_of
from training_assets.sweeps.space import Categorical, Space
from training_assets.sweeps.trials import Suggestion, Trial, Trials

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

POPULATION = 16
"""Of NSGA-II: Optuna's 50 would leave most sweeps in their first generation."""


@dataclass(frozen=True)
class OptunaSampler:
    space: Space
    goals: Goals
    seed: int = 0

    def propose(self, trial_id: int, trials: Trials) -> Suggestion:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = int(rng_of(self.seed, trial_id).integers(2**31))
        directions = [optuna.study.StudyDirection.MAXIMIZE] * len(self.goals.objectives)
        study = optuna.create_study(directions=directions, sampler=self._sampler(seed))
        study.add_trials([known for trial in trials if (known := self._frozen(trial)) is not None])
        asked = study.ask(self._distributions)
        return Suggestion(self.space.at([self._coordinate(place, asked.params) for place in range(len(self.space))]))

    def _sampler(self, seed: int) -> "BaseSampler":
        from optuna.samplers import NSGAIISampler, TPESampler

        class Nsga(NSGAIISampler):
            """Generations by the number of the trial: nothing has to be kept beside the trials."""

            def get_trial_generation(self, study: Any, trial: Any) -> int:
                return int(trial.number) // POPULATION

            def get_population(self, study: Any, generation: int) -> list[Any]:
                return list(study.get_trials(False)[POPULATION * generation : POPULATION * (generation + 1)])

        if len(self.goals.objectives) > 1:
            return Nsga(population_size=POPULATION, seed=seed)
        return TPESampler(seed=seed, multivariate=False, constant_liar=False)

    @cached_property
    def _distributions(self) -> dict[str, Any]:
        """Of categories their places, of all else the coordinate."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        return {
            one.name: CategoricalDistribution(range(len(one.distribution.values)))
            if isinstance(one.distribution, Categorical)
            else FloatDistribution(0, 1)
            for one in self.space.parameters
        }

    def _coordinate(self, place: int, params: dict[str, Any]) -> float:
        name, distribution = self.space.parameters[place].name, self.space.parameters[place].distribution
        if isinstance(distribution, Categorical):
            return distribution.unit(distribution.values[params[name]])
        return float(params[name])

    def _told(self, params: Any) -> dict[str, Any]:
        return {
            one.name: one.distribution.index(params[one.name])
            if isinstance(one.distribution, Categorical)
            else one.distribution.unit(params[one.name])
            for one in self.space.parameters
        }

    def _frozen(self, trial: Trial) -> "FrozenTrial | None":
        """What has ended with all objectives known; with one objective, a stopped one as pruned after its epochs."""
        import math

        from optuna.trial import TrialState, create_trial

        scores = self.goals.scores(trial.metrics)
        if trial.state not in ("completed", "stopped") or not all(map(math.isfinite, scores)):
            return None
        pruned = trial.state == "stopped" and len(scores) == 1
        violations = {str(one): one.violation(trial.metrics) for one in self.goals.constraints}
        return create_trial(
            state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
            values=None if pruned else scores,
            params=self._told(trial.params),
            distributions=self._distributions,
            intermediate_values={trial.epoch: scores[0]} if len(scores) == 1 else None,
            constraints={name: violation for name, violation in violations.items() if not math.isnan(violation)},
        )
