"""Trainings to be killed: a tiny recipe with everything on that has state, its attempts, what they leave on disk."""

import contextlib
import hashlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml
from kill_phases import Board, Shown
from kill_phases import main as trainer_with_boards

from trainer.contract.ports import free_port
from trainer.contract.results import TrainResult
from trainer.data.scene_painting import CLASSES
from trainer.data.scenes import make_scenes

RANKS = 2
EPOCHS = 3
STEPS = 12
"""Of 36 training frames in batches of 8: four an epoch."""

Launcher = Literal["torchrun", "fork"]

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "project": "benchmarks",
    "window": {"count": 1, "min_samples": 4},
    "data": {"image_size": [64, 64], "batch_size": 8, "workers": 1, "augmentation": {"scale": [1.0, 1.3]}},
    "model": {"width": 8, "blocks": [1, 1, 1, 1], "neck_channels": 16},
    "tasks": {
        "detection": {"classes": ["vehicle", "pedestrian", "cyclist"]},
        "segmentation": {"classes": list(CLASSES)},
    },
    "optim": {"lr": 0.003, "warmup_steps": 2, "accumulate": 2, "ema_decay": 0.9},
    "balancing": {"method": "uncertainty"},
    "training": {"epochs": EPOCHS, "checkpoint_every": 2, "precision": "bf16", "monitor": "segmentation/mIoU"},
    "launch": {"accelerator": "cpu", "devices": RANKS},
}


@dataclass(frozen=True)
class Material:
    """What every run trains on."""

    recipe: Path
    delivery: Path

    @classmethod
    def make(cls, folder: Path) -> "Material":
        make_scenes(folder / "delivery", windows=1, frames_per_window=48)
        (folder / "tiny.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
        return cls(folder / "tiny.yaml", folder / "delivery")


@dataclass
class Run:
    """One run directory, its store, and its log over all attempts."""

    folder: Path
    material: Material
    offsets: list[int] = field(default_factory=list)

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def result(self) -> TrainResult:
        return TrainResult.model_validate_json((self.run_dir / "result.json").read_bytes())

    def words(self, attempt: int = -1) -> str:
        """What an attempt said; the last by default."""
        offsets = [*self.offsets, self.log.stat().st_size]
        place = attempt % len(self.offsets)
        with open(self.log, "rb") as stream:
            stream.seek(offsets[place])
            return stream.read(offsets[place + 1] - offsets[place]).decode(errors="replace")

    def began_at(self, attempt: int = -1) -> int | None:
        """The step that an attempt began at; None if it did not come so far."""
        found = re.search(r"^training \S+ from (?:step (\d+)|the beginning)", self.words(attempt), re.MULTILINE)
        return None if found is None else int(found[1] or 0)


class Attempt:
    """One start of the command; a context that leaves no process behind."""

    def __init__(self, run: Run, launcher: Launcher, *sets: str) -> None:
        self.run, self.launcher = run, launcher
        run.folder.mkdir(parents=True, exist_ok=True)
        run.log.touch()
        run.offsets.append(run.log.stat().st_size)
        boards = Path("/dev/shm") / f"kill-{os.getpid()}-{run.folder.name}"  # noqa: S108
        self._boards = [boards.with_name(f"{boards.name}.{rank}") for rank in range(RANKS)]
        for path in self._boards:
            path.unlink(missing_ok=True)
        self.boards = [Board(path) for path in self._boards]
        self.began = time.time()
        overrides = [part for one in sets for part in ("--set", one)]
        arguments = ["train", str(run.material.recipe), "--data", str(run.material.delivery)]
        arguments += ["--run-dir", str(run.run_dir), "--copy-to", str(run.store), *overrides]
        environment = {"KILL_BOARD": str(boards), "OMP_NUM_THREADS": "1", "PYTHONPATH": _python_path()}
        start = _torchrun if launcher == "torchrun" else _fork
        self.pid = start(arguments, {**os.environ, **environment}, run.log)
        self.tree: dict[int, psutil.Process] = {}
        self.code: int | None = None

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(self, *_: object) -> None:
        self.look_around()
        for process in self.tree.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.wait(30)
        for path in self._boards:
            path.unlink(missing_ok=True)

    def shown(self, rank: int = 0) -> Shown:
        return self.boards[rank].read()

    def look_around(self) -> None:
        """Note the processes of this attempt, to see later that none stays."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            for process in [root, *root.children(recursive=True)]:
                self.tree.setdefault(process.pid, process)

    def ended(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait(self, seconds: float) -> int | None:
        """The exit code; None if it does not end within ``seconds``."""
        deadline = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.code

    def left_behind(self, seconds: float) -> list[str]:
        """Processes that are still there after ``seconds``."""
        deadline = time.monotonic() + seconds
        while (alive := [process for process in self.tree.values() if _alive(process)]) and time.monotonic() < deadline:
            self.ended()
            time.sleep(0.02)
        return [f"{process.pid} {process.name()}" for process in alive]

    def strike(self, rank: int | None, number: signal.Signals) -> None:
        """Send a signal to one rank, or to the launcher (None)."""
        pid = self.pid if rank is None else self.shown(rank).pid
        with contextlib.suppress(ProcessLookupError):
            if pid and not self.ended():
                os.kill(pid, number)


def _torchrun(arguments: list[str], environment: dict[str, str], log: Path) -> int:
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", str(RANKS), "--master-port"]
    script = str(Path(__file__).with_name("kill_phases.py"))
    with open(log, "a") as out:
        command = [*torchrun, str(free_port()), script, *arguments]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    process.returncode = 0  # waited for by its process id
    return process.pid


def _fork(arguments: list[str], environment: dict[str, str], log: Path) -> int:
    """``ddp_fork`` in a fork of this process, which has imported all that a rank does: starting costs nothing."""
    for module in ("trainer.engine.run", "torch._inductor", "pandas", "pyarrow.parquet", "faster_coco_eval"):
        importlib.import_module(module)
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        sys.stdout = sys.stderr = out = open(log, "a", buffering=1)  # noqa: SIM115 - until the process ends
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        os.environ.update(environment)
        code = trainer_with_boards([*arguments, "--set", "launch.strategy=ddp_fork"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)
    return 0


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def complete(root: Path) -> dict[str, list[str]]:
    """Each checkpoint with a marker in ``root``, the oldest first, and its files that are not as the marker says."""
    found = {}
    for marker in sorted(root.glob("step-*/COMPLETE")):
        if marker.parent.suffix != ".part":
            with contextlib.suppress(FileNotFoundError):
                found[marker.parent.name] = list(_damage(marker))
    return found


def _damage(marker: Path) -> Iterator[str]:
    for name, facts in json.loads(marker.read_text())["files"].items():
        path = marker.with_name(name)
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
            yield name


def step_of(name: str) -> int:
    return int(name.split("-")[1])


def unfinished(root: Path, since: float) -> bool:
    """Whether ``root`` holds a checkpoint that is neither complete nor absent, touched after ``since`` (Unix time)."""
    return any(
        not (path / "COMPLETE").exists() or path.suffix == ".part"
        for path in root.glob("step-*")
        if _touched(path) >= since
    )


def _touched(directory: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return max(path.stat().st_mtime for path in [directory, *directory.iterdir()])
    return 0.0
