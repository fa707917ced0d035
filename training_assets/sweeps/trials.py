"""Trials: what was asked of each, how it went epoch by epoch, what was decided. The search's only memory.

``Trials`` is the storage that a search is handed. This one forgets with the process; ``journal.py`` has the one that
a killed sweep goes on from.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Value = bool | int | float | str | None | tuple["Value", ...]
Params = Mapping[str, Value]
"""Values by the dotted name of the recipe's field: ``{"optim.lr": 0.01}``."""

TrialState = Literal["running", "paused", "completed", "stopped", "failed"]
Verdict = Literal["continue", "stop", "pause"]


@dataclass(frozen=True)
class Decision:
    """What was decided of a trial after an epoch, and by what.

    ``rung`` is the epoch that it was compared at, ``threshold`` the value it had to reach (larger is better),
    ``peers`` how many trials that came from. ``parent`` is the trial whose copy takes a stopped one's place.
    """

    verdict: Verdict
    reason: str = ""
    rule: str = ""
    rung: int | None = None
    threshold: float | None = None
    peers: int = 0
    parent: int | None = None


CONTINUE = Decision("continue")


@dataclass(frozen=True)
class Suggestion:
    """What the next trial is to try. With a ``parent`` it begins with that trial's weights after ``epoch``."""

    params: Params
    parent: int | None = None
    epoch: int = 0


@dataclass
class Trial:
    """One trial. ``curve`` has the metrics after each epoch (1 is the first); one without evaluation is not in it.

    ``resumed`` counts how often it went on after a pause.
    """

    id: int
    suggestion: Suggestion
    asked_at: float = 0.0
    curve: dict[int, dict[str, float]] = field(default_factory=dict)
    decisions: dict[int, Decision] = field(default_factory=dict)
    state: TrialState = "running"
    resumed: int = 0

    @property
    def params(self) -> Params:
        return self.suggestion.params

    @property
    def epoch(self) -> int:
        """The last epoch that is known of."""
        return max(self.curve, default=self.suggestion.epoch)

    @property
    def ending(self) -> Decision | None:
        """The decision that ends, or ended, the trial or its time till a pause."""
        pauses = sum(decision.verdict == "pause" for decision in self.decisions.values())
        last = self.decisions[max(self.decisions)] if self.decisions else CONTINUE
        if last.verdict == "pause" and pauses == self.resumed:
            return None
        return None if last.verdict == "continue" else last

    @property
    def metrics(self) -> dict[str, float]:
        """Those after the last epoch."""
        return self.curve[self.epoch] if self.curve else {}

    def finite(self, metric: str, epoch: int) -> float | None:
        """The metric after ``epoch``; None where there is none, or it is not a finite number."""
        value = self.curve.get(epoch, {}).get(metric, math.nan)
        return value if math.isfinite(value) else None


class Trials:
    """All trials of a sweep by their number."""

    def __init__(self) -> None:
        self._trials: dict[int, Trial] = {}

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._trials.values())

    def __len__(self) -> int:
        return len(self._trials)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._trials

    def __getitem__(self, trial_id: int) -> Trial:
        return self._trials[trial_id]

    def asked(self, trial_id: int, suggestion: Suggestion, now: float) -> None:
        self._trials[trial_id] = Trial(trial_id, suggestion, now)

    def reported(self, trial_id: int, epoch: int, metrics: Mapping[str, float], now: float) -> None:
        self._trials[trial_id].curve[epoch] = dict(metrics)

    def decided(self, trial_id: int, epoch: int, decision: Decision, now: float) -> None:
        self._trials[trial_id].decisions[epoch] = decision

    def became(self, trial_id: int, state: TrialState, now: float) -> None:
        trial = self._trials[trial_id]
        trial.resumed += state == "running" and trial.state == "paused"
        trial.state = state
