"""What the checks are called in Dagster: as a person would ask. Elsewhere, in events, reports and the registry, a gate
has its own name (``gates.py``), which others rely on and which never changes."""

from collections.abc import Mapping

CHECKS: Mapping[str, str] = {
    "targets_met": "targets_met_on_every_slice",
    "no_regression": "no_worse_than_production_on_any_slice",
    "calibrated": "confidence_is_calibrated",
    "latency_within_budget": "p95_latency_within_budget",
    "exports_match_eager": "exports_compute_the_same_as_the_model",
    "quantization_loss_within_budget": "int8_loses_little_accuracy",
    "slice_targets_met": "production_meets_targets_on_this_slice",
    "dry_run": "first_batch_trains_every_parameter",
    "determinism": "same_start_gives_same_losses",
    "finite": "loss_and_gradients_stay_finite",
    "loss_spikes": "no_loss_spikes",
    "drift": "data_looks_like_the_reference",
    "early_stopping": "no_worse_than_earlier_runs",
}
"""By gate, those inside a training too."""
WINNER_REGISTERED = "a_winner_is_registered"


def protected_check(name: str) -> str:
    """The check of a slice that a recipe protects: ``night_pedestrians_no_worse_than_production``."""
    return f"{name}_no_worse_than_production"
