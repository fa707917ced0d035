"""Judging a registered version on data that a person names, beside production or any other version.

Nothing else is touched: no alias, no record, no event. The page is that of the graph's own evaluations.
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dagster as dg

from trainer.contract.charts import Charts, read_charts
from trainer.contract.delivery import manifest_name
from trainer.contract.errors import ContractError, Problem
from trainer.contract.eval_report import EvalReport
from trainer.contract.files import digest_of, sha256_of
from trainer.contract.mined_slice import check_pictures, read_mined_slice
from trainer.contract.results import EXPORTS_FILE, Exports
from trainer.contract.slices import SLICES_FILE, Slices, read_slices
from trainer.contract.train_config import TrainConfig
from training_assets import gates
from training_assets.assets.evaluation import evaluate
from training_assets.dashboard import write_dashboard
from training_assets.gates import GateResult
from training_assets.launchers import Launcher
from training_assets.launchers.session import Step
from training_assets.places import Places
from training_assets.planning import dataset_of
from training_assets.profiles import REPOSITORY
from training_assets.records import EvalShards, Evaluation, ShardList
from training_assets.staging import staged
from training_assets.stores.dvc import DvcStore
from training_assets.stores.entries import CHECKPOINT, PRODUCTION, RegistryEntry
from training_assets.stores.inbox import Inbox
from training_assets.stores.record_store import WHOLE, MissingRecord, RecordStore
from training_assets.stores.registry import Registry

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Asked:
    """What is judged on what. ``model`` is PROJECT@VERSION or PROJECT@ALIAS; empty: production, of the only project.

    ``data`` is a delivery in the inbox by its name, or a directory or manifest of this machine; empty: the dataset
    version that was pinned last. ``split`` chooses one of its manifests. ``slices`` is a ``slices.yaml``; empty: the
    one beside the data, or where there is none, the pinned one. ``against`` is a version or an alias of the same
    project, empty for none; where it does not exist, nothing is compared.
    """

    model: str = ""
    data: str = ""
    split: Split = "test"
    slices: str = ""
    against: str = PRODUCTION


@dataclass(frozen=True)
class Judged:
    """A version and what it scored; shown on the same page as the graph's own evaluations."""

    entry: RegistryEntry
    other: RegistryEntry | None
    record: Evaluation
    data: str
    slices: Slices
    exports: Exports
    pictures: Path

    @property
    def config(self) -> TrainConfig:
        return TrainConfig.model_validate(self.entry.lineage.run.config)

    @property
    def report(self) -> EvalReport:
        return self.record.report

    @property
    def charts(self) -> Charts:
        return read_charts(self.pictures)

    @property
    def gates(self) -> list[GateResult]:
        """By the limits that it was registered with; no worse than what it is compared with."""
        other = None if self.other is None else self.other.files[CHECKPOINT].sha256
        return gates.all_gates(self.report, self.exports, self.slices, self.config, other)

    @property
    def compared_with(self) -> str:
        return self.other.reference if self.other else "nothing"

    @property
    def origin(self) -> dict[str, str]:
        run, used = self.entry.lineage.run, self.entry.lineage
        return {
            "version": self.entry.reference,
            "recipe": f"{self.entry.recipe} of project {self.entry.project}",
            "window": used.training_set.window,
            "run": run.run_id,
            "checkpoint sha256": self.report.checkpoint_sha256,
            "trained on dataset version": used.dataset.version,
            "judged on": f"{self.data} (data {self.report.data_digest})",
            "git commit": used.code.git_sha or "not known",
        }


@dataclass(frozen=True)
class Evaluator:
    """Evaluates for one step."""

    step: Step
    launcher: Launcher
    places: Places
    registry: Registry
    inbox: Inbox
    dvc: DvcStore

    def judged(self, asked: Asked) -> Judged:
        """Launch the evaluation, write ``eval_report.json`` and ``dashboard.html``.

        Raises:
            ContractError: there is no such version, data or slices file, or the rows are not good.
            dg.Failure, dg.RetryRequested: as an evaluation of the graph.
        """
        entry = self.registry.find(asked.model) if asked.model else self._only_production()
        other = self.registry.resolve(entry.project, asked.against) if asked.against else None
        if other is not None and other.version == entry.version:
            other = None
        weights, exports = self._file(entry, CHECKPOINT), self._file(entry, EXPORTS_FILE)
        shards, slices, name = self._data(asked)
        chosen = _there(asked.slices, "slices") if asked.slices else slices
        read_slices(chosen)
        key = digest_of([shards.digest, asked.split, sha256_of(chosen), other and other.reference])[:8]
        out = self.places.evaluation(entry.project, f"{entry.version}-{key}")
        record = evaluate(
            self.step,
            self.launcher,
            self.places,
            self._given(chosen, out / "given"),
            checkpoint=weights,
            # Under the name of what is judged: slices, targets and gates ask for that split.
            splits={gates.JUDGED_SPLIT: shards},
            out=out,
            against=None if other is None else self._file(other, CHECKPOINT),
        )
        judged = Judged(
            entry,
            other,
            record,
            name,
            read_slices(chosen),
            Exports.model_validate_json(exports.read_bytes()),
            self.places.absolute(record.directory),
        )
        write_dashboard(judged)
        return judged

    def _only_production(self) -> RegistryEntry:
        found = [one for name in self.registry.projects() if (one := self.registry.resolve(name, PRODUCTION))]
        if len(found) != 1:
            names = ", ".join(f"{one.project}@{PRODUCTION}" for one in found) or "no model in production"
            raise ContractError("which model?", [Problem("model", "nothing", f"PROJECT@VERSION; there is {names}")])
        return found[0]

    def _file(self, entry: RegistryEntry, name: str) -> Path:
        if name not in entry.files:
            problem = Problem(entry.reference, f"no {name}", "a version with its checkpoint and exports")
            raise ContractError(f"{entry.reference} cannot be evaluated", [problem])
        return self.registry.file(entry, name)

    def _data(self, asked: Asked) -> tuple[ShardList, Path, str]:
        """The shards, the slices that belong to them, and how people call the data."""
        if not asked.data:
            return self._pinned(asked.split)
        manifest, slices = self._delivered(asked)
        name = asked.data if asked.data.endswith(manifest.name) else f"{asked.data}, {manifest.name}"
        self.step.log.info(f"{_checked(manifest, name, read_slices(slices))} samples of {name}")
        found = staged(self.step, self.launcher, self.places, manifest.parent, {manifest.stem: manifest})
        return found[manifest.stem], slices, name

    def _pinned(self, split: str) -> tuple[ShardList, Path, str]:
        try:
            shards = RecordStore(self.places).read(dg.AssetKey("eval_shards"), WHOLE, EvalShards)
        except MissingRecord as why:
            raise ContractError("nothing to evaluate on", [Problem("store", str(why), "staged val and test")]) from None
        if split not in ("val", "test"):
            problem = Problem("split", split, "val or test, where no delivery is named")
            raise ContractError("nothing to evaluate on", [problem])
        dataset = dataset_of(self.places, self.dvc)
        slices = self.places.absolute(dataset.directory) / SLICES_FILE
        return shards.val if split == "val" else shards.test, slices, f"{split} of dataset {dataset.version[:12]}"

    def _delivered(self, asked: Asked) -> tuple[Path, Path]:
        """The manifest and the slices file that belongs to it."""
        if "/" not in asked.data and not asked.data.endswith(".manifest"):
            found = self.inbox.fetch(self.inbox.find(asked.data), self.places.fetched)
        else:
            found = _there(asked.data, "data")
        manifest = found / manifest_name(asked.split) if found.is_dir() else found
        if not manifest.is_file():
            raise ContractError("nothing to evaluate on", [Problem(str(manifest), "nothing", "a manifest")])
        beside = manifest.with_name(SLICES_FILE)
        if beside.is_file():
            return manifest, beside
        return manifest, self.places.absolute(dataset_of(self.places, self.dvc).directory) / SLICES_FILE

    def _given(self, slices: Path, directory: Path) -> "_Given":
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(slices, directory / SLICES_FILE)
        return _Given(self.places.relative(directory))


@dataclass(frozen=True)
class _Given:
    """A directory of the store with the slices file that was asked for."""

    directory: str


def _there(text: str, field: str) -> Path:
    """A path that a person gave; a relative one is relative to the repository."""
    path = REPOSITORY / Path(text).expanduser()
    if not path.exists():
        raise ContractError(
            "nothing to evaluate on", [Problem(str(path), "nothing", "a file or a directory", field=field)]
        )
    return path.resolve()


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
