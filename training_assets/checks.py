"""The gates as blocking asset checks: what they compare and when they pass is in ``gates.py``, and only there.

A blocking check stops the run that it is in; ``registry_entry`` asks the gates again itself. What fails is told to
others as an event.
"""

import dagster as dg

from trainer.contract.eval_report import EvalReport
from trainer.contract.train_config import TrainConfig
from training_assets import gates
from training_assets.dashboard import DASHBOARD_FILE
from training_assets.facts import production_sha256, slices_of
from training_assets.places import Places
from training_assets.recipes import overridden
from training_assets.records import Checkpoint, Evaluation, ExportedModel
from training_assets.stores.events import Outbox, Subject, gate_events
from training_assets.stores.registry import Registry


def recipe_checks(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    report_key = dg.AssetKey([recipe.name, "eval_report"])
    export_key = dg.AssetKey([recipe.name, "exported_model"])
    checkpoint_key = dg.AssetKey([recipe.name, "checkpoint"])

    def used(judged: Evaluation | Checkpoint) -> TrainConfig:
        return overridden(recipe, judged.overrides)

    def judged(
        context: dg.AssetCheckExecutionContext,
        gate: gates.GateResult,
        evaluation: Evaluation,
        places: Places,
        outbox: Outbox,
    ) -> dg.AssetCheckResult:
        subject = subject_of(recipe, context.partition_key, evaluation.report)
        outbox.emit(gate_events([gate], subject), context.log.warning)
        page = places.absolute(evaluation.directory) / DASHBOARD_FILE
        return check_result(gate, {"dashboard": dg.MetadataValue.path(str(page))})

    def exported(
        context: dg.AssetCheckExecutionContext,
        gate: gates.GateResult,
        model: ExportedModel,
        checkpoint: Checkpoint,
        outbox: Outbox,
    ) -> dg.AssetCheckResult:
        sha256 = model.exports.checkpoint_sha256
        subject = Subject(recipe.project, recipe.name, context.partition_key, checkpoint.run_id, sha256)
        outbox.emit(gate_events([gate], subject), context.log.warning)
        return check_result(gate, {})

    @dg.asset_check(asset=report_key, blocking=True, partitions_def=windows, description=_first_line(gates.targets_met))
    def targets_met(
        context: dg.AssetCheckExecutionContext,
        eval_report: Evaluation,
        places: dg.ResourceParam[Places],
        outbox: dg.ResourceParam[Outbox],
    ) -> dg.AssetCheckResult:
        gate = gates.targets_met(eval_report.report, slices_of(eval_report, places), used(eval_report))
        return judged(context, gate, eval_report, places, outbox)

    @dg.asset_check(
        asset=report_key, blocking=True, partitions_def=windows, description=_first_line(gates.no_regression)
    )
    def no_regression(
        context: dg.AssetCheckExecutionContext,
        eval_report: Evaluation,
        places: dg.ResourceParam[Places],
        registry: dg.ResourceParam[Registry],
        outbox: dg.ResourceParam[Outbox],
    ) -> dg.AssetCheckResult:
        production = production_sha256(registry, recipe.project)
        gate = gates.no_regression(eval_report.report, slices_of(eval_report, places), used(eval_report), production)
        return judged(context, gate, eval_report, places, outbox)

    @dg.asset_check(asset=report_key, partitions_def=windows, description=_first_line(gates.calibrated))
    def calibrated(
        context: dg.AssetCheckExecutionContext,
        eval_report: Evaluation,
        places: dg.ResourceParam[Places],
        outbox: dg.ResourceParam[Outbox],
    ) -> dg.AssetCheckResult:
        return judged(context, gates.calibrated(eval_report.report, used(eval_report)), eval_report, places, outbox)

    @dg.asset_check(
        asset=report_key,
        additional_ins={"exported_model": dg.AssetIn(export_key)},
        blocking=True,
        partitions_def=windows,
        description=_first_line(gates.latency_within_budget),
    )
    def latency_within_budget(
        context: dg.AssetCheckExecutionContext,
        eval_report: Evaluation,
        exported_model: ExportedModel,
        places: dg.ResourceParam[Places],
        outbox: dg.ResourceParam[Outbox],
    ) -> dg.AssetCheckResult:
        gate = gates.latency_within_budget(exported_model.exports, used(eval_report))
        return judged(context, gate, eval_report, places, outbox)

    @dg.asset_check(
        asset=export_key,
        additional_ins={"checkpoint": dg.AssetIn(checkpoint_key)},
        blocking=True,
        partitions_def=windows,
        description=_first_line(gates.exports_match_eager),
    )
    def exports_match_eager(
        context: dg.AssetCheckExecutionContext,
        exported_model: ExportedModel,
        checkpoint: Checkpoint,
        outbox: dg.ResourceParam[Outbox],
    ) -> dg.AssetCheckResult:
        gate = gates.exports_match_eager(exported_model.exports, used(checkpoint))
        return exported(context, gate, exported_model, checkpoint, outbox)

    @dg.asset_check(
        asset=export_key,
        additional_ins={"checkpoint": dg.AssetIn(checkpoint_key)},
        partitions_def=windows,
        description=_first_line(gates.quantization_loss_within_budget),
    )
    def quantization_loss_within_budget(
        context: dg.AssetCheckExecutionContext,
        exported_model: ExportedModel,
        checkpoint: Checkpoint,
        outbox: dg.ResourceParam[Outbox],
    ) -> dg.AssetCheckResult:
        gate = gates.quantization_loss_within_budget(exported_model.exports, used(checkpoint))
        return exported(context, gate, exported_model, checkpoint, outbox)

    return [
        targets_met,
        no_regression,
        calibrated,
        latency_within_budget,
        exports_match_eager,
        quantization_loss_within_budget,
    ]


def subject_of(recipe: TrainConfig, window: str, report: EvalReport) -> Subject:
    return Subject(recipe.project, recipe.name, window, report.run_id, report.checkpoint_sha256)


def check_result(gate: gates.GateResult, more: dict[str, dg.MetadataValue]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=gate.passed,
        severity=dg.AssetCheckSeverity.ERROR if gate.severity == "block" else dg.AssetCheckSeverity.WARN,
        description=gate.failures or f"{len(gate.rows)} comparisons, none failed",
        metadata={
            "comparisons": len(gate.rows),
            "failed": sum(row.passed is False for row in gate.rows),
            "undecided": sum(row.passed is None for row in gate.rows),
            "table": dg.MetadataValue.md(gates.markdown([gate])),
            **more,
        },
    )


def _first_line(function: object) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]
