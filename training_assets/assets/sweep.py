"""The end of a sweep as an asset: its best trials once more, the winner registered, and the report."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from trainer.contract.errors import ContractError
from trainer.contract.files import digest_of
from trainer.contract.train_config import TrainConfig
from training_assets import gates, metadata, partitions
from training_assets.assets.evaluation import EVALUATION_SOURCES
from training_assets.assets.release import ENTRY_SOURCES, registered_metadata
from training_assets.check_names import WINNER_REGISTERED
from training_assets.finals.closing import Closing
from training_assets.finals.end import End, end
from training_assets.finals.summary import books_of
from training_assets.launchers import Launcher
from training_assets.places import Places
from training_assets.policies import GPU_POOL
from training_assets.profiles import Profile
from training_assets.records import SweepResult
from training_assets.stores.dvc import DvcStore
from training_assets.stores.events import Outbox
from training_assets.stores.registry import Registry
from training_assets.sweep_metadata import sweep_metadata
from training_assets.sweeps.place import sweep_place
from training_assets.sweeps.report import tables
from training_assets.sweeps.report.markdown import sweep_report as report_of
from training_assets.versions import code_version

HERE = ("training_assets/assets/sweep.py", "training_assets/finals", "training_assets/sweeps/report")


def sweep_report_asset(recipe: TrainConfig) -> dg.AssetsDefinition:
    key, sweeps = dg.AssetKey([recipe.name, "sweep_report"]), partitions.sweeps(recipe.name)

    @dg.asset(
        key=key,
        partitions_def=sweeps,
        check_specs=[
            dg.AssetCheckSpec(
                WINNER_REGISTERED,
                asset=key,
                partitions_def=sweeps,
                description="One of the best trials passes all gates of a release and is registered.",
            )
        ],
        code_version=code_version(*EVALUATION_SOURCES, *ENTRY_SOURCES, *HERE),
        pool=GPU_POOL,
        description="What a sweep came to: the best trials judged on test and on simulated rare conditions and"
        " packaged, the winner registered as `candidate/<task>/<date>`, `sweep_report.md`, `sweep_summary.json` and"
        " a page. Asked for by `sweep_sensor`; made again, it does only what is not done.",
    )
    def sweep_report(
        context: dg.AssetExecutionContext,
        profile: dg.ResourceParam[Profile],
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
        registry: dg.ResourceParam[Registry],
        dvc: dg.ResourceParam[DvcStore],
        outbox: dg.ResourceParam[Outbox],
    ) -> Iterator[dg.MaterializeResult[SweepResult] | dg.AssetCheckResult]:
        try:
            place = sweep_place(places, context.partition_key)
            closing = Closing(context, profile, places, launcher, registry, dvc, place, recipe)
            _refuse_under_way(closing)
            made = end(closing, outbox)
        except ContractError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        record = _record(closing, made)
        yield dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(digest_of(record.model_dump(mode="json"))),
            metadata=_metadata(closing, made),
        )
        yield _check(made)

    return sweep_report


def _refuse_under_way(closing: Closing) -> None:
    running = [trial.id for trial in closing.trials if trial.state == "running"]
    if running:
        numbers = ", ".join(map(str, running))
        raise ContractError(
            f"sweep {closing.place.tune} is still under way: trials {numbers} have not ended."
            f" End it: python -m training_assets sweep stop {closing.place.tune}"
        )


def _record(closing: Closing, made: End) -> SweepResult:
    return SweepResult(
        tune=closing.place.tune,
        directory=closing.places.relative(closing.place.report),
        trials=len(closing.trials),
        best=tuple(one.contender.name for one in made.packages),
        winner=made.winner and made.winner.contender.name,
        registered=made.registered,
        smoke=made.smoke and made.smoke.shards,
    )


def _metadata(closing: Closing, made: End) -> dict[str, Any]:
    summary, seeds = made.summary, made.order.seeds
    header = ("trial", *map(str, seeds.seeds))
    retrained = [(summary.trial(trial).name, *values) for trial, values in seeds.values.items()]
    return {
        **sweep_metadata(summary),
        "winner": made.winner.contender.name if made.winner else "none",
        "best_judged_again": _table(tables.packages_table(summary)),
        **({f"seeds/{seeds.objective.metric}": metadata.table(header, retrained)} if retrained else {}),
        "budget_in_words": dg.MetadataValue.md("\n".join(f"- {one}" for one in books_of(closing).sentences())),
        **_registration(closing, made),
        "report": dg.MetadataValue.md(report_of(summary)),
        "page": dg.MetadataValue.path(str(made.page)),
        "packages": dg.MetadataValue.path(str(closing.place.report / "top")),
    }


def _registration(closing: Closing, made: End) -> dict[str, Any]:
    if made.entry is None or made.registered is None or made.winner is None:
        return {}
    return registered_metadata(made.entry, made.registered, made.winner.evaluation.report, closing.registry)


def _table(table: tables.Table) -> dg.MarkdownMetadataValue:
    return metadata.table(table.header, table.rows)


def _check(made: End) -> dg.AssetCheckResult:
    """Why nothing is registered, where nothing is."""
    failures = [f"{one.contender.name}: {one.failures}" for one in made.packages if not one.passes]
    nobody = " ".join(made.summary.outcome.notes) or "no trial may win"
    shown = {one.contender.name: dg.MetadataValue.md(gates.markdown(one.draft.gates)) for one in made.packages}
    return dg.AssetCheckResult(
        check_name=WINNER_REGISTERED,
        passed=made.entry is not None,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{made.entry.reference} is registered" if made.entry else "; ".join(failures) or nobody,
        metadata=shown,
    )
