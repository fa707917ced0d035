"""What all trials have to show after each epoch, in order: what a rule that asks at every epoch compares with."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Sequence

from training_assets.sweeps.goals import Objective
from training_assets.sweeps.stopping.standing import Standing
from training_assets.sweeps.trials import Trial, Trials

Shown = Callable[[Objective, Trial, int], Standing | None]


class Columns:
    """A sorted column for each objective and epoch.

    Made of the trials alone, whichever rule was asked about which; a report is placed once, so that asking costs a
    search in a column, not a walk through all trials.
    """

    def __init__(self, objectives: Sequence[Objective], shown: Shown) -> None:
        self.objectives, self.shown = objectives, shown
        self._start(None)

    def others(self, objective: Objective, trial: Trial, epoch: int, trials: Trials) -> list[Standing]:
        """Of the other trials that have something to show after ``epoch``; the worst is first."""
        self._read_on(trials)
        column, own = self._columns[objective, epoch], self.shown(objective, trial, epoch)
        at = len(column) if own is None else bisect_left(column, own)
        return column[:at] + column[at + 1 :]

    def _start(self, trials: Trials | None) -> None:
        self._trials = trials
        self._read: dict[int, int] = {}
        self._open: dict[int, Trial] = {}
        self._last: dict[tuple[Objective, int], Standing] = {}
        self._columns: dict[tuple[Objective, int], list[Standing]] = defaultdict(list)

    def _read_on(self, trials: Trials) -> None:
        if trials is not self._trials:
            self._start(trials)
        if len(trials) > len(self._read):
            new = [one for one in trials if one.id not in self._read]
            self._open |= {one.id: one for one in new}
            self._read |= {one.id: 0 for one in new}
        for one in list(self._open.values()):
            self._read_trial(one)

    def _read_trial(self, trial: Trial) -> None:
        """A trial that has ended is read once more, then no longer: its evaluation has changed its last figures."""
        epochs = list(trial.curve)[self._read[trial.id] :] if len(trial.curve) > self._read[trial.id] else []
        self._read[trial.id] = len(trial.curve)
        for epoch in epochs:
            self._place(trial, epoch)
        if trial.state not in ("running", "paused"):
            del self._open[trial.id]
            if trial.curve and not epochs:
                self._take_back(trial)
                self._place(trial, next(reversed(trial.curve)))

    def _place(self, trial: Trial, epoch: int) -> None:
        for objective in self.objectives:
            self._last.pop((objective, trial.id), None)
            if (standing := self.shown(objective, trial, epoch)) is not None:
                self._last[objective, trial.id] = standing
                insort(self._columns[objective, epoch], standing)

    def _take_back(self, trial: Trial) -> None:
        for objective in self.objectives:
            if (standing := self._last.get((objective, trial.id))) is not None:
                column = self._columns[objective, next(reversed(trial.curve))]
                del column[bisect_left(column, standing)]
