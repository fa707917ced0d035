"""Which code made something: commit, dirty flag, lock and image digest. A model's lineage keeps it."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from trainer.contract.files import sha256_of
from trainer.contract.manifest import Sha256
from trainer.contract.results import REVISION

LOCK_FILE = "requirements.lock"
IMAGE_DIGEST = "TRAINING_ASSETS_IMAGE_DIGEST"
TIMEOUT_SECONDS = 30


class CodeVersion(BaseModel):
    """The code of one moment. ``git_sha`` and ``dirty`` are ``None`` outside a git checkout; ``note`` says why.

    ``dirty``: tracked files differ from the commit, or there are files that git neither tracks nor ignores.
    ``image_digest`` is the image that it ran in (``repository@sha256:…``), ``None`` outside of one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    git_sha: str | None
    dirty: bool | None
    lock_sha256: Sha256 | None
    image_digest: str | None = None
    note: str | None = None

    def ran_in(self, image: str | None, revision: str | None) -> "CodeVersion":
        """What trained, when the graph, which is this version, launched ``image``, built from commit ``revision``."""
        if image is None:
            return self
        if revision is None:
            note = "commit not known: the image does not say it (make image builds images that do)"
            return CodeVersion(git_sha=None, dirty=None, lock_sha256=None, image_digest=image, note=note)
        same = revision == self.git_sha and self.dirty is False
        changed = " with uncommitted changes" if self.dirty else ""
        return CodeVersion(
            git_sha=revision,
            dirty=False,
            lock_sha256=self.lock_sha256 if same else None,
            image_digest=image,
            note=None if same else f"the graph ran at commit {self.git_sha or 'not known'}{changed}",
        )


class _NoGit(Exception):
    pass


def code_version(repo: Path, environment: Mapping[str, str] = os.environ) -> CodeVersion:
    """The version of the code in ``repo``, the top directory of a checkout, of an image, or of a copy without git."""
    sha, dirty, notes = None, None, []
    try:
        # An image is made of a commit's own files, and has no git.
        sha, dirty = (revision, False) if (revision := environment.get(REVISION)) else _commit(repo, environment)
    except _NoGit as why:
        notes.append(f"commit not known: {why}")
    lock = repo / LOCK_FILE
    if not lock.is_file():
        notes.append(f"dependencies not known: no {LOCK_FILE}")
    return CodeVersion(
        git_sha=sha,
        dirty=dirty,
        lock_sha256=sha256_of(lock) if lock.is_file() else None,
        image_digest=environment.get(IMAGE_DIGEST) or None,
        note="; ".join(notes) or None,
    )


def _commit(repo: Path, environment: Mapping[str, str]) -> tuple[str, bool]:
    top = Path(_git(repo, environment, "rev-parse", "--show-toplevel"))
    # A copy that lies somewhere inside another project's checkout must not take that project's commit for its own.
    if top.resolve() != repo.resolve():
        raise _NoGit("this directory is no git checkout of its own")
    sha = _git(repo, environment, "rev-parse", "--verify", "HEAD")
    return sha, bool(_git(repo, environment, "status", "--porcelain"))


def _git(repo: Path, environment: Mapping[str, str], *arguments: str) -> str:
    # Under a git hook GIT_DIR and others point at the repository of the hook.
    clean = {name: value for name, value in environment.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(repo), *arguments]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            env={**clean, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NoGit(f"git could not be run ({type(error).__name__})") from None
    if done.returncode:
        raise _NoGit((done.stderr.strip().splitlines() or [f"git ended with {done.returncode}"])[0])
    return done.stdout.strip()
