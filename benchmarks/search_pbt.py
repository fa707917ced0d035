"""The toy problem of the paper on population based training: what our search reaches of the 1.2 that there are."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.search.pbt import PbtSearch, Population
from training_assets.sweeps.settings import Pbt
from training_assets.sweeps.space import Parameter, Space, Uniform
from training_assets.sweeps.trials import Params, Trials

EPOCHS, STEPS, RATE, START = 60, 10, 0.01, (0.9, 0.9)
SETTINGS = Pbt(population=2, every=1, quantile=0.5)
SPACE = Space((Parameter("h0", Uniform(0.0, 1.0)), Parameter("h1", Uniform(0.0, 1.0))))
FIRST = ({"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0})
Weights = tuple[float, float]


def pbt_toy(seeds: Iterable[int]) -> dict[str, Any]:
    """Jaderberg et al., 2017, section 3.2: Q(θ) = 1.2 - θ0² - θ1² is climbed by the gradient of 1.2 - h0 θ0² - h1 θ1².

    Two members from θ = (0.9, 0.9), h = (1, 0) and (0, 1), at a rate of 0.01; either alone, or a grid of such, stays
    below 0.4.
    """
    reached = {seed: Toy(seed).best() for seed in seeds}
    return {
        "of": 1.2,
        "least": min(reached.values()),
        "by_seed": reached,
        "without_exploit": max(quality(trained(START, h, EPOCHS * STEPS)) for h in FIRST),
        "steps_per_member": EPOCHS * STEPS,
    }


@dataclass
class Toy:
    """Two members that train side by side, epoch by epoch; whoever is first at a comparison is drawn."""

    seed: int
    weights: dict[tuple[int, int], Weights] = field(default_factory=dict)

    def best(self) -> float:
        trials = Trials()
        population = Population(SPACE, Goals((Objective("Q"),)), SETTINGS, EPOCHS, self.seed, FIRST)
        self.search = PbtSearch(population, (), trials, lambda: 0.0)
        order = Random(self.seed)  # noqa: S311
        while at_work := self._at_work():
            for trial_id in order.sample(at_work, len(at_work)):
                self._epoch(trial_id)
        return max(quality(weights) for weights in self.weights.values())

    def _at_work(self) -> list[int]:
        while self._started():
            pass
        return [trial.id for trial in self.search.trials if trial.state == "running"]

    def _started(self) -> bool:
        trial_id = len(self.search.trials)
        suggestion = self.search.suggest(trial_id)
        if suggestion is None:
            return False
        parent = START if suggestion.parent is None else self.weights[suggestion.parent, suggestion.epoch]
        self.weights[trial_id, suggestion.epoch] = parent
        return True

    def _epoch(self, trial_id: int) -> None:
        trial = self.search.trials[trial_id]
        epoch = trial.epoch + 1
        self.weights[trial_id, epoch] = trained(self.weights[trial_id, trial.epoch], trial.params, STEPS)
        decision = self.search.report(trial_id, epoch, {"Q": quality(self.weights[trial_id, epoch])})
        if decision.verdict == "stop":
            self.search.finish(trial_id, "stopped")
        elif epoch == EPOCHS:
            self.search.finish(trial_id, "completed")


def quality(weights: Weights) -> float:
    return 1.2 - weights[0] ** 2 - weights[1] ** 2


def trained(weights: Weights, h: Params, steps: int) -> Weights:
    for _ in range(steps):
        weights = (
            weights[0] * (1 - 2 * RATE * float(h["h0"])),  # type: ignore[arg-type]
            weights[1] * (1 - 2 * RATE * float(h["h1"])),  # type: ignore[arg-type]
        )
    return weights


if __name__ == "__main__":
    print(pbt_toy(range(10)))
