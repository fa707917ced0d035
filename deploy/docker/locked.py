"""What one image installs: ``direct IMAGE`` before pip runs, ``check LOCK …`` afterwards. Standard library only.

pip resolves the rest from the packages' own metadata, held to requirements.lock by ``--constraint``. A constraint says
which version a package has, not that there may be no others; hence the check.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

PYPROJECT = "pyproject.toml"


def direct(pyproject: Path, image: str) -> list[str]:
    """The requirements that ``pyproject`` states for ``image``: those of all, then those of the extra of its name."""
    project = tomllib.loads(pyproject.read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"][image]]


def pins(locks: Iterable[Path]) -> dict[str, str]:
    """Versions by normalised name; a line of a lock is ``name==version``."""
    lines = [line for lock in locks for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    return {normalised(name): version for name, version in (line.split("==") for line in lines)}


def unlocked(pinned: dict[str, str]) -> list[str]:
    """Every installed distribution that is not as pinned; the local part of a version (``+cpu``) is free."""
    found = [(one.metadata["Name"], one.version) for one in distributions()]
    return sorted(
        f"{name}=={version}, pinned: {pinned.get(normalised(name), 'not at all')}"
        for name, version in found
        if pinned.get(normalised(name)) != version.partition("+")[0]
    )


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(command: str, *arguments: str) -> int:
    if command == "direct":
        print("\n".join(direct(Path(PYPROJECT), arguments[0])))
        return 0
    wrong = unlocked(pins(map(Path, arguments)))
    if wrong:
        print(f"error: installed, but not as {', '.join(arguments)} say:", *wrong, sep="\n  ", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
