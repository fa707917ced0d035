"""Search: regret on LCBench side by side with Optuna's and Ray's, feasible trials under constraints, own time.

    PYTHONPATH=. .venv-bench/bin/python benchmarks/search.py [FOLDER]

FOLDER holds the surrogates of YAHPO Gym (``lcbench``, ``rbv2_xgboost``). Five tasks, ten seeds, four workers, forty
whole trainings of simulated time; regret 0 is the best known and 1 the median configuration. What has been run is kept
in ``var/search.jsonl`` and not run again.
"""

import json
import sys
from pathlib import Path
from typing import Any

from common import ROOT
from search_peers import ENGINES, Timed
from search_simulator import LCBench, simulate

TASKS = ("167168", "189873", "189906", "3945", "168330")
SEEDS = range(10)
RUNS = ROOT / "var" / "search.jsonl"


def run_all(folder: Path, engines: list[str]) -> list[dict[str, Any]]:
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


def run_one(problem: LCBench, seed: int, name: str) -> dict[str, Any]:
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
    run_all(Path(sys.argv[1]), sys.argv[2].split(","))
