"""How a sweep searches. ``search_of`` makes what a strategy's name says; each is one line in ``STRATEGIES``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from training_assets.sweeps.goals import Goals
from training_assets.sweeps.search.base import Search
from training_assets.sweeps.search.bayes import Bayes
from training_assets.sweeps.search.composed import Clock, Composed, Proposer
from training_assets.sweeps.search.grid import Grid
from training_assets.sweeps.search.optuna_sampler import OptunaSampler
from training_assets.sweeps.search.pbt import PbtSearch, Population
from training_assets.sweeps.search.random import Random
from training_assets.sweeps.search.ray import ray_search
from training_assets.sweeps.settings import EarlyStop, Pbt, Strategy
from training_assets.sweeps.space import Space
from training_assets.sweeps.stopping import rules_of
from training_assets.sweeps.stopping.asha import Asha
from training_assets.sweeps.stopping.base import Rule
from training_assets.sweeps.stopping.hyperband import Hyperband
from training_assets.sweeps.stopping.rungs import rungs_of
from training_assets.sweeps.trials import Trials


@dataclass(frozen=True)
class Setup:
    """All that a search is made from. ``epochs``: of a trial that is trained in full."""

    space: Space
    goals: Goals
    strategy: Strategy
    early_stop: EarlyStop
    pbt: Pbt
    epochs: int
    trials: Trials
    clock: Clock


def search_of(
    space: Space,
    goals: Goals,
    strategy: Strategy,
    early_stop: EarlyStop,
    pbt: Pbt,
    epochs: int,
    trials: Trials,
    clock: Clock,
) -> Search:
    """
    Raises:
        ValueError: the strategy cannot search this space.
        ContractError: Ray is asked for and not installed, or does not do what the strategy asks for.
    """
    setup = Setup(space, goals, strategy, early_stop, pbt, epochs, trials, clock)
    return by_ray(setup) if strategy.backend == "ray" else STRATEGIES[strategy.name](setup)


def composed(proposer: Callable[[Setup], Proposer], *rules: Callable[[Setup], Rule]) -> Callable[[Setup], Search]:
    """A strategy of a proposer and its own rules; those that ``early_stop`` asks for come after them."""

    def make(setup: Setup) -> Search:
        every = [*(rule(setup) for rule in rules), *rules_of(setup.early_stop, setup.goals)]
        return Composed(proposer(setup), every, setup.goals, setup.trials, setup.clock)

    return make


def randomly(setup: Setup) -> Proposer:
    return Random(setup.space, setup.strategy.seed)


def by_grid(setup: Setup) -> Proposer:
    return Grid(setup.space)


def by_model(setup: Setup) -> Proposer:
    if len(setup.goals.objectives) > 1 or setup.strategy.backend == "optuna":
        return OptunaSampler(setup.space, setup.goals, setup.strategy.seed)
    rungs = rungs_of(setup.early_stop.first_rung, setup.early_stop.eta, setup.epochs)
    return Bayes(setup.space, setup.goals, (*rungs, setup.epochs), setup.strategy.seed)


def asha(setup: Setup) -> Rule:
    return Asha(setup.goals, setup.early_stop.first_rung, setup.early_stop.eta, setup.epochs)


def hyperband(setup: Setup) -> Rule:
    return Hyperband(setup.goals, setup.early_stop.first_rung, setup.early_stop.eta, setup.epochs)


def by_population(setup: Setup) -> Search:
    population = Population(setup.space, setup.goals, setup.pbt, setup.epochs, setup.strategy.seed)
    return PbtSearch(population, rules_of(setup.early_stop, setup.goals), setup.trials, setup.clock)


def by_ray(setup: Setup) -> Search:
    parts = setup.space, setup.goals, setup.strategy, setup.early_stop, setup.epochs, setup.trials, setup.clock
    return ray_search(*parts, rules_of(setup.early_stop, setup.goals))


STRATEGIES: Mapping[str, Callable[[Setup], Search]] = {
    "random": composed(randomly),
    "grid": composed(by_grid),
    "bayes": composed(by_model),
    "asha": composed(randomly, asha),
    "hyperband": composed(randomly, hyperband),
    "bayes+asha": composed(by_model, asha),
    "pbt": by_population,
}
