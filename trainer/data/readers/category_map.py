"""Which of a source's categories become which of the delivery's: ``--categories FILE``.

.. code-block:: yaml

    Car: car                # a box of category car
    Van: ignore car         # one that neither counts as found nor as missed by who looks for cars
    DontCare: ignore        # the same for every category of this map
    Misc: drop              # left out

A name that the map does not have is an error. A box has one category in a delivery, so that whoever reads it finds
each in ``labels.boxes``: ``ignore`` writes a box for each of them.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from trainer.contract.errors import ContractError, Problem
from trainer.contract.manifest import Box
from trainer.contract.yaml_io import read_yaml

IGNORE, DROP = "ignore", "drop"
EXPECTED = f"a category, '{IGNORE}', '{IGNORE} <category>' or '{DROP}'"
BBox = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
"""COCO's x, y, width, height in pixels."""
MAPS = Path(__file__).parent / "categories"


def add_category_argument(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    """``--categories``; ``default`` is the map of the format, None keeps names as they are."""
    parser.add_argument(
        "--categories",
        metavar="FILE",
        type=Path,
        default=default,
        help="YAML that maps the source's names to a category, 'ignore', 'ignore <category>' or 'drop' (default: "
        + ("names as they are)" if default is None else f"{MAPS.name}/{default.name} beside the readers)"),
    )


def category_map(arguments: argparse.Namespace) -> "CategoryMap":
    """The map that ``--categories`` names.

    Raises:
        ContractError: names each entry that is wrong.
    """
    return CategoryMap() if arguments.categories is None else read_category_map(arguments.categories)


class CategoryMap:
    """``names`` maps the source's names; None keeps each as it is. ``asked`` counts the names that came."""

    def __init__(self, names: Mapping[str, str] | None = None, file: str = "") -> None:
        self.names, self.file = names, file
        self.asked: Counter[str] = Counter()
        self._targets = _targets(names or {})

    @property
    def targets(self) -> tuple[str, ...]:
        """The categories of the delivery: the map's in its order, without a map the names that came."""
        return tuple(sorted(self.asked)) if self.names is None else self._targets

    def boxes(self, name: str, bbox: BBox, ignore: bool = False) -> tuple[Box, ...]:
        """What the delivery has for a box of the source; nothing for a name that is dropped or unknown."""
        target = self.target(name)
        if target is not None:
            return (Box(category=target, bbox=bbox, ignore=ignore),)
        verdict = (self.names or {}).get(name, DROP)
        if verdict == DROP:
            return ()
        ignored = self._targets if verdict == IGNORE else (_ignored(verdict),)
        return tuple(Box(category=category, bbox=bbox, ignore=True) for category in ignored)

    def target(self, name: str) -> str | None:
        """The category that ``name`` becomes; None where it is ignored, dropped or unknown."""
        self.asked[name] += 1
        verdict = name if self.names is None else self.names.get(name)
        return verdict if self.names is None or verdict in self._targets else None

    def unknown(self) -> Iterator[Problem]:
        """The names that came and that the map does not have."""
        known = self.asked if self.names is None else self.names
        for name in sorted(self.asked.keys() - known.keys()):
            yield Problem(self.file, f"nothing for '{name}' ({self.asked[name]} boxes)", EXPECTED, field=name)


def read_category_map(path: Path) -> CategoryMap:
    """The map in the YAML file ``path``.

    Raises:
        ContractError: names each entry that is wrong.
    """
    value = read_yaml(path)
    if not isinstance(value, dict) or not value:
        problem = Problem(str(path), repr(value), f"a mapping from names of the source to {EXPECTED}")
        raise ContractError(f"{path} is not a category map", [problem])
    if problems := list(_entry_problems(value, str(path))):
        raise ContractError(f"{path} is not a category map", problems)
    return CategoryMap(value, str(path))


def _entry_problems(value: Mapping[Any, Any], file: str) -> Iterator[Problem]:
    texts = {name: verdict for name, verdict in value.items() if isinstance(name, str) and isinstance(verdict, str)}
    targets = _targets(texts)
    for name, verdict in value.items():
        if name not in texts or not verdict:
            yield Problem(file, repr({name: verdict}), f"a name (in quotes where YAML needs them) and {EXPECTED}")
        elif _ignored(verdict) and _ignored(verdict) not in targets:
            yield Problem(file, f"'{verdict}'", f"'{IGNORE}' with one of {list(targets)}", field=name)
    if not targets:
        yield Problem(file, "no category that boxes could have", "at least one")


def _targets(names: Mapping[str, str]) -> tuple[str, ...]:
    kept = (verdict for verdict in names.values() if verdict not in (IGNORE, DROP, "") and not _ignored(verdict))
    return tuple(dict.fromkeys(kept))


def _ignored(verdict: str) -> str:
    """The category of ``ignore <category>``; empty for any other verdict."""
    return verdict.removeprefix(f"{IGNORE} ").strip() if verdict.startswith(f"{IGNORE} ") else ""
