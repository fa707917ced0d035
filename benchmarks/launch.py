"""Launching, case by case, on every backend: what is killed, refused, lost or throttled, and what became of it.

The cases are the launchers' tests (``tests/training_assets/launchers``): real clients against parts that execute what
is launched. Beside them: what the local launcher adds to a command, and how many calls a minute it takes to watch 100
runs of two nodes. Fails where a case does or a target is missed. Writes ``benchmarks/results/launch.json``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from common import RESULTS, ROOT, spread, write_result
from launch_demo import CASE as DEMO_CASE
from launch_demo import demo_trainings

from tests.training_assets.launchers import ecs_cases, eks_cases, sagemaker_cases, sagemaker_world
from training_assets.launchers import LaunchSpec, LocalLauncher
from training_assets.launchers.gang import node_command
from training_assets.launchers.session import new_attempt

TESTS = ROOT / "tests" / "training_assets" / "launchers"
CASES = {
    "local": ("test_session.py", "test_failures.py"),
    "ecs": ("test_ecs.py::test_case",),
    "eks": ("test_eks_cases.py",),
    "sagemaker": ("test_sagemaker.py",),
}
WHAT = "launchers against parts that execute: processes, ministack's ECS, an API server, SageMaker jobs"
PARTS = ("cases", "demo", "overhead", "watching")
MOST_OVERHEAD_S = 1.0
RUNS = 100
EKS_POLL_SECONDS, EKS_SECONDS = 5.0, 30.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="of measuring what the local launcher adds")
    parser.add_argument("--only", action="append", choices=PARTS, help="the others stay as they were measured")
    arguments, load = parser.parse_args(), os.getloadavg()
    parts = arguments.only or PARTS
    report = {} if parts == PARTS else json.loads((RESULTS / "launch.json").read_bytes())
    report |= {"what": WHAT, "backends": sorted(CASES)}
    measure(report, parts, arguments.rounds)
    write_result("launch", report, ("boto3", "kubernetes", "moto"), load)
    return told(report)


def measure(report: dict[str, Any], parts: Sequence[str], rounds: int) -> None:
    """Put ``parts`` into ``report``, and what they and the parts that are there come to."""
    cases = report.setdefault("cases", [])
    if "cases" in parts:
        found = [case for backend, tests in CASES.items() for case in cases_of(backend, tests)]
        cases[:] = [*found, *(case for case in cases if case["case"] == DEMO_CASE)]
    if "demo" in parts:
        report["demo_training"], found = demo_trainings()
        cases[:] = [*(case for case in cases if case["case"] != DEMO_CASE), *found]
    if "overhead" in parts:
        overhead = spread([launched() - alone() for _ in range(rounds)], "s")
        report["local_overhead"] = {**overhead, "target_s": MOST_OVERHEAD_S}
    if "watching" in parts:
        report["calls_a_minute_for_100_runs"] = watching()
    report["passed"] = sum(case["passed"] for case in cases)
    report["failed"] = len(cases) - report["passed"]
    report["ok"] = not report["failed"] and report["local_overhead"]["median_s"] <= MOST_OVERHEAD_S


def told(report: dict[str, Any]) -> int:
    added = report["local_overhead"]["median_s"]
    print(f"{report['passed']} of {len(report['cases'])} cases; the local launcher adds {added:.2f} s")
    for case in report["cases"]:
        if not case["passed"]:
            print(f"  FAILED {case['backend']}: {case['case']}")
    return 0 if report["ok"] else 1


def cases_of(backend: str, tests: tuple[str, ...]) -> list[dict[str, Any]]:
    """What pytest says of each; skipped ones (a part that is not on this machine) are told apart."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.xml"
        paths = [str(TESTS / test) for test in tests]
        subprocess.run([sys.executable, "-m", "pytest", "-q", f"--junitxml={found}", *paths], cwd=ROOT, check=False)
        tree = ElementTree.parse(found)  # noqa: S314
    return [_case(backend, element) for element in tree.iter("testcase")]


def _case(backend: str, element: ElementTree.Element) -> dict[str, Any]:
    name = element.get("name", "")
    inner = name.partition("[")[2].rstrip("]")
    problems = [child.tag for child in element if child.tag in ("failure", "error", "skipped")]
    return {
        "backend": backend,
        "case": (inner or name).removeprefix("test_").replace("_", " "),
        "passed": not problems,
        **({"skipped": True} if "skipped" in problems else {}),
        "seconds": round(float(element.get("time", 0)), 1),
    }


def watching() -> dict[str, dict[str, float]]:
    """API calls a minute, by action, of one process that watches ``RUNS`` runs of two nodes on each backend."""
    with tempfile.TemporaryDirectory() as folder:
        ecs = ecs_cases.calls_a_minute(Path(folder), RUNS)
    with tempfile.TemporaryDirectory() as folder, eks_cases.open_world(Path(folder)) as world:
        asked = eks_cases.calls_of_watching(world, RUNS, poll_seconds=EKS_POLL_SECONDS, seconds=EKS_SECONDS)
    eks = {" ".join(call): count * 60 / EKS_SECONDS for call, count in Counter(asked).items()}
    with tempfile.TemporaryDirectory() as folder, sagemaker_world.world(Path(folder)) as world:
        sagemaker = sagemaker_cases.case_hundred_runs(world)
    return {"ecs": ecs, "eks": eks, "sagemaker": sagemaker}


def launched() -> float:
    """Seconds of a command that does nothing, launched and watched to its end."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = LocalLauncher()
        spec = LaunchSpec(("--help",), Path(folder), new_attempt(), module="this")
        began = time.perf_counter()
        handle = launcher.launch(spec)
        while launcher.poll(handle).state == "running":
            time.sleep(launcher.poll_seconds)
        launcher.stop(handle)
        return time.perf_counter() - began


def alone() -> float:
    """Seconds of the same command by itself."""
    spec = LaunchSpec(("--help",), Path(), "alone", module="this")
    command = node_command(spec, 1)
    began = time.perf_counter()
    subprocess.run([sys.executable, *command[command.index("--") + 1 :]], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
