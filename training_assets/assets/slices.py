"""Mined slices: staged, and the production model of each recipe on them. What then happens is in ``follow_up``."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from trainer.contract.errors import ContractError
from trainer.contract.files import digest_of
from trainer.contract.mined_slice import check_pictures
from trainer.contract.names import PLAIN_NAME, flaw_of_name
from trainer.contract.slices import SLICES_FILE, Slices, read_slices
from trainer.contract.train_config import TrainConfig
from training_assets import gates, mined_slices, partitions
from training_assets.assets.evaluation import EVALUATION_SOURCES, evaluate, evaluation_metadata
from training_assets.assets.shards import SOURCES, shard_metadata
from training_assets.check_names import CHECKS
from training_assets.launchers import Launcher
from training_assets.metadata import gate_check
from training_assets.mined_slices import TakenSlice
from training_assets.places import Places
from training_assets.policies import reaching_storage
from training_assets.profiles import Profile
from training_assets.records import MinedSlice, ShardList, SliceEvaluation
from training_assets.staging import Stager
from training_assets.starting_sweeps import start_wanted
from training_assets.stores.dvc import DvcStore
from training_assets.stores.entries import CHECKPOINT, PRODUCTION
from training_assets.stores.events import Outbox, wanted_for_slice
from training_assets.stores.inbox import Inbox
from training_assets.stores.record_store import RecordStore
from training_assets.stores.registry import Registry
from training_assets.versions import code_version

HERE = "training_assets/assets/slices.py"
STAGED_BY = (*SOURCES, "training_assets/mined_slices.py", HERE)
ON_TARGET = CHECKS[gates.slice_targets_met.__name__]


@dg.asset(partitions_def=partitions.slices, code_version=code_version(*STAGED_BY))
def mined_slice(
    context: dg.AssetExecutionContext,
    inbox: dg.ResourceParam[Inbox],
    places: dg.ResourceParam[Places],
    launcher: dg.ResourceParam[Launcher],
    dvc: dg.ResourceParam[DvcStore],
    outbox: dg.ResourceParam[Outbox],
) -> dg.MaterializeResult[MinedSlice]:
    """One auto-mined slice (`slices/<name>.manifest` of the inbox) as shards, its images checked before."""
    name, into = context.partition_key, places.launch("slice", context.run.run_id)
    with reaching_storage():
        taken = _taken(inbox, name, into)
        try:
            rows = mined_slices.rows_of(inbox, taken)
            manifest = mined_slices.fetch(inbox, taken, rows, into)
            check_pictures(rows, manifest.parent, taken.shown, _pinned_slices(places))
        except ContractError as error:
            report = mined_slices.refuse(inbox, outbox, taken, error)
            outbox.deliver(context.log.warning)
            raise dg.Failure(f"{error}\nreport: {report}", allow_retries=False) from None
    staged = Stager(context, launcher, places, dvc).manifests(manifest.parent, {name: manifest})[name]
    _refuse_another(taken, staged)
    moments = [row.captured_at for _, row in rows]
    record = MinedSlice(**dict(staged), captured_from=min(moments), captured_until=max(moments))
    captured = f"{record.captured_from:%Y-%m-%d} to {record.captured_until:%Y-%m-%d}"
    return dg.MaterializeResult(
        value=record,
        data_version=dg.DataVersion(record.digest),
        metadata={**shard_metadata(record), "captured": captured},
    )


def slice_eval_asset(recipe: TrainConfig) -> dg.AssetsDefinition:
    key = dg.AssetKey([recipe.name, "slice_eval"])

    @dg.asset(
        key=key,
        partitions_def=partitions.slices,
        check_specs=[
            dg.AssetCheckSpec(
                ON_TARGET,
                asset=key,
                partitions_def=partitions.slices,
                description=gates.about(gates.slice_targets_met),
            )
        ],
        code_version=f"{digest_of(dict(recipe.slice_targets))[:12]}-{code_version(*EVALUATION_SOURCES, HERE)}",
        description="The production model on a mined slice, beside the recipe's targets for such slices.",
    )
    def slice_eval(
        context: dg.AssetExecutionContext,
        mined_slice: ShardList,
        profile: dg.ResourceParam[Profile],
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
        registry: dg.ResourceParam[Registry],
        outbox: dg.ResourceParam[Outbox],
    ) -> Iterator[dg.MaterializeResult[SliceEvaluation] | dg.AssetCheckResult]:
        with reaching_storage():
            entry = registry.resolve(recipe.project, PRODUCTION)
            weights = None if entry is None else registry.file(entry, CHECKPOINT)
        if entry is None or weights is None:
            raise dg.Failure(
                f"project {recipe.project} has no production model, so there is nothing to evaluate on this slice."
                " Promote one: python -m training_assets promote PROJECT@VERSION",
                allow_retries=False,
            )
        name = context.partition_key
        evaluation = evaluate(
            context,
            launcher,
            places,
            RecordStore(places).dataset(),
            checkpoint=weights,
            splits={gates.JUDGED_SPLIT: mined_slice},
            out=places.slice_evaluation(recipe.name, f"{name}-{entry.version}-{mined_slice.digest[:8]}"),
        )
        gate = gates.slice_targets_met(evaluation.report, recipe)
        kind = recipe.automation.on_weak_slice
        if not gate.passed and (kind == "sweep" or kind == "data_request"):
            event = wanted_for_slice(kind, recipe, name, entry.version, mined_slice.digest, gate)
            outbox.emit([event], context.log.warning)
        if not gate.passed and kind == "sweep":
            tune = f"{recipe.name}-slice-{digest_of([name, entry.version, mined_slice.digest])[:8]}"
            because = f"{entry.reference} is below target on slice {name}"
            start_wanted(recipe, profile, places, tune, "slice", because, context.log.info)
        record = SliceEvaluation(
            **dict(evaluation), production=entry.version, targets=gate, dagster_run_id=context.run.run_id
        )
        yield dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(digest_of(record.report.model_dump(mode="json"))),
            metadata={
                "production": entry.version,
                "targets": dg.MetadataValue.md(gates.markdown([gate])),
                "below_target": not gate.passed,
                **evaluation_metadata(record, places),
            },
        )
        yield gate_check(gate, ON_TARGET)

    return slice_eval


def _taken(inbox: Inbox, name: str, into: Path) -> TakenSlice:
    """The slice of a partition; keys come unchecked, whoever adds one by hand, so the name is checked first."""
    if flaw := flaw_of_name(name):
        raise dg.Failure(f"partition of slices: found {flaw}, expected {PLAIN_NAME}", allow_retries=False)
    try:
        return mined_slices.take(inbox, name, into)
    except FileNotFoundError as error:
        expected = "a manifest that mining delivered under this name"
        raise dg.Failure(f"partition '{name}': found no {error}, expected {expected}", allow_retries=False) from None


def _refuse_another(taken: TakenSlice, staged: ShardList) -> None:
    if staged.manifest_sha256 != taken.digest:
        raise dg.Failure(
            f"{taken.shown} changed while it was staged: found sha256 {staged.manifest_sha256[:12]}, expected"
            f" {taken.digest[:12]}. The sensor starts it anew.",
            allow_retries=False,
        )


def _pinned_slices(places: Places) -> Slices:
    """What masks may hold, by the pinned delivery; anything as long as there is none."""
    records = RecordStore(places)
    if not records.has(dg.AssetKey("dataset_version")):
        return Slices()
    return read_slices(places.absolute(records.dataset().directory) / SLICES_FILE)
