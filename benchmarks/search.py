"""Search: regret on LCBench side by side with Optuna's and Ray's, feasible trials under constraints, own time.

    PYTHONPATH=. .venv-bench/bin/python benchmarks/search.py [FOLDER [ENGINE,ENGINE …]]

FOLDER holds the surrogates of YAHPO Gym (``lcbench``, ``rbv2_xgboost``). Five tasks, ten seeds, four workers, forty
whole trainings of simulated time; regret 0 is the best known and 1 the median configuration. What has
been run is kept in ``var/search.jsonl`` and not run again: delete it after a change of the search.
"""

import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import ROOT, write_result
from search_constraints import constraints
from search_controller import controller
from search_pbt import pbt_toy
from search_peers import ENGINES, Timed
from search_simulator import LCBench, simulate

TASKS = ("167168", "189873", "189906", "3945", "168330")
SEEDS = range(10)
DATA = ROOT.parent / "shared" / "data" / "hpo" / "yahpo"
RUNS = ROOT / "var" / "search.jsonl"
PACKAGES = ("numpy", "scipy", "optuna", "ray", "hpbandster", "ConfigSpace", "onnxruntime")
Run = dict[str, Any]


def main(folder: Path, engines: Sequence[str]) -> None:
    load = os.getloadavg()
    runs = run_all(folder, engines)
    parts = {"constraints": constraints(folder), "pbt_toy": pbt_toy(SEEDS), **controller()}
    write_result("search", {"lcbench": lcbench(runs), **parts}, PACKAGES, load)


def lcbench(runs: Sequence[Run]) -> dict[str, Any]:
    """Of each engine the mean regret, and the median share of the budget until random search's final median."""
    best = {task: max(*_ends(runs, task), _known(runs, task)["best"]) for task in TASKS}
    random = {task: statistics.median(_ends(runs, task, "random")) for task in TASKS}
    return {name: _figures([run for run in runs if run["engine"] == name], best, random) for name in ENGINES}


def _figures(runs: Sequence[Run], best: dict[str, float], random: dict[str, float]) -> dict[str, Any]:
    reached = [_reached(run, random[run["task"]]) for run in runs]
    by_task = {
        task: statistics.mean(_regret(run, best[task]) for run in runs if run["task"] == task)
        for task in TASKS
        if any(run["task"] == task for run in runs)
    }
    return {
        "regret": round(statistics.mean(by_task.values()), 3),
        "regret_by_task": {task: round(regret, 3) for task, regret in by_task.items()},
        "budget_to_random_median": round(statistics.median(reached), 3),
        "reached_random_median": round(sum(share <= 1 for share in reached) / len(reached), 2),
        "runs": len(runs),
        "trials": round(statistics.mean(run["trials"] for run in runs)),
        "whole_trainings": round(statistics.mean(run["completed"] for run in runs), 1),
        "own_processor_s": round(statistics.mean(run["seconds"] for run in runs), 1),
    }


def _regret(run: Run, best: float) -> float:
    return (best - run["best"][-1][1]) / (best - run["known"]["median"])


def _reached(run: Run, value: float) -> float:
    """The share of the budget; 2 where never."""
    return next((share for share, found in run["best"] if found >= value - 1e-12), 2.0)


def _ends(runs: Sequence[Run], task: str, engine: str | None = None) -> list[float]:
    return [run["best"][-1][1] for run in runs if run["task"] == task and engine in (None, run["engine"])]


def _known(runs: Sequence[Run], task: str) -> dict[str, float]:
    return next(run["known"] for run in runs if run["task"] == task)


def run_all(folder: Path, engines: Sequence[str]) -> list[Run]:
    """A line for each task, seed and engine."""
    RUNS.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in RUNS.read_text().splitlines()] if RUNS.is_file() else []
    known = {(run["task"], run["seed"], run["engine"]) for run in done}
    problems = [LCBench(folder, task) for task in TASKS]
    for seed in SEEDS:
        for problem in problems:
            for name in engines:
                if (problem.task, seed, name) not in known:
                    done.append(run_one(problem, seed, name))
                    with RUNS.open("a") as stream:
                        stream.write(json.dumps(done[-1]) + "\n")
    return done


def run_one(problem: LCBench, seed: int, name: str) -> Run:
    engine = Timed(ENGINES[name](seed))
    outcome = simulate(problem, engine)
    return {
        "task": problem.task,
        "seed": seed,
        "engine": name,
        "known": problem.known,
        "seconds": engine.seconds,
    } | vars(outcome)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else DATA, sys.argv[2].split(",") if len(sys.argv) > 2 else list(ENGINES)
    )
