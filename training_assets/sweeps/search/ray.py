"""Ray Tune as the backend of a search: its BOHB proposes, its asynchronous Hyperband ends trials.

Only Ray's objects are driven: no cluster is started, no process, and nothing is told to anybody. What Ray's objects
know is made again from the trials. Ray goes by one number, so by the first objective.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from trainer.contract.errors import ContractError, Problem
from training_assets.sweeps.goals import Goals
from training_assets.sweeps.search.composed import Clock, Composed, Proposer
from training_assets.sweeps.search.random import Random
from training_assets.sweeps.settings import EarlyStop, Strategy
from training_assets.sweeps.space import Space
from training_assets.sweeps.stopping.base import Rule
from training_assets.sweeps.stopping.rungs import rungs_of
from training_assets.sweeps.stopping.standing import finite_score
from training_assets.sweeps.trials import CONTINUE, Decision, Suggestion, Trial, Trials

NEEDED = ("ray", "hpbandster", "ConfigSpace")
BRACKETS = {"asha": 1, "bayes+asha": 1, "hyperband": 3}
"""Of the strategies that end trials; three as in Ray's own examples of asynchronous Hyperband."""
MODELLED = ("bayes", "bayes+asha")


def ray_search(
    space: Space,
    goals: Goals,
    strategy: Strategy,
    early_stop: EarlyStop,
    epochs: int,
    trials: Trials,
    clock: Clock,
    rules: Sequence[Rule] = (),
) -> Composed:
    """The strategy by Ray's search and scheduler; ``rules`` come after Ray's own.

    Random draws are ours, as Ray's would be the same.

    Raises:
        ContractError: Ray is not installed, or does not do what the strategy asks for.
    """
    _check(strategy)
    rungs = rungs_of(early_stop.first_rung, early_stop.eta, epochs)
    brackets = BRACKETS.get(strategy.name, 0)
    proposer: Proposer = Random(space, strategy.seed)
    if strategy.name in MODELLED:
        proposer = Bohb(space, goals, [*(rungs if brackets else ()), epochs], strategy.seed)
    own = [AsyncHyperband(goals, early_stop, epochs, brackets, strategy.seed)] if brackets and rungs else []
    return Composed(proposer, [*own, *rules], goals, trials, clock)


class Bohb:
    """Ray's TuneBOHB (Falkner et al., "BOHB", ICML 2018) over the unit cube.

    Each proposal is by a searcher that is told all that is recorded and draws from the trial's own stream: what it
    proposes does not depend on how often the search was made again.
    """

    def __init__(self, space: Space, goals: Goals, budgets: Sequence[int], seed: int) -> None:
        self.space, self.objective, self.budgets, self.seed = space, goals.first, budgets, seed

    def propose(self, trial_id: int, trials: Trials) -> Suggestion:
        with _numpy_seeded(self.seed, trial_id) as drawn:
            searcher = self._searcher(drawn)
            for budget in self.budgets:
                self._tell(searcher, budget, trials)
            found = searcher.suggest(str(trial_id))
        return Suggestion(self.space.at([float(found[name]) for name in self._names]))

    @property
    def _names(self) -> list[str]:
        return [f"x{index:03}" for index in range(len(self.space))]

    def _searcher(self, seed: int) -> Any:
        quiet()
        from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter
        from ray.tune.search.bohb import TuneBOHB

        cube = ConfigurationSpace()
        cube.add([UniformFloatHyperparameter(name, 0.0, 1.0) for name in self._names])
        return TuneBOHB(cube, metric="score", mode="max", seed=seed)

    def _tell(self, searcher: Any, budget: int, trials: Trials) -> None:
        """All scores after ``budget`` epochs. The model of a budget is made once, with the last of them."""
        known = [
            (trial, score) for trial in trials if (score := finite_score(trial, budget, self.objective)) is not None
        ]
        points = [(point, score) for trial, score in known if (point := self._point(trial))]
        for place, (point, score) in enumerate(points, 1):
            searcher.trial_to_params["told"] = point
            result = {"score": score, "hyperband_info": {"budget": budget}}
            searcher.bohber.new_result(searcher.to_wrapper("told", result), update_model=place == len(points))

    def _point(self, trial: Trial) -> dict[str, float] | None:
        """None of a trial whose values are not of the space, as the recipe's own may be."""
        try:
            return dict(zip(self._names, self.space.units(trial.params), strict=True))
        except (KeyError, ValueError):
            return None


class AsyncHyperband:
    """Ray's AsyncHyperBandScheduler (ASHA with one bracket). Its rungs are filled again from the trials."""

    name = "ray"

    def __init__(self, goals: Goals, early_stop: EarlyStop, epochs: int, brackets: int, seed: int) -> None:
        self.objective, self.early_stop, self.epochs, self.seed = goals.first, early_stop, epochs, seed
        self.brackets = min(brackets, len(rungs_of(early_stop.first_rung, early_stop.eta, epochs)))
        self._trials: Trials | None = None
        self._scheduler: Any = None

    def decide(self, trial: Trial, epoch: int, trials: Trials) -> Decision:
        if trials is not self._trials:
            self._start(trials, trial, epoch)
        if epoch >= self.epochs:
            return CONTINUE
        return self._told(trial, epoch)

    def _start(self, trials: Trials, now: Trial, epoch: int) -> None:
        quiet()
        from ray.tune.schedulers import AsyncHyperBandScheduler

        self._trials = trials
        self._scheduler = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric="score",
            mode="max",
            max_t=self.epochs,
            grace_period=self.early_stop.first_rung,
            reduction_factor=self.early_stop.eta,
            brackets=self.brackets,
        )
        for trial in trials:
            for at in sorted(trial.curve):
                if at < self.epochs and (trial.id, at) != (now.id, epoch):
                    self._told(trial, at)

    def _told(self, trial: Trial, epoch: int) -> Decision:
        score = finite_score(trial, epoch, self.objective)
        if score is None:
            return CONTINUE
        stub = SimpleNamespace(trial_id=str(trial.id))
        if stub.trial_id not in self._scheduler._trial_info:
            with _numpy_seeded(self.seed, trial.id):
                self._scheduler.on_trial_add(None, stub)
        rung, cutoff, peers = self._compared(stub.trial_id, epoch)
        said = self._scheduler.on_trial_result(None, stub, {"epoch": epoch, "score": score})
        if rung is None or cutoff is None:
            return CONTINUE
        stop = said == "STOP"
        reason = (
            f"{score:.4g} after epoch {epoch}: {'below' if stop else 'reaches'} {cutoff:.4g}, what the best of every "
            f"{self.early_stop.eta} of {peers} trials had at rung {rung}"
        )
        return Decision("stop" if stop else "continue", reason, self.name, rung, cutoff, peers)

    def _compared(self, trial_id: str, epoch: int) -> tuple[int | None, float | None, int]:
        """The rung that the scheduler will compare at, what has to be reached there, and of how many that is."""
        bracket = self._scheduler._trial_info[trial_id]
        for rung, recorded in bracket._rungs:
            if epoch >= rung and trial_id not in recorded:
                cutoff = bracket.cutoff(recorded)
                return int(rung), None if cutoff is None else float(cutoff), len(recorded)
        return None, None, 0


def quiet() -> None:
    """Ray tells its makers nothing, unless a user turned that on."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@contextlib.contextmanager
def _numpy_seeded(*stream: int) -> Iterator[int]:
    """Ray and HpBandSter draw from numpy's one global stream: within it is the trial's own. Yields a seed of it."""
    import numpy as np

    before = np.random.get_state()
    np.random.seed(np.random.SeedSequence(stream).generate_state(4))
    try:
        yield int(np.random.randint(2**31 - 1))
    finally:
        np.random.set_state(before)


def _check(strategy: Strategy) -> None:
    if strategy.name in ("grid", "pbt"):
        problem = Problem(
            "sweep", strategy.name, f"one of {', '.join(('random', *MODELLED, *BRACKETS))}", field="strategy"
        )
        raise ContractError("Ray's backend does not do this strategy", [problem], "Take it from backend: own.")
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        problem = Problem("sweep", "ray", f"{', '.join(missing)} to be installed", field="strategy.backend")
        advice = "pip install 'training-assets[ray]' installs it; backend: own needs nothing more."
        raise ContractError("Ray Tune is not installed", [problem], advice)
