"""The hard budget of a sweep: what is spent, what is promised to running trials, what still fits.

All of it is computed from what is known of the trials, so that a sweep that was killed and goes on has the same
budget. Money and hours are of all nodes of a trial together, as ``launchers.base.Estimate`` has them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from trainer.contract.errors import Problem
from training_assets.launchers.base import Estimate
from training_assets.sweeps.settings import Budget

Cap = Literal["max_trials", "gpu_hours", "wall_time", "max_cost_usd"]
MONEY: tuple[Cap, ...] = ("gpu_hours", "max_cost_usd")
UNITS: Mapping[Cap, str] = {
    "max_trials": "trials",
    "gpu_hours": "GPU hours",
    "wall_time": "hours",
    "max_cost_usd": "US dollars",
}
ROUNDING = 1e-9


@dataclass(frozen=True)
class TrialCost:
    """What one trial took so far. ``epochs`` are those it trained itself; of a copy (PBT) they begin at ``begun_at``.

    A trial of several folds or seeds counts the epochs of all its trainings.
    """

    trial: int
    running: bool
    seconds: float = 0.0
    gpu_hours: float = 0.0
    usd: float | None = None
    epochs: int = 0
    begun_at: int = 0


@dataclass(frozen=True)
class Refusal:
    """Why a trial may not start: what it would take of ``cap`` together with what is spent and promised already."""

    cap: Cap
    needed: float
    limit: float
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Excess:
    """A cap that is reached: the trials that run are to be stopped, their checkpoints kept."""

    cap: Cap
    spent: float
    limit: float

    @property
    def by(self) -> float:
        return max(self.spent - self.limit, 0.0)

    def __str__(self) -> str:
        over = f", {_shown(self.cap, self.by)} too many" if self.by > ROUNDING else ""
        return f"{_shown(self.cap, self.limit)} {UNITS[self.cap]} ({self.cap}) are used up{over}"


@dataclass(frozen=True)
class Ledger:
    """The books at one moment. ``epochs`` of a whole trial; ``started_at`` and ``now`` in seconds of one clock.

    ``expected_seconds`` is what a whole trial is believed to take while no epoch is known: the file's
    ``expected_trial_seconds``, or the recipe's ``launch.max_run_seconds``.
    """

    budget: Budget
    epochs: int
    estimate: Estimate
    costs: tuple[TrialCost, ...]
    started_at: float
    now: float
    expected_seconds: float | None = None

    def reserve(self, trial: int, begun_at: int = 0) -> "Ledger | Refusal":
        """The books with ``trial`` among the running ones, which promises it what it is expected to take; or why not.

        A paused trial is only promised what it has left.
        """
        promised = self._with(trial, begun_at)
        for cap, limit in self.limits().items():
            needed = promised.spent(cap) + promised.reserved(cap)
            if needed > limit + ROUNDING:
                return Refusal(cap, needed, limit, self._reason(cap, needed, limit))
        if self.seconds_of_epochs(1) is None and any(one.running for one in self.costs) and self._limits_time():
            return Refusal("max_trials", 2, 1, "nothing is known yet of what a trial takes: one is tried alone first")
        return promised

    def exceeded(self, ahead: float = 0.0) -> tuple[Excess, ...]:
        """The caps that are reached, or will be ``ahead`` seconds from now with what runs.

        With ``ahead`` the time until one looks again no cap is passed at all.
        """
        later = self._after(ahead)
        found = ((cap, later.spent(cap), limit) for cap, limit in self.limits().items() if cap != "max_trials")
        return tuple(Excess(cap, spent, limit) for cap, spent, limit in found if spent >= limit - ROUNDING)

    def used(self) -> float:
        """The share of the cap that is nearest to its end, 1: reached; 0 without caps. Trials do not count as spent."""
        caps = ((cap, limit) for cap, limit in self.limits().items() if cap != "max_trials")
        return max((self.spent(cap) / limit for cap, limit in caps), default=0.0)

    def limits(self) -> dict[Cap, float]:
        """The caps that there are, wall time in seconds."""
        caps: tuple[Cap, ...] = ("max_trials", "gpu_hours", "wall_time", "max_cost_usd")
        return {cap: float(limit) for cap in caps if (limit := getattr(self.budget, cap)) is not None}

    def spent(self, cap: Cap) -> float:
        """Of a cap so far, by running and ended trials."""
        if cap == "max_trials":
            return float(len(self.costs))
        if cap == "wall_time":
            return self.now - self.started_at
        return math.fsum(_of(cap, one) for one in self.costs)

    def reserved(self, cap: Cap) -> float:
        """What the running trials are expected to take still; of the wall time the longest of them."""
        left = [self.seconds_left(one) or 0.0 for one in self.costs if one.running]
        if cap == "wall_time":
            return max(left, default=0.0)
        return math.fsum(self._price(cap, seconds) for seconds in left)

    def seconds_left(self, one: TrialCost) -> float | None:
        """What a trial is expected to take still; None where nothing is known of any."""
        return self.seconds_of_epochs(max(self.epochs - one.begun_at - one.epochs, 0))

    def seconds_of_epochs(self, epochs: int) -> float | None:
        """By the ended trials, before there is one by those that run, before there is an epoch by what is believed."""
        for known in (self._ended, self.costs):
            trained = sum(one.epochs for one in known)
            if trained:
                return epochs * math.fsum(one.seconds for one in known if one.epochs) / trained
        return None if self.expected_seconds is None else self.expected_seconds * epochs / self.epochs

    def forecast(self, cap: Cap) -> float | None:
        """What will be spent when the sweep ends, if further trials take what they took so far; None: not known."""
        to_come, each = self._trials_to_come(), self._seconds_of_a_trial()
        now = self.spent(cap) + self.reserved(cap)
        if to_come == 0:
            return now
        if each is None or math.isinf(to_come):
            return None
        if cap == "max_trials":
            return now + to_come
        rounds = math.ceil(to_come / self.budget.parallelism)
        return now + (rounds * each if cap == "wall_time" else to_come * self._price(cap, each))

    def sentences(self) -> list[str]:
        """How it stands, for people: a sentence for each cap."""
        return [self._sentence(cap, limit) for cap, limit in self.limits().items()]

    @property
    def _ended(self) -> tuple[TrialCost, ...]:
        return tuple(one for one in self.costs if not one.running)

    def _with(self, trial: int, begun_at: int) -> "Ledger":
        known = {one.trial: one for one in self.costs}
        started = replace(known.get(trial, TrialCost(trial, True, begun_at=begun_at)), running=True)
        return replace(self, costs=tuple({**known, trial: started}.values()))

    def _after(self, seconds: float) -> "Ledger":
        later = (self._run_on(one, seconds) if one.running else one for one in self.costs)
        return replace(self, costs=tuple(later), now=self.now + seconds)

    def _run_on(self, one: TrialCost, seconds: float) -> TrialCost:
        usd, more = one.usd, self.estimate.cost(seconds)
        return replace(
            one,
            seconds=one.seconds + seconds,
            gpu_hours=one.gpu_hours + self.estimate.gpu_hours(seconds),
            usd=usd if more is None else (usd or 0.0) + more,
        )

    def _price(self, cap: Cap, seconds: float) -> float:
        if cap == "max_trials":
            return 0.0
        return self.estimate.gpu_hours(seconds) if cap == "gpu_hours" else self.estimate.cost(seconds) or 0.0

    def _limits_time(self) -> bool:
        return any(cap != "max_trials" for cap in self.limits())

    def _reason(self, cap: Cap, needed: float, limit: float) -> str:
        if cap == "max_trials":
            return f"all {limit:.0f} trials (max_trials) were started"
        return (
            f"another trial would take it to {_shown(cap, needed)} of {_shown(cap, limit)} {UNITS[cap]} ({cap}): "
            f"{_shown(cap, self.spent(cap))} spent, {_shown(cap, self.reserved(cap))} reserved"
        )

    def _seconds_of_a_trial(self) -> float | None:
        """Of one more: the mean of the ended ones, of which some were stopped early."""
        if ended := self._ended:
            return math.fsum(one.seconds for one in ended) / len(ended)
        return self.seconds_of_epochs(self.epochs)

    def _trials_to_come(self) -> float:
        """How many more trials fit into every cap."""
        each = self._seconds_of_a_trial() or 0.0
        return min((self._room(cap, limit, each) for cap, limit in self.limits().items()), default=math.inf)

    def _room(self, cap: Cap, limit: float, each: float) -> float:
        left = limit - self.spent(cap) - self.reserved(cap) + ROUNDING
        one = {"max_trials": 1.0, "wall_time": each / self.budget.parallelism}.get(cap, self._price(cap, each))
        if left <= 0:
            return 0
        return math.floor(left / one) if one else math.inf

    def _sentence(self, cap: Cap, limit: float) -> str:
        spent, reserved, end = self.spent(cap), self.reserved(cap), self.forecast(cap)
        of = f"{_shown(cap, spent)} of {_shown(cap, limit)} {UNITS[cap]}"
        if cap == "max_trials":
            return f"{of} started, the sweep will end after " + (
                "an unknown number" if end is None else f"about {end:.0f}"
            )
        forecast = "when it ends is not known yet" if end is None else f"the sweep will end at about {_shown(cap, end)}"
        return f"{of} {'passed' if cap == 'wall_time' else 'spent'}, {_shown(cap, reserved)} reserved, {forecast}"


def expected_seconds(budget: Budget, max_run_seconds: float | None) -> float | None:
    """What a whole trial is believed to take before one is known."""
    return budget.expected_trial_seconds or max_run_seconds


def budget_problems(budget: Budget, estimate: Estimate, file: str) -> Iterator[Problem]:
    """What keeps the caps from being kept on what the trials would run on."""
    if budget.max_cost_usd is not None and estimate.usd_per_hour is None:
        expected = "no cap on money: launchers/prices.yaml has no price of it"
        yield Problem(
            file, f"{budget.max_cost_usd:g} on {estimate.instance_type}", expected, field="budget.max_cost_usd"
        )


def _of(cap: Cap, one: TrialCost) -> float:
    return one.gpu_hours if cap == "gpu_hours" else one.usd or 0.0


def _shown(cap: Cap, value: float) -> str:
    """As people read it, wall time in hours."""
    value = value / 3600 if cap == "wall_time" else value
    return f"{value:.0f}" if cap == "max_trials" else f"{value:.1f}" if value >= 1 or not value else f"{value:.2g}"
