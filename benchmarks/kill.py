"""Trainings that are killed at random moments end in the state of the undisturbed one, bit for bit.

Fifty runs of two ranks, each killed once or several times and started again until it ends: SIGKILL to one rank,
SIGKILL to torchrun (or to the parent of ``ddp_fork``), SIGTERM to all; in a step, in a save, in an evaluation, in a
copy to the store, while starting; now and then the host's disk is lost too. After each kill the disk is looked at,
after each start what the training went on from, at the end the state, the losses, the metrics, the best model and the
random number generators. Then checkpoints are damaged (``kill_damage.py``). Fails at the first thing that is not as it
must be. Writes ``benchmarks/results/kill.json``.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common import spread, write_result
from kill_damage import damaged_checkpoints
from kill_phases import END, EVALUATION, SAVE, START, STEP, Shown
from kill_runs import RANKS, STEPS, Attempt, Launcher, Material, Run, complete, step_of, unfinished

COPY = "copy"
RANK, LAUNCHER, ALL = "SIGKILL to one rank", "SIGKILL to the launcher", "SIGTERM to all"
PATIENCE_S = 600.0
"""For anything that must happen on a loaded machine."""

GRACE_S = 120.0
"""For what was told to stop: its step, its checkpoint, its copy."""

TARGETS = (STEP, SAVE, EVALUATION, COPY, STEP, SAVE, EVALUATION, COPY, COPY, START)
LEAST_PER_PHASE = 5
TRIES = 4
"""Runs of one number: on a busy machine a run may end before the moment that was drawn for its kill."""


@dataclass(frozen=True)
class Plan:
    """One kill: how, in which phase, not before how many steps of the attempt, and how long into the phase."""

    launcher: Launcher
    how: str
    phase: str
    steps: int
    delay_s: float
    host_lost: bool = False


@dataclass(frozen=True)
class Kill:
    """What one kill was, what it left, and where the next attempt began. ``problems``: what must not be."""

    run: int
    plan: Plan
    phase: str
    steps: int
    half_written: bool
    half_copied: bool
    complete: tuple[str, ...]
    resumed_at: int | None
    problems: tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--at-a-time", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    load, began = os.getloadavg(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        material = Material.make(Path(folder))
        report = measure(material, Path(folder), arguments.runs, arguments.at_a_time, arguments.seed)
        report["damage"] = damaged_checkpoints(material, Path(folder), report["state_sha256"])
    report |= {"seed": arguments.seed, "seconds": round(time.monotonic() - began)}
    report["ok"] = is_ok(report, arguments.runs)
    write_result("kill", report, ("torch", "numpy"), load)
    print(json.dumps({key: report[key] for key in ("kills", "runs", "same_state", "phases", "how", "ok")}, indent=2))
    return 0 if report["ok"] else 1


def is_ok(report: dict[str, Any], runs: int) -> bool:
    enough = runs < 50 or all(report["phases"].get(phase, 0) >= LEAST_PER_PHASE for phase in {*TARGETS})
    damage = all(not case["problems"] for case in report["damage"])
    return report["same_state"] and not report["problems"] and enough and damage and report["runs"] == runs


def measure(material: Material, folder: Path, runs: int, at_a_time: int, seed: int) -> dict[str, Any]:
    references = [
        undisturbed(material, folder / f"undisturbed-{launcher}", launcher) for launcher in ("fork", "torchrun")
    ]
    outcomes = _all_runs(material, folder, runs, at_a_time, seed)
    kills = [kill for outcome in outcomes for kill in outcome["kills"]]
    results = [*references, *(outcome["result"] for outcome in outcomes)]
    problems = [problem for kill in kills for problem in kill.problems]
    problems += [problem for outcome in outcomes for problem in outcome["problems"]]
    problems += [
        f"result {place}: another {key}"
        for place, result in enumerate(results)
        for key, value in references[0].items()
        if result is not None and result[key] != value
    ]
    return {
        "what": f"{RANKS} ranks, {STEPS} steps; bf16, accumulation, EMA, uncertainty balancing, copies to a store",
        "kills": len(kills),
        "runs": sum(1 for outcome in outcomes if outcome["kills"]),
        "same_state": all(result == references[0] for result in results),
        "state_sha256": references[0]["state_sha256"],
        "problems": problems,
        "phases": dict(Counter(kill.phase for kill in kills)),
        "how": dict(Counter(f"{kill.plan.how} ({kill.plan.launcher})" for kill in kills)),
        "hosts_lost": sum(kill.plan.host_lost for kill in kills),
        "left_half_written": sum(kill.half_written for kill in kills),
        "left_half_copied": sum(kill.half_copied for kill in kills),
        "resumed_from_a_checkpoint": sum(bool(kill.resumed_at) for kill in kills),
        "before_the_first_checkpoint": sum(not kill.complete for kill in kills),
        "kills_of_a_run": spread([len(outcome["kills"]) for outcome in outcomes]),
        "seconds_of_a_run": spread([outcome["seconds"] for outcome in outcomes], digits=1),
        "every_kill": [asdict(kill) for kill in kills],
    }


def undisturbed(material: Material, folder: Path, launcher: Launcher) -> dict[str, Any]:
    run = Run(folder, material)
    with Attempt(run, launcher) as attempt:
        code = attempt.wait(PATIENCE_S)
    if code != 0:
        raise SystemExit(f"the undisturbed run ended with {code}:\n{run.words()[-3000:]}")
    return essence(run)


def essence(run: Run) -> dict[str, Any]:
    """All that must be the same whatever happened on the way."""
    result = run.result()
    last = run.run_dir / result.last_checkpoint
    return {
        "state_sha256": result.state_sha256,
        "epochs": [epoch.model_dump(exclude={"seconds"}) for epoch in result.epochs],
        "best": [result.best_metric, result.best_step, _tensors_of(run.run_dir / result.best_checkpoint)],
        # Weights, moments, averages and the generators of every rank, as they were written.
        "last_checkpoint": {path.name: _sha256(path) for path in sorted(last.glob("*.distcp"))},
    }


def _tensors_of(path: Path) -> str:
    from trainer.models.state import load, sha256_of_tensors

    return sha256_of_tensors(load(path)["model"])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _all_runs(material: Material, folder: Path, runs: int, at_a_time: int, seed: int) -> list[dict[str, Any]]:
    # Not daemons: they fork trainings, which fork ranks.
    context = multiprocessing.get_context("fork")
    jobs, done = context.SimpleQueue(), context.SimpleQueue()
    for number in range(runs):
        jobs.put(number)
    for _ in range(at_a_time):
        jobs.put(None)
    workers = [context.Process(target=_work, args=(jobs, done, material, folder, seed)) for _ in range(at_a_time)]
    for worker in workers:
        worker.start()
    outcomes: list[dict[str, Any]] = []
    for place in range(runs):
        outcomes.append(done.get())
        _tell(place + 1, runs, outcomes[-1])
    for worker in workers:
        worker.join()
    return outcomes


def _work(jobs: Any, done: Any, material: Material, folder: Path, seed: int) -> None:
    while (number := jobs.get()) is not None:
        began, rng = time.monotonic(), random.Random(f"{seed}/{number}")  # noqa: S311
        outcome: dict[str, Any] = {"kills": [], "result": None, "problems": []}
        for attempt in range(TRIES):
            if outcome["kills"] or outcome["problems"]:
                break
            outcome = _try(Run(folder / f"run-{number:03d}-{attempt}", material), number, rng)
        if not outcome["kills"] and not outcome["problems"]:
            outcome["problems"] = [f"run {number}: {TRIES} times it ended before it could be killed"]
        done.put(outcome | {"seconds": time.monotonic() - began})


def _try(run: Run, number: int, rng: random.Random) -> dict[str, Any]:
    """What became of one run; without kills where it ended before the moment that was drawn for it."""
    try:
        outcome = killed_run(run, number, plans_of(number, rng), rng)
    except Exception as error:
        outcome = {"kills": [], "result": None, "problems": [f"run {number}: {type(error).__name__}: {error}"]}
    if outcome["problems"]:
        shutil.copytree(run.folder, Path("var") / "kill" / run.folder.name, dirs_exist_ok=True)
    shutil.rmtree(run.folder, ignore_errors=True)
    return outcome


def _tell(done: int, runs: int, outcome: dict[str, Any]) -> None:
    kills = ", ".join(f"{kill.plan.how} in {kill.phase}" for kill in outcome["kills"])
    print(f"{done}/{runs}  {outcome['seconds']:.0f} s  {kills}", flush=True)
    for problem in [*outcome["problems"], *(problem for kill in outcome["kills"] for problem in kill.problems)]:
        print(f"  PROBLEM {problem}", flush=True)


def plans_of(number: int, rng: random.Random) -> list[Plan]:
    """The kills of one run: one to three; every target comes round, every launcher and every way too."""
    launcher: Launcher = "torchrun" if number % 5 in (0, 3) else "fork"
    count = rng.choice((1, 1, 1, 2) if launcher == "torchrun" else (1, 1, 2, 2, 3))
    plans = []
    for place in range(count):
        phase = TARGETS[(number * 3 + place) % len(TARGETS)]
        how = (RANK, LAUNCHER, ALL)[(number + place) % 3]
        steps = rng.randint(1, STEPS * 3 // 4 if place == 0 else 3)
        delay = rng.choice((0.0, rng.uniform(0, 0.03)))
        if phase == START:
            steps, delay = 0, rng.uniform(0.0, 1.0 if launcher == "fork" else 6.0)
        plans.append(Plan(launcher, how, phase, steps, delay, host_lost=rng.random() < 0.15))
    return plans


def killed_run(run: Run, number: int, plans: list[Plan], rng: random.Random) -> dict[str, Any]:
    """Kill a run as planned, then let it end: the ``kills``, the ``result`` (its essence), the ``problems``."""
    kills: list[Kill] = []
    for plan in plans:
        kill = _killed(run, number, plan, rng)
        if kill is None:  # it ended before its moment came
            break
        kills.append(kill)
    else:
        with Attempt(run, plans[-1].launcher) as attempt:
            code = attempt.wait(PATIENCE_S)
        if code != 0:
            words = run.words()[-2000:]
            return {"kills": kills, "result": None, "problems": [f"run {number}: ended with {code}: {words}"]}
    # Attempts and kills go in turns: the one after a kill says where it began.
    kills = [_with_resume(run, place, kill) for place, kill in enumerate(kills)]
    return {"kills": kills, "result": essence(run), "problems": _complaints(run, number)}


def _complaints(run: Run, number: int) -> list[str]:
    text = run.log.read_text(errors="replace")
    return [f"run {number}: {line}" for line in text.splitlines() if "is damaged" in line]


def _killed(run: Run, number: int, plan: Plan, rng: random.Random) -> Kill | None:
    before = _newest(run)
    checkpoints = run.run_dir / "checkpoints"
    with Attempt(run, plan.launcher) as attempt:
        if not _moment(attempt, run, plan):
            if code := attempt.wait(PATIENCE_S):
                raise RuntimeError(f"ended by itself with {code}: {run.words()[-2000:]}")
            return None
        shown, copying, left = _strike(attempt, run, plan, rng)
        problems = [f"process {one} outlived the kill" for one in left]
        if attempt.wait(PATIENCE_S) == 0 and plan.how != ALL and shown.phase != END:
            problems.append("a killed attempt ended with 0")
        written = unfinished(checkpoints, attempt.began)
    phase = _phase(shown.phase, shown.writing, copying)
    found, stored = complete(checkpoints), complete(run.store)
    problems += [f"{name}: {files} are not as their marker says" for name, files in found.items() if files]
    problems += [f"{name} in the store: {files}" for name, files in stored.items() if files]
    if "stopped by SIGTERM" in run.words() and [*found][-1:] != [*stored][-1:]:
        problems.append(f"the last checkpoint is not in the store: {[*found]}, there {[*stored]}")
    newest = _newest(run)
    if before is not None and (newest is None or newest < before):
        problems.append(f"the newest checkpoint went from step {before} to {newest}")
    if plan.host_lost:
        shutil.rmtree(run.run_dir, ignore_errors=True)
    names = tuple((not plan.host_lost and found) or stored)
    named = tuple(f"run {number}, {plan.how} in {phase}: {problem}" for problem in problems)
    return Kill(number, plan, phase, shown.steps, written, copying, names, None, named)


def _strike(attempt: Attempt, run: Run, plan: Plan, rng: random.Random) -> tuple[Shown, bool, list[str]]:
    """Kill; what was going on, whether it was in a copy, and which processes outlived it."""
    attempt.look_around()
    if plan.how == ALL:
        shown, copying = attempt.shown(), unfinished(run.store, attempt.began)
        for rank in (None, *range(RANKS)):
            attempt.strike(rank, signal.SIGTERM)
        return shown, copying, attempt.left_behind(GRACE_S)
    # The copier is the child of rank 0. Before there are ranks, there is only the launcher.
    rank = None if plan.how == LAUNCHER else 0 if plan.phase == COPY else rng.randrange(RANKS)
    rank = rank if rank is None or attempt.shown(rank).pid else None
    attempt.strike(rank, signal.SIGKILL)
    left = attempt.left_behind(GRACE_S)
    return attempt.shown(rank or 0), unfinished(run.store, attempt.began), left


def _moment(attempt: Attempt, run: Run, plan: Plan) -> bool:
    """Wait for the planned moment; False when the attempt ended before it came."""
    deadline = time.monotonic() + PATIENCE_S
    if plan.phase == START:
        time.sleep(plan.delay_s)
        return not attempt.ended()
    while attempt.shown().steps < plan.steps or not _is_in(attempt, run, plan.phase):
        if attempt.ended():
            return False
        if time.monotonic() > deadline:
            raise TimeoutError(f"{plan} did not come about")
        time.sleep(0.0005)
    if plan.phase != COPY:
        time.sleep(plan.delay_s)
    return not attempt.ended()


def _is_in(attempt: Attempt, run: Run, phase: str) -> bool:
    if phase == COPY:
        return unfinished(run.store, attempt.began)
    shown = attempt.shown()
    return shown.phase == phase or (phase == SAVE and shown.writing)


def _phase(training: str, writing: bool, copying: bool) -> str:
    """One name for what was going on: the rarest first."""
    if copying:
        return COPY
    if training == EVALUATION:
        return EVALUATION
    return SAVE if writing or training == SAVE else training


def _newest(run: Run) -> int | None:
    names = [*complete(run.run_dir / "checkpoints")] or [*complete(run.store)]
    return step_of(names[-1]) if names else None


def _with_resume(run: Run, place: int, kill: Kill) -> Kill:
    """The next attempt that began to train must have begun at the newest checkpoint that was complete."""
    attempts = range(place + 1, len(run.offsets))
    began = next((step for attempt in attempts if (step := run.began_at(attempt)) is not None), None)
    expected = step_of(kill.complete[-1]) if kill.complete else 0
    if began == expected:
        return replace(kill, resumed_at=began)
    problem = f"run {kill.run}, {kill.plan.how} in {kill.phase}: went on from step {began}, complete was {expected}"
    return replace(kill, resumed_at=began, problems=(*kill.problems, problem))


if __name__ == "__main__":
    sys.exit(main())
