"""A trial of a sweep: settings that the search chose, trained, and judged as a training run is, but on val.

Which settings, and when it is to end early, the sweep's controller says (``sweeps/controller.py``) through files in
the trial's directory.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import dagster as dg

from trainer.contract.epochs import read_epochs
from trainer.contract.errors import ContractError
from trainer.contract.files import digest_of
from trainer.contract.names import cross_validation_name
from trainer.contract.train_config import TrainConfig
from training_assets import metadata, partitions, tracking
from training_assets.assets.evaluation import EVALUATION_SOURCES, evaluate, evaluation_metadata, export
from training_assets.cross_validated import cross_validate, directory_of, means_of
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import Observer, Spent, spent_by_now, spent_on
from training_assets.observability import Trip
from training_assets.places import Places
from training_assets.policies import GPU_POOL, reaching_storage
from training_assets.profiles import Profile
from training_assets.recipes import overridden
from training_assets.records import Checkpoint, Evaluation, ExportedModel, TrialRun
from training_assets.stores.entries import CHECKPOINT, PRODUCTION
from training_assets.stores.registry import Registry
from training_assets.sweeps.journal import read_trials
from training_assets.sweeps.place import SpentSoFar, SweepPlace, TrialPlace, TrialPlan, sweep_place
from training_assets.sweeps.purse import SweepPurse
from training_assets.sweeps.regression import compared_by, trial_metrics
from training_assets.sweeps.trials import Trials
from training_assets.sweeps.under_way import purse_of, run_directory
from training_assets.training_run import TrainingRun, refuse_ranks_that_do_not_divide, training_run, training_version
from training_assets.versions import code_version
from training_assets.warm_start import first_weights

HERE = "training_assets/assets/trial.py"
HEARTBEAT_SECONDS = 5.0


def trial_asset(recipe: TrainConfig) -> dg.AssetsDefinition:
    @dg.asset(
        key=[recipe.name, "trial"],
        partitions_def=partitions.trials(recipe.name),
        # Which of them a sweep trains on is frozen at its start.
        deps=[dg.AssetDep([recipe.name, "training_set"], partition_mapping=dg.AllPartitionMapping())],
        code_version=f"{training_version(recipe)}-{code_version(*EVALUATION_SOURCES, HERE)}",
        pool=GPU_POOL,
        description="Settings that a sweep chose, trained and judged on val. Asked for by `sweep_sensor`.",
    )
    def trial(
        context: dg.AssetExecutionContext,
        profile: dg.ResourceParam[Profile],
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
        registry: dg.ResourceParam[Registry],
    ) -> dg.MaterializeResult[TrialRun]:
        try:
            work = trial_work(places, *partitions.trial_of(context.partition_key))
        except ContractError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        record = work.done(context, profile, launcher, registry)
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(digest_of(record.model_dump(mode="json"))),
            metadata=_metadata(record, work),
        )

    return trial


class Ended(Exception):
    """The trial is to end before its last epoch; its checkpoints stay."""


@dataclass(frozen=True)
class TrialWork:
    """One trial: what it is to do, and where. ``settings`` is the sweep's recipe with what the search chose."""

    sweep: SweepPlace
    plan: TrialPlan
    settings: TrainConfig
    places: Places

    @property
    def place(self) -> TrialPlace:
        return self.sweep.trial(self.plan.trial)

    def done(
        self, context: dg.AssetExecutionContext, profile: Profile, launcher: Launcher, registry: Registry
    ) -> TrialRun:
        """Train it, or go on with it, and judge what it became; or end it where it is to end.

        Raises:
            dg.RetryRequested, dg.Failure: as a training does.
        """
        if stop := self.place.stop:
            return self._record("stopped", stop.reason)
        if self.folds_or_seeds:
            return self._cross_validated(context, launcher, registry)
        run = self._training(context, profile, registry)
        try:
            run.finished(context, launcher, profile, lambda inner, spec: TrialWatch(self, launcher, spec, inner))
        except Ended as ended:
            return self._record("stopped", str(ended))
        finally:
            self.say_spent(spent_on(run.directory))
        checkpoint = run.record(self.places, context.run.run_id, self.plan.overrides, profile.name)
        exported = export(context, launcher, self.places, checkpoint)
        evaluation = self._evaluated(context, launcher, registry, checkpoint)
        return self._record("completed", "", checkpoint, exported, evaluation)

    @property
    def folds_or_seeds(self) -> bool:
        """Whether it is several trainings."""
        return self.sweep.sweep.cross_validation.runs > 1

    @property
    def directory(self) -> Path:
        """Of its run, or of all of them."""
        if self.folds_or_seeds:
            return directory_of(self.places, self.sweep, self.plan.trial)
        return run_directory(self.places, self.sweep, self.plan)

    def _cross_validated(self, context: dg.AssetExecutionContext, launcher: Launcher, registry: Registry) -> TrialRun:
        """Its figures are the runs' means; the model of the best settings is for the sweep's end to make."""

        def observe(spec: LaunchSpec) -> Observer:
            return TrialWatch(self, launcher, spec, None)

        number, settings = self.plan.trial, self.settings
        weights = first_weights(context, settings, registry, self.directory, self.plan.weights)
        try:
            result = cross_validate(context, launcher, self.places, self.sweep, number, settings, weights, observe)
        except Ended as ended:
            return self._record("stopped", str(ended))
        finally:
            self.say_spent(spent_on(self.directory))
        return self._record("completed", "", metrics=means_of(result))

    def _training(self, context: dg.AssetExecutionContext, profile: Profile, registry: Registry) -> TrainingRun:
        plan, directory = self.plan, self.directory
        weights = first_weights(context, self.settings, registry, directory, plan.weights)
        image = profile.image.trainer if profile.image else None
        return training_run(
            self.settings,
            self.sweep.plan.training_set,
            plan.run_id,
            directory,
            self.places,
            image=image,
            weights=weights,
            tune=self.sweep.tune,
            cv=cross_validation_name(self.sweep.tune, plan.trial),
        )

    def _evaluated(
        self, context: dg.AssetExecutionContext, launcher: Launcher, registry: Registry, checkpoint: Checkpoint
    ) -> Evaluation:
        """On val: test is for the sweep's best alone."""
        with reaching_storage():
            production = registry.resolve(self.settings.project, PRODUCTION)
            against = None if production is None else registry.file(production, CHECKPOINT)
        directory = self.places.absolute(checkpoint.directory)
        return evaluate(
            context,
            launcher,
            self.places,
            checkpoint.training_set.dataset,
            checkpoint=directory / checkpoint.result.best_checkpoint,
            splits={"val": self.sweep.plan.eval_shards.val},
            out=directory / f"evaluation-{digest_of(production and production.reference)[:8]}",
            against=against,
            overrides=self.plan.overrides,
        )

    def _record(
        self,
        state: Literal["completed", "stopped"],
        reason: str,
        checkpoint: Checkpoint | None = None,
        exported: ExportedModel | None = None,
        evaluation: Evaluation | None = None,
        metrics: Mapping[str, float] = MappingProxyType({}),
    ) -> TrialRun:
        spent = spent_on(self.directory)
        if evaluation and exported:
            compared = compared_by(self.sweep.sweep.goals)
            metrics = trial_metrics(evaluation.report, exported.exports, compared=compared)
        return TrialRun(
            tune=self.sweep.tune,
            trial=self.plan.trial,
            state=state,
            reason=reason,
            params=dict(self.plan.params),
            run_id=self.plan.run_id,
            directory=self.places.relative(self.directory),
            metrics=dict(metrics),
            node_seconds=spent.seconds,
            gpu_hours=spent.gpu_hours,
            usd=spent.usd,
            checkpoint=checkpoint,
            exported=exported,
            evaluation=evaluation,
        )

    def say_spent(self, spent: Spent) -> None:
        self.place.keep(SpentSoFar(seconds=spent.seconds, gpu_hours=spent.gpu_hours, usd=spent.usd))


def trial_work(places: Places, tune: str, number: int) -> TrialWork:
    """
    Raises:
        ContractError: no sweep asks for this trial, or its settings do not go together.
    """
    sweep = sweep_place(places, tune)
    plan = sweep.trial(number).plan
    if plan is None:
        raise ContractError(f"sweep {tune} has not asked for trial {number}; its sensor does when its turn comes")
    settings = overridden(sweep.recipe, plan.overrides)
    refuse_ranks_that_do_not_divide(settings)
    return TrialWork(sweep, plan, settings, places)


@dataclass
class TrialWatch:
    """Says what the trial has taken, and ends it where it is to end: it was told to, or the sweep's budget is spent.

    The budget is looked at here too, so that it holds where no daemon is at work.
    """

    work: TrialWork
    launcher: Launcher
    spec: LaunchSpec
    inner: Observer | None
    _said: float = 0.0

    @functools.cached_property
    def _purse(self) -> SweepPurse:
        """With what stays as it is; the trials are those of each look."""
        return purse_of(self.work.sweep, Trials(), self.launcher, HEARTBEAT_SECONDS)

    def poll(self, now: float, cost_usd: float | None, waiting: bool) -> Trip | None:
        if stop := self.work.place.stop:
            raise Ended(stop.reason)
        if now - self._said >= HEARTBEAT_SECONDS:
            self._said = now
            so_far = spent_by_now(self.launcher, self.spec, now) + spent_on(self.spec.run_dir)
            self.work.say_spent(so_far)
            trials = read_trials(self.work.sweep.root)
            if exhausted := replace(self._purse, trials=trials).exhausted():
                raise Ended(exhausted)
        return None if self.inner is None else self.inner.poll(now, cost_usd, waiting)


def _metadata(record: TrialRun, work: TrialWork) -> dict[str, Any]:
    directory = work.places.absolute(record.directory)
    epochs = read_epochs(directory)
    trial = read_trials(work.sweep.root)[record.trial]
    said = [(epoch, d.verdict, d.rule, d.threshold, d.peers, d.reason) for epoch, d in sorted(trial.decisions.items())]
    goals = work.sweep.sweep.goals
    named = {*(one.metric for one in goals.objectives), *(one.metric for one in goals.constraints)}
    price = {} if record.usd is None else {"cost_usd": round(record.usd, 2)}
    return {
        "sweep": record.tune,
        "state": record.state if not record.reason else f"{record.state}: {record.reason}",
        "settings": metadata.table(("setting", "value"), sorted(record.params.items())),
        **metadata.numbers({name: value for name, value in record.metrics.items() if name in named}),
        **({"loss_curve": metadata.loss_curve(epochs, work.settings.training.monitor)} if epochs else {}),
        "decisions": metadata.table(("epoch", "verdict", "rule", "threshold", "peers", "why"), said),
        "node_seconds": round(record.node_seconds),
        "gpu_hours": round(record.gpu_hours, 3),
        **price,
        **(evaluation_metadata(record.evaluation, work.places) if record.evaluation else {}),
        **tracking.of_run(directory),
        "run_directory": dg.MetadataValue.path(str(directory)),
    }
