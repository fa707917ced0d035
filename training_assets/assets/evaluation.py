"""What a checkpoint is worth: its exported forms, its scores overall and per slice. The gates are in ``checks.py``."""

from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.charts import read_charts
from trainer.contract.eval_report import OVERALL, EvalReport, SplitScore
from trainer.contract.files import digest_of
from trainer.contract.results import EXPORTS_FILE, Exports, Measured
from trainer.contract.shard_index import DataSpec
from trainer.contract.train_config import TrainConfig
from training_assets import metadata
from training_assets.assets.dataset import golden_key
from training_assets.assets.training import Sliced, write_data_directory
from training_assets.dashboard import write_dashboard
from training_assets.facts import facts_of
from training_assets.gates import JUDGED_SPLIT
from training_assets.headlines import cost_headlines, latency_headline, report_headlines
from training_assets.intervals import changed, with_interval
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import Step, new_attempt, run_to_end, spent_on
from training_assets.places import Places
from training_assets.policies import reaching_storage
from training_assets.records import Checkpoint, EvalShards, Evaluation, ExportedModel, ShardList
from training_assets.stores.entries import CHECKPOINT, PRODUCTION
from training_assets.stores.record_store import RecordStore
from training_assets.stores.registry import Registry
from training_assets.timings import timing_table
from training_assets.versions import CONTRACT, code_version

HERE = "training_assets/assets/evaluation.py"
EVALUATION_SOURCES = (
    CONTRACT,
    "trainer/data",
    "trainer/evaluation",
    "trainer/metrics",
    "trainer/models",
    "trainer/tasks",
    HERE,
)
EXPORT_SOURCES = (*EVALUATION_SOURCES, "trainer/engine/telemetry/flops.py", "trainer/export")


def evaluation_chain(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition]:
    return [_exported_model(recipe, windows), _eval_report(recipe, windows)]


def _exported_model(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=[recipe.name, "exported_model"],
        partitions_def=windows,
        ins={"checkpoint": dg.AssetIn([recipe.name, "checkpoint"])},
        code_version=code_version(*EXPORT_SOURCES),
        description="ONNX, `.pt2`, TorchScript and int8 ONNX of the checkpoint, each compared with eager and timed.",
    )
    def exported_model(
        context: dg.AssetExecutionContext,
        checkpoint: Checkpoint,
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
    ) -> dg.MaterializeResult[ExportedModel]:
        record = export(context, launcher, places, checkpoint)
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(digest_of([file.sha256 for file in record.exports.files])),
            metadata=_export_metadata(record.exports, places.absolute(record.directory)),
        )

    return exported_model


def _eval_report(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=[recipe.name, "eval_report"],
        partitions_def=windows,
        ins={name: dg.AssetIn([recipe.name, name]) for name in ("checkpoint", "exported_model")},
        deps=[golden_key("slices")],
        code_version=code_version(*EVALUATION_SOURCES),
        description="`eval_report.json`: metrics on val and test, overall and on every slice; `dashboard.html` shows"
        " them beside production's, with latency. Carries the gates.",
    )
    def eval_report(
        context: dg.AssetExecutionContext,
        checkpoint: Checkpoint,
        exported_model: ExportedModel,
        eval_shards: EvalShards,
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
        registry: dg.ResourceParam[Registry],
    ) -> dg.MaterializeResult[Evaluation]:
        dataset = RecordStore(places).dataset()
        run_directory = places.absolute(checkpoint.directory)
        with reaching_storage():
            production = registry.resolve(recipe.project, PRODUCTION)
            against = None if production is None else registry.file(production, CHECKPOINT)
        # What it is judged on and compared with: another slices.yaml, another production is another evaluation.
        asked = [eval_shards.digest, dataset.files["slices.yaml"], production and production.reference]
        name = digest_of(asked)[:8]
        record = evaluate(
            context,
            launcher,
            places,
            dataset,
            checkpoint=run_directory / checkpoint.result.best_checkpoint,
            splits={"val": eval_shards.val, "test": eval_shards.test},
            out=run_directory / f"evaluation-{name}",
            against=against,
            overrides=checkpoint.overrides,
        )
        # Here and not behind the gates: when one stops the run, this is what people look at.
        page = write_dashboard(facts_of(recipe, checkpoint, record, exported_model.exports, places, registry))
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(digest_of(record.report.model_dump(mode="json"))),
            metadata={
                **report_headlines(record.report),
                **latency_headline(exported_model.exports),
                **cost_headlines(spent_on(run_directory)),
                "dashboard": dg.MetadataValue.path(str(page)),
                **evaluation_metadata(record, places),
            },
        )

    return eval_report


def export(
    context: dg.AssetExecutionContext, launcher: Launcher, places: Places, checkpoint: Checkpoint
) -> ExportedModel:
    """Launch ``trainer export`` of the best checkpoint, calibrated on what it was trained on."""
    run_directory = places.absolute(checkpoint.directory)
    out, best = run_directory / "export", run_directory / checkpoint.result.best_checkpoint
    data = places.absolute(checkpoint.training_set.directory)
    command = ("export", str(best), "--out", str(out), "--data", str(data))
    run_to_end(context, launcher, LaunchSpec(command, out, new_attempt()))
    exports = Exports.model_validate_json((out / EXPORTS_FILE).read_bytes())
    return ExportedModel(directory=places.relative(out), exports=exports)


def evaluate(
    context: Step,
    launcher: Launcher,
    places: Places,
    dataset: Sliced,
    *,
    checkpoint: Path,
    splits: dict[str, ShardList],
    out: Path,
    against: Path | None = None,
    overrides: tuple[str, ...] = (),
) -> Evaluation:
    """Launch ``trainer evaluate`` on ``splits``, with the slices of ``dataset``, beside the checkpoint ``against``."""
    data = out / "data"
    spec = DataSpec(splits={name: tuple(f"{s.key}.json" for s in part.shards) for name, part in splits.items()})
    write_data_directory(spec, places, data, dataset)
    chosen = [argument for name in splits for argument in ("--split", name)]
    compared = () if against is None else ("--against", str(against))
    command = ("evaluate", str(checkpoint), "--data", str(data), "--out", str(out), *chosen, *compared)
    run_to_end(context, launcher, LaunchSpec(command, out, new_attempt()))
    report = EvalReport.model_validate_json((out / "eval_report.json").read_bytes())
    directory = places.relative(out)
    return Evaluation(directory=directory, data=places.relative(data), report=report, overrides=overrides)


def evaluation_metadata(record: Evaluation, places: Places) -> dict[str, Any]:
    """Scores as tables and numbers, those of the judged split first; curves, matrices and sample sheets as pictures."""
    directory = places.absolute(record.directory)
    splits = sorted(record.report.splits.items(), key=lambda item: item[0] != JUDGED_SPLIT)
    found: dict[str, Any] = {f"{split}/slices": slice_table(split, record.report) for split, _ in splits}
    for split, scores in splits:
        found |= metadata.numbers(overall(scores), f"{split}/")
    for charts in read_charts(directory).splits.values():
        for drawing in charts.drawings:
            name = Path(drawing.file).stem
            found[name] = metadata.drawing(name, (directory / drawing.file).read_text())
        for sheet in charts.sheets:
            found[Path(sheet.file).stem] = metadata.image(directory / sheet.file)
    return {**found, "report": dg.MetadataValue.path(str(directory / "eval_report.json"))}


def overall(scores: SplitScore) -> dict[str, float | None]:
    """The metrics that are not of one class: ``<task>/<metric>``."""
    return {name: value for name, value in scores.metrics.items() if name.count("/") == 1}


def slice_table(split: str, report: EvalReport) -> dg.MarkdownMetadataValue:
    """Each slice's metrics with their intervals and, where there is a production model, the change and its interval."""
    scores = report.splits[split]
    changes = report.against.splits.get(split, {}) if report.against else {}
    names = list(overall(scores))
    rows: list[tuple[Any, ...]] = []
    for name, part in {OVERALL: scores, **scores.slices}.items():
        cells = [with_interval(part.metrics.get(one), part.intervals.get(one)) for one in names]
        rows.append((name, part.samples, *cells))
        if name in changes:
            moved = [changed(changes[name].get(one)) for one in names]
            rows.append((f"{name}, to production", "", *moved))
    return metadata.table(("slice", "samples", *names), rows)


def _export_metadata(exports: Exports, out: Path) -> dict[str, Any]:
    quantization = exports.quantization
    losses = {} if quantization is None else {name: one.loss for name, one in quantization.losses.items()}
    return {
        **latency_headline(exports),
        "files": metadata.table(*timing_table(exports)),
        **_numbers("eager", exports.eager),
        **{name: value for file in exports.files for name, value in _numbers(file.format, file).items()},
        **{f"{file.format}/max_relative_error": file.max_relative_error for file in exports.files},
        **metadata.numbers(losses, "int8_loss/"),
        "parameters": exports.parameters,
        "flops": exports.flops,
        **{f"input/{name}": " × ".join(map(str, shape)) for name, shape in exports.inputs.items()},
        "tensorrt": f"`{exports.tensorrt.command}`: {exports.tensorrt.note}",
        "directory": dg.MetadataValue.path(str(out)),
    }


def _numbers(name: str, measured: Measured) -> dict[str, float]:
    """What Dagster plots over time."""
    one, many = measured.latency, measured.throughput
    return metadata.numbers(
        {
            "p50_ms": one.p50_ms,
            "p95_ms": one.p95_ms,
            "p99_ms": one.p99_ms,
            "samples_per_second": many.samples_per_second,
            "peak_memory_bytes": many.peak_memory_bytes,
        },
        f"{name}/",
    )
