"""``make demo-sweep``: a sweep on the synthetic scenes by Dagster's real daemon, followed to its report."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from trainer.terminal.answers import Answer
from training_assets.commands.sweep import Asked, start_sweep
from training_assets.definitions import build_defs
from training_assets.demo import made_scenes, put_into_inbox
from training_assets.home import instance
from training_assets.in_process import Stopped, refresh_dataset, say
from training_assets.jobs import DATASET_ASSETS
from training_assets.places import Places
from training_assets.profiles import REPOSITORY, load_profile
from training_assets.queue import WORKSPACE, daemon_is_alive
from training_assets.refresh import Refresher
from training_assets.stores.inbox import inbox_of
from training_assets.sweeps.journal import read_trials
from training_assets.sweeps.place import SweepPlace, sweep_place
from training_assets.sweeps.report import PAGE_FILE

SWEEP = REPOSITORY / "sweeps" / "demo.yaml"
LOOK_SECONDS = 1.0
SENSOR_SECONDS = "2"
"""How often the demo's own daemon looks: its epochs take seconds, not minutes."""


def demo_sweep(file: Path | None, limit: float) -> Answer:
    """Deliver, stage, sweep, report, within ``limit`` seconds.

    Raises:
        Stopped: the report is not there in time, or the data could not be staged.
    """
    began, profile = time.monotonic(), load_profile()
    delivery = put_into_inbox(made_scenes(), inbox_of(profile.inbox))
    say(f"delivery {profile.inbox}/{delivery.name}")
    with instance() as dagster_instance:
        refresh_dataset(Refresher(build_defs(profile=profile), dagster_instance), delivery, DATASET_ASSETS)
        tune = start_sweep(Asked(file or SWEEP)).sweep
        place = sweep_place(Places(profile.store), tune)
        with _daemon(already=daemon_is_alive(dagster_instance)):
            report = _followed(place, began + limit)
    if os.environ.get("DISPLAY"):
        webbrowser.open(report.as_uri())
    took = time.monotonic() - began
    return Answer({"sweep": tune, "report": report, "seconds": took}, f"• done in {took:.0f} s: {report}")


@contextlib.contextmanager
def _daemon(already: bool) -> Iterator[None]:
    """Dagster's daemon at work; ours ends with the demo."""
    if already:
        yield
        return
    say("starting Dagster's daemon")
    environment = {**os.environ, "TRAINING_ASSETS_SENSOR_SECONDS": SENSOR_SECONDS}
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", str(WORKSPACE)]
    log = Path(os.environ["DAGSTER_HOME"]) / "demo_sweep_daemon.log"
    with open(log, "ab") as stream:
        daemon = subprocess.Popen(  # noqa: S603 - our own environment's daemon
            command, cwd=REPOSITORY, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait()


def _followed(place: SweepPlace, deadline: float) -> Path:
    """Say what is new of the sweep until its report is there.

    Raises:
        Stopped: it is not there in time.
    """
    told: dict[int, str] = {}
    report = place.report / PAGE_FILE
    while not (place.ended and report.is_file()):
        if time.monotonic() > deadline:
            raise Stopped(f"sweep {place.tune} is not through yet: python -m training_assets sweep status {place.tune}")
        _say_what_is_new(place, told)
        time.sleep(LOOK_SECONDS)
    _say_what_is_new(place, told)
    return report


def _say_what_is_new(place: SweepPlace, told: dict[int, str]) -> None:
    goal = place.sweep.goals.first.metric
    for trial in read_trials(place.root):
        value = trial.metrics.get(goal)
        shown = "" if value is None else f", {goal} {value:.4f}"
        why = f": {trial.ending.reason}" if trial.ending else ""
        line = f"cv{trial.id} {trial.state}, epoch {trial.epoch}{shown}{why}"
        if told.get(trial.id) != line:
            told[trial.id] = line
            say(line)
