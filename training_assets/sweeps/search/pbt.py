"""Population based training (Jaderberg et al., "Population Based Training of Neural Networks", 2017).

A population trains side by side. Every few epochs a member compares itself with the others (truncation selection): one
of the worst ends, and in its place a new trial goes on from a copy of one of the best, its values explored around
theirs. The lineage is in the trials: ``Suggestion.parent`` and ``.epoch``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from training_assets.sweeps.goals import Goals
from training_assets.sweeps.search.composed import Clock, Composed
from training_assets.sweeps.search.explore import explored
from training_assets.sweeps.search.random import rng_of
from training_assets.sweeps.settings import Pbt
from training_assets.sweeps.space import Space
from training_assets.sweeps.stopping.base import Rule
from training_assets.sweeps.stopping.standing import Place, objectives_known, place_of, ranks_of
from training_assets.sweeps.trials import CONTINUE, Decision, Params, Suggestion, Trial, Trials


class PbtSearch(Composed):
    """Members that run while others wait for a place pause at their next comparison: a population may be larger than
    the number of trials that run at once, and all of it trains at one pace."""

    def __init__(self, population: "Population", rules: Sequence[Rule], trials: Trials, clock: Clock) -> None:
        super().__init__(population, [population, *rules], population.goals, trials, clock)
        self.population = population
        self._in_vain = -1

    def resume(self) -> int | None:
        """The paused member that has trained least; newcomers come first, unless they were not asked for last time."""
        paused = [trial for trial in self.trials if trial.state == "paused"]
        if not paused:
            return None
        if self.population.vacancies(self.trials) and self._in_vain != len(self.trials):
            self._in_vain = len(self.trials)
            return None
        member = min(paused, key=lambda trial: (trial.epoch, trial.id))
        self.trials.became(member.id, "running", self.clock())
        return member.id


@dataclass(frozen=True)
class Member:
    """Where a trial stands: by its last comparison, before its first one by its parent's."""

    trial: Trial
    place: Place
    compared: bool


@dataclass(frozen=True)
class Population:
    """What PBT proposes and what it says of a member. ``first`` are what the first trials try; the others are drawn.

    Members are compared after each epoch that is a multiple of ``pbt.every``, or the first evaluated one behind it.
    Checkpoints of these epochs are what copies begin with.
    """

    space: Space
    goals: Goals
    pbt: Pbt
    epochs: int
    seed: int = 0
    first: Sequence[Params] = ()

    def propose(self, trial_id: int, trials: Trials) -> Suggestion | None:
        if not self.vacancies(trials):
            return None
        if exploits := self._exploits(trials):
            return self._copy(trial_id, *exploits[0], trials)
        last = self.epochs - 1
        if len(trials) >= self.pbt.population and (best := self._best(self._ranked(trials, last))):
            return self._copy(trial_id, self._one_of(best, trial_id).id, last, trials)
        return self._founder(trial_id)

    def decide(self, trial: Trial, epoch: int, trials: Trials) -> Decision:
        """``stop`` of one of the worst; ``pause`` where others wait for a place that have trained less."""
        if epoch >= self.epochs or epoch not in self._comparisons(trial):
            return CONTINUE
        ranked = self._ranked(trials, epoch)
        worst = ranked[len(ranked) - self._share(ranked) :]
        parents = self._best(ranked)
        if parents and any(member.trial is trial for member in worst):
            return self._exploited(epoch, len(worst), len(ranked), self._one_of(parents, trial.id, epoch))
        if len(trials) < self.pbt.population or any(one.state == "paused" and one.epoch < epoch for one in trials):
            return Decision("pause", f"after epoch {epoch}: others wait that have trained less", "pbt", epoch)
        return CONTINUE

    def vacancies(self, trials: Trials) -> int:
        """Places of the population that were never taken, or whose trial was exploited, failed or otherwise ended."""
        left = sum(one.state in ("failed", "stopped") or _exploit_of(one) is not None for one in trials)
        return max(0, self.pbt.population + left - len(trials))

    def _exploited(self, epoch: int, worst: int, members: int, parent: Trial) -> Decision:
        among = "the last" if worst == 1 else f"one of the last {worst}"
        reason = f"after epoch {epoch} {among} of {members} members: exploited by trial {parent.id}"
        return Decision("stop", reason, "pbt", epoch, peers=members, parent=parent.id)

    def _exploits(self, trials: Trials) -> list[tuple[int, int]]:
        """Whom to copy, and up to which epoch, for each exploited trial whose place is not taken yet."""
        exploits = [exploit for one in trials if (exploit := _exploit_of(one))]
        for one in trials:
            taken = next((exploit for exploit in exploits if exploit[0] == one.suggestion.parent), None)
            if taken:
                exploits.remove(taken)
        return exploits

    def _copy(self, trial_id: int, parent_id: int, until: int, trials: Trials) -> Suggestion:
        """A copy has not trained longer than whose place it takes."""
        parent = trials[parent_id]
        epoch = max(epoch for epoch in self._comparisons(parent) if epoch <= until)
        params = explored(parent.params, self.space, self.pbt, rng_of(self.seed, trial_id))
        return Suggestion(params, parent_id, epoch)

    def _founder(self, trial_id: int) -> Suggestion:
        if trial_id < len(self.first):
            return Suggestion(self.first[trial_id])
        return Suggestion(self.space.at(list(rng_of(self.seed, trial_id).random(len(self.space)))))

    def _ranked(self, trials: Trials, until: int) -> list[Member]:
        """The members, best first, of equals the older; none by what it reached after ``until``."""
        members = [member for one in trials if (member := self._member(one, trials, until))]
        ranks = ranks_of([member.place for member in members])
        return [member for _, member in sorted(zip(ranks, members, strict=True), key=lambda pair: pair[0])]

    def _member(self, trial: Trial, trials: Trials, until: int) -> Member | None:
        if trial.state in ("failed", "stopped") or (trial.ending and trial.ending.verdict == "stop"):
            return None
        if epochs := [epoch for epoch in self._comparisons(trial) if epoch <= until]:
            return Member(trial, self._place(trial, epochs[-1]), True)
        parent, epoch = trial.suggestion.parent, trial.suggestion.epoch
        return None if parent is None else Member(trial, self._place(trials[parent], epoch), False)

    def _comparisons(self, trial: Trial) -> list[int]:
        """The epochs after which the trial was compared."""
        epochs = sorted(one for one in trial.curve if objectives_known(trial, one, self.goals) == self.goals.objectives)
        before = [trial.suggestion.epoch, *epochs]
        return [
            epoch
            for last, epoch in zip(before, epochs, strict=False)
            if last // self.pbt.every < epoch // self.pbt.every
        ]

    def _place(self, trial: Trial, epoch: int) -> Place:
        place = place_of(trial, epoch, self.goals.objectives, self.goals.constraints)
        assert place is not None
        return place

    def _share(self, ranked: Sequence[Member]) -> int:
        """How many are the worst, and the best: the share rounded down, of a whole population one at least."""
        share = int(self.pbt.quantile * len(ranked))
        return min(share or int(len(ranked) >= self.pbt.population), len(ranked) // 2)

    def _best(self, ranked: Sequence[Member]) -> list[Trial]:
        """Those of the best that have a checkpoint of their own."""
        return [member.trial for member in ranked[: max(1, self._share(ranked))] if member.compared]

    def _one_of(self, trials: Sequence[Trial], *stream: int) -> Trial:
        import numpy as np

        return trials[int(np.random.default_rng([self.seed, *stream]).integers(len(trials)))]


def _exploit_of(trial: Trial) -> tuple[int, int] | None:
    """By whom a trial was exploited, and after which epoch: nothing is decided of it after that."""
    epoch, last = next(reversed(trial.decisions.items()), (0, CONTINUE))
    return None if last.parent is None else (last.parent, epoch)
