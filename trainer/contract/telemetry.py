"""The telemetry of a run directory: its files, their columns, and how they are read back as one table.

``telemetry/steps-rank<r>-<attempt>`` has a row for each step of one rank, ``telemetry/system-<node>-<attempt>`` one
for each sample of a node. ``.arrows`` is the journal (Arrow's IPC stream) of an attempt at work or killed: it can be
read up to its last complete batch. An attempt that ends in order leaves ``.parquet`` in its place. Each attempt has
files of its own. ``docs/telemetry.md`` says what the columns mean.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FOLDER = "telemetry"
JOURNAL, FINAL = ".arrows", ".parquet"

PHASES = ("data_wait", "forward", "backward", "all_reduce", "optimizer", "checkpoint", "evaluation", "callbacks")
"""The phases of a step in seconds; in the files ``backward`` includes ``all_reduce``, where that was measured."""

DEVICE_PHASES = tuple(phase for phase in PHASES if phase != "all_reduce")
STEP_COLUMNS = ("step", "epoch", "time", *PHASES, *(f"device_{phase}" for phase in DEVICE_PHASES))
SYSTEM_COLUMNS = (
    "time",
    "cpu_percent",
    "iowait_percent",
    "ram_bytes",
    "net_sent_bytes_per_s",
    "net_received_bytes_per_s",
    "disk_read_bytes_per_s",
    "disk_written_bytes_per_s",
)


def gpu_columns(number: int) -> tuple[str, ...]:
    """The columns of the node's ``number`` GPUs that the run uses."""
    return tuple(f"gpu{index}_{what}" for index in range(number) for what in ("percent", "memory_bytes"))


def steps_file(run_dir: Path, rank: int, attempt: int) -> Path:
    """The file of a rank's steps, without its suffix."""
    return run_dir / FOLDER / f"steps-rank{rank}-{attempt}"


def system_file(run_dir: Path, node: str, attempt: int) -> Path:
    """The file of a node's samples, without its suffix."""
    return run_dir / FOLDER / f"system-{node}-{attempt}"


def next_attempt(run_dir: Path) -> int:
    """One more than the highest attempt that left any file; the first is 1."""
    stems = (path.stem for path in (run_dir / FOLDER).glob("*-*") if path.suffix in (JOURNAL, FINAL))
    return 1 + max((int(stem.rpartition("-")[2]) for stem in stems), default=0)


def read_steps(run_dir: Path) -> "pd.DataFrame":
    """Every step of every rank and attempt (``STEP_COLUMNS``, ``rank``, ``attempt``), in order of attempt and step.

    Steps that were lost with a killed attempt and done again by the next one are there twice.
    """
    frame = _joined(run_dir, "steps", ("rank", *STEP_COLUMNS))
    frame["rank"] = frame["rank"].astype(str).str.removeprefix("rank").astype(int)
    return frame.sort_values(["attempt", "step", "rank"], ignore_index=True)


def read_system(run_dir: Path) -> "pd.DataFrame":
    """Every sample of every node and attempt (``SYSTEM_COLUMNS``, GPU columns, ``node``, ``attempt``), by time."""
    return _joined(run_dir, "system", ("node", *SYSTEM_COLUMNS)).sort_values("time", ignore_index=True)


def read_table(file: Path) -> "pa.Table | None":
    """What ``file`` (without suffix) holds: the finished table, or what a journal has; None when there is nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Finished files first: the journal goes once the finished one is there.
    final, journal = file.with_name(file.name + FINAL), file.with_name(file.name + JOURNAL)
    if final.exists():
        return pq.read_table(final)
    if not journal.exists():
        return None
    batches = []
    try:
        with pa.ipc.open_stream(journal) as stream:
            for batch in stream:
                batches.append(batch)
    except (pa.ArrowInvalid, OSError):
        pass  # the torn end of a killed writer's journal
    return pa.Table.from_batches(batches) if batches else None


def _joined(run_dir: Path, kind: str, columns: tuple[str, ...]) -> "pd.DataFrame":
    import pandas as pd

    folder = run_dir / FOLDER
    names = {
        path.name.removesuffix(path.suffix) for path in folder.glob(f"{kind}-*") if path.suffix in (JOURNAL, FINAL)
    }
    frames = []
    for name in sorted(names):
        _, _, rest = name.partition("-")
        source, _, attempt = rest.rpartition("-")
        table = read_table(folder / name)
        if table is not None and table.num_rows:
            frames.append(table.to_pandas().assign(**{columns[0]: source, "attempt": int(attempt)}))
    if not frames:
        return pd.DataFrame(columns=[*columns, "attempt"])
    return pd.concat(frames, ignore_index=True)
