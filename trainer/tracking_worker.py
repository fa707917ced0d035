"""Tells W&B what a run's spool holds and W&B does not know yet: ``python -m trainer.tracking_worker RUN_DIR``.

A process of its own, which may hang or die without harm to a training. ``--follow``: it goes on until a byte (or the
end) comes on standard input, and is killed with the training that started it.
"""

import argparse
import contextlib
import fcntl
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from trainer.contract.files import write_json
from trainer.contract.tracking import FOLDER, Begin, End, Record, Row, parse, read_spool, spool_of
from trainer.contract.train_config import TrackingMode
from trainer.contract.yaml_io import read_yaml
from trainer.process import die_with_parent
from trainer.tracking_run import WandbRun, known_of

TICK = 0.5
LOCK_S = 60.0
SENT_FILE = "sent.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.tracking_worker", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--mode", choices=get_args(TrackingMode), required=True)
    parser.add_argument("--follow", action="store_true")
    asked = parser.parse_args()
    if asked.follow:
        die_with_parent()
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_IGN)  # the ranks decide when the run ends
    run_dir = asked.run_dir.absolute()
    with _alone(run_dir):
        sender = Sender(run_dir, asked.mode)
        for record in followed(spool_of(run_dir)) if asked.follow else read_spool(run_dir):
            sender.take(record)
        sender.close()
    return 0


class Sender:
    """Replays a spool: what W&B knows already is passed over.

    A row goes to W&B once the next step's comes, so that one step is one row there, whoever told of it. The last row
    of a training that was interrupted waits for the attempt that goes on with it.
    """

    def __init__(self, run_dir: Path, mode: TrackingMode) -> None:
        self.run_dir, self.mode = run_dir, mode
        self.sent_file = run_dir / FOLDER / SENT_FILE
        self.sent: int = read_yaml(self.sent_file)["records"] if self.sent_file.is_file() else 0
        self.known = known_of(run_dir)
        self.taken, self.last = 0, self.known.last_step
        self.state, self.step = "stopped", 0
        self._begin: Begin | None = None
        self._row: dict[str, float] = {}
        self._run: WandbRun | None = None

    @property
    def run(self) -> WandbRun:
        """Opened with the first record that is news."""
        if self._run is None:
            self._run = WandbRun(self.run_dir, self.mode, self._begin, self.known)
            self.last = max(self.last, self._run.last_step)
        return self._run

    def take(self, record: Record) -> None:
        self.taken += 1
        if isinstance(record, Row):
            if record.step > self.step:
                self._log()
                self.step = record.step
            if record.step == self.step:
                self._row |= record.values
            return
        if isinstance(record, Begin):
            self.state, self._begin = "running", record
        if isinstance(record, End):
            self.state = record.state
        if self.taken > self.sent:
            self._tell(record)

    def close(self) -> None:
        if self.state in ("finished", "failed"):
            self._log()
        if self._run is not None:
            self._run.finish(self.state)
            write_json(self.sent_file, {"records": self.taken, "mode": self._run.mode})

    def _tell(self, record: Record) -> None:
        """One that cannot be told (a file is gone, say) does not keep the others from it."""
        try:
            charts = self.run.tell(record)
        except Exception:
            traceback.print_exc()
            return
        if charts:
            self._log()
            self.step += 1
            self.run.log(charts, self.step)

    def _log(self) -> None:
        row, self._row = self._row, {}
        if row and self.step > self.last and self.step > self.run.last_step:
            self.run.log(row, self.step)


def followed(spool: Path) -> Iterator[Record]:
    """What is in ``spool``, and what comes, until there is something on standard input."""
    position, rest, over = 0, b"", False
    while True:
        over = over or bool(select.select([sys.stdin], [], [], TICK)[0])
        if spool.is_file():
            with open(spool, "rb") as stream:
                stream.seek(position)
                news = stream.read()
            position += len(news)
            *lines, rest = (rest + news).split(b"\n")
            for line in lines:
                if (record := parse(line)) is not None:
                    yield record
        if over:
            return


@contextlib.contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """One worker at a time in a run directory.

    Raises:
        TimeoutError: another one is at work in it for long.
    """
    until = time.monotonic() + LOCK_S
    with open(run_dir / FOLDER / ".lock", "a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise TimeoutError(f"another worker is at work in {run_dir}") from None
                time.sleep(TICK)
        yield


if __name__ == "__main__":
    sys.exit(main())
