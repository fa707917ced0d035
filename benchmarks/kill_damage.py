"""Checkpoints that are torn, flipped or forged after the fact: found out by digest, named, and passed over."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kill_phases import STEP
from kill_runs import Attempt, Material, Run, complete, step_of

PATIENCE_S = 600.0


def damaged_checkpoints(material: Material, folder: Path, state_sha256: str) -> list[dict[str, Any]]:
    """Each case: what was done, where the training went on, and the ``problems`` (what must not be)."""
    stopped = _stopped_run(material, folder / "stopped")
    cases = []
    for name, file, damage in DAMAGES:
        run = _copy(stopped, folder / "damaged")
        cases.append(_passed_over(run, run.run_dir / "checkpoints", name, file, damage, state_sha256))
    for name, file, damage in DAMAGES_IN_STORE:
        run = _copy(stopped, folder / "damaged")
        shutil.rmtree(run.run_dir)
        cases.append(_passed_over(run, run.store, f"{name} in the store", file, damage, state_sha256))
    cases.append(_all_damaged(_copy(stopped, folder / "damaged"), state_sha256))
    cases.append(_refused(_copy(stopped, folder / "damaged")))
    for case in cases:
        print(f"{case['case']}: {'; '.join(case['problems']) or 'ok'}", flush=True)
    return cases


def torn(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


Damage = Callable[[Path], None]
DAMAGES: tuple[tuple[str, str, Damage], ...] = (
    ("torn tensors", "__0_0.distcp", torn),
    ("one bit of the tensors", "__1_0.distcp", flipped),
    ("torn metadata", ".metadata", torn),
    ("one bit of the state", "state.json", flipped),
    ("missing best model", "best.pt", Path.unlink),
    ("torn marker", "COMPLETE", torn),
)
DAMAGES_IN_STORE: tuple[tuple[str, str, Damage], ...] = (
    ("one bit of the tensors", "__0_0.distcp", flipped),
    ("missing tensors", "__1_0.distcp", Path.unlink),
    ("torn marker", "COMPLETE", torn),
)


def _stopped_run(material: Material, folder: Path) -> Run:
    run = Run(folder, material)
    with Attempt(run, "fork") as attempt:
        while attempt.shown().steps < 7 or attempt.shown().phase != STEP:
            if attempt.ended():
                raise SystemExit(f"the run to be damaged ended too early:\n{run.words()}")
        attempt.strike(None, 15)
        attempt.wait(PATIENCE_S)
    if len(complete(run.run_dir / "checkpoints")) < 2 or len(complete(run.store)) < 2:
        raise SystemExit("the run to be damaged left fewer than two checkpoints")
    return run


def _copy(run: Run, folder: Path) -> Run:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run.folder, folder)
    return Run(folder, run.material)


def _passed_over(run: Run, root: Path, case: str, file: str, damage: Damage, state_sha256: str) -> dict[str, Any]:
    before, newest = [*complete(root)][-2:]
    damage(root / newest / file)
    return _went_on(run, case, file, root / newest, step_of(before), state_sha256)


def _all_damaged(run: Run, state_sha256: str) -> dict[str, Any]:
    """Nothing whole is left in the run directory: the store has it."""
    root = run.run_dir / "checkpoints"
    names = [*complete(root)]
    for name in names:
        flipped(root / name / "__0_0.distcp")
    newest = [*complete(run.store)][-1]
    case = "every checkpoint but those in the store"
    return _went_on(run, case, "__0_0.distcp", None, step_of(newest), state_sha256)


def _went_on(run: Run, case: str, file: str, named: Path | None, step: int, state_sha256: str) -> dict[str, Any]:
    with Attempt(run, "fork") as attempt:
        code = attempt.wait(PATIENCE_S)
    words, problems = run.words(), []
    if code != 0:
        problems.append(f"ended with {code}: {words[-1500:]}")
    elif run.result().state_sha256 != state_sha256:
        problems.append("ended in another state")
    if named and not any(f"{named} is damaged" in line and file in line for line in words.splitlines()):
        problems.append("the damaged file was not named on standard output")
    if (began := run.began_at()) != step:
        problems.append(f"went on from step {began}, expected {step}")
    return {"case": case, "file": file, "went_on_from": began, "problems": problems}


class _Order:
    """A pickle that, loaded freely, makes the file ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _refused(run: Run) -> dict[str, Any]:
    """Metadata with an order for the unpickler, and a marker that says it is right."""
    newest = run.run_dir / "checkpoints" / [*complete(run.run_dir / "checkpoints")][-1]
    executed = run.folder / "executed"
    metadata, marker = newest / ".metadata", newest / "COMPLETE"
    metadata.write_bytes(pickle.dumps(_Order(executed)))
    facts = json.loads(marker.read_text())
    sha256 = hashlib.sha256(metadata.read_bytes()).hexdigest()
    facts["files"][".metadata"] = {"bytes": metadata.stat().st_size, "sha256": sha256}
    marker.write_text(json.dumps(facts))
    with Attempt(run, "fork") as attempt:
        code = attempt.wait(PATIENCE_S)
    problems = ["its order was executed"] if executed.exists() else []
    problems += [] if code and "must not refer to" in run.words() else [f"not refused: ended with {code}"]
    return {"case": "metadata that gives orders", "file": ".metadata", "went_on_from": None, "problems": problems}
