"""Code versions: when the code behind an asset changed, so that Dagster shows what it made as out of date.

A version is the digest of the sources that decide the asset's content, not the commit: another commit that leaves
them alone asks for no new training. The commit is part of a model's lineage.
"""

import functools
import hashlib

from training_assets.profiles import REPOSITORY

CONTRACT = "trainer/contract"
TRAINER = "trainer"
LENGTH = 12


@functools.cache
def code_version(*places: str) -> str:
    """The digest of the Python files at ``places`` (files or directories of the repository)."""
    digest = hashlib.sha256()
    for place in places:
        path = REPOSITORY / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(file.relative_to(REPOSITORY).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:LENGTH]
