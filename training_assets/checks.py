"""The gates as blocking asset checks: what they compare and when they pass is in ``gates.py``, and only there.

A blocking check stops the run that it is in; ``registry_entry`` asks the gates again itself.
"""

import dagster as dg

from trainer.contract.slices import Slices, read_slices
from trainer.contract.train_config import TrainConfig
from training_assets import gates
from training_assets.places import Places
from training_assets.records import Evaluation, ExportedModel
from training_assets.stores.entries import CHECKPOINT, PRODUCTION
from training_assets.stores.registry import Registry


def recipe_checks(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    report_key = dg.AssetKey([recipe.name, "eval_report"])
    export_key = dg.AssetKey([recipe.name, "exported_model"])

    @dg.asset_check(asset=report_key, blocking=True, partitions_def=windows, description=_first_line(gates.targets_met))
    def targets_met(eval_report: Evaluation, places: dg.ResourceParam[Places]) -> dg.AssetCheckResult:
        return _result(gates.targets_met(eval_report.report, slices_of(eval_report, places), recipe))

    @dg.asset_check(
        asset=report_key, blocking=True, partitions_def=windows, description=_first_line(gates.no_regression)
    )
    def no_regression(
        eval_report: Evaluation, places: dg.ResourceParam[Places], registry: dg.ResourceParam[Registry]
    ) -> dg.AssetCheckResult:
        production = production_sha256(registry, recipe.project)
        slices = slices_of(eval_report, places)
        return _result(gates.no_regression(eval_report.report, slices, recipe, production))

    @dg.asset_check(asset=report_key, partitions_def=windows, description=_first_line(gates.calibrated))
    def calibrated(eval_report: Evaluation) -> dg.AssetCheckResult:
        return _result(gates.calibrated(eval_report.report, recipe))

    @dg.asset_check(
        asset=report_key,
        additional_ins={"exported_model": dg.AssetIn(export_key)},
        blocking=True,
        partitions_def=windows,
        description=_first_line(gates.latency_within_budget),
    )
    def latency_within_budget(eval_report: Evaluation, exported_model: ExportedModel) -> dg.AssetCheckResult:
        return _result(gates.latency_within_budget(exported_model.exports, recipe))

    @dg.asset_check(
        asset=export_key, blocking=True, partitions_def=windows, description=_first_line(gates.exports_match_eager)
    )
    def exports_match_eager(exported_model: ExportedModel) -> dg.AssetCheckResult:
        return _result(gates.exports_match_eager(exported_model.exports, recipe))

    @dg.asset_check(
        asset=export_key, partitions_def=windows, description=_first_line(gates.quantization_loss_within_budget)
    )
    def quantization_loss_within_budget(exported_model: ExportedModel) -> dg.AssetCheckResult:
        return _result(gates.quantization_loss_within_budget(exported_model.exports, recipe))

    return [
        targets_met,
        no_regression,
        calibrated,
        latency_within_budget,
        exports_match_eager,
        quantization_loss_within_budget,
    ]


def slices_of(evaluation: Evaluation, places: Places) -> Slices:
    """The slices that the model was scored on."""
    return read_slices(places.absolute(evaluation.data) / "slices.yaml")


def production_sha256(registry: Registry, project: str) -> str | None:
    """The digest of the checkpoint in production."""
    entry = registry.resolve(project, PRODUCTION)
    return None if entry is None else entry.files[CHECKPOINT].sha256


def _result(gate: gates.GateResult) -> dg.AssetCheckResult:
    failed = [row for row in gate.rows if row.passed is False]
    said = "; ".join(f"{row.metric} on {row.slice}: {row.value} against {row.limit}" for row in failed)
    return dg.AssetCheckResult(
        passed=gate.passed,
        severity=dg.AssetCheckSeverity.ERROR if gate.severity == "block" else dg.AssetCheckSeverity.WARN,
        description=said or f"{len(gate.rows)} comparisons, none failed",
        metadata={
            "comparisons": len(gate.rows),
            "failed": len(failed),
            "undecided": sum(row.passed is None for row in gate.rows),
            "table": dg.MetadataValue.md(gates.markdown([gate])),
        },
    )


def _first_line(function: object) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]
