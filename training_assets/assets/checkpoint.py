"""The training run: a recipe and a training set become the checkpoint that is best on val.

What it is trained on is decided in ``training.py``, how good it is, is asked in ``evaluation.py``.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG
from pydantic import Field

from trainer.contract.errors import ContractError
from trainer.contract.names import derived_run_id
from trainer.contract.train_config import TrainConfig
from training_assets import metadata, run_gates, telemetry, tracking
from training_assets.headlines import cost_headlines
from training_assets.launchers import Launcher, launcher_for
from training_assets.launchers.session import Spent
from training_assets.places import Places
from training_assets.policies import GPU_POOL
from training_assets.profiles import Profile, profile_to_launch_with
from training_assets.recipes import launched_with, overridden
from training_assets.records import Checkpoint, TrainingSet
from training_assets.staging import exported
from training_assets.stores.events import Outbox, Subject, run_gate_events
from training_assets.stores.fast_storage import FastStorage
from training_assets.stores.registry import Registry
from training_assets.training_run import refuse_ranks_that_do_not_divide, training_run, training_version
from training_assets.warm_start import warm_start


class TrainingConfig(dg.Config):
    """How this one run differs from its recipe. Empty: it does not."""

    overrides: list[str] = Field(
        default=[],
        description="Settings for this run alone, each as `a.b=c`: `optim.lr=1e-3`. Everything that comes after the "
        "training, the gates too, goes by them, and the lineage has them.",
    )
    warm_start: str | None = Field(
        default=None,
        description="Begin with these weights: a version (`1.2.0`) or an alias (`production`) of the recipe's project, "
        "or the absolute path of a checkpoint. It must be there.",
    )
    profile: str | None = Field(
        default=None,
        description="Launch as this profile does (`launcher`, `launch`, `network_interface`). Its store must be ours.",
    )

    @property
    def all_overrides(self) -> tuple[str, ...]:
        """With ``warm_start``, which is one more."""
        warm = () if self.warm_start is None else (f"model.warm_start={json.dumps(self.warm_start)}",)
        return (*self.overrides, *warm)


def checkpoint_asset(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    key = dg.AssetKey([recipe.name, "checkpoint"])

    @dg.asset(
        key=key,
        partitions_def=windows,
        ins={"training_set": dg.AssetIn([recipe.name, "training_set"])},
        code_version=training_version(recipe),
        check_specs=run_gates.check_specs(key, windows),
        pool=GPU_POOL,
        description=f"The training run ({_devices_of(recipe)}): the checkpoint that is best on val.",
    )
    def checkpoint(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        training_set: TrainingSet,
        profile: dg.ResourceParam[Profile],
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
        registry: dg.ResourceParam[Registry],
        outbox: dg.ResourceParam[Outbox],
        storage: dg.ResourceParam[FastStorage],
    ) -> Iterator[dg.MaterializeResult[Checkpoint] | dg.AssetCheckResult]:
        try:
            used = settings_of(recipe, config, profile)
            launcher = launcher_of(config, profile, launcher)
            image = image_of(config, profile)
            refuse_ranks_that_do_not_divide(used)
        except ContractError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        run_id = run_id_of(context.run, used, training_set)
        subject = Subject.of(recipe, training_set.window, run_id)
        directory = places.run(f"{recipe.name}-{training_set.window}", run_id)
        weights = warm_start(context, used, registry, directory, required=config.warm_start is not None)
        run = training_run(used, training_set, run_id, directory, places, image=image, weights=weights)
        try:
            spent = run.finished(context, launcher, profile)
        except dg.Failure as failure:
            if verdict := run_gates.verdict_that_ended(run.spec.attempt_dir):
                outbox.emit(run_gate_events([verdict], subject), context.log.warning)
                yield run_gates.check_result(key, verdict)
            raise failure
        record = run.record(places, context.run.run_id, config.all_overrides, config.profile or profile.name)
        result = record.result
        subject = replace(subject, checkpoint_sha256=record.sha256)
        outbox.emit(run_gate_events(result.gates, subject), context.log.warning)
        yield dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(record.sha256),
            metadata={
                **_metadata(record, directory, spent),
                **exported(context, storage, directory),
            },
            # Not the asset's own where settings were overridden: Dagster then shows it as out of date, and the next
            # nightly training is the recipe's again. Other weights to begin with are no other recipe.
            tags={CODE_VERSION_TAG: training_version(overridden(recipe, config.overrides))},
        )
        yield from run_gates.check_results(key, result.gates)

    return checkpoint


def settings_of(recipe: TrainConfig, config: TrainingConfig, ours: Profile) -> TrainConfig:
    """The recipe as this run uses it: launched as the profile says, then overridden.

    Raises:
        ContractError: names the override or the profile that cannot be used.
    """
    if config.profile:
        recipe = launched_with(recipe, profile_to_launch_with(config.profile, ours))
    return overridden(recipe, config.all_overrides)


def launcher_of(config: TrainingConfig, ours: Profile, launcher: Launcher) -> Launcher:
    """``launcher``, or that of the profile that the run asks for."""
    if not config.profile:
        return launcher
    chosen = profile_to_launch_with(config.profile, ours)
    return launcher_for(chosen)


def image_of(config: TrainingConfig, ours: Profile) -> str | None:
    """The trainer's image that the run is launched with, ``None`` where it runs in this machine's own environment."""
    chosen = profile_to_launch_with(config.profile, ours) if config.profile else ours
    return chosen.image.trainer if chosen.image else None


def _devices_of(recipe: TrainConfig) -> str:
    launch = recipe.launch
    nodes = f" on each of {launch.num_nodes} nodes" if launch.num_nodes > 1 else ""
    return f"{launch.strategy}, devices {launch.devices}{nodes}"


def run_id_of(run: dg.DagsterRun, recipe: TrainConfig, training_set: TrainingSet) -> str:
    """The training's id: the same for every try of one Dagster run, so that a retried step resumes.

    Derived rather than drawn: there is nothing to keep that a killed process could fail to write.
    """
    root = run.root_run_id or run.run_id
    return derived_run_id(root, recipe.digest, training_set.window, training_set.digest)


def _spent(spent: Spent, directory: Path) -> dict[str, Any]:
    """What all attempts at the run took."""
    attempts = len(list(directory.glob("attempts/*/outcome.json")))
    unpriced = {"cost": "not known: there is no price of this machine"} if spent.usd is None else {}
    return {"attempts": attempts, "node_seconds": round(spent.seconds), **cost_headlines(spent), **unpriced}


def _metadata(record: Checkpoint, directory: Path, spent: Spent) -> dict[str, Any]:
    """What is asked first, first: how it went, how fast, at what cost."""
    result = record.result
    best = next(
        (epoch for epoch in reversed(result.epochs) if epoch.global_step == result.best_step), result.epochs[-1]
    )
    overall = {name: value for name, value in best.metrics.items() if name.count("/") == 1}
    return {
        "run_id": result.run_id,
        "loss_curve": metadata.loss_curve(result.epochs, result.monitor),
        "samples_per_second": result.samples_per_second,
        **_spent(spent, directory),
        "train_seconds": result.train_seconds,
        **telemetry.of_run(result.telemetry, directory),
        **tracking.of_run(directory),
        "epochs": metadata.table(
            ("epoch", "loss", result.monitor, "seconds"),
            [(e.epoch, e.losses["total"], e.metrics.get(result.monitor), e.seconds) for e in result.epochs],
        ),
        "overrides": ", ".join(record.overrides) or "none",
        "profile": record.profile,
        "image": record.code.image_digest or "none: local environment",
        "warm_started_from": record.warm_started_from or "nothing",
        "global_step": result.global_step,
        "world_size": result.world_size,
        "parameters": result.parameters,
        "resumed_from_step": result.resumed_from_step if result.resumed_from_step is not None else "not resumed",
        "state_sha256": result.state_sha256,
        "best_checkpoint": dg.MetadataValue.path(str(directory / result.best_checkpoint)),
        "run_directory": dg.MetadataValue.path(str(directory)),
        **metadata.numbers(overall, "val/"),
    }
