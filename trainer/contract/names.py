"""Names and places: tunes, cross-validations, runs and their ids and directories, released models."""

import hashlib
import random
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainer.contract.files import digest_of
from trainer.contract.yaml_io import read_yaml

RUN_ID = re.compile(r"^[a-z0-9]{8}$")
SEMVER = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$")
LONGEST_NAME = 100
PLAIN_NAME = f"1 to {LONGEST_NAME} of the characters A-Z, a-z, 0-9, '_', '-' and '.', a letter or digit first, no '..'"
"""What the name of a delivery or a mined slice must be: it is a file's name, a partition's key and a run's tag."""

IDENTITY_FILE = "run.yaml"
"""In a run's directory: its id and names, and digests of what it is made of."""

ADJECTIVES = (
    "amber bold brave breezy bright brisk calm clear clever cosy crisp early eager fair fast fine fresh gentle glad "
    "golden grand green happy honest jolly keen kind light lively lucky mellow merry mild misty modest neat nimble "
    "noble patient plain polite proud quick quiet ready rosy sharp shiny silent silver smooth snowy solid spry steady "
    "still sunny swift tidy tranquil vivid warm wide wise young"
)
NOUNS = (
    "alley arch avenue bay beacon bend bridge brook canal cape cliff coach coast corner court creek crossing dale "
    "delta dune dyke ferry field ford forest garden gate glade grove harbour hill hollow inlet island junction lagoon "
    "lake lane lantern ledge market marsh meadow mill moor oasis orchard park pass path pier plain plaza pond port "
    "prairie quay ramp reef ridge river road shore square station stream street summit terrace trail tunnel valley "
    "viaduct village wharf"
)


def new_run_id() -> str:
    """Eight characters of ``[a-z0-9]``, also the run's id in experiment tracking."""
    return "".join(random.SystemRandom().choices(string.ascii_lowercase + string.digits, k=8))


def derived_run_id(*parts: object) -> str:
    """The run id that ``parts`` always give: nothing has to be kept that a killed process could fail to write."""
    digest = hashlib.sha256(digest_of(parts).encode()).digest()
    number, alphabet = int.from_bytes(digest[:8], "big"), string.ascii_lowercase + string.digits
    return "".join(alphabet[number // 36**place % 36] for place in range(8))


@dataclass(frozen=True)
class RunIdentity:
    """A run in experiment tracking, by W&B's words: ``group`` is its tune, ``job_type`` its cross-validation."""

    id: str
    name: str | None = None
    group: str | None = None
    job_type: str | None = None


def read_identity(run_dir: Path) -> RunIdentity:
    """Of the run that has begun in ``run_dir``."""
    kept = read_yaml(run_dir / IDENTITY_FILE)
    return RunIdentity(kept["run_id"], kept.get("name"), kept.get("group"), kept.get("job_type"))


def cross_validation_name(tune_name: str, index: int) -> str:
    """The name of a tune's cross-validation number ``index``."""
    return f"{tune_name}-cv{index}"


def run_name(cv_name: str, fold: int, seed: int) -> str:
    """The name of a cross-validation's run; ``seed`` is the seed itself."""
    return f"{cv_name}-run-f{fold}s{seed}"


def cross_validation_directory(cv_name: str, tune_name: str | None = None) -> PurePosixPath:
    """Where a cross-validation keeps its runs and ``run_infos.parquet``, below the artefact directory."""
    return PurePosixPath("_cross_validations" if tune_name is None else tune_name) / cv_name


def run_directory(
    run_name: str, run_id: str, cv_name: str | None = None, tune_name: str | None = None
) -> PurePosixPath:
    """Where a run keeps its artefacts, below the artefact directory; without ``cv_name`` it is one on its own."""
    parent = PurePosixPath("_runs") if cv_name is None else cross_validation_directory(cv_name, tune_name)
    return parent / f"{run_name}-{run_id}"


def random_name(is_taken: Callable[[str], bool] = lambda name: False) -> str:
    """A name that people can say, like ``brisk-harbour-417``, and that is not taken."""
    chance, adjectives, nouns = random.SystemRandom(), ADJECTIVES.split(), NOUNS.split()
    while True:
        name = f"{chance.choice(adjectives)}-{chance.choice(nouns)}-{chance.randrange(100, 1000)}"
        if not is_taken(name):
            return name


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
