"""The controller of a sweep: from what is seen of its trials to what is to be done. One look at a time.

It keeps nothing of its own: the search's memory is the journal, what trials took is told with each look. A look may
be cut off anywhere and be repeated: what is to run is asked for until it is seen, what is to end until it has ended.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from training_assets.sweeps.search.base import Search
from training_assets.sweeps.trials import Decision, Params, Suggestion, Trial

Seen = Literal["running", "completed", "stopped", "failed"]


@dataclass(frozen=True)
class Look:
    """One trial's launch as it is seen, in a queue or at work (``running``), or ended.

    ``epochs`` has its metrics after each epoch so far, ``final`` those of its evaluation. Of a launch that was asked
    for and did not come about yet there is none.
    """

    trial: int
    state: Seen
    epochs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    final: Mapping[str, float] = field(default_factory=dict)


class Purse(Protocol):
    """The budget as the controller asks it. Answers are sentences for people; None: it may go on."""

    def exhausted(self) -> str | None:
        """The cap that is reached: everything is to end."""
        ...

    def refusal(self, trial: int) -> str | None:
        """Why what ``trial`` is expected to take cannot be set aside, beside what those that run still take."""
        ...


@dataclass
class Actions:
    """What is to be done: trials that are to be under way, trials that are to end, and why the sweep is through."""

    run: list[int] = field(default_factory=list)
    stop: dict[int, Decision] = field(default_factory=dict)
    said: str = ""
    through: bool = False


@dataclass(frozen=True)
class Controller:
    """``parallelism`` trials at once. ``baseline`` is what the first trial tries, where it is not for the search."""

    search: Search
    purse: Purse
    parallelism: int
    clock: Callable[[], float]
    baseline: Params | None = None

    def look(self, looks: Iterable[Look]) -> Actions:
        """Hear, judge, settle, and ask for what comes next."""
        seen = {look.trial: look for look in looks}
        for look in seen.values():
            self._hear(look)
            self._settle(look)
        if exhausted := self.purse.exhausted():
            return self._ended_by(exhausted, seen)
        said = self._ask()
        actions = Actions(run=[trial.id for trial in self._running if trial.id not in seen], said=said)
        actions.stop = {trial.id: ending for trial in self._running if (ending := trial.ending)}
        actions.through = not self._running
        return actions

    @property
    def _running(self) -> list[Trial]:
        return [trial for trial in self.search.trials if trial.state == "running"]

    def _hear(self, look: Look) -> None:
        """What is new of the trial's epochs. Each is judged once, but what comes after its end was decided is kept."""
        trial = self.search.trials[look.trial]
        for epoch in sorted(set(look.epochs) - set(trial.decisions)):
            if trial.state == "running" and trial.ending is None:
                self.search.report(trial.id, epoch, look.epochs[epoch])
            elif epoch not in trial.curve:
                self.search.trials.reported(trial.id, epoch, look.epochs[epoch], self.clock())

    def _settle(self, look: Look) -> None:
        """How a trial ended. The figures of its evaluation count as those of its last epoch."""
        trial = self.search.trials[look.trial]
        if look.state == "running" or trial.state != "running":
            return
        if look.final:
            self.search.trials.reported(trial.id, trial.epoch, {**trial.metrics, **look.final}, self.clock())
        ending = trial.ending
        paused = look.state == "stopped" and ending is not None and ending.verdict == "pause"
        self.search.finish(trial.id, "paused" if paused else look.state)

    def _ask(self) -> str:
        """Fill the free places; why one stays free."""
        trials = self.search.trials
        while len(self._running) < self.parallelism:
            if self._resumed():
                continue
            if refusal := self.purse.refusal(len(trials)):
                if self._resumed():  # a search that would have let a new trial go first is asked again
                    continue
                return refusal
            if self.baseline is not None and not len(trials):
                trials.asked(0, Suggestion(self.baseline), self.clock())
            elif self.search.suggest(len(trials)) is None:
                return "the search waits for results" if self._running else "the search has nothing more to try"
        return ""

    def _resumed(self) -> bool:
        """Whether a paused trial goes on now. Any of them stands for all when it comes to what it still takes."""
        paused = next((trial.id for trial in self.search.trials if trial.state == "paused"), None)
        return paused is not None and not self.purse.refusal(paused) and self.search.resume() is not None

    def _ended_by(self, why: str, seen: Mapping[int, Look]) -> Actions:
        """All that runs is to end, and what was not started never is."""
        ending = Decision("stop", why, rule="budget")
        actions = Actions(stop={trial.id: ending for trial in self._running}, said=why)
        for trial in self._running:
            if trial.id not in seen:
                self.search.finish(trial.id, "stopped")
        actions.through = not self._running
        return actions
