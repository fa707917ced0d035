"""Names and places: run ids, run directories, released models."""

import random
import re
import string
from pathlib import PurePosixPath

RUN_ID = re.compile(r"^[a-z0-9]{8}$")
SEMVER = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$")
LONGEST_NAME = 100
PLAIN_NAME = f"1 to {LONGEST_NAME} of the characters A-Z, a-z, 0-9, '_', '-' and '.', a letter or digit first, no '..'"
"""What the name of a delivery or a mined slice must be: it is a file's name, a partition's key and a run's tag."""


def new_run_id() -> str:
    """Eight characters of ``[a-z0-9]``, also the run's id in experiment tracking."""
    return "".join(random.SystemRandom().choices(string.ascii_lowercase + string.digits, k=8))


def run_directory(run_name: str, run_id: str) -> PurePosixPath:
    """Where a run that belongs to no cross-validation keeps its artefacts, below the artefact directory."""
    return PurePosixPath("_runs") / f"{run_name}-{run_id}"


def cv_name(tune_name: str, index: int) -> str:
    """The cross-validation that a tune calls with its ``index``-th settings; it is one trial."""
    return f"{tune_name}-cv{index}"


def cv_run_name(cv_name: str, fold: int, seed: int) -> str:
    """The run of a cross-validation on one fold with one seed (the seed itself, not its place)."""
    return f"{cv_name}-run-f{fold}s{seed}"


def tune_directory(tune_name: str, cv_name: str) -> PurePosixPath:
    """Where a tune keeps the runs of one cross-validation, below the artefact directory."""
    return PurePosixPath(tune_name) / cv_name


def model_directory(project: str, version: str) -> PurePosixPath:
    """Where a released model lies, below the store."""
    return PurePosixPath("models") / project / version


def next_version(existing: list[str]) -> str:
    """The semantic version after the newest of ``existing``: the minor number counts registrations."""
    newest = max((tuple(int(part) for part in version.split(".")) for version in existing), default=None)
    return "1.0.0" if newest is None else f"{newest[0]}.{newest[1] + 1}.0"


def flaw_of_name(name: str) -> str | None:
    """What is found in ``name`` that is no ``PLAIN_NAME``; None for a good one."""
    odd = re.search(r"[^A-Za-z0-9_.-]", name)
    if not name:
        return "nothing"
    if len(name) > LONGEST_NAME:
        return f"{len(name)} characters: {name[:40]!r}…"
    if odd:
        return f"the character {odd.group()!r} in {name!r}"
    if ".." in name:
        return f"'..' in {name!r}"
    return None if name[0].isalnum() else f"{name[0]!r} at the beginning of {name!r}"
