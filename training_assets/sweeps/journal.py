"""The storage that a killed sweep goes on from: ``journal.jsonl``, a line for all that was asked, heard and decided.

Lines are only ever appended, what somebody acts on is on disk before, and one writer at a time is let in. A line
that was cut off when its writer died was not acted on: it is taken away. What a power cut may take, the newest epochs
and that a trial goes on, is heard and decided again, and in the same way.
"""

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from trainer.contract.errors import ContractError, Problem
from training_assets.sweeps.trials import Decision, Params, Suggestion, Trials, TrialState, Value

JOURNAL_FILE = "journal.jsonl"


class Busy(Exception):
    """Another process writes to the journal."""


@contextlib.contextmanager
def journal_of(directory: Path) -> Iterator["Journal"]:
    """The journal of the sweep in ``directory``, for this process alone to write to.

    Raises:
        Busy: another one does. The kernel gives back what a killed process held.
        ContractError: a line, not the last one, cannot be read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / JOURNAL_FILE, "a+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another process writes to {stream.name}") from None
        stream.seek(0)
        content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            stream.truncate(len(whole))
        journal = Journal(stream)
        _replay(journal, whole, stream.name)
        yield journal


def read_trials(directory: Path) -> Trials:
    """What the journal of the sweep in ``directory`` holds now; a line that is being written is left out."""
    path, trials = directory / JOURNAL_FILE, Trials()
    if path.is_file():
        content = path.read_bytes()
        _replay(trials, content[: content.rfind(b"\n") + 1], str(path))
    return trials


class Journal(Trials):
    """``Trials`` that are written down."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream

    def asked(self, trial_id: int, suggestion: Suggestion, now: float) -> None:
        self._write("asked", trial_id, now, asdict(suggestion))
        super().asked(trial_id, suggestion, now)

    def reported(self, trial_id: int, epoch: int, metrics: Mapping[str, float], now: float) -> None:
        known = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._write("reported", trial_id, now, {"epoch": epoch, "metrics": known}, acted_on=False)
        super().reported(trial_id, epoch, metrics, now)

    def decided(self, trial_id: int, epoch: int, decision: Decision, now: float) -> None:
        line = {"after": epoch, **asdict(decision)}
        self._write("decided", trial_id, now, line, acted_on=decision.verdict != "continue")
        super().decided(trial_id, epoch, decision, now)

    def became(self, trial_id: int, state: TrialState, now: float) -> None:
        self._write("became", trial_id, now, {"state": state})
        super().became(trial_id, state, now)

    def _write(self, event: str, trial_id: int, now: float, what: dict[str, Any], acted_on: bool = True) -> None:
        """Outlives the process; what is ``acted_on`` also a power cut, and with it all before."""
        line = json.dumps({"event": event, "trial": trial_id, "at": now, **what}, allow_nan=False)
        self._stream.write(line.encode() + b"\n")
        self._stream.flush()
        if acted_on:
            os.fsync(self._stream.fileno())


def _replay(trials: Trials, content: bytes, file: str) -> None:
    for number, line in enumerate(content.splitlines(), 1):
        try:
            _apply(trials, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            problem = Problem(file, f"{type(error).__name__}: {error}", "an event of a sweep", line=number)
            raise ContractError("the journal of this sweep is damaged", [problem]) from None


def _apply(trials: Trials, line: dict[str, Any]) -> None:
    event, trial_id, now = line.pop("event"), line.pop("trial"), line.pop("at")
    if event == "asked":
        Trials.asked(trials, trial_id, Suggestion(_params(line["params"]), line["parent"], line["epoch"]), now)
    elif event == "reported":
        metrics = {name: math.nan if value is None else value for name, value in line["metrics"].items()}
        Trials.reported(trials, trial_id, line["epoch"], metrics, now)
    elif event == "decided":
        epoch = line.pop("after")
        Trials.decided(trials, trial_id, epoch, Decision(**line), now)
    elif event == "became":
        Trials.became(trials, trial_id, line["state"], now)
    else:
        raise ValueError(f"no such event: {event!r}")


def _params(read: dict[str, Any]) -> Params:
    return {name: _value(value) for name, value in read.items()}


def _value(value: Any) -> Value:
    return tuple(map(_value, value)) if isinstance(value, list) else value
