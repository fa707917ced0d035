"""Work that a person launches by hand and that makes no asset: judging a version, deciding on production, sweeps.

The command line has the same by the same functions (docs/jobs.md). With nothing configured each job tells what there is
to choose from, or does what changes nothing. Bad input is a failure that is not tried again.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from trainer.contract.errors import ContractError
from training_assets import gates, metadata
from training_assets.assets.evaluation import evaluation_metadata
from training_assets.dashboard import DASHBOARD_FILE
from training_assets.evaluating import Asked, Evaluator
from training_assets.evaluation_data import NamedData, Split
from training_assets.launchers import Launcher
from training_assets.places import Places
from training_assets.policies import reaching_storage
from training_assets.profiles import REPOSITORY, Profile
from training_assets.promotion import Decider
from training_assets.starting_sweeps import AskedByHand, start_by_hand
from training_assets.stores.dvc import DvcStore
from training_assets.stores.entries import PRODUCTION, version_before
from training_assets.stores.events import Outbox
from training_assets.stores.inbox import Inbox
from training_assets.stores.registry import Registry
from training_assets.sweeps.sweep_file import read_sweep

NOTHING = dg.Out(dg.Nothing)


class EvaluateConfig(dg.Config):
    """Which version is judged on which data. As it is: production on the test split that was pinned last."""

    model: str = Field(
        default="",
        description="`PROJECT@VERSION` or `PROJECT@ALIAS`: `scenes@1.2.0`. Empty: production, where there is one"
        " project with a production model.",
    )
    data: str = Field(
        default="",
        description="A delivery in the inbox by its name, or the path of a delivery or of a manifest on this machine"
        " (its images beside it). Empty: the dataset version that was pinned last.",
    )
    split: Split = Field(default="test", description="Which split of it, where it is not a manifest itself.")
    slices: str = Field(
        default="", description="Path of another `slices.yaml`. Empty: the one beside the data, else the pinned one."
    )
    against: str = Field(
        default=PRODUCTION,
        description="A version or an alias of the same project to compare with; where there is none, or with empty"
        " text, nothing is compared.",
    )


class PromoteConfig(dg.Config):
    """Which version goes into production. As it is: none, the run only lists the versions."""

    model: str = Field(
        default="",
        description="`PROJECT@VERSION` or `PROJECT@ALIAS`: `scenes@1.2.0`. Empty: nothing is changed, the run lists"
        " the versions that there are.",
    )
    reason: str = Field(default="", description="Why; kept in the alias's history and told to others.")


class RollbackConfig(dg.Config):
    """Which project goes back to the version before. As it is: none, the run only lists what would be next."""

    project: str = Field(
        default="",
        description="The project whose production model goes back to the version before. Empty: nothing is changed,"
        " the run lists the projects.",
    )
    reason: str = Field(default="", description="Why; must be given with a project. Kept and told to others.")


class SweepStartConfig(dg.Config):
    """Which sweep is started. As it is: none, the run only lists the sweep files."""

    file: str = Field(
        default="",
        description="A sweep file: its name in the profile's `sweeps`, or a path. Empty: nothing is started, the run"
        " lists the files.",
    )
    recipe: str = Field(default="", description="What is tuned; empty: what the file says.")
    name: str = Field(default="", description="The sweep's name; empty: a readable random one.")
    window: str = Field(
        default="",
        description="First day of a window whose `training_set` is materialised; empty: the file's, else the newest.",
    )


@dg.op(out=NOTHING)
def evaluate_version(
    context: dg.OpExecutionContext,
    config: EvaluateConfig,
    launcher: dg.ResourceParam[Launcher],
    places: dg.ResourceParam[Places],
    registry: dg.ResourceParam[Registry],
    inbox: dg.ResourceParam[Inbox],
    dvc: dg.ResourceParam[DvcStore],
) -> None:
    """Judge a registered version on any data, beside production: a report and a page; nothing else is changed."""
    with reaching_storage():
        named = NamedData(context, launcher, places, inbox, dvc)
        judged = Evaluator(named, registry).judged(Asked(**config.model_dump()))
    context.add_output_metadata(
        {
            "version": judged.entry.reference,
            "data": judged.data,
            "compared_with": judged.compared_with,
            "gates": dg.MetadataValue.md(gates.markdown(judged.gates)),
            **evaluation_metadata(judged.record, places),
            "dashboard": dg.MetadataValue.path(str(judged.pictures / DASHBOARD_FILE)),
        }
    )


@dg.op(out=NOTHING)
def promote_version(
    context: dg.OpExecutionContext,
    config: PromoteConfig,
    registry: dg.ResourceParam[Registry],
    outbox: dg.ResourceParam[Outbox],
) -> None:
    """Make a registered version the production model of its project."""
    with reaching_storage():
        if config.model:
            context.log.info(_decider(context, registry, outbox).promote(config.model, config.reason))
        else:
            context.log.info("nothing is changed: no model is named")
        context.add_output_metadata({"versions": _versions(registry)})


@dg.op(out=NOTHING)
def roll_back_production(
    context: dg.OpExecutionContext,
    config: RollbackConfig,
    registry: dg.ResourceParam[Registry],
    outbox: dg.ResourceParam[Outbox],
) -> None:
    """Make the version before the production model of a project again."""
    with reaching_storage():
        if config.project:
            context.log.info(_decider(context, registry, outbox).roll_back(config.project, config.reason))
        else:
            context.log.info("nothing is changed: no project is named")
        context.add_output_metadata({"production": _production(registry)})


@dg.op(out=NOTHING)
def start_sweep(
    context: dg.OpExecutionContext,
    config: SweepStartConfig,
    profile: dg.ResourceParam[Profile],
    launcher: dg.ResourceParam[Launcher],
) -> None:
    """Start a sweep on a materialised training set; `sweep_sensor` goes on with it."""
    if not config.file:
        context.log.info("nothing is started: no file is named")
        context.add_output_metadata({"files": _sweep_files(profile)})
        return
    path = profile.sweeps / config.file
    asked = AskedByHand(
        path if path.is_file() else REPOSITORY / config.file,
        f"dagster run {context.run_id}",
        config.recipe or None,
        config.name or None,
        config.window or None,
    )
    with reaching_storage():
        place = start_by_hand(asked, profile, launcher)
    context.log.info(f"sweep {place.tune} of {place.plan.recipe}, window {place.plan.window}")
    context.add_output_metadata(
        {
            "sweep": place.tune,
            "trials": dg.MetadataValue.asset(dg.AssetKey([place.plan.recipe, "trial"])),
            "report": dg.MetadataValue.asset(dg.AssetKey([place.plan.recipe, "sweep_report"])),
            "directory": dg.MetadataValue.path(str(place.root)),
            "follow": f"python -m training_assets sweep status {place.tune}",
        }
    )


def _decider(context: dg.OpExecutionContext, registry: Registry, outbox: Outbox) -> Decider:
    return Decider(registry, outbox, f"dagster run {context.run_id}", context.log.warning)


def _versions(registry: Registry) -> dg.MarkdownMetadataValue:
    """Every version, the newest first, with its aliases and what it scored on test."""
    return metadata.table(("version", "aliases", "registered", "recipe", "scores on test"), _version_rows(registry))


def _version_rows(registry: Registry) -> Iterable[Sequence[Any]]:
    for project in registry.projects():
        aliases = registry.aliases(project)
        for version in reversed(registry.versions(project)):
            entry = registry.find(f"{project}@{version}")
            names = [name for name, move in aliases.items() if move.version == version]
            scores = entry.metrics.get(gates.JUDGED_SPLIT, {})
            said = [f"{one} {value:.4g}" for one, value in scores.items() if gates.general(one) and value is not None]
            yield entry.reference, ", ".join(names), f"{entry.created_at:%Y-%m-%d}", entry.recipe, ", ".join(said)


def _production(registry: Registry) -> dg.MarkdownMetadataValue:
    rows = []
    for project in registry.projects():
        history = registry.history(project, PRODUCTION)
        now = history[-1].version if history else None
        rows.append((project, now, version_before(history)))
    return metadata.table(("project", "in production", "the version before"), rows)


def _sweep_files(profile: Profile) -> dg.MarkdownMetadataValue:
    rows = [_sweep_row(path) for path in sorted(profile.sweeps.glob("*.yaml"))]
    return metadata.table(("file", "recipe", "strategy", "objective"), rows)


def _sweep_row(path: Path) -> Sequence[Any]:
    try:
        sweep = read_sweep(path)
    except ContractError as error:
        return path.name, f"not usable: {error}", None, None
    return path.name, sweep.recipe, sweep.strategy.name, ", ".join(one.metric for one in sweep.objective) or None
