"""The gates inside a training run as asset checks of its checkpoint: their names, and their verdicts as results.

The gates themselves are the trainer's (``trainer/engine/callbacks/gates.py``). One that ends a run leaves its verdict
in ``failure.json``; the others are then not known.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import dagster as dg

from trainer.contract.results import FAILURE_FILE, Failure, Verdict
from training_assets.check_names import CHECKS

RUN_GATES: Mapping[str, str] = {
    "dry_run": "The first batch goes forward and backward: finite losses, a gradient for every parameter.",
    "determinism": "Two short runs from the same state see the same losses.",
    "finite": "Loss and gradients are finite in every step.",
    "loss_spikes": "No task's loss stands far out of the steps before.",
    "drift": "What was trained on looks like the reference profile.",
    "early_stopping": "Whether more epochs were worth it.",
}


def check_specs(asset: dg.AssetKey, windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(CHECKS[name], asset=asset, description=description, partitions_def=windows)
        for name, description in RUN_GATES.items()
    ]


def check_results(asset: dg.AssetKey, verdicts: Iterable[Verdict]) -> Iterator[dg.AssetCheckResult]:
    """A result for each gate of a finished run; one that the recipe switched off is passed and says so."""
    by_name = {verdict.gate: verdict for verdict in verdicts}
    for name in RUN_GATES:
        if name in by_name:
            yield check_result(asset, by_name[name])
        else:
            yield dg.AssetCheckResult(
                passed=True,
                asset_key=asset,
                check_name=CHECKS[name],
                severity=dg.AssetCheckSeverity.WARN,
                description=f"not asked: switched off in the recipe (guards.{name}.enabled)",
                metadata={"gate": name},
            )


def check_result(asset: dg.AssetKey, verdict: Verdict) -> dg.AssetCheckResult:
    aborts = verdict.severity == "abort"
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=asset,
        check_name=CHECKS[verdict.gate],
        severity=dg.AssetCheckSeverity.ERROR if aborts else dg.AssetCheckSeverity.WARN,
        description=verdict.message,
        metadata={"gate": verdict.gate, **verdict.figures},
    )


def verdict_that_ended(attempt_dir: Path) -> Verdict | None:
    """The verdict of the gate that ended the attempt, if it was one."""
    path = attempt_dir / FAILURE_FILE
    return Failure.model_validate_json(path.read_bytes()).verdict if path.is_file() else None
