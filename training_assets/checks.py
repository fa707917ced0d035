"""The gates as blocking asset checks: what they compare and when they pass is in ``gates.py``, and only there.

A blocking check stops the run that it is in; ``registry_entry`` asks the gates again itself. What fails is told to
others as an event.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg

from trainer.contract.eval_report import OVERALL, EvalReport
from trainer.contract.slices import Slices
from trainer.contract.train_config import TrainConfig
from training_assets import gates
from training_assets.check_names import CHECKS, protected_check
from training_assets.dashboard import DASHBOARD_FILE
from training_assets.facts import production_sha256, slices_of
from training_assets.gates import GateResult
from training_assets.metadata import gate_check
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.recipes import overridden
from training_assets.records import Checkpoint, Evaluation, ExportedModel
from training_assets.starting_sweeps import start_wanted
from training_assets.stores.events import Outbox, Subject, gate_events
from training_assets.stores.registry import Registry

Gate = Callable[..., GateResult]


def recipe_checks(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    checks = _Checks(recipe, windows)
    return [
        checks.of_report(gates.targets_met, lambda one: (one.report, one.slices, one.recipe)),
        checks.of_report(gates.no_regression, lambda one: (one.report, one.slices, one.recipe, one.production)),
        checks.of_report(gates.calibrated, lambda one: (one.report, one.recipe), blocking=False),
        checks.of_latency(gates.latency_within_budget),
        checks.of_exports(gates.exports_match_eager),
        checks.of_exports(gates.quantization_loss_within_budget, blocking=False),
        *map(checks.of_protected_slice, recipe.release.protected_slices),
    ]


@dataclass(frozen=True)
class _Judged:
    """What gates of a report may ask: the ``recipe`` with the run's own settings, and the sha256 of the checkpoint in
    ``production``."""

    report: EvalReport
    slices: Slices
    recipe: TrainConfig
    production: str | None


class _Checks:
    """Makes the checks of one recipe, each described as its gate is."""

    def __init__(self, recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> None:
        self.recipe, self.windows = recipe, windows

    def of_report(
        self, gate: Gate, asked: Callable[[_Judged], tuple[Any, ...]], *, blocking: bool = True
    ) -> dg.AssetChecksDefinition:
        """``asked``: the gate's arguments."""

        @self._check(CHECKS[gate.__name__], gates.about(gate), "eval_report", blocking=blocking)
        def check(
            context: dg.AssetCheckExecutionContext,
            eval_report: Evaluation,
            profile: dg.ResourceParam[Profile],
            places: dg.ResourceParam[Places],
            registry: dg.ResourceParam[Registry],
            outbox: dg.ResourceParam[Outbox],
        ) -> dg.AssetCheckResult:
            result = gate(*asked(self._judged(eval_report, places, registry)))
            self._sweep_wanted(context, result, eval_report, profile, places)
            return self._of_report(context, result, eval_report, places, outbox)

        return check

    def of_protected_slice(self, name: str) -> dg.AssetChecksDefinition:
        """What ``no_regression`` says of this slice alone; others are told of it with that gate."""
        about = f"On the slice `{name}` no metric is worse than production's by more than `slices.yaml` allows."

        @self._check(protected_check(name), about, "eval_report")
        def check(
            context: dg.AssetCheckExecutionContext,
            eval_report: Evaluation,
            places: dg.ResourceParam[Places],
            registry: dg.ResourceParam[Registry],
        ) -> dg.AssetCheckResult:
            judged = self._judged(eval_report, places, registry)
            found = gates.no_regression(judged.report, judged.slices, judged.recipe, judged.production)
            return gate_check(gates.regressions_on(name, found), more=_dashboard(eval_report, places))

        return check

    def of_latency(self, gate: Gate) -> dg.AssetChecksDefinition:
        """Of the exports, but asked with the report: a model that is too slow is seen on its dashboard."""

        @self._check(CHECKS[gate.__name__], gates.about(gate), "eval_report", "exported_model")
        def check(
            context: dg.AssetCheckExecutionContext,
            eval_report: Evaluation,
            exported_model: ExportedModel,
            places: dg.ResourceParam[Places],
            outbox: dg.ResourceParam[Outbox],
        ) -> dg.AssetCheckResult:
            result = gate(exported_model.exports, overridden(self.recipe, eval_report.overrides))
            return self._of_report(context, result, eval_report, places, outbox)

        return check

    def of_exports(self, gate: Gate, *, blocking: bool = True) -> dg.AssetChecksDefinition:
        @self._check(CHECKS[gate.__name__], gates.about(gate), "exported_model", "checkpoint", blocking=blocking)
        def check(
            context: dg.AssetCheckExecutionContext,
            exported_model: ExportedModel,
            checkpoint: Checkpoint,
            outbox: dg.ResourceParam[Outbox],
        ) -> dg.AssetCheckResult:
            exports = exported_model.exports
            subject = Subject.of(self.recipe, context.partition_key, checkpoint.run_id, exports.checkpoint_sha256)
            return _result(context, gate(exports, overridden(self.recipe, checkpoint.overrides)), subject, outbox)

        return check

    def _judged(self, evaluation: Evaluation, places: Places, registry: Registry) -> _Judged:
        production = production_sha256(registry, self.recipe.project)
        used = overridden(self.recipe, evaluation.overrides)
        return _Judged(evaluation.report, slices_of(evaluation, places), used, production)

    def _check(
        self, name: str, description: str, asset: str, *more: str, blocking: bool = True
    ) -> Callable[[Callable[..., dg.AssetCheckResult]], dg.AssetChecksDefinition]:
        """``more``: the other assets of the recipe that are loaded, as parameters of these names."""
        return dg.asset_check(
            asset=dg.AssetKey([self.recipe.name, asset]),
            name=name,
            description=description,
            additional_ins={one: dg.AssetIn([self.recipe.name, one]) for one in more},
            blocking=blocking,
            partitions_def=self.windows,
        )

    def _sweep_wanted(
        self,
        context: dg.AssetCheckExecutionContext,
        gate: GateResult,
        evaluation: Evaluation,
        profile: Profile,
        places: Places,
    ) -> None:
        weak = sorted({row.slice for row in gate.rows if row.passed is False and row.slice != OVERALL})
        if weak and gate.name == gates.targets_met.__name__ and self.recipe.automation.on_weak_candidate == "sweep":
            tune = f"{self.recipe.name}-candidate-{evaluation.report.run_id}"
            because = f"run {evaluation.report.run_id} is below target on {', '.join(weak)}"
            start_wanted(self.recipe, profile, places, tune, "candidate", because, context.log.info)

    def _of_report(
        self,
        context: dg.AssetCheckExecutionContext,
        gate: GateResult,
        evaluation: Evaluation,
        places: Places,
        outbox: Outbox,
    ) -> dg.AssetCheckResult:
        report = evaluation.report
        subject = Subject.of(self.recipe, context.partition_key, report.run_id, report.checkpoint_sha256)
        return _result(context, gate, subject, outbox, **_dashboard(evaluation, places))


def _dashboard(evaluation: Evaluation, places: Places) -> dict[str, dg.MetadataValue]:
    return {"dashboard": dg.MetadataValue.path(str(places.absolute(evaluation.directory) / DASHBOARD_FILE))}


def _result(
    context: dg.AssetCheckExecutionContext,
    gate: GateResult,
    subject: Subject,
    outbox: Outbox,
    **more: dg.MetadataValue,
) -> dg.AssetCheckResult:
    """``gate`` as Dagster shows it; what failed of it is told to others."""
    outbox.emit(gate_events([gate], subject), context.log.warning)
    return gate_check(gate, more=more)
