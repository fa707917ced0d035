"""Which samples are trained on, validated on and held out in each fold: pure functions of the manifest rows.

Fold methods, as scikit-learn's splitters with ``random_state=42`` where they draw:

=================  ===================================================================================
kfold              ``KFold``: contiguous parts in the rows' order
stratified         ``StratifiedKFold(shuffle=True)``
shuffle            ``StratifiedShuffleSplit(test_size=1/folds)``: parts are drawn anew, they may overlap
region             ``GroupKFold(shuffle=True)``: whole groups, each in one part
region-stratified  ``StratifiedGroupKFold(shuffle=True)``
none               train and val as they are
=================  ===================================================================================

Samples that share ``keep_together``'s value, or their image's bytes, are never split: where there are any, kfold is
``GroupKFold``, stratified ``StratifiedGroupKFold`` and shuffle ``GroupShuffleSplit``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.contract.cross_validation_settings import NON_EMPTY, CrossValidation, HeldOut
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import digest_of
from trainer.contract.manifest import LABEL_FIELDS, Row

if TYPE_CHECKING:
    import numpy as np

RANDOM_STATE = 42

Numbers = tuple[int, ...]
Groups = Sequence[int] | Sequence[str]


@dataclass(frozen=True)
class Folds:
    """Row numbers of a pool of ``size`` rows: ``test`` is held out, ``val`` has those of each fold, both rising."""

    size: int
    test: Numbers
    val: tuple[Numbers, ...]

    def train(self, fold: int) -> Numbers:
        other = {*self.test, *self.val[fold]}
        return tuple(number for number in range(self.size) if number not in other)

    @property
    def digest(self) -> str:
        return digest_of([self.size, self.test, self.val])


def folds_of(rows: Sequence[Row], train: int, kinds: Sequence[str], settings: CrossValidation) -> Folds:
    """Cut ``rows``, of which the first ``train`` are the train split's and the others val's.

    ``kinds`` of label (see ``manifest.LABEL_FIELDS``) are those that decide whether a sample is empty.

    Raises:
        ContractError: a row lacks an attribute that is asked for, or there are fewer groups than folds.
    """
    together = _duplicates(rows, settings.keep_together)
    pooled = rows[:train] if settings.pool == ("train",) else rows
    test = _held_out(pooled, together, settings)
    kept = [number for number in range(len(rows)) if number not in test]
    if settings.method == "none":
        parts = [[number for number in kept if number >= train]]
    else:
        pool = _Pool([rows[number] for number in kept], [together[number] for number in kept], kinds, settings)
        parts = [[kept[place] for place in part] for part in pool.parts()]
    return Folds(len(rows), tuple(sorted(test)), tuple(tuple(sorted(part)) for part in parts))


class _Pool:
    """The rows that are cut into folds; ``together`` says which of them are near-duplicates."""

    def __init__(
        self, rows: Sequence[Row], together: Sequence[int], kinds: Sequence[str], settings: CrossValidation
    ) -> None:
        self.rows, self.together, self.kinds, self.settings = rows, together, kinds, settings
        self.alone = len(set(together)) == len(rows)

    def parts(self) -> list[list[int]]:
        """The val part of each fold."""
        method = self.settings.method
        groups: Groups = self.together
        if "region" in method:
            groups = _regions(self.rows, self.together, self.settings.group)
        self._refuse_few(groups)
        strata = self._strata() if method not in ("kfold", "region") else [0] * len(self.rows)
        grouped = "region" in method or not self.alone
        splits = _wrapped(self._splitter().split, [0] * len(self.rows), strata, groups if grouped else None)
        return [val.tolist() for _, val in splits]

    def _splitter(self) -> Any:
        from sklearn import model_selection as sk

        n, seed = self.settings.folds, RANDOM_STATE
        match self.settings.method, self.alone:
            case "kfold", True:
                return sk.KFold(n)
            case "kfold", False:
                return sk.GroupKFold(n)
            case "stratified", True:
                return sk.StratifiedKFold(n, shuffle=True, random_state=seed)
            case "shuffle", True:
                return sk.StratifiedShuffleSplit(n, test_size=1 / n, random_state=seed)
            case "shuffle", False:
                return sk.GroupShuffleSplit(n, test_size=1 / n, random_state=seed)
            case "region", _:
                return sk.GroupKFold(n, shuffle=True, random_state=seed)
        return sk.StratifiedGroupKFold(n, shuffle=True, random_state=seed)

    def _strata(self) -> list[str]:
        if self.settings.stratum == NON_EMPTY:
            return [str(is_non_empty(row, self.kinds)) for row in self.rows]
        return _values(self.rows, self.settings.stratum, "stratified by")

    def _refuse_few(self, groups: Groups) -> None:
        there, folds = sorted({str(group) for group in groups}), self.settings.folds
        if len(there) < folds:
            by_region = "region" in self.settings.method
            found = f"{len(there)} groups" + (f": {', '.join(there)}" if by_region else "")
            field = f"attributes.{self.settings.group}" if by_region else f"attributes.{self.settings.keep_together}"
            problem = Problem("the pooled samples", found, f"at least {folds}, as many as folds", field=field)
            raise ContractError("there are fewer groups than folds", [problem], "Ask for fewer folds.")


def is_non_empty(row: Row, kinds: Sequence[str]) -> bool:
    """Whether there is anything of the ``kinds`` of label in the sample; a mask counts as something."""
    return any(bool(getattr(row, LABEL_FIELDS[kind])) for kind in kinds)


def _held_out(rows: Sequence[Row], together: Sequence[int], settings: CrossValidation) -> set[int]:
    cut = settings.test
    match cut.method:
        case "none":
            return set()
        case "random":
            chosen = _share(together[: len(rows)], cut.share)
        case "region" if not cut.values:
            chosen = _share(_regions(rows, together, settings.group), cut.share)
        case "region":
            chosen = _named(_values(rows, settings.group, "grouped by"), cut, settings.group)
        case _:
            chosen = _named([row.sample_id for row in rows], cut, "sample_id")
    groups = {together[number] for number in chosen}
    return {number for number, group in enumerate(together) if group in groups}


def _share(groups: Groups, share: float) -> list[int]:
    from sklearn import model_selection as sk

    alone = len(set(groups)) == len(groups)
    kind = sk.ShuffleSplit if alone else sk.GroupShuffleSplit
    split = kind(1, test_size=share, random_state=RANDOM_STATE).split
    ((_, test),) = _wrapped(split, [0] * len(groups), None, None if alone else groups)
    return list(test.tolist())


def _named(values: Sequence[str], cut: HeldOut, field: str) -> list[int]:
    missing = sorted(set(cut.values) - set(values))
    if missing:
        expected, place = f"a {field} of the data", "cross_validation.test.values"
        problems = [Problem("recipe", one, expected, field=place) for one in missing]
        raise ContractError("what is to be held out is not there", problems)
    return [number for number, value in enumerate(values) if value in cut.values]


def _wrapped(split: Callable[..., Any], *arguments: Any) -> "list[tuple[np.ndarray, np.ndarray]]":
    import numpy as np

    try:
        return list(split(*(None if values is None else np.asarray(values) for values in arguments)))
    except ValueError as error:
        problem = Problem("the pooled samples", str(error), "samples that can be cut so")
        raise ContractError("the samples cannot be cut into folds", [problem]) from None


def _values(rows: Sequence[Row], attribute: str, what: str) -> list[str]:
    missing = [row for row in rows if attribute not in row.attributes]
    if missing:
        expected, field = f"a value: samples are {what} it", f"attributes.{attribute}"
        problems = [Problem(f"sample '{row.sample_id}'", "nothing", expected, field=field) for row in missing]
        raise ContractError("samples lack an attribute", problems)
    return [str(row.attributes[attribute]) for row in rows]


def _regions(rows: Sequence[Row], together: Sequence[int], attribute: str) -> list[str]:
    """The group of each row: its region. Regions that share near-duplicates are one, under the first's name."""
    regions = _values(rows, attribute, "grouped by")
    connected, names = _connected(len(rows), [regions, together]), dict[int, str]()
    for group, region in sorted(zip(connected, regions, strict=True)):
        names.setdefault(group, region)
    return [names[group] for group in connected]


def _duplicates(rows: Sequence[Row], attribute: str) -> list[int]:
    """The group of each row: near-duplicates and images of the same bytes share one."""
    marked = [row.attributes.get(attribute) for row in rows]
    return _connected(len(rows), [marked, [row.sha256 for row in rows]])


def _connected(size: int, features: Sequence[Sequence[Any]]) -> list[int]:
    """A number for each row, the same for rows that share any feature; None is not shared. In order of appearance."""
    parent = list(range(size))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for feature in features:
        for one, other in _pairs(feature):
            first, second = sorted((root(one), root(other)))
            parent[second] = first
    names: dict[int, int] = {}
    return [names.setdefault(root(number), len(names)) for number in range(size)]


def _pairs(feature: Sequence[Any]) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    for number, value in enumerate(feature):
        if value is not None:
            yield first.setdefault(str(value), number), number
