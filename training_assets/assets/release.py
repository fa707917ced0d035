"""From a judged checkpoint to a registered version: the model card, and the registration behind the gates.

Promotion is not here: a person does it (``python -m training_assets promote``).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.charts import CHARTS_FILE, read_charts
from trainer.contract.eval_report import EvalReport
from trainer.contract.files import digest_of, sha256_of, write_text
from trainer.contract.names import model_directory
from trainer.contract.results import EXPORTS_FILE, Exports
from trainer.contract.train_config import TrainConfig, read_config
from training_assets import gates, metadata
from training_assets.assets.evaluation import overall
from training_assets.dashboard import DASHBOARD_FILE, write_dashboard
from training_assets.facts import facts_of, judge, shards_of
from training_assets.headlines import report_headlines
from training_assets.lineage_metadata import lineage_metadata
from training_assets.model_card import model_card
from training_assets.places import Places
from training_assets.policies import reaching_storage
from training_assets.recipes import overridden
from training_assets.records import Checkpoint, Evaluation, ExportedModel, ModelCard, Registered
from training_assets.stores.entries import (
    CHECKPOINT,
    DatasetLineage,
    Draft,
    Lineage,
    RegistryEntry,
    RunLineage,
    SweepLineage,
    TrainingSetLineage,
)
from training_assets.stores.events import Outbox, Subject, gate_events, promotion_events, registration_events
from training_assets.stores.registry import Registry
from training_assets.tracking import tell_card
from training_assets.versions import CONTRACT, code_version

HERE = "training_assets/assets/release.py"
CARD_SOURCES = (
    CONTRACT,
    "training_assets/model_card.py",
    "training_assets/dashboard.py",
    "training_assets/dashboard.html.j2",
    "training_assets/dashboard.js",
    "training_assets/gates.py",
    "training_assets/timings.py",
    HERE,
)
ENTRY_SOURCES = (CONTRACT, "training_assets/gates.py", "training_assets/stores/entries.py", HERE)


def release_chain(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition]:
    return [_model_card(recipe, windows), _registry_entry(recipe, windows)]


def _inputs(recipe: TrainConfig, *names: str) -> dict[str, dg.AssetIn]:
    return {name: dg.AssetIn([recipe.name, name]) for name in names}


def _version(recipe: TrainConfig, *sources: str) -> str:
    """The gates' limits belong to the version: another limit is another verdict."""
    return f"{digest_of(recipe.release.model_dump(mode='json'))[:12]}-{code_version(*sources)}"


def _model_card(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=[recipe.name, "model_card"],
        partitions_def=windows,
        ins=_inputs(recipe, "checkpoint", "exported_model", "eval_report"),
        code_version=_version(recipe, *CARD_SOURCES),
        description="`model_card.md`: what the model is for, what it was made from, its scores and caveats.",
    )
    def model_card_asset(
        context: dg.AssetExecutionContext,
        checkpoint: Checkpoint,
        exported_model: ExportedModel,
        eval_report: Evaluation,
        places: dg.ResourceParam[Places],
        registry: dg.ResourceParam[Registry],
    ) -> dg.MaterializeResult[ModelCard]:
        facts = facts_of(recipe, checkpoint, eval_report, exported_model.exports, places, registry)
        text = model_card(facts)
        path = places.absolute(eval_report.directory) / "model_card.md"
        write_text(path, text)
        # Written with the evaluation before: limits and production may be others by now, and the card must agree.
        page = write_dashboard(facts)
        tell_card(places.absolute(checkpoint.directory), path, context.log.warning)
        return dg.MaterializeResult(
            value=ModelCard(path=places.relative(path)),
            data_version=dg.DataVersion(digest_of(text)),
            metadata={
                "card": dg.MetadataValue.md(text),
                "path": dg.MetadataValue.path(str(path)),
                "dashboard": dg.MetadataValue.path(str(page)),
            },
        )

    return model_card_asset


def _registry_entry(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=[recipe.name, "registry_entry"],
        partitions_def=windows,
        ins=_inputs(recipe, "checkpoint", "exported_model", "eval_report", "model_card"),
        code_version=_version(recipe, *ENTRY_SOURCES),
        description="The registered version with its lineage, as `candidate/<task>/<date>`; only behind green gates.",
    )
    def registry_entry(
        context: dg.AssetExecutionContext,
        checkpoint: Checkpoint,
        exported_model: ExportedModel,
        eval_report: Evaluation,
        model_card: ModelCard,
        places: dg.ResourceParam[Places],
        registry: dg.ResourceParam[Registry],
        outbox: dg.ResourceParam[Outbox],
    ) -> dg.MaterializeResult[Registered]:
        refuse_other_model(checkpoint, eval_report, exported_model, places)
        draft = draft_of(recipe, checkpoint, eval_report, exported_model, places, registry)
        report = eval_report.report
        subject = Subject.of(recipe, context.partition_key, report.run_id, report.checkpoint_sha256)
        outbox.emit(gate_events(draft.gates, subject), context.log.warning)
        files = released_files(checkpoint, eval_report, exported_model, model_card, places)
        reason = f"registered from window {context.partition_key}"
        with reaching_storage():
            entry = registry.register(draft, files)
        record = announced(context, entry, registry, outbox, reason, datetime.now(UTC).date())
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(entry.reference),
            metadata=registered_metadata(entry, record, report, registry),
        )

    return registry_entry


def announced(
    context: dg.AssetExecutionContext,
    entry: RegistryEntry,
    registry: Registry,
    outbox: Outbox,
    reason: str,
    day: date,
) -> Registered:
    """Call ``entry`` ``candidate/<task>/<day>`` for each of its tasks, and tell others of it.

    Raises:
        dg.RetryRequested, dg.Failure: the archive cannot be reached.
    """
    aliases = tuple(f"candidate/{task}/{day.isoformat()}" for task in entry.lineage.run.config["tasks"])
    with reaching_storage():
        for alias in aliases:
            by = f"dagster run {context.run.run_id}"
            registry.follow(entry.project, entry.version, alias, by=by, reason=reason)
        told = (*registration_events(registry, entry.project), *promotion_events(registry, entry.project))
    outbox.emit(told, context.log.warning)
    context.log.info(f"registered {entry.reference} as {', '.join(aliases)}")
    directory = str(model_directory(entry.project, entry.version))
    return Registered(project=entry.project, version=entry.version, directory=directory, aliases=aliases)


def refuse_other_model(checkpoint: Checkpoint, evaluation: Evaluation, exported: ExportedModel, places: Places) -> None:
    """
    Raises:
        dg.Failure: the checkpoint, the report and the exports are not of one and the same model.
    """
    best = places.absolute(checkpoint.directory) / checkpoint.result.best_checkpoint
    found = {
        "the checkpoint on disk": sha256_of(best) if best.is_file() else "nothing",
        "eval_report": evaluation.report.checkpoint_sha256,
        "exported_model": exported.exports.checkpoint_sha256,
    }
    wrong = [f"{name} is of {value[:12]}" for name, value in found.items() if value != checkpoint.sha256]
    if wrong:
        raise dg.Failure(
            f"not one model: {', '.join(wrong)}, expected {checkpoint.sha256[:12]} of run {checkpoint.run_id}."
            " Materialise exported_model and eval_report of this window again.",
            allow_retries=False,
        )


def draft_of(
    recipe: TrainConfig,
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    exported: ExportedModel,
    places: Places,
    registry: Registry,
    sweep: SweepLineage | None = None,
) -> Draft:
    exports = Exports.model_validate_json((places.absolute(exported.directory) / EXPORTS_FILE).read_bytes())
    return Draft(
        project=recipe.project,
        recipe=recipe.name,
        lineage=lineage_of(recipe, checkpoint, evaluation, places, sweep),
        metrics={split: scores.metrics for split, scores in evaluation.report.splits.items()},
        gates=tuple(judge(recipe, evaluation, exports, places, registry)),
    )


def lineage_of(
    recipe: TrainConfig,
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    places: Places,
    sweep: SweepLineage | None = None,
) -> Lineage:
    used, result = checkpoint.training_set, checkpoint.result
    return Lineage(
        dataset=DatasetLineage(
            version=used.dataset.version, dvc_hash=used.dataset.dvc_hash, manifests=used.dataset.files
        ),
        training_set=TrainingSetLineage(
            digest=used.digest,
            window=used.window,
            windows=used.windows_found,
            windows_missing=used.windows_missing,
            mined_slices=used.slices,
            shards=shards_of(checkpoint, evaluation, places),
        ),
        code=checkpoint.code,
        run=RunLineage(
            run_id=checkpoint.run_id,
            dagster_run_id=checkpoint.dagster_run_id,
            config=_settings(recipe, checkpoint, places).model_dump(mode="json"),
            config_digest=result.config_digest,
            seeds=(result.seed,),
            world_size=result.world_size,
            warm_started_from=checkpoint.warm_started_from,
            overrides=checkpoint.overrides,
            profile=checkpoint.profile or None,
        ),
        sweep=sweep,
    )


def _settings(recipe: TrainConfig, checkpoint: Checkpoint, places: Places) -> TrainConfig:
    """What the run was trained with, and the limits that it is judged by now."""
    trained = read_config(places.absolute(checkpoint.directory) / "train.yaml", environment={})
    return trained.model_copy(update={"release": overridden(recipe, checkpoint.overrides).release})


def released_files(
    checkpoint: Checkpoint, evaluation: Evaluation, exported: ExportedModel, card: ModelCard, places: Places
) -> Mapping[str, Path]:
    """What a release holds: name in the version → where it lies now. A training has a log for each of its attempts."""
    run, export = places.absolute(checkpoint.directory), places.absolute(exported.directory)
    scored = places.absolute(evaluation.directory)
    logs = sorted((run / "attempts").glob("*.log"))
    return {
        CHECKPOINT: run / checkpoint.result.best_checkpoint,
        **{name: run / name for name in ("train.yaml", "result.json")},
        **{f"logs/{path.name}": path for path in logs},
        **{name: export / name for name in (EXPORTS_FILE, *exported.exports.package)},
        **{name: scored / name for name in ("eval_report.json", CHARTS_FILE, *read_charts(scored).files())},
        DASHBOARD_FILE: scored / DASHBOARD_FILE,
        "slices.yaml": places.absolute(evaluation.data) / "slices.yaml",
        "model_card.md": places.absolute(card.path),
    }


def registered_metadata(
    entry: RegistryEntry, record: Registered, report: EvalReport, registry: Registry
) -> dict[str, Any]:
    where = registry.where(entry)
    files = [(name, found.bytes, found.sha256[:12]) for name, found in entry.files.items()]
    return {
        "version": entry.reference,
        "aliases": ", ".join(record.aliases),
        **lineage_metadata(entry),
        **report_headlines(report),
        "gates": dg.MetadataValue.md(gates.markdown(entry.gates)),
        "files": metadata.table(("file", "bytes", "sha256"), files),
        "directory": dg.MetadataValue.path(where),
        "dashboard": dg.MetadataValue.path(f"{where}/{DASHBOARD_FILE}"),
        "next": f"python -m training_assets promote {entry.reference}, or the job promote_job",
        **metadata.numbers(overall(report.splits[gates.JUDGED_SPLIT]), "test/"),
    }
