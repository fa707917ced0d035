"""All that is known of a judged model, gathered once for its dashboard, its card and its registration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.charts import Charts, read_charts
from trainer.contract.eval_report import EvalReport, SplitScore
from trainer.contract.results import Exports, TrainResult
from trainer.contract.shard_index import read_data_spec, read_index
from trainer.contract.slices import Slices, read_slices
from trainer.contract.train_config import TrainConfig
from training_assets import gates
from training_assets.lineage import Counts, count, frames_of
from training_assets.places import Places
from training_assets.recipes import overridden
from training_assets.records import Checkpoint, DatasetVersion, Evaluation, TrainingSet
from training_assets.stores.entries import CHECKPOINT, PRODUCTION, ShardRef
from training_assets.stores.registry import Registry
from training_assets.stores.source import CodeVersion


@dataclass(frozen=True)
class Facts:
    """``provenance`` counts the frames of the training set, val and test; ``pictures`` holds what ``charts`` names."""

    config: TrainConfig
    slices: Slices
    dataset: DatasetVersion
    training_set: TrainingSet
    provenance: Counts
    result: TrainResult
    report: EvalReport
    charts: Charts
    pictures: Path
    exports: Exports
    gates: Sequence[gates.GateResult]
    code: CodeVersion

    @property
    def judged(self) -> SplitScore | None:
        return self.report.splits.get(gates.JUDGED_SPLIT)

    @property
    def compared_with(self) -> str:
        return "in production"

    @property
    def origin(self) -> dict[str, str]:
        """Where the model comes from, and what it was judged on."""
        report, code, used = self.report, self.code, self.training_set
        return {
            "recipe": f"{self.config.name} of project {self.config.project}",
            "window": used.window,
            "run": report.run_id,
            "checkpoint sha256": report.checkpoint_sha256,
            "config digest": self.result.config_digest,
            "dataset version": f"{self.dataset.version} (DVC {self.dataset.dvc_hash})",
            "training set": f"{used.digest}, {used.samples} samples",
            "judged on": f"data {report.data_digest}",
            "git commit": f"{code.git_sha or 'not known'}{' with uncommitted changes' if code.dirty else ''}",
            "requirements.lock sha256": code.lock_sha256 or "not known",
            "image": code.image_digest or "none",
            "licences": ", ".join(f"{name} ({count} frames)" for name, count in self.provenance.licences.items()),
        }


def facts_of(
    recipe: TrainConfig,
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    exports: Exports,
    places: Places,
    registry: Registry,
) -> Facts:
    directory = places.absolute(evaluation.directory)
    return Facts(
        config=overridden(recipe, checkpoint.overrides),
        slices=slices_of(evaluation, places),
        dataset=checkpoint.training_set.dataset,
        training_set=checkpoint.training_set,
        provenance=count(frames_of(shards_of(checkpoint, evaluation, places), places.root)),
        result=checkpoint.result,
        report=evaluation.report,
        charts=read_charts(directory),
        pictures=directory,
        exports=exports,
        gates=judge(recipe, evaluation, exports, places, registry),
        code=checkpoint.code,
    )


def general(scores: SplitScore) -> list[str]:
    """The metrics that are not of one class or object size."""
    return [name for name in scores.metrics if gates.general(name)]


def judge(
    recipe: TrainConfig, evaluation: Evaluation, exports: Exports, places: Places, registry: Registry
) -> list[gates.GateResult]:
    """Every gate, asked of the report as it lies on disk: a record is no proof of what was scored.

    The limits are today's, with what this run overrode.
    """
    report = EvalReport.model_validate_json((places.absolute(evaluation.directory) / "eval_report.json").read_bytes())
    production = production_sha256(registry, recipe.project)
    used = overridden(recipe, evaluation.overrides)
    return gates.all_gates(report, exports, slices_of(evaluation, places), used, production)


def slices_of(evaluation: Evaluation, places: Places) -> Slices:
    """The slices that the model was scored on."""
    return read_slices(places.absolute(evaluation.data) / "slices.yaml")


def production_sha256(registry: Registry, project: str) -> str | None:
    """The digest of the checkpoint in production."""
    entry = registry.resolve(project, PRODUCTION)
    return None if entry is None else entry.files[CHECKPOINT].sha256


def shards_of(checkpoint: Checkpoint, evaluation: Evaluation, places: Places) -> dict[str, tuple[ShardRef, ...]]:
    """The shards that were trained (train), chosen (val) and judged (test) on."""
    trained = read_data_spec(places.absolute(checkpoint.training_set.directory)).splits
    judged = read_data_spec(places.absolute(evaluation.data)).splits
    paths = {"train": trained["train"], "val": trained["val"], "test": judged["test"]}
    return {split: tuple(_shard_ref(places, name) for name in names) for split, names in paths.items()}


def _shard_ref(places: Places, index_path: str) -> ShardRef:
    index = read_index(places.shards / Path(index_path).name)
    return ShardRef(key=index.key, sha256=index.sha256)
