"""Rows to shards: launches ``trainer shard`` and reads the lists that it wrote. Which rows is the assets' affair.

Where the pictures come from is the fast storage's; what it says while it brings them is told to the run here.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.delivery import FILES, file_digests
from trainer.contract.pinned import split_manifests, window_manifest
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import Step, new_attempt, run_to_end
from training_assets.places import Places
from training_assets.policies import reaching_storage
from training_assets.records import DatasetVersion, ShardList
from training_assets.stores.dvc import DvcStore
from training_assets.stores.fast_storage import Amount, FastStorage, InPlace
from training_assets.stores.fast_storage.pulled import SCHEME

THREADS = 2
LOGGED_SECONDS = 5.0
OBSERVED_SECONDS = 30.0


class Told:
    """Tells a run how far the fast storage is: a line every few seconds, an observation of the asset now and then."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self.context = context
        self._latest: dict[str, Amount] = {}
        self._began = self._logged = self._observed = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, amount: Amount) -> None:
        with self._lock:
            now, ended = time.monotonic(), amount.files == amount.of_files
            news = self._latest.get(amount.work) != amount
            self._latest[amount.work] = amount
            if now - self._logged >= LOGGED_SECONDS or (ended and news):
                self._logged = now
                self.context.log.info(str(amount))
            if now - self._observed >= OBSERVED_SECONDS:
                self._observed = now
                self.context.log_event(dg.AssetObservation(self.context.asset_key, metadata=self.metadata))

    @property
    def metadata(self) -> dict[str, Any]:
        """How far each piece of work is; nothing where there was none."""
        if not self._latest:
            return {}
        figures = {
            f"staging/{amount.work}/{what}": value
            for amount in self._latest.values()
            for what, value in (("files", amount.files), ("bytes", amount.bytes))
            if value is not None
        }
        return {**figures, "staging/seconds": time.monotonic() - self._began}


def exported(context: dg.AssetExecutionContext, storage: FastStorage, place: Path) -> dict[str, Any]:
    """Have ``place`` in the storage's durable repository too, where it has one; returns metadata.

    Raises:
        dg.RetryRequested, dg.Failure
    """
    told = Told(context)
    with reaching_storage():
        uri = storage.export(place, told)
    return {} if uri is None else {"exported_to": uri, **told.metadata}


@dataclass(frozen=True)
class Stager:
    """Stages for one step; each call is one launch at most. What is staged already is found, not written again."""

    context: dg.AssetExecutionContext
    launcher: Launcher
    places: Places
    dvc: DvcStore
    storage: FastStorage = field(default_factory=InPlace)

    def windows(self, dataset: DatasetVersion, names: Iterable[str]) -> dict[str, ShardList]:
        """Windows of the train split of ``dataset``; one without rows has an empty list."""
        directory = self.places.absolute(dataset.directory)
        manifests = {name: window_manifest(directory, name) for name in names}
        staged = self._pinned(dataset, {name: path for name, path in manifests.items() if path.is_file()})
        return {name: staged.get(name) or ShardList.empty(name) for name in manifests}

    def splits(self, dataset: DatasetVersion, *names: str) -> dict[str, ShardList]:
        """Whole splits of ``dataset``, val or test."""
        directory = self.places.absolute(dataset.directory)
        return self._pinned(dataset, {path.stem: path for name in names for path in split_manifests(directory, name)})

    def manifests(self, root: Path, manifests: Mapping[str, Path]) -> dict[str, ShardList]:
        """The rows of each manifest (by its stem), whose files lie below ``root``."""
        return staged(self.context, self.launcher, self.places, root, manifests)

    @contextlib.contextmanager
    def pictures(self, dataset: DatasetVersion) -> Iterator[Path]:
        """The version's files: pulled onto the fast storage where the profile says so, or the delivery it was made of.

        Where that is gone or another one by now, a copy out of DVC.
        """
        if self.storage.brings(pinned := f"{SCHEME}{dataset.version}"):
            with reaching_storage():
                place = self.storage.bring(pinned, Told(self.context))
            yield place
            return
        delivery = Path(dataset.delivery)
        if all((delivery / name).is_file() for name in FILES) and file_digests(delivery) == dataset.files:
            yield delivery
            return
        self.context.log.info(f"{delivery} is no longer {dataset.version[:12]}: its files come out of DVC")
        copy = self.places.launch("restore", self.context.run.run_id) / new_attempt()
        try:
            self.dvc.restore(dataset.version, copy)
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _pinned(self, dataset: DatasetVersion, manifests: Mapping[str, Path]) -> dict[str, ShardList]:
        if not manifests:
            return {}
        with self.pictures(dataset) as root:
            return self.manifests(root, manifests)


def staged(
    step: Step, launcher: Launcher, places: Places, root: Path, manifests: Mapping[str, Path]
) -> dict[str, ShardList]:
    """The rows of each manifest (by its stem) as shards; their files lie below ``root``. One launch."""
    attempt = new_attempt()
    directory = places.launch("shard", step.run_id)
    lists = directory / "attempts" / attempt
    rows = [argument for path in manifests.values() for argument in ("--manifest", str(path))]
    command = ("shard", str(root), "--out", str(places.shards), "--list", str(lists), *rows)
    run_to_end(step, launcher, LaunchSpec(command, directory, attempt, threads=THREADS))
    return {name: ShardList.model_validate_json((lists / f"{name}.json").read_bytes()) for name in manifests}
