"""What of the store may go: what nothing refers to any more. Only the rule; what lies where is ``stores/inventory.py``.

What stays, with all that it needs: what a registered version's lineage names, what a current record names, and what
is young, because a run in progress may use it before anything refers to it.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Kind = Literal[
    "shards", "training_sets", "runs", "checkpoints", "slice_evals", "evaluations", "launches", "fetched", "leftovers"
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Thing:
    """What stays or goes as a whole. ``paths`` go in this order; ``modified`` is the time of the newest file in them.

    ``needs`` are the names of other things without which it is of no use.
    """

    name: str
    kind: Kind
    paths: tuple[Path, ...]
    bytes: int
    modified: float
    needs: frozenset[str] = field(default=frozenset())


def passing(things: Collection[Thing], roots: Iterable[str], before: float) -> list[Thing]:
    """Those of ``things`` that may go: not modified since ``before``, and not needed by ``roots`` or a young thing."""
    kept = _reached(things, [*roots, *(thing.name for thing in things if thing.modified >= before)])
    return [thing for thing in things if thing.name not in kept]


def _reached(things: Iterable[Thing], roots: Iterable[str]) -> set[str]:
    needs = {thing.name: thing.needs for thing in things}
    reached: set[str] = set()
    waiting = [name for name in roots if name in needs]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [needed for needed in needs[name] if needed in needs]
    return reached


@dataclass(frozen=True)
class Report:
    """Things and bytes of each kind: what goes, and what there is of it altogether."""

    things: Counter[str]
    bytes: Counter[str]
    going: Counter[str]
    bytes_going: Counter[str]


def report(things: Iterable[Thing], going: Iterable[Thing]) -> Report:
    every, chosen = list(things), list(going)
    return Report(_count(every), _bytes(every), _count(chosen), _bytes(chosen))


def _count(things: Iterable[Thing]) -> Counter[str]:
    return Counter(thing.kind for thing in things)


def _bytes(things: Iterable[Thing]) -> Counter[str]:
    total: Counter[str] = Counter()
    for thing in things:
        total[thing.kind] += thing.bytes
    return total
