"""What it costs that everything starts by itself: ticks, loading with many partitions, and Dagster around a training.

``slice_sensor_tick``: 10,000 slices known (partitions, runs, manifests in the inbox) and 200 new ones of 25 rows; the
tick in the process that evaluates it, as a code server does, and that process's memory over many ticks.
``load_many_partitions``: a fresh process loads the code location and lists 10,000 slices and 520 windows.
``run_overhead``: a process that materialises one real training, from its start to its end, less the trainer's own time.
What windows cost is measured by ``orchestration_windows.py``. Writes ``benchmarks/results/orchestration.json``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import ROOT, spread, write_result
from orchestration_windows import backfill, manifest_million_rows

ASKED = {
    "slice_sensor_tick_s": 2.0,
    "load_many_partitions_s": 2.0,
    "run_overhead_s": 6.0,
    "manifest_million_rows_s": 20.0,
    "backfill_bytes_ratio": 1.0,
}
FLAT_MB = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    load = os.getloadavg()
    with TemporaryDirectory() as scratch:
        tick = child("tick", Path(scratch))
        many = load_many_partitions(Path(scratch), rounds)
    with TemporaryDirectory() as scratch:
        overhead = run_overhead(Path(scratch), rounds)
    windows = {"manifest": manifest_million_rows(), "backfill": backfill()}
    figures = {
        "slice_sensor_tick_s": tick["seconds"]["median_s"],
        "load_many_partitions_s": many["seconds"]["median_s"],
        "run_overhead_s": overhead["overhead"]["median_s"],
        "manifest_million_rows_s": windows["manifest"]["manifest_million_rows_s"],
        "backfill_bytes_ratio": windows["backfill"]["backfill_bytes_ratio"],
    }
    missed = [name for name, asked in ASKED.items() if figures[name] > asked]
    missed += [] if tick["memory"]["growth_mb"] <= FLAT_MB else ["memory of the ticks"]
    missed += [name for name, part in windows.items() if not part["ok"]]
    for name, value in figures.items():
        print(f"{name:24} {value:8.3f}  (at most {ASKED[name]})")
    print(f"memory of the ticks: {tick['memory']}")
    print(f"missed: {', '.join(missed)}" if missed else "all as asked")
    parts = {"slice_sensor_tick": tick, "load_many_partitions": many, "run_overhead": overhead, **windows}
    report = {"ok": not missed, **figures, "asked": ASKED, **parts}
    write_result("orchestration", report, ("dagster", "pydantic", "pandas"), load)
    return 1 if missed else 0


def environment(place: Path) -> dict[str, str]:
    """Everything below ``place``: Dagster's home with the shipped settings, inbox and store."""
    home = place / "home"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text((ROOT / "deploy" / "dagster.yaml").read_text())
    places = {f"TRAINING_ASSETS_{name.upper()}": str(place / name) for name in ("inbox", "store")}
    # Modules are compiled once, as where the environment does not forbid to keep what was compiled.
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(place / "compiled")}
    return {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT), **places, **compiled}


def child(what: str, place: Path) -> dict[str, Any]:
    """What ``measure_<what>`` found, in a process of its own with the environment of ``place``."""
    command = [sys.executable, str(Path(__file__).with_name("orchestration_child.py")), what, str(place)]
    done = subprocess.run(command, cwd=ROOT, env=environment(place), stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def load_many_partitions(place: Path, rounds: int) -> dict[str, Any]:
    """The partitions of ``place`` are those that the ticks left."""
    seconds: dict[str, list[float]] = {"load": [], "dagster": []}
    for number in range(rounds + 1):
        for what, taken in seconds.items():
            began = time.perf_counter()
            child(what, place)
            if number:  # the first round warms the file cache
                taken.append(time.perf_counter() - began)
    return {
        "what": "fresh process, from its start to its end; beside it: Dagster and its storage alone",
        "seconds": spread(seconds["load"], "s"),
        "dagster_alone": spread(seconds["dagster"], "s"),
    }


def run_overhead(place: Path, rounds: int) -> dict[str, Any]:
    """Wall time of ``dagster asset materialize`` on one checkpoint, less the time that its trainer's torchrun lived."""
    variables = {**environment(place), "TRAIN__TRAINING__EPOCHS": "1", "BENCHMARK_LAUNCHES": str(place / "launches")}
    for command in (
        (("trainer", "scenes", "--out", place / "scenes")),
        ("training_assets", "deliver", place / "scenes"),
    ):
        subprocess.run([sys.executable, "-m", *map(str, command)], check=True, env=variables, cwd=ROOT)
    materialise("dataset_version,eval_shards", None, variables)
    window = newest_window(place)
    for asset in ("staged_shards", "scenes_multitask/training_set"):
        materialise(asset, window, variables)
    wall, own = [], []
    for _ in range(rounds):
        (place / "launches").unlink(missing_ok=True)
        began = time.perf_counter()
        materialise("scenes_multitask/checkpoint", window, variables)
        wall.append(time.perf_counter() - began)
        own.append(sum(float(line) for line in (place / "launches").read_text().splitlines()))
    overhead = [whole - part for whole, part in zip(wall, own, strict=True)]
    return {
        "what": "a process that materialises one checkpoint, from its start to its end, less the life of its torchrun",
        "overhead": spread(overhead, "s"),
        "wall": spread(wall, "s"),
        "trainer": spread(own, "s"),
    }


def materialise(assets: str, window: str | None, variables: dict[str, str]) -> None:
    dagster = str(Path(sys.executable).with_name("dagster"))
    module = str(Path(__file__).with_name("orchestration_location.py"))
    command = [dagster, "asset", "materialize", "-f", module, "--select", assets]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    chosen = [*command, *(("--partition", window) if window else ())]
    subprocess.run(chosen, check=True, env=variables, cwd=ROOT, **quiet)  # type: ignore[call-overload]


def newest_window(place: Path) -> str:
    record = json.loads((place / "store" / "records" / "dataset_version" / "whole.json").read_text())
    return str(max(record["windows"]))


if __name__ == "__main__":
    sys.exit(main())
