"""How long the code location takes to load in a fresh process, and how much of that is Dagster alone.

Two kinds of process in turns, each many times: ``import dagster`` (the peer: nothing can be faster) and importing
``training_assets.definitions`` and resolving its whole graph. Fails when the median is above the budget or when torch
was imported. Writes ``benchmarks/results/code_location.json``.
"""

import json
import os
import subprocess
import sys
import time

from common import ROOT, spread, write_result

REPEATS = 11
BUDGET_SECONDS = 1.5
CASES = {
    "import dagster": "import dagster",
    "load the code location": "from training_assets.definitions import defs\ndefs.resolve_asset_graph()",
}
REPORT = "\nimport sys, json\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def main() -> int:
    load = os.getloadavg()
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    modules: dict[str, list[str]] = {}
    for repeat in range(REPEATS + 1):
        for name, code in CASES.items():
            took, modules[name] = measure(code)
            if repeat:  # the first round warms the file cache
                seconds[name].append(took)
    results = {name: spread(values, "s") for name, values in seconds.items()}
    loaded = modules["load the code location"]
    median = results["load the code location"]["median_s"]
    ok = median <= BUDGET_SECONDS and "torch" not in loaded
    write_result("code_location", report(results, loaded, ok), ("dagster", "pydantic"), load)
    for name, figures in results.items():
        print(f"{name:24} median {figures['median_s']:.2f} s  (min {figures['min_s']:.2f}, max {figures['max_s']:.2f})")
    torch = "IMPORTED" if "torch" in loaded else "not imported"
    print(f"budget {BUDGET_SECONDS} s, torch {torch}: {'ok' if ok else 'MISSED'}")
    return 0 if ok else 1


def measure(code: str) -> tuple[float, list[str]]:
    """Seconds from the start of a fresh interpreter to its end, and the packages that it imported."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code + REPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, json.loads(done.stdout.splitlines()[-1])


def report(results: dict[str, dict[str, float]], loaded: list[str], ok: bool) -> dict[str, object]:
    heavy = ("torch", "numpy", "pandas", "evidently", "cv2", "plotly", "sqlalchemy", "grpc")
    return {
        "what": "fresh process, from its start to its end, warm file cache",
        "repeats": REPEATS,
        "budget_s": BUDGET_SECONDS,
        "ok": ok,
        "results": results,
        "imported": {name: name in loaded for name in heavy},
    }


if __name__ == "__main__":
    sys.exit(main())
