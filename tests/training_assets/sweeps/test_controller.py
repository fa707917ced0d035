"""The controller of a sweep, driven tick by tick over a real journal by a world of pretended trainings."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_assets.sweeps.controller import Actions, Controller, Look, Seen
from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.journal import Journal, journal_of, read_trials
from training_assets.sweeps.search import search_of
from training_assets.sweeps.settings import EarlyStop, Pbt, Strategy
from training_assets.sweeps.space import Parameter, Space, Uniform
from training_assets.sweeps.trials import Decision, Trial, Trials

EPOCHS, METRIC = 9, "segmentation/mIoU"
SPACE = Space((Parameter("optim.lr", Uniform(0.0, 1.0)),))


class Killed(Exception):
    pass


@dataclass
class Launch:
    """A pretended training: better the nearer its rate is to 0.3; a rate above 0.95 crashes after two epochs."""

    rate: float
    epoch: int = 0
    begun_after: int = 0
    state: Seen = "running"
    stop: Decision | None = None

    def go_on(self) -> None:
        if self.state != "running":
            return
        if self.stop:
            self.state = "stopped"
            return
        self.epoch += 1
        if self.rate > 0.95 and self.epoch == 2:
            self.state = "failed"
        elif self.epoch == EPOCHS:
            self.state = "completed"

    def look(self, trial: int) -> Look:
        epochs = {one: {METRIC: self.value(one)} for one in range(self.begun_after + 1, self.epoch + 1)}
        return Look(trial, self.state, epochs, {"latency_p95_ms": 5.0} if self.state == "completed" else {})

    def value(self, epoch: int) -> float:
        return (1 - abs(self.rate - 0.3)) * (1 - math.exp(-epoch / 3))


@dataclass
class Purse:
    most: int = 12
    spent: str | None = None

    def exhausted(self) -> str | None:
        return self.spent

    def refusal(self, trial: int) -> str | None:
        return f"all {self.most} trials were started" if trial >= self.most else None


@dataclass
class World:
    """``writes_left``: the journal's writer is killed before the write after so many."""

    directory: Path
    parallelism: int = 3
    strategy: str = "asha"
    purse: Purse = field(default_factory=Purse)
    launches: dict[tuple[int, int], Launch] = field(default_factory=dict)
    started: list[tuple[int, int]] = field(default_factory=list)
    writes_left: float = math.inf

    def tick(self) -> Actions:
        with journal_of(self.directory) as journal:
            self._kill_at_a_write(journal)
            actions = self._controller(journal).look(self._looks(journal))
            for trial in actions.run:
                self._start(journal[trial])
            for trial, ending in actions.stop.items():
                if launch := self.launches.get((trial, journal[trial].resumed)):
                    launch.stop = ending
        return actions

    def to_the_end(self) -> Trials:
        for _ in range(500):
            if self.tick().through:
                return read_trials(self.directory)
            for launch in self.launches.values():
                launch.go_on()
        raise AssertionError("the sweep does not end")

    def _controller(self, journal: Journal) -> Controller:
        goals, stopping = Goals((Objective(METRIC),)), EarlyStop(first_rung=3)
        strategy = Strategy.model_validate({"name": self.strategy, "seed": 3})
        search = search_of(
            SPACE, goals, strategy, stopping, Pbt(population=5, quantile=0.4), EPOCHS, journal, lambda: 0.0
        )
        return Controller(search, self.purse, self.parallelism, lambda: 0.0, {"optim.lr": 0.5})

    def _looks(self, journal: Journal) -> Iterator[Look]:
        for trial in [one for one in journal if one.state == "running"]:
            if launch := self.launches.get((trial.id, trial.resumed)):
                yield launch.look(trial.id)

    def _start(self, trial: Trial) -> None:
        key = (trial.id, trial.resumed)
        if key not in self.launches:  # as Dagster starts a run key once
            self.started.append(key)
            before = self.launches.get((trial.id, trial.resumed - 1))
            rate = trial.params["optim.lr"]
            assert isinstance(rate, float)
            begun_after = trial.suggestion.epoch
            self.launches[key] = Launch(rate, before.epoch if before else begun_after, begun_after)

    def _kill_at_a_write(self, journal: Journal) -> None:
        write = journal._write

        def counted(event: str, trial: int, now: float, what: Mapping, acted_on: bool = True) -> None:
            if self.writes_left <= 0:
                raise Killed
            self.writes_left -= 1
            write(event, trial, now, dict(what), acted_on)

        journal._write = counted  # type: ignore[method-assign]


def test_a_sweep_tries_all_that_its_budget_allows_and_ends_the_weak_at_rungs(tmp_path: Path) -> None:
    world = World(tmp_path)
    trials = list(world.to_the_end())
    assert len(trials) == 12
    assert [trial.id for trial in trials] == list(range(12))
    assert trials[0].params == {"optim.lr": 0.5}, "the recipe as it is comes first"
    assert {trial.state for trial in trials} <= {"completed", "stopped", "failed"}
    stopped = [trial for trial in trials if trial.state == "stopped"]
    assert stopped
    assert all(trial.ending and trial.ending.rung in (3, 9) for trial in stopped)
    completed = [trial for trial in trials if trial.state == "completed"]
    assert completed
    assert all(trial.metrics["latency_p95_ms"] == 5.0 for trial in completed)
    assert all(trial.metrics[METRIC] > 0 for trial in completed), "the evaluation is added to the epoch's figures"
    assert len(world.started) == 12


def test_never_more_trials_than_places(tmp_path: Path) -> None:
    world = World(tmp_path, parallelism=4)
    while not world.tick().through:
        assert sum(launch.state == "running" for launch in world.launches.values()) <= 4
        for launch in world.launches.values():
            launch.go_on()


def test_an_exhausted_budget_ends_what_runs_and_starts_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in range(4):
        world.tick()
        for launch in world.launches.values():
            launch.go_on()
    running = [key for key, launch in world.launches.items() if launch.state == "running"]
    assert running
    world.purse.spent = "20 US dollars are used up"
    actions = world.tick()
    assert sorted(actions.stop) == sorted(trial for trial, _ in running)
    assert not actions.run
    trials = world.to_the_end()
    assert {trials[trial].state for trial, _ in running} == {"stopped"}
    assert len(world.started) == len(world.launches)


def test_what_was_asked_for_and_not_started_when_the_budget_ended_never_is(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tick()
    world.launches.clear()
    world.purse.spent = "used up"
    assert world.tick().through
    assert [trial.state for trial in read_trials(tmp_path)] == ["stopped"] * 3


def test_what_could_not_be_started_is_asked_for_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.tick().run == [0, 1, 2]
    world.launches.clear()
    assert world.tick().run == [0, 1, 2]
    assert world.tick().run == []


@settings(max_examples=12, deadline=None)
@given(kills=st.lists(st.integers(0, 40), max_size=8), strategy=st.sampled_from(["asha", "hyperband", "pbt"]))
def test_killed_at_any_write_it_goes_on_as_if_it_had_not_been(
    kills: list[int], strategy: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    undisturbed = World(tmp_path_factory.mktemp("undisturbed"), strategy=strategy)
    expected = undisturbed.to_the_end()
    world = World(tmp_path_factory.mktemp("killed"), strategy=strategy)
    for _ in range(500):
        world.writes_left = kills.pop() if kills else math.inf
        try:
            through = world.tick().through
        except Killed:
            continue
        if through:
            break
        for launch in world.launches.values():
            launch.go_on()
    trials = read_trials(world.directory)
    assert repr(list(trials)) == repr(list(expected))
    assert world.started == undisturbed.started, "no trial is started twice, none is lost"


@pytest.mark.parametrize("parallelism", [1, 3, 5])
def test_a_population_trains_side_by_side_whatever_the_places(tmp_path: Path, parallelism: int) -> None:
    world = World(tmp_path, parallelism=parallelism, strategy="pbt")
    trials = world.to_the_end()
    assert {trial.state for trial in trials} <= {"completed", "stopped", "failed"}, "nobody is left resting"
    copies = [trial for trial in trials if trial.suggestion.parent is not None]
    assert copies
    for copy in copies:
        assert min(copy.curve) == copy.suggestion.epoch + 1
        assert copy.suggestion.epoch in trials[copy.suggestion.parent].curve
    assert all(trial.resumed == 0 for trial in trials) == (parallelism == 5), "pauses only where not all have a place"


@pytest.mark.parametrize("most", [3, 6])
def test_members_that_rest_go_on_when_the_budget_has_no_more_trials(tmp_path: Path, most: int) -> None:
    world = World(tmp_path, parallelism=2, strategy="pbt", purse=Purse(most=most))
    assert {trial.state for trial in world.to_the_end()} <= {"completed", "stopped", "failed"}
