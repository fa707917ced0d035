"""What all trials have to show after each epoch, in order: what a rule that asks at every epoch compares with."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

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
        self._read_on(trial, trials)
        column, own = self._columns[objective, epoch], self.shown(objective, trial, epoch)
        at = len(column) if own is None else bisect_left(column, own)
        return column[:at] + column[at + 1 :]

    def _start(self, trials: Trials | None) -> None:
        self._trials = trials
        self._read: dict[int, int] = {}
        self._open: dict[int, Trial] = {}
        self._columns: dict[tuple[Objective, int], list[Standing]] = defaultdict(list)

    def _read_on(self, trial: Trial, trials: Trials) -> None:
        if trials is not self._trials:
            self._start(trials)
        for one, epoch in list(self._unread(trial, trials)):
            for objective in self.objectives:
                standing = self.shown(objective, one, epoch)
                if standing is not None:
                    insort(self._columns[objective, epoch], standing)

    def _unread(self, trial: Trial, trials: Trials) -> Iterator[tuple[Trial, int]]:
        """Reports that were not read before. A trial that has ended is looked at once more, then no longer."""
        if len(trials) > len(self._read):
            self._open |= {one.id: one for one in trials if one.id not in self._read}
            self._read |= dict.fromkeys((one.id for one in trials if one.id not in self._read), 0)
        for one in [*self._open.values(), trial]:
            count = self._read[one.id]
            if len(one.curve) > count:
                self._read[one.id] = len(one.curve)
                yield from ((one, epoch) for epoch in list(one.curve)[count:])
            if one.state not in ("running", "paused"):
                self._open.pop(one.id, None)
