"""Hyperband, asynchronous: brackets of successive halving that begin at later and later rungs.

Li et al., "Hyperband", JMLR 2018, says how many trials each bracket has; Li et al., "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020, has each bracket halve asynchronously. The synchronous form holds a whole bracket
at a rung until its last trial has come: hosts wait or trials are torn down and set up again, and one failed trial holds
up all. Here nobody waits, and what is said of a trial is a function of what has been recorded.
"""

import math
from collections.abc import Sequence
from functools import cached_property

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.stopping.rungs import best_until, rungs_of
from training_assets.sweeps.stopping.standing import Place, ahead_of, finite_score, objectives_known, place_of
from training_assets.sweeps.trials import CONTINUE, Decision, Trial, Trials


class Hyperband:
    """Of the trials of a bracket at a rung the best of every ``eta`` go on; with one bracket this is ASHA.

    With one objective a trial stands by its best up to the rung, with several by what it has there: the bests of
    several may be of no one checkpoint. Where a rung's epoch was not evaluated, the first evaluation after it counts.
    """

    def __init__(self, goals: Goals, first_rung: int, eta: int, epochs: int, brackets: int | None = None) -> None:
        self.goals, self.eta = goals, eta
        self.rungs = rungs_of(first_rung, eta, epochs)
        self.brackets = brackets or 1 + max(0, math.floor(math.log(epochs / first_rung, eta) + 1e-9))
        self.name = "hyperband" if self.brackets > 1 else "asha"
        self._trials: Trials | None = None
        self._places: dict[tuple[int, int, tuple[Objective, ...]], Place] = {}

    def decide(self, trial: Trial, epoch: int, trials: Trials) -> Decision:
        bracket = self.bracket_of(trial.id)
        objectives = objectives_known(trial, epoch, self.goals)
        rung = rung_reached(trial, epoch, self.rungs[bracket:], objectives) if objectives else None
        if rung is None:
            return CONTINUE
        if trials is not self._trials:
            self._trials, self._places = trials, {}
        own = self._place(trial, rung, objectives)
        others = (self._place(one, rung, objectives) for one in trials if self._is_peer(one, trial, bracket))
        peers = [place for place in others if place is not None]
        return self._compare(own, peers, epoch, rung, bracket) if own else CONTINUE

    def bracket_of(self, trial_id: int) -> int:
        """Bracket 0 begins at the first rung, each other one rung later."""
        return self._turns[trial_id % len(self._turns)]

    @cached_property
    def _turns(self) -> Sequence[int]:
        """Whose turn it is. A bracket with s rungs behind its first has ⌈(s_max + 1) / (s + 1) · eta^s⌉ trials."""
        last = self.brackets - 1
        sizes = [math.ceil(self.brackets / (s + 1) * self.eta**s) for s in range(last, -1, -1)]
        given, turns = [0] * self.brackets, list[int]()
        while len(turns) < sum(sizes):
            turn = min(range(self.brackets), key=lambda bracket: (given[bracket] + 0.5) / sizes[bracket])
            given[turn] += 1
            turns.append(turn)
        return turns

    def _is_peer(self, one: Trial, trial: Trial, bracket: int) -> bool:
        return one.id != trial.id and self.bracket_of(one.id) == bracket

    def _place(self, trial: Trial, rung: int, objectives: tuple[Objective, ...]) -> Place | None:
        """Where a trial stood at a rung: kept once it is past it, or has ended."""
        key = (trial.id, rung, objectives)
        if key in self._places:
            return self._places[key]
        epoch = first_evaluation(trial, rung, objectives)
        place = self._place_after(trial, epoch, objectives) if epoch else None
        if place and epoch and (trial.epoch > epoch or trial.state not in ("running", "paused")):
            self._places[key] = place
        return place

    def _place_after(self, trial: Trial, epoch: int, objectives: Sequence[Objective]) -> Place | None:
        place = place_of(trial, epoch, objectives, self.goals.constraints)
        if place is None or len(objectives) > 1:
            return place
        return Place((best_until(trial, epoch, objectives[0]),), place.violation)

    def _compare(self, own: Place, peers: Sequence[Place], epoch: int, rung: int, bracket: int) -> Decision:
        count = len(peers) + 1
        places, ahead = max(1, count // self.eta), ahead_of(own, peers)
        goes_on = ahead < places
        where = f"rung {rung} of bracket {bracket}" if self.brackets > 1 else f"rung {rung}"
        threshold = self._threshold(own, peers, places)
        reason = self._reason(own, epoch, threshold, f"{ahead} of {count}", places, where)
        return Decision("continue" if goes_on else "stop", reason, self.name, rung, threshold, count)

    def _reason(self, own: Place, epoch: int, threshold: float | None, ahead: str, places: int, where: str) -> str:
        go = "goes" if places == 1 else "go"
        return f"after epoch {epoch} {ahead} trials are ahead at {where}, where {places} {go} on"

    def _threshold(self, own: Place, peers: Sequence[Place], places: int) -> float | None:
        """The score of the last that goes on; None with several objectives, or where none is feasible."""
        scores = sorted((place.scores for place in (own, *peers) if not place.violation), reverse=True)
        return scores[places - 1][0] if len(own.scores) == 1 and len(scores) >= places else None


def rung_reached(trial: Trial, epoch: int, rungs: Sequence[int], objectives: Sequence[Objective]) -> int | None:
    """The last rung that ``epoch`` is the trial's first evaluation at or after."""
    rung = max((rung for rung in rungs if rung <= epoch), default=None)
    if rung is None or trial.suggestion.epoch >= rung:
        return None
    before = range(epoch - 1, rung - 1, -1)
    return None if any(_evaluated(trial, one, objectives) for one in before) else rung


def first_evaluation(trial: Trial, rung: int, objectives: Sequence[Objective]) -> int | None:
    """The first epoch at or after ``rung`` with all the objectives."""
    later = (epoch for epoch in trial.curve if epoch >= rung)
    return min((epoch for epoch in later if _evaluated(trial, epoch, objectives)), default=None)


def _evaluated(trial: Trial, epoch: int, objectives: Sequence[Objective]) -> bool:
    return all(finite_score(trial, epoch, one) is not None for one in objectives)
