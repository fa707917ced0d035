"""Which sample goes into which split.

Where a source has no test or no val split, one is cut from train: by whole groups in the order of their sha1, or, of
what is in sequence, the end of each sequence. Never single frames of one sequence.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeVar

from trainer.contract.manifest import SPLITS
from trainer.data.readers.pictures import Picture

TEST_SHARE = 0.2
VAL_SHARE = 0.15
TAIL = 5  # one in five
STRICTEST = ("test", "val", "train")

T = TypeVar("T")


def cut_tail(members: Sequence[T]) -> tuple[list[T], list[T]]:
    """A sequence without its last fifth (rounded down, at least one), and that fifth."""
    kept = len(members) - max(1, len(members) // TAIL)
    return list(members[:kept]), list(members[kept:])


def split_pictures(pictures: Sequence[Picture]) -> tuple[dict[str, list[Picture]], int]:
    """The pictures of each split in (sha1 of the group, id) order, and how many left the split they were given."""
    groups = groups_of(pictures)
    chosen = {name: _declared(members) for name, members in groups.items()}
    moved = sum(picture.split not in (None, chosen[name]) for name, members in groups.items() for picture in members)
    if "test" not in chosen.values():
        _cut(groups, chosen, "test", TEST_SHARE)
    if "val" not in chosen.values():
        _cut(groups, chosen, "val", VAL_SHARE)
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for name in sorted(groups, key=_sha1):
        splits[chosen[name]] += sorted(groups[name], key=lambda picture: picture.sample_id)
    return splits, moved


def groups_of(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Pictures that must stay together: of one declared group or of the same bytes, followed through all members.

    A group is named by the least of its declared names.
    """
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        while parents.setdefault(key, key) != key:
            key = parents[key]
        return key

    for picture in pictures:
        one, other = sorted((root(f"group {picture.group}"), root(f"bytes {picture.sha256}")))
        parents[other] = one
    joined: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        joined[root(f"group {picture.group}")].append(picture)
    return {min(picture.group for picture in members): members for members in joined.values()}


def _declared(members: list[Picture]) -> str:
    given = Counter(picture.split for picture in members)
    return next((split for split in STRICTEST if given[split]), "train")


def _cut(groups: dict[str, list[Picture]], chosen: dict[str, str], split: str, share: float) -> None:
    """Move groups from train to ``split``, in the order of their sha1, until it has ``share`` of train's pictures."""
    candidates = sorted((name for name in groups if chosen[name] == "train"), key=_sha1)
    wanted = share * sum(len(groups[name]) for name in candidates)
    taken = 0
    for name in candidates[:-1]:
        if taken >= wanted:
            break
        chosen[name] = split
        taken += len(groups[name])


def _sha1(name: str) -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
