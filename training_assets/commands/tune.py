"""``tune``: a sweep without Dagster. Each trial is ``trainer crossval`` on this machine, one after the other or one on
each device; search, stopping rules, names, folds, scores and budget are those of the graph.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer.contract.epochs import EPOCHS_FILE, read_epochs
from trainer.contract.errors import ContractError, Problem
from trainer.contract.exit_codes import DONE, FAILED
from trainer.contract.files import sha256_of, write_json, write_text
from trainer.contract.names import (
    PLAIN_NAME,
    cross_validation_directory,
    cross_validation_name,
    flaw_of_name,
    random_name,
)
from trainer.contract.run_infos import read_score
from trainer.contract.train_config import TrainConfig, read_config
from trainer.contract.yaml_io import dump_yaml
from trainer.terminal.answers import Answer
from training_assets.cross_validated import means_of
from training_assets.in_process import say
from training_assets.launchers.base import Handle, Launcher, LaunchSpec, Status
from training_assets.launchers.local import LocalLauncher
from training_assets.launchers.session import new_attempt
from training_assets.recipes import overridden
from training_assets.sweeps.controller import Actions, Controller, Look, Seen
from training_assets.sweeps.fitting import settled
from training_assets.sweeps.journal import Journal, journal_of, read_trials
from training_assets.sweeps.parameters import overrides
from training_assets.sweeps.place import RECIPE_FILE, SETTLED_FILE, SpentSoFar, SweepPlace
from training_assets.sweeps.purse import SweepPurse
from training_assets.sweeps.sweep_file import Settled, read_sweep
from training_assets.sweeps.trials import Trial
from training_assets.sweeps.under_way import baseline_of, search_for

LOOK_SECONDS = 0.5
HANDLE_FILE, STARTED_FILE = "handle.json", "started.json"
STATES: Mapping[str, Seen] = {"running": "running", "succeeded": "completed"}


@dataclass(frozen=True)
class Asked:
    """The command line. ``parallel``: ``tune-parallel`` has one trial on each of the recipe's devices."""

    file: Path
    recipe: Path
    data: Path
    artifacts: Path
    name: str | None = None
    resume: bool = False
    parallel: str = "serial"


def tune(asked: Asked) -> Answer:
    """Carry the sweep out, or go on with it; it failed when no trial was completed.

    Raises:
        ContractError: what was asked for does not go together; before anything is started.
    """
    place, sweep, recipe = begun(asked)
    say(f"tune {place.tune}: {asked.artifacts / place.tune}")
    with journal_of(place.root) as journal:
        work = _Tune(asked, place, sweep, recipe, journal, LocalLauncher())
        try:
            work.carry_out()
        finally:
            work.stop_all()
    return _best(place, sweep)


def begun(asked: Asked) -> tuple[SweepPlace, Settled, TrainConfig]:
    """Where the tune keeps its own, written down now if there is nothing yet; its sweep and recipe.

    Raises:
        ContractError: the name is taken, or it goes on with another sweep.
    """
    name = asked.name or random_name(lambda one: (asked.artifacts / one).exists())
    if flaw := flaw_of_name(name):
        raise ContractError("not a name of a tune", [Problem("--name", flaw, PLAIN_NAME)])
    place, recipe = SweepPlace(asked.artifacts / "_tunes" / name), read_config(asked.recipe)
    sweep = settled(read_sweep(asked.file), recipe, str(asked.file))
    if (place.root / SETTLED_FILE).exists():
        _refuse_another(asked, place, sweep)
    else:
        write_text(place.root / RECIPE_FILE, dump_yaml(recipe.model_dump(mode="json")))
        write_json(place.root / STARTED_FILE, {"at": time.time(), "recipe_sha256": sha256_of(asked.recipe)})
        place.keep(SETTLED_FILE, sweep)
    refuse_ddp_in_a_pool(recipe, asked.parallel)
    return place, place.sweep, place.recipe


def _refuse_another(asked: Asked, place: SweepPlace, sweep: Settled) -> None:
    if not asked.resume:
        problem = Problem("--name", f"{place.tune}, which there is", "another name, or --resume to go on with it")
        raise ContractError("this name is taken", [problem])
    if place.sweep.digest != sweep.digest:
        problem = Problem(str(asked.file), "another sweep", f"the one that {place.tune} was begun with")
        raise ContractError(f"{place.tune} goes on with what it was begun with", [problem])


def refuse_ddp_in_a_pool(recipe: TrainConfig, parallel: str) -> None:
    """
    Raises:
        ContractError: trials side by side, each of which would start ranks of its own on the same devices.
    """
    strategy = recipe.launch.strategy
    if parallel == "tune-parallel" and strategy in ("ddp", "fsdp"):
        expected = "auto: a trial on each device. Or leave --parallel away: one trial at a time, on all devices"
        problem = Problem("recipe", strategy, expected, field="launch.strategy")
        raise ContractError("no distributed training inside a parallel pool", [problem])


@dataclass
class _Tune:
    asked: Asked
    place: SweepPlace
    sweep: Settled
    recipe: TrainConfig
    journal: Journal
    launcher: Launcher
    at_work: dict[int, Handle] = field(default_factory=dict)
    on: dict[int, int | None] = field(default_factory=dict)

    def carry_out(self) -> None:
        controller, told = self._controller(), ""
        while True:
            actions = controller.look(list(self._looks()))
            self._act(actions)
            if actions.said and actions.said != told:
                told = actions.said
                say(told)
            if actions.through:
                return
            time.sleep(LOOK_SECONDS)

    def stop_all(self) -> None:
        for handle in self.at_work.values():
            self.launcher.stop(handle)

    @property
    def devices(self) -> list[int | None]:
        """What trials run on side by side; [None]: one at a time on all that the recipe asks for."""
        if self.asked.parallel != "tune-parallel":
            return [None]
        devices = self.recipe.launch.devices
        return list(devices) if isinstance(devices, tuple) else list(range(self.recipe.launch.processes or 1))

    def _controller(self) -> Controller:
        started_at = json.loads((self.place.root / STARTED_FILE).read_bytes())["at"]
        estimate = self.launcher.estimate(LaunchSpec((), self.place.root, "estimate", launch=self.recipe.launch))
        longest = self.recipe.launch.max_run_seconds
        purse = SweepPurse(self.place, self.sweep, self.journal, estimate, started_at, time.time, longest)
        search = search_for(self.sweep, self.journal)
        return Controller(search, purse, len(self.devices), time.time, baseline_of(self.sweep, self.recipe))

    def _act(self, actions: Actions) -> None:
        for number in actions.run:
            self._start(self.journal[number])
        for number in actions.stop:
            if handle := self.at_work.get(number):
                self.launcher.stop(handle)

    def _start(self, trial: Trial) -> None:
        spec = self._spec(trial)
        write_json(self.place.trial(trial.id).root / HANDLE_FILE, {"attempt": spec.attempt, "at": time.time()})
        self.at_work[trial.id] = self.launcher.launch(spec)
        settings = ", ".join(overrides(trial.params))
        say(f"{cross_validation_name(self.place.tune, trial.id)}: {settings}")

    def _looks(self) -> Iterator[Look]:
        for trial in [one for one in self.journal if one.state == "running"]:
            handle = self.at_work.get(trial.id) or self._found(trial)
            if handle is None:
                continue
            status = self.launcher.poll(handle)
            self._say_spent(trial, handle)
            look = self._look(trial, status)
            if look.state != "running":
                self.launcher.stop(handle)
                del self.at_work[trial.id]
                say(f"{cross_validation_name(self.place.tune, trial.id)} {look.state} {_short(look, self.sweep)}")
            yield look

    def _found(self, trial: Trial) -> Handle | None:
        """What an earlier process of ours started, and was killed before its end."""
        kept = self.place.trial(trial.id).root / HANDLE_FILE
        if not kept.is_file():
            return None
        known = json.loads(kept.read_bytes())
        found = self.launcher.attach(Handle("", self._spec(trial, known["attempt"]), known["at"]))
        if found is None or self.launcher.poll(found).state not in STATES:
            return None  # it ended with us: it goes on where it was left
        self.at_work[trial.id] = found
        return found

    def _look(self, trial: Trial, status: Status) -> Look:
        directory = self._directory(trial)
        if status.state == "running":
            return Look(trial.id, "running", self._epochs(directory))
        ended: Seen = "stopped" if trial.ending else STATES.get(status.state, "failed")
        result = read_score(directory) if ended == "completed" else None
        if result is None or result.score_is_unstable:
            return Look(trial.id, ended if ended == "stopped" else "failed", self._epochs(directory))
        final = means_of(result)
        return Look(trial.id, ended, self._epochs(directory) or {self.sweep.epochs: final}, final)

    def _epochs(self, directory: Path) -> dict[int, Mapping[str, float]]:
        """Of a trial that is one training; of several only their end says anything."""
        if self.sweep.cross_validation.runs > 1:
            return {}
        for path in directory.glob(f"*/{EPOCHS_FILE}"):
            known = {one.epoch + 1: one.metrics for one in read_epochs(path.parent)}
            return {epoch: {name: value for name, value in metrics.items() if value is not None}
                    for epoch, metrics in known.items() if metrics}  # fmt: skip
        return {}

    def _spec(self, trial: Trial, attempt: str | None = None) -> LaunchSpec:
        cv, asked = self.sweep.cross_validation, self.asked
        directory, device = self._directory(trial), self._device(trial.id)
        chosen = {"training.eval_every": 1, **trial.params, "training.epochs": self.sweep.epochs}
        settings = overridden(self.recipe, overrides(chosen))
        settings = settings if device is None else _on(settings, device)
        recipe = self.place.trial(trial.id).root / RECIPE_FILE
        write_text(recipe, dump_yaml(settings.model_dump(mode="json")))
        arguments = (
            *("crossval", str(recipe), "--data", str(asked.data.resolve())),
            *("--artifact-dir", str(asked.artifacts.resolve()), "--tune", self.place.tune, "--index", str(trial.id)),
            *("--resume", "--folds", str(cv.folds)),
            *("--seeds", f"[{settings.seed}]" if cv.seeds == 1 else str(cv.seeds)),
            *("--method", cv.method or ("kfold" if cv.folds > 1 else "none")),
            *("--set", "cross_validation.run_folds=null"),
            *self._weights(settings),
        )
        launch = settings.launch.model_copy(update={"strategy": "ddp_fork"})
        return LaunchSpec(arguments, directory.resolve(), attempt or new_attempt(), launch=launch)

    def _weights(self, settings: TrainConfig) -> tuple[str, ...]:
        """A registry's alias means nothing here."""
        asked = settings.model.warm_start
        return ("--no-warm-start",) if asked and not Path(asked).is_file() else ()

    def _device(self, number: int) -> int | None:
        """The one that the trial has, or the first that no other has."""
        if number not in self.on:
            taken = {self.on[other] for other in self.at_work}
            self.on[number] = next(one for one in self.devices if one not in taken)
        return self.on[number]

    def _directory(self, trial: Trial) -> Path:
        cv = cross_validation_name(self.place.tune, trial.id)
        return self.asked.artifacts / cross_validation_directory(cv, self.place.tune)

    def _say_spent(self, trial: Trial, handle: Handle) -> None:
        seconds, estimate = time.time() - handle.started_at, self.launcher.estimate(handle.spec)
        spent = SpentSoFar(seconds=seconds, gpu_hours=estimate.gpu_hours(seconds), usd=estimate.cost(seconds))
        self.place.trial(trial.id).keep(spent)


def _on(settings: TrainConfig, device: int) -> TrainConfig:
    devices = (device,) if settings.launch.accelerator != "cpu" else 1
    return settings.model_copy(update={"launch": settings.launch.model_copy(update={"devices": devices})})


def _short(look: Look, sweep: Settled) -> str:
    goal, last = sweep.goals.first.metric, look.epochs[max(look.epochs)] if look.epochs else {}
    return f"{goal} {last[goal]:.4f}" if goal in last else ""


def _best(place: SweepPlace, sweep: Settled) -> Answer:
    """The completed trials, the best first."""
    goal = sweep.goals.first
    done = [trial for trial in read_trials(place.root) if trial.state == "completed" and goal.metric in trial.metrics]
    done.sort(key=lambda one: goal.score(one.metrics), reverse=True)
    names = [cross_validation_name(place.tune, trial.id) for trial in done]
    lines = [
        f"• {name}  {goal.metric} {trial.metrics[goal.metric]:.4f}  {', '.join(overrides(trial.params))}"
        for name, trial in zip(names, done, strict=True)
    ]
    trials = [
        {"trial": name, "value": trial.metrics[goal.metric], "settings": dict(trial.params)}
        for name, trial in zip(names, done, strict=True)
    ]
    document = {"tune": place.tune, "objective": goal.metric, "trials": trials}
    return Answer(document, lines, DONE if done else FAILED)
