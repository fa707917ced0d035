"""The benchmarks' tables, from ``benchmarks/results/*.json`` as they lie there when the site is built."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from texts import from_docstring, table

DATA = re.compile(r" *[$][(]([A-Z]+)[)]")


@dataclass(frozen=True)
class Figure:
    """One line of a table: ``measured`` and ``asked`` are places in the result (``a/b``), or ``asked`` the number."""

    what: str
    measured: str
    asked: str | float | None = None
    relation: str = "≤"
    unit: str = ""


FIGURES: Mapping[str, tuple[Figure, ...]] = {
    "code_location": (
        Figure("loading the code location", "results/load the code location/median_s", "budget_s", unit="s"),
        Figure("`import dagster` alone", "results/import dagster/median_s", unit="s"),
    ),
    "orchestration": (
        Figure("a tick of the slice sensor", "slice_sensor_tick_s", "asked/slice_sensor_tick_s", unit="s"),
        Figure("loading with many partitions", "load_many_partitions_s", "asked/load_many_partitions_s", unit="s"),
        Figure("what Dagster adds to a training", "run_overhead_s", "asked/run_overhead_s", unit="s"),
        Figure("checking a million rows", "manifest_million_rows_s", "asked/manifest_million_rows_s", unit="s"),
        Figure("its memory", "manifest/manifest_million_rows_peak_mb", unit="MB"),
        Figure("bytes staged per byte of distinct frames", "backfill_bytes_ratio", "asked/backfill_bytes_ratio"),
    ),
    "ui": (
        Figure("from `make ui` to the graph", "start_s", "asked/start_s", unit="s"),
        Figure("the slowest page, from the click", "slowest_page_s", "asked/page_s", unit="s"),
        Figure("the slowest page in a new tab", "slowest_new_tab_s", "asked/page_s", unit="s"),
    ),
    "launch": (
        Figure("cases that ended as they must", "passed"),
        Figure("cases that did not", "failed", 0),
        Figure("what the local launcher adds", "local_overhead/median_s", "local_overhead/target_s", unit="s"),
    ),
    "checkpoint": (Figure("training held up, as a share of `torch.save`", "blocked_ratio", "budget"),),
    "tracking": (
        Figure("steps/s with W&B offline beside those without", "ratio", "least", "≥"),
        Figure("what it takes of the training's thread, as a share of its processor time", "thread_share"),
    ),
    "kill": (
        Figure("killed trainings", "runs"),
        Figure("all end bit for bit as the undisturbed one", "same_state", "ok", "="),
        Figure("kills that left a half-written checkpoint", "left_half_written"),
    ),
    "loop": (
        Figure("steps/s beside a bare loop", "ratio_to_bare", "least/bare", "≥"),
        Figure("… beside Lightning", "ratio_to_lightning", "least/lightning", "≥"),
        Figure("… beside Accelerate", "ratio_to_accelerate", "least/accelerate", "≥"),
        Figure("… beside a bare loop with our malloc setting", "ratio_to_tuned_bare"),
    ),
    "scaling": (
        Figure("speed of a rank beside a second one", "weak_scaling_efficiency", "least", "≥"),
        Figure("plain DDP", "plain_ddp/median"),
        Figure("two trainings that know nothing of each other", "control_two_alone/median"),
    ),
    "loader": (
        Figure("samples/s beside the fastest peer, worst kind of epoch", "ratio_to_best_peer", 1.5, "≥"),
        Figure("… later epochs", "later_epochs/ratio/median"),
        Figure("… first epoch, peers as they document themselves", "as_documented/first_epoch/median"),
        Figure("beginning anywhere in an epoch", "seek_s", 1.0, unit="s"),
    ),
    "coco": (
        Figure("times as fast as pycocotools", "ratio/median", "target_ratio", "≥"),
        Figure("largest difference of a number", "largest_difference", 0.0),
    ),
    "camvid": (
        Figure("mIoU on val", "miou_val", "least", "≥"),
        Figure("training", "train_seconds", 600, unit="s"),
    ),
    "dawn": (
        Figure("AP50 of cars on val", "ap50_car", "least", "≥"),
        Figure("training", "train_seconds", 900, unit="s"),
    ),
    "eth_ucy": (
        Figure("ADE, mean of five scenes", "mean_ade", "aim/mean_ade", unit="m"),
        Figure("FDE, mean of five scenes", "mean_fde", "aim/mean_fde", unit="m"),
        Figure("ADE of constant velocity", "mean_cv_ade", unit="m"),
        Figure("FDE of constant velocity", "mean_cv_fde", unit="m"),
    ),
    "search": (
        Figure("regret on LCBench", "lcbench/ours/regret", 0.174),
        Figure("budget to random's median", "lcbench/ours/budget_to_random_median", 0.15),
        Figure("regret of random search", "lcbench/random/regret"),
        Figure("regret of Optuna's random with ASHA", "lcbench/optuna_random_asha/regret"),
        Figure("1,000 trials of 50 epochs", "controller_1000x50_s", 60, unit="s"),
        Figure(
            "feasible trials under constraints", "constraints/ours_feasible", "constraints/optuna_tpe_feasible", "≥"
        ),
        Figure("PBT's toy, of 1.2", "pbt_toy/least", 1.19, "≥"),
    ),
    "sweep_overhead": (
        Figure("what Dagster adds to a trial", "overhead_per_trial_s", 6.0, unit="s"),
        Figure("from the request to its start", "wait_s", unit="s"),
    ),
}
"""Which figures of a result are shown first. A result that is not named here is shown whole."""


def benchmark_tables(root: Path) -> str:
    results = {
        path.stem: json.loads(path.read_text()) for path in sorted((root / "benchmarks" / "results").glob("*.json"))
    }
    names = [*(name for name in FIGURES if name in results), *(name for name in results if name not in FIGURES)]
    return "\n".join(_section(root, name, results[name]) for name in names)


def _section(root: Path, name: str, result: Mapping[str, Any]) -> str:
    script = root / "benchmarks" / f"{name}.py"
    text = from_docstring(ast.get_docstring(ast.parse(script.read_text()))) if script.is_file() else ""
    rows = [_row(figure, result) for figure in FIGURES.get(name, ())]
    measured = table(("", "asked", "measured", ""), rows) if rows else ""
    return "\n\n".join([f"## {name}", text, measured, _how(root, name), _machine(result), _everything(result)])


def _row(figure: Figure, result: Mapping[str, Any]) -> tuple[str, str, str, str]:
    value = _at(result, figure.measured)
    asked = _at(result, figure.asked) if isinstance(figure.asked, str) else figure.asked
    if asked is None:
        return figure.what, "", _text(value, figure.unit), ""
    met = {"≤": value <= asked, "≥": value >= asked, "=": value == asked}[figure.relation]
    relation = "" if figure.relation == "=" else figure.relation
    return (
        figure.what,
        f"{relation} {_text(asked, figure.unit)}",
        _text(value, figure.unit),
        "met" if met else "**missed**",
    )


def _at(result: Any, place: str) -> Any:
    for key in place.split("/"):
        result = result[key]
    return result


def _text(value: Any, unit: str = "") -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g} {unit}".strip() if isinstance(value, float) else f"{value} {unit}".strip()


def _how(root: Path, name: str) -> str:
    """How the Makefile starts it."""
    lines = (root / "Makefile").read_text().splitlines()
    (found, *_) = [*(line for line in lines if f"benchmarks/{name}.py" in line), f"$(BIN)/python benchmarks/{name}.py"]
    command = found.strip().lstrip("@").replace("$(BIN)", ".venv/bin").replace("$(BENCH_BIN)", ".venv-bench/bin")
    return "Again: `" + DATA.sub(r" [\1]", command) + "`"


def _machine(result: Mapping[str, Any]) -> str:
    machine, versions = result.get("machine", {}), result.get("versions", {})
    load = ", ".join(map(str, machine.get("load_before", ())))
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    return f"On {machine.get('cpus')} cores ({machine.get('cpu')}), load before {load}; {packages}."


def _everything(result: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in result.items() if key not in ("machine", "versions", "what", "formula", "ok")}
    rows = [(place, _text(value)) for place, value in _leaves(shown)]
    body = table(("figure", "value"), rows).replace("\n", "\n    ")
    return f'??? note "All figures"\n\n    {body}'


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Each figure and its place; of lists that tell of single events only how many there are."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place} / {key}" if place else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        yield place, f"{len(value)} entries"
    else:
        yield place, ", ".join(_text(one) for one in value) if isinstance(value, list) else value
