"""A trial of a sweep: settings that the search chose, trained, and judged as a training run is, on val.

Which settings, and when it is to end early, the sweep's controller says (``sweeps/controller.py``) through the
trial's directory.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.epochs import read_epochs
from trainer.contract.errors import ContractError
from trainer.contract.files import digest_of
from trainer.contract.results import Epoch
from trainer.contract.train_config import TrainConfig
from training_assets import metadata, partitions
from training_assets.assets.evaluation import EVALUATION_SOURCES, evaluate, export
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import HANDLE_FILE, Observer, Spent, spent_on
from training_assets.observability import Trip
from training_assets.places import Places
from training_assets.policies import GPU_POOL, reaching_storage
from training_assets.profiles import Profile
from training_assets.recipes import overridden
from training_assets.records import Checkpoint, Evaluation, ExportedModel, TrialRun
from training_assets.stores.entries import CHECKPOINT, PRODUCTION
from training_assets.stores.record_store import RecordStore
from training_assets.stores.registry import Registry
from training_assets.sweeps.budget import Caps, exceeded
from training_assets.sweeps.place import SpentSoFar, StopRequest, SweepPlace, TrialPlace, TrialPlan, sweep_place
from training_assets.sweeps.regression import trial_metrics
from training_assets.training_run import TrainingRun, training_run, training_version
from training_assets.versions import code_version

HERE = "training_assets/assets/trial.py"
HEARTBEAT_SECONDS = 5.0


class Stopped(Exception):
    """The trial is to end now; its checkpoints stay."""


def trial_asset(recipe: TrainConfig) -> dg.AssetsDefinition:
    @dg.asset(
        key=[recipe.name, "trial"],
        partitions_def=partitions.trials(recipe.name),
        code_version=f"{training_version(recipe)}-{code_version(*EVALUATION_SOURCES, HERE)}",
        pool=GPU_POOL,
        description="One setting of a sweep, trained and judged on val. Asked for by `sweep_sensor`.",
    )
    def trial(
        context: dg.AssetExecutionContext,
        profile: dg.ResourceParam[Profile],
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
        registry: dg.ResourceParam[Registry],
    ) -> dg.MaterializeResult[TrialRun]:
        tune, number = partitions.trial_of(context.partition_key)
        sweep, plan = _asked_for(places, tune, number)
        run = _training_run(sweep, plan, places, profile)
        try:
            spent = run.finished(context, launcher, _Watching(sweep, plan, launcher, run, profile, context))
        except Stopped as stopped:
            record = _record(sweep, plan, run, spent_on(run.directory), places, reason=str(stopped))
        else:
            checkpoint = run.record(places, context.run.run_id, plan.overrides, profile.name)
            judged = _judged(context, launcher, places, registry, sweep, checkpoint)
            record = _record(sweep, plan, run, spent, places, checkpoint, *judged)
        _say_spent(sweep.trial(number), spent_on(run.directory))
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(digest_of(record.model_dump(mode="json"))),
            metadata=_metadata(record, sweep, run),
        )

    return trial
