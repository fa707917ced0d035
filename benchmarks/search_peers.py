"""What ``search.py`` drives: our search, and its peers as their documentation sets them up."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from search_simulator import ETA, FIRST_RUNG, LCBench

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.search import search_of
from training_assets.sweeps.settings import EarlyStop, Pbt, Strategy
from training_assets.sweeps.space import Parameter, Space, Uniform
from training_assets.sweeps.trials import Trials

EPOCHS = LCBench.epochs
NAMES = LCBench.names
VALUE = "value"


class Ours:
    """The default strategy."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        space = Space(tuple(Parameter(name, Uniform(0, 1)) for name in NAMES))
        stop = EarlyStop(first_rung=FIRST_RUNG, eta=ETA)
        strategy, goals = Strategy(seed=seed), Goals((Objective(VALUE),))
        self.search = search_of(space, goals, strategy, stop, Pbt(), EPOCHS, Trials(), lambda: self.now)

    def suggest(self, trial_id: int, now: float) -> Mapping[str, Any] | None:
        self.now = now
        suggestion = self.search.suggest(trial_id)
        return suggestion and suggestion.params

    def report(self, trial_id: int, epoch: int, value: float, now: float) -> bool:
        self.now = now
        return self.search.report(trial_id, epoch, {VALUE: value}).verdict == "stop"

    def finish(self, trial_id: int, completed: bool, now: float) -> None:
        self.now = now
        self.search.finish(trial_id, "completed" if completed else "stopped")


class RandomSearch:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def suggest(self, trial_id: int, now: float) -> Mapping[str, float]:
        return dict(zip(NAMES, map(float, self.rng.random(len(NAMES))), strict=True))

    def report(self, trial_id: int, epoch: int, value: float, now: float) -> bool:
        return False

    def finish(self, trial_id: int, completed: bool, now: float) -> None: ...


class OptunaAsha(RandomSearch):
    """Optuna's sampler by ask and tell with its SuccessiveHalvingPruner. ``sampler``: None is random."""

    def __init__(self, seed: int, sampler: Mapping[str, Any] | None) -> None:
        import optuna

        super().__init__(seed)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.optuna, self.random = optuna, sampler is None
        samplers = optuna.samplers
        chosen = samplers.RandomSampler(seed=seed) if sampler is None else samplers.TPESampler(seed=seed, **sampler)
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=FIRST_RUNG, reduction_factor=ETA)
        self.study = optuna.create_study(direction="maximize", sampler=chosen, pruner=pruner)
        self.trials: dict[int, Any] = {}
        self.last: dict[int, float] = {}

    def suggest(self, trial_id: int, now: float) -> Mapping[str, float]:
        if self.random:
            self.study.enqueue_trial(dict(super().suggest(trial_id, now)))
        float_ = self.optuna.distributions.FloatDistribution(0, 1)
        self.trials[trial_id] = self.study.ask(dict.fromkeys(NAMES, float_))
        return dict(self.trials[trial_id].params)

    def report(self, trial_id: int, epoch: int, value: float, now: float) -> bool:
        self.last[trial_id] = value
        self.trials[trial_id].report(value, epoch)
        return bool(self.trials[trial_id].should_prune())

    def finish(self, trial_id: int, completed: bool, now: float) -> None:
        if completed:
            self.study.tell(self.trials[trial_id], self.last[trial_id])
        else:
            self.study.tell(self.trials[trial_id], state=self.optuna.trial.TrialState.PRUNED)


class RayAsha(RandomSearch):
    """Ray Tune's ASHAScheduler, random or with TuneBOHB, which is told at the rungs."""

    def __init__(self, seed: int, bohb: bool) -> None:
        from ray.tune.schedulers import ASHAScheduler

        super().__init__(seed)
        logging.disable(logging.WARNING)
        self.scheduler = ASHAScheduler(
            time_attr="epoch", metric=VALUE, mode="max", max_t=EPOCHS, grace_period=FIRST_RUNG, reduction_factor=ETA
        )
        self.bohb = _tune_bohb(seed) if bohb else None
        self.rungs = {FIRST_RUNG * ETA**rung for rung in range(8)} | {EPOCHS}
        self.trials: dict[int, Any] = {}
        self.last: dict[int, dict[str, Any]] = {}

    def suggest(self, trial_id: int, now: float) -> Mapping[str, float]:
        params = self.bohb.suggest(str(trial_id)) if self.bohb else super().suggest(trial_id, now)
        self.trials[trial_id] = _RayTrial(trial_id)
        self.scheduler.on_trial_add(_RayController(), self.trials[trial_id])
        return {name: float(params[name]) for name in NAMES}

    def report(self, trial_id: int, epoch: int, value: float, now: float) -> bool:
        result = {"epoch": epoch, VALUE: value, "training_iteration": epoch, "hyperband_info": {"budget": epoch}}
        self.last[trial_id] = result
        action = self.scheduler.on_trial_result(_RayController(), self.trials[trial_id], result)
        if self.bohb and epoch in self.rungs:
            self.bohb.on_trial_result(str(trial_id), result)
        return bool(action == "STOP" and epoch < EPOCHS)

    def finish(self, trial_id: int, completed: bool, now: float) -> None:
        if self.bohb:
            self.bohb.on_trial_complete(str(trial_id), self.last[trial_id], error=False)


class _RayTrial:
    status = "RUNNING"

    def __init__(self, trial_id: int) -> None:
        self.trial_id = str(trial_id)

    def __hash__(self) -> int:
        return hash(self.trial_id)


class _RayController:
    def get_live_trials(self) -> list[Any]:
        return []


def _tune_bohb(seed: int) -> Any:
    import ConfigSpace
    from ray.tune.search.bohb import TuneBOHB

    space = ConfigSpace.ConfigurationSpace(seed=seed)
    for name in NAMES:
        space.add(ConfigSpace.UniformFloatHyperparameter(name, 0, 1))
    return TuneBOHB(space=space, metric=VALUE, mode="max", seed=seed)


TPE4 = {"multivariate": False, "constant_liar": False}
ENGINES = {
    "ours": Ours,
    "random": RandomSearch,
    "optuna_random_asha": lambda seed: OptunaAsha(seed, None),
    "optuna_tpe_asha": lambda seed: OptunaAsha(seed, {}),
    "optuna_tpe4_asha": lambda seed: OptunaAsha(seed, TPE4),
    "ray_asha": lambda seed: RayAsha(seed, bohb=False),
    "ray_tunebohb_asha": lambda seed: RayAsha(seed, bohb=True),
}


class Timed:
    """An engine whose own processor time is counted."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.seconds = engine, 0.0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            began = time.process_time()
            try:
                return getattr(self.engine, name)(*arguments)
            finally:
                self.seconds += time.process_time() - began

        return call
