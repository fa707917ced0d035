"""Judging a registered version on data that a person names, beside production or any other version.

Nothing else is touched: no alias, no record, no event. The page is that of the graph's own evaluations.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.charts import Charts, read_charts
from trainer.contract.errors import ContractError, Problem
from trainer.contract.eval_report import EvalReport
from trainer.contract.files import digest_of, sha256_of
from trainer.contract.results import EXPORTS_FILE, Exports
from trainer.contract.slices import SLICES_FILE, Slices, read_slices
from trainer.contract.train_config import TrainConfig
from training_assets import gates
from training_assets.assets.evaluation import evaluate
from training_assets.dashboard import write_dashboard
from training_assets.evaluation_data import Chosen, NamedData, Split
from training_assets.gates import GateResult
from training_assets.places import Places
from training_assets.records import Evaluation
from training_assets.stores.entries import CHECKPOINT, PRODUCTION, RegistryEntry
from training_assets.stores.registry import Registry


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
class Evaluator:
    """Evaluates on data that is found by what a person says of it."""

    data: NamedData
    registry: Registry

    def judged(self, asked: Asked) -> "Judged":
        """Launch the evaluation, write ``eval_report.json`` and ``dashboard.html``.

        Raises:
            ContractError: there is no such version, data or slices file, or the rows are not good.
            dg.Failure, dg.RetryRequested: as an evaluation of the graph.
        """
        entry = self.registry.find(asked.model) if asked.model else self._only_production()
        other = self._other(entry, asked.against)
        exports = Exports.model_validate_json(self._file(entry, EXPORTS_FILE).read_bytes())
        chosen = self.data.chosen(asked.data, asked.split, asked.slices)
        record = self._evaluated(entry, other, chosen)
        pictures = self.places.absolute(record.directory)
        judged = Judged(entry, other, record, chosen.name, read_slices(chosen.slices), exports, pictures)
        write_dashboard(judged)
        return judged

    @property
    def places(self) -> Places:
        return self.data.places

    def _evaluated(self, entry: RegistryEntry, other: RegistryEntry | None, chosen: Chosen) -> Evaluation:
        key = digest_of([chosen.shards.digest, sha256_of(chosen.slices), other and other.reference])[:8]
        out = self.places.evaluation(entry.project, f"{entry.version}-{key}")
        given = out / "given"
        given.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(chosen.slices, given / SLICES_FILE)
        return evaluate(
            self.data.step,
            self.data.launcher,
            self.places,
            _Given(self.places.relative(given)),
            checkpoint=self._file(entry, CHECKPOINT),
            # Under the name of what is judged: slices, targets and gates ask for that split.
            splits={gates.JUDGED_SPLIT: chosen.shards},
            out=out,
            against=None if other is None else self._file(other, CHECKPOINT),
        )

    def _other(self, entry: RegistryEntry, against: str) -> RegistryEntry | None:
        found = self.registry.resolve(entry.project, against) if against else None
        return None if found is None or found.version == entry.version else found

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
class _Given:
    """A directory of the store with the slices file that was asked for."""

    directory: str
