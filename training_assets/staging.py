"""Rows to shards: launches ``trainer shard`` and reads the lists that it wrote. Which rows is the assets' affair."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from trainer.contract.delivery import FILES, file_digests
from trainer.contract.pinned import split_manifests, window_manifest
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import new_attempt, run_to_end
from training_assets.places import Places
from training_assets.records import DatasetVersion, ShardList
from training_assets.stores.dvc import DvcStore

THREADS = 2


@dataclass(frozen=True)
class Stager:
    """Stages for one step; each call is one launch at most. What is staged already is found, not written again."""

    context: dg.AssetExecutionContext
    launcher: Launcher
    places: Places
    dvc: DvcStore

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
        attempt = new_attempt()
        directory = self.places.launch("shard", self.context.run.run_id)
        lists = directory / "attempts" / attempt
        rows = [argument for path in manifests.values() for argument in ("--manifest", str(path))]
        command = ("shard", str(root), "--out", str(self.places.shards), "--list", str(lists), *rows)
        run_to_end(self.context, self.launcher, LaunchSpec(command, directory, attempt, threads=THREADS))
        return {name: ShardList.model_validate_json((lists / f"{name}.json").read_bytes()) for name in manifests}

    @contextlib.contextmanager
    def pictures(self, dataset: DatasetVersion) -> Iterator[Path]:
        """The delivery that the version was made of; where it is gone or another one by now, a copy out of DVC."""
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
