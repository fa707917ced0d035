"""``runs``: every training of the store, wherever it runs: attempt, step, pace, cost so far, why it waits.

Read from what the nodes and the steps that watch them left in the run directories: no backend is asked, so that a
thousand runs cost as many small files and no API call.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.errors import ContractError
from trainer.contract.train_config import read_config
from trainer.terminal.answers import Answer
from training_assets.launchers.base import Estimate
from training_assets.launchers.session import HANDLE_FILE, OUTCOME_FILE, spent_on
from training_assets.observability.figures import read_figures
from training_assets.places import Places
from training_assets.profiles import load_profile

PACE_SECONDS = 2.0
"""Between two looks at the step: what is measured is samples per second."""

NO_BACKEND = Estimate("?", 1, 0, None)


@dataclass(frozen=True)
class RunRow:
    """One run. ``state`` is ``waits``, ``running`` or how its newest attempt ended; ``usd`` is what all attempts have
    cost so far, None without prices; ``seconds`` how long the newest attempt has run."""

    run: str
    backend: str
    nodes: int
    instance_type: str
    attempt: int
    state: str
    step: int | None
    samples_per_second: float | None
    loss: float | None
    seconds: float
    gpu_hours: float
    usd: float | None
    why: str


def runs(everything: bool) -> Answer:
    """The trainings under way, with ``everything`` those that have ended too."""
    rows = [row for row in rows_of(Places(load_profile().store), everything) if everything or row.state in ACTIVE]
    return Answer(rows, described(rows) if rows else "no training is under way")


ACTIVE = ("waits", "running")


def rows_of(places: Places, everything: bool = False) -> list[RunRow]:
    """The newest first. The pace of those that run takes ``PACE_SECONDS`` to measure, of all of them together."""
    newest = {run: kept for run in _run_dirs(places) if (kept := _newest(run))}
    active = [run for run, kept in newest.items() if "state" not in kept["outcome"]]
    before = {run: _figures(run, newest[run], None) for run in active}
    if before:
        time.sleep(PACE_SECONDS)
    rows = [_row(run, kept, before.get(run)) for run, kept in newest.items() if everything or run in before]
    return sorted(rows, key=lambda row: row.seconds)


def described(rows: list[RunRow]) -> Iterator[str]:
    heads = ("run", "backend", "nodes", "attempt", "state", "step", "samples/s", "hours", "GPU hours", "US dollars", "")
    table = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(heads) - 1)]
    for cells in table:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)), cells[-1]]).rstrip()


def _cells(row: RunRow) -> tuple[str, ...]:
    def number(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    return (
        row.run,
        f"{row.backend} {row.instance_type}",
        str(row.nodes),
        str(row.attempt),
        row.state,
        number(row.step, 0),
        number(row.samples_per_second, 1),
        number(row.seconds / 3600, 2),
        number(row.gpu_hours, 2),
        number(row.usd, 2),
        row.why,
    )


def _run_dirs(places: Places) -> Iterator[Path]:
    yield from sorted({path.parents[2] for path in (places.root / "runs").glob(f"**/attempts/*/{HANDLE_FILE}")})


def _newest(run: Path) -> dict[str, Any] | None:
    """What was kept of the newest attempt: its handle, its ``outcome`` ({} while it has none), its ``directory``."""
    handles = sorted(run.glob(f"attempts/*/{HANDLE_FILE}"))
    if not handles:
        return None
    outcome = handles[-1].with_name(OUTCOME_FILE)
    kept: dict[str, Any] = json.loads(handles[-1].read_bytes())
    ended = json.loads(outcome.read_bytes()) if outcome.is_file() else {}
    return {**kept, "outcome": ended, "directory": handles[-1].parent, "attempts": len(handles)}


def _figures(run: Path, kept: dict[str, Any], before: Any) -> Any:
    try:
        batch = read_config(run / "train.yaml", environment={}).data.batch_size
    except (ContractError, OSError):
        batch = 0  # nothing was trained yet
    return read_figures(kept["directory"], time.time(), batch_size=batch, before=before)


def _row(run: Path, kept: dict[str, Any], before: Any) -> RunRow:
    estimate, outcome = Estimate(**kept["estimate"]) if kept.get("estimate") else NO_BACKEND, kept["outcome"]
    figures, spent = _figures(run, kept, before), spent_on(run)
    now = outcome.get("ended_at", time.time())
    seconds = now - kept["started_at"]
    own = 0.0 if outcome else estimate.cost(seconds)
    return RunRow(
        run=run.name,
        backend=kept["launcher"],
        nodes=estimate.nodes,
        instance_type=estimate.instance_type,
        attempt=kept["attempts"],
        state=outcome.get("kind") or outcome.get("state") or ("waits" if kept["waits_for"] else "running"),
        step=figures.step,
        samples_per_second=None if outcome else figures.samples_per_second,
        loss=figures.loss,
        seconds=seconds,
        gpu_hours=spent.gpu_hours + (0.0 if outcome else estimate.gpu_hours(seconds)),
        usd=None if estimate.usd_per_hour is None else (spent.usd or 0.0) + (own or 0.0),
        why=outcome.get("reason", "").partition("\n")[0] or kept["waits_for"],
    )
