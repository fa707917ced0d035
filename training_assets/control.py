"""What starts runs, and how: causes and their priorities, what comes after a run, and the requests for runs.

Sensors, schedules and the command line all ask for runs here, so that one kind of run has the same tags and the same
run key whoever starts it. When they ask is theirs to know. What a job holds is in ``jobs.py``.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    PRIORITY_TAG,
)
from pydantic import BaseModel, ConfigDict

DATASET_JOB = "dataset_job"
STAGING_JOB = "staging_job"
SLICE_JOB = "slice_job"
SWEEP_REQUEST_JOB = "sweep_request_job"
RETENTION_JOB = "retention_job"
EVALUATE_JOB = "evaluate_job"
PROMOTE_JOB = "promote_job"
ROLLBACK_JOB = "rollback_job"
SWEEP_START_JOB = "sweep_start_job"

Cause = Literal["manual", "slice", "delivery", "nightly", "weekly", "sweep", "backfill"]
PRIORITIES: Mapping[Cause, int] = {
    "manual": 30,
    "slice": 20,
    "delivery": 15,
    "nightly": 10,
    "weekly": 5,
    "sweep": 3,
    "backfill": 0,
}
"""Of the runs that wait, the highest is started first."""

CAUSE_TAG = "training_assets/cause"
BECAUSE_TAG = "training_assets/because"
DELIVERY_TAG = "training_assets/delivery"
PLAN_TAG = "training_assets/plan."
"""With a recipe's name behind it: the plan that is carried out once the run has succeeded. A tag for each, because
PostgreSQL indexes tags and refuses values of more than 2,700 bytes."""
VERSION_TAG = "training_assets/version"
"""Of a recipe's job: the recipe and the training's code, as a digest. What failed under it fails again."""
SWEEP_TAG = "training_assets/sweep"
LAUNCH_TAG = "training_assets/launch"
"""The run key, kept by runs that take a lost one's place too."""
LONGEST_BECAUSE = 200
WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)


def trial_job_name(recipe: str) -> str:
    return f"{recipe}_trial_job"


def sweep_job_name(recipe: str) -> str:
    return f"{recipe}_sweep_job"


def job_name(recipe: str) -> str:
    return f"{recipe}_job"


class Plan(BaseModel):
    """A training to come: of which recipe, for which window, and why.

    ``overrides`` are ``--set a.b=c`` of the recipe. ``warm_start`` is a version, an alias or the path of a checkpoint.
    ``dataset`` is a pinned dataset version, None the current one. ``slices`` are mined slices that must be in the
    training set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    window: str
    cause: Cause
    because: str
    overrides: tuple[str, ...] = ()
    warm_start: str | None = None
    dataset: str | None = None
    slices: tuple[str, ...] = ()
    profile: str | None = None

    def run_config(self) -> dict[str, Any]:
        """For the recipe's job. Empty for a plan that asks for nothing of its own."""
        chosen = self.model_dump(mode="json", exclude_defaults=True)
        fields = {"training_set": ("dataset", "slices"), "checkpoint": ("overrides", "warm_start", "profile")}
        configs = {asset: {name: chosen[name] for name in names if name in chosen} for asset, names in fields.items()}
        ops = {f"{self.recipe}__{asset}": {"config": config} for asset, config in configs.items() if config}
        return {"ops": ops} if ops else {}


def run_tags(cause: Cause, because: str) -> dict[str, str]:
    """What every run says of itself: how urgent it is, and why it was started."""
    priority = str(PRIORITIES[cause])
    return {PRIORITY_TAG: priority, CAUSE_TAG: cause, BECAUSE_TAG: because[:LONGEST_BECAUSE]}


def plan_tags(plans: Iterable[Plan]) -> dict[str, str]:
    return {f"{PLAN_TAG}{plan.recipe}": plan.model_dump_json(exclude_defaults=True) for plan in plans}


def plans_of(tags: Mapping[str, str]) -> list[Plan]:
    """The plans that a run with these tags carries."""
    return [Plan.model_validate_json(value) for key, value in sorted(tags.items()) if key.startswith(PLAN_TAG)]


def delivery_request(name: str, digest: str, assets: Sequence[str]) -> dg.RunRequest:
    """Check, pin and split the delivery ``name``; ``digest`` is that of its four files.

    ``assets`` of the dataset job without ``golden/*``: they were observed before, and the newest delivery may be
    another one.
    """
    return dg.RunRequest(
        run_key=digest,
        job_name=DATASET_JOB,
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        run_config=delivery_config(name),
        tags={**run_tags("delivery", f"delivery {name}"), DELIVERY_TAG: name},
    )


def delivery_config(name: str) -> dict[str, Any]:
    return {"ops": {"dataset_version": {"config": {"delivery": name}}}}


def staging_request(plans: Sequence[Plan], windows: Sequence[str], run_key: str | None = None) -> dg.RunRequest:
    """Stage ``windows``, which follow one another, in one run that carries ``plans``, all of one cause."""
    ends = {ASSET_PARTITION_RANGE_START_TAG: windows[0], ASSET_PARTITION_RANGE_END_TAG: windows[-1]}
    return dg.RunRequest(
        run_key=run_key,
        job_name=STAGING_JOB,
        tags={**run_tags(plans[0].cause, plans[0].because), **ends, **plan_tags(plans)},
    )


def training_request(plan: Plan, run_key: str | None = None) -> dg.RunRequest:
    """Carry out ``plan``: from the training set to a registered model."""
    return dg.RunRequest(
        run_key=run_key,
        job_name=job_name(plan.recipe),
        partition_key=plan.window,
        run_config=plan.run_config(),
        tags=run_tags(plan.cause, plan.because),
    )


def slice_request(name: str, run_key: str, assets: Sequence[dg.AssetKey]) -> dg.RunRequest:
    """Stage the mined slice ``name`` and let production be evaluated on it: ``assets`` of the slice job."""
    # Not as partition_key: Dagster would read all partitions again for each of a tick's requests.
    return dg.RunRequest(
        run_key=run_key,
        job_name=SLICE_JOB,
        asset_selection=list(assets),
        tags={**run_tags("slice", f"slice {name}"), PARTITION_NAME_TAG: name},
    )


def _sweep_tags(because: str, tune: str, partition: str) -> dict[str, str]:
    return {**run_tags("sweep", because), SWEEP_TAG: tune, PARTITION_NAME_TAG: partition}


def trial_request(recipe: str, tune: str, key: str, launch: int) -> dg.RunRequest:
    """Try the trial ``key`` of the sweep ``tune``; ``launch`` counts: one that was paused is launched again."""
    return dg.RunRequest(
        run_key=trial_run_key(key, launch),
        job_name=trial_job_name(recipe),
        tags={**_sweep_tags(f"trial of sweep {tune}", tune, key), LAUNCH_TAG: trial_run_key(key, launch)},
    )


def trial_run_key(key: str, launch: int) -> str:
    return f"trial:{key}:{launch}"


def sweep_report_request(recipe: str, tune: str) -> dg.RunRequest:
    """Choose the winner of the sweep ``tune``, register it and report."""
    return dg.RunRequest(
        run_key=sweep_run_key(tune),
        job_name=sweep_job_name(recipe),
        tags={**_sweep_tags(f"end of sweep {tune}", tune, tune), LAUNCH_TAG: sweep_run_key(tune)},
    )


def sweep_run_key(tune: str) -> str:
    return f"sweep:{tune}"
