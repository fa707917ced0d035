"""Which data a person names, as shards: what was pinned last, a delivery, or any manifest with its images beside it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dagster as dg

from trainer.contract.delivery import manifest_name
from trainer.contract.errors import ContractError, Problem
from trainer.contract.mined_slice import check_pictures, read_mined_slice
from trainer.contract.slices import SLICES_FILE, Slices, read_slices
from training_assets.launchers import Launcher
from training_assets.launchers.session import Step
from training_assets.places import Places
from training_assets.planning import dataset_of
from training_assets.profiles import REPOSITORY
from training_assets.records import EvalShards, ShardList
from training_assets.staging import staged
from training_assets.stores.dvc import DvcStore
from training_assets.stores.inbox import Inbox
from training_assets.stores.record_store import WHOLE, MissingRecord, RecordStore

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Chosen:
    """Shards, the slices file that belongs to them, and how people call the data."""

    shards: ShardList
    slices: Path
    name: str


@dataclass(frozen=True)
class NamedData:
    """Finds data by what a person says of it, checks it and stages it, for one step."""

    step: Step
    launcher: Launcher
    places: Places
    inbox: Inbox
    dvc: DvcStore

    def chosen(self, data: str, split: Split, slices: str) -> Chosen:
        """``data`` and ``slices`` are as in ``evaluating.Asked``.

        Raises:
            ContractError: there is no such data or slices file, or the rows are not good. Nothing was staged.
        """
        own = there(slices, "slices") if slices else None
        if not data:
            found = self._pinned(split)
            return found if own is None else Chosen(found.shards, _usable(own), found.name)
        manifest, beside = self._delivered(data, split)
        file = _usable(own or beside)
        name = data if data.endswith(manifest.name) else f"{data}, {manifest.name}"
        self.step.log.info(f"{_checked(manifest, name, read_slices(beside))} samples of {name}")
        lists = staged(self.step, self.launcher, self.places, manifest.parent, {manifest.stem: manifest})
        return Chosen(lists[manifest.stem], file, name)

    def _pinned(self, split: Split) -> Chosen:
        if split == "train":
            problem = Problem("split", split, "val or test, where no delivery is named")
            raise ContractError("nothing to evaluate on", [problem])
        try:
            shards = RecordStore(self.places).read(dg.AssetKey("eval_shards"), WHOLE, EvalShards)
        except MissingRecord as why:
            raise ContractError("nothing to evaluate on", [Problem("store", str(why), "staged val and test")]) from None
        dataset = dataset_of(self.places, self.dvc)
        name = f"{split} of dataset {dataset.version[:12]}"
        return Chosen(getattr(shards, split), self.places.absolute(dataset.directory) / SLICES_FILE, name)

    def _delivered(self, data: str, split: Split) -> tuple[Path, Path]:
        """The manifest and the slices file that belongs to it."""
        if "/" not in data and not data.endswith(".manifest"):
            found = self.inbox.fetch(self.inbox.find(data), self.places.fetched)
        else:
            found = there(data, "data")
        manifest = found / manifest_name(split) if found.is_dir() else found
        if not manifest.is_file():
            raise ContractError("nothing to evaluate on", [Problem(str(manifest), "nothing", "a manifest")])
        beside = manifest.with_name(SLICES_FILE)
        if beside.is_file():
            return manifest, beside
        return manifest, self.places.absolute(dataset_of(self.places, self.dvc).directory) / SLICES_FILE


def there(text: str, field: str) -> Path:
    """A path that a person gave; a relative one is relative to the repository.

    Raises:
        ContractError: nothing is there.
    """
    path = REPOSITORY / Path(text).expanduser()
    if not path.exists():
        problem = Problem(str(path), "nothing", "a file or a directory", field=field)
        raise ContractError("nothing to evaluate on", [problem])
    return path.resolve()


def _usable(slices: Path) -> Path:
    if slices.is_dir():
        raise ContractError("nothing to evaluate by", [Problem(str(slices), "a directory", "a file like slices.yaml")])
    read_slices(slices)
    return slices


def _checked(manifest: Path, name: str, slices: Slices) -> int:
    """How many rows there are, all of them good.

    Raises:
        ContractError: names every problem that was found.
    """
    root = manifest.parent

    def lacking(references: Iterable[str]) -> set[str]:
        return set(_missing(root, references))

    try:
        rows = read_mined_slice(manifest, name, lacking)
        check_pictures(rows, root, name, slices)
    except ContractError as error:
        raise ContractError(f"{name} cannot be evaluated on", error.problems) from None
    return len(rows)


def _missing(root: Path, references: Iterable[str]) -> Iterator[str]:
    for reference in references:
        path = root / reference
        if not path.is_file() or not path.resolve().is_relative_to(root):
            yield reference
