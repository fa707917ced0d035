"""What the benchmarks share: the spread of repeated measurements, the machine, and the result file."""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def rounds_of(text: str | None, rounds: int = 9) -> argparse.Namespace:
    """The command line of a benchmark that runs in rounds; ``text`` says what it is."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser.parse_args()


def spread(values: Sequence[float], unit: str = "", digits: int = 3) -> dict[str, float]:
    """Median, least, largest and standard deviation, the keys ending in ``_unit`` where one is given."""
    figures = {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "stdev": statistics.stdev(values) if len(values) > 1 else 0.0,
    }
    return {f"{name}_{unit}" if unit else name: round(value, digits) for name, value in figures.items()}


def write_result(name: str, report: dict[str, Any], packages: Sequence[str], load_before: Sequence[float]) -> None:
    """Write ``benchmarks/results/<name>.json`` with the machine and the versions of ``packages``, where ``report`` does
    not have those of an earlier run that it goes on from.
    """
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    content = report | {"machine": machine(load_before), "versions": versions} | report
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def machine(load_before: Sequence[float]) -> dict[str, Any]:
    """``load_before``: ``os.getloadavg()`` as the benchmark began, its own work not in it."""
    return {"cpu": cpu(), "cpus": os.cpu_count(), "load_before": [round(x, 2) for x in load_before]}


def cpu() -> str:
    """The model's name, as Linux tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
