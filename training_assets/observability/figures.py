"""The figures of an attempt at work, read from the files that its ranks write (docs/telemetry.md)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.attempts import read_beat
from trainer.contract.telemetry import FINAL, FOLDER, JOURNAL, read_table

RECENT_SECONDS = 90.0
"""How old a sample of a node may be to count: the sampler writes every five seconds."""

END_OF_LOG = 20_000
LOSS = re.compile(r"loss: .*?\btotal (-?[0-9.]+(?:e[+-]?\d+)?)")
GPU = re.compile(r"gpu\d+_percent")


@dataclass(frozen=True)
class Figures:
    """An attempt at the time ``at`` (seconds since 1970); None: not known (yet).

    ``step`` is the last step that all ranks have finished, ``samples_per_second`` over all ranks since the figures
    before, ``gpu_utilisation`` (%) the mean of the GPUs of all nodes, ``loss`` the total of the batch told last.
    """

    at: float
    step: int | None = None
    samples_per_second: float | None = None
    gpu_utilisation: float | None = None
    loss: float | None = None
    cost_usd: float | None = None


def read_figures(
    attempt_dir: Path,
    now: float,
    *,
    batch_size: int,
    cost_usd: float | None = None,
    before: Figures | None = None,
) -> Figures:
    """The figures of the attempt in ``attempt_dir`` of a run directory.

    ``batch_size`` is the global one, ``before`` what was read last.
    """
    run_dir = attempt_dir.parent.parent
    step = finished_step(attempt_dir)
    return Figures(
        at=now,
        step=step,
        samples_per_second=_pace(now, step, before, batch_size),
        gpu_utilisation=gpu_utilisation(run_dir, now),
        loss=last_loss(attempt_dir),
        cost_usd=cost_usd,
    )


def finished_step(attempt_dir: Path) -> int | None:
    """The last step that all ranks with a heart-beat have finished; None before the first rank trains."""
    ranks = (int(path.name.removeprefix("heartbeat-")) for path in attempt_dir.glob("heartbeat-*"))
    beats = [beat for beat in (read_beat(attempt_dir, rank) for rank in ranks) if beat is not None]
    return min((beat.finished for beat in beats), default=None)


def gpu_utilisation(run_dir: Path, now: float) -> float | None:
    """Mean percent over the last minute and a half of all GPUs of all nodes; None without GPUs or fresh samples."""
    values = [value for file in _system_files(run_dir, now) for value in _recent_gpu(file, now)]
    return sum(values) / len(values) if values else None


def last_loss(attempt_dir: Path) -> float | None:
    """The total loss of the last progress line in the attempt's log, where the leading rank's lines are."""
    log = attempt_dir.with_name(f"{attempt_dir.name}.log")
    told = LOSS.findall(_end_of(log)) if log.is_file() else []
    return float(told[-1]) if told else None


def _pace(now: float, step: int | None, before: Figures | None, batch_size: int) -> float | None:
    if step is None or before is None or before.step is None or now <= before.at:
        return None
    return max(0, step - before.step) * batch_size / (now - before.at)


def _system_files(run_dir: Path, now: float) -> set[Path]:
    """The nodes' files that were written to lately, without their suffix."""
    files = (path for path in (run_dir / FOLDER).glob("system-*") if path.suffix in (JOURNAL, FINAL))
    return {path.with_suffix("") for path in files if now - path.stat().st_mtime < RECENT_SECONDS}


def _recent_gpu(file: Path, now: float) -> Iterator[float]:
    table = read_table(file)
    if table is None:
        return
    times = table.column("time").to_pylist()
    recent = next((row for row, at in enumerate(times) if now - at < RECENT_SECONDS), len(times))
    for name in filter(GPU.fullmatch, table.column_names):
        yield from (value for value in table.column(name).slice(recent).to_pylist() if value is not None)


def _end_of(log: Path) -> str:
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - END_OF_LOG))
        return stream.read().decode(errors="replace")
