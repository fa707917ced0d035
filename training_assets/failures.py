"""Why a run failed, in a person's words, from its events: the gates that it did not pass, or what a step said."""

from collections.abc import Iterable

import dagster as dg

from training_assets.metadata import SKIPPED


def failures_of(events: Iterable[dg.DagsterEvent]) -> list[str]:
    """One text for all gates that stopped the run; else one for each step that failed; else what ended the run."""
    every = list(events)
    checks = [
        e.asset_check_evaluation_data for e in every if e.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    stopping = [check for check in checks if not check.passed and check.blocking]
    if stopping:
        return [_gates(stopping)]
    steps = [_step(event) for event in every if event.is_step_failure]
    ends = [event.message or "" for event in every if event.event_type == dg.DagsterEventType.RUN_FAILURE]
    return steps or [end for end in ends if end]


def skips_of(events: Iterable[dg.DagsterEvent]) -> list[str]:
    """Why a run that succeeded passed something over."""
    observed = [
        event.asset_observation_data.asset_observation
        for event in events
        if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION
    ]
    return [str(one.metadata[SKIPPED].value) for one in observed if SKIPPED in one.metadata]


def _gates(failed: list[dg.AssetCheckEvaluation]) -> str:
    names = ", ".join(f"{one.asset_key.to_user_string()}: {one.check_name}" for one in failed)
    said = "; ".join(one.description or "" for one in failed)
    pages = {str(one.metadata["dashboard"].value) for one in failed if "dashboard" in one.metadata}
    return "\n".join([f"gate not passed: {names}. {said}", *(f"dashboard: {page}" for page in sorted(pages))])


def _step(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    failure = data.user_failure_data
    said = failure.description if failure is not None and failure.description else data.error_display_string
    return f"{(event.step_key or '').replace('__', '/')}: {said}"
