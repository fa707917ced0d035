"""A trial of several folds or seeds: ``trainer crossval`` launched as one command, and what its runs came to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import dagster as dg

from trainer.contract.files import write_text
from trainer.contract.names import cross_validation_directory, cross_validation_name
from trainer.contract.run_infos import CrossValidationResult, read_score
from trainer.contract.train_config import TrainConfig
from trainer.contract.yaml_io import dump_yaml
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.base import DEADLINE_GRACE
from training_assets.launchers.session import Observe, new_attempt, run_to_end
from training_assets.places import Places
from training_assets.profiles import REPOSITORY
from training_assets.stores.source import code_version
from training_assets.sweeps.place import SweepPlace
from training_assets.tracking import write_provenance

SCORE = "score"


def cross_validate(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    places: Places,
    sweep: SweepPlace,
    number: int,
    settings: TrainConfig,
    weights: Sequence[str],
    observe: Observe,
) -> CrossValidationResult:
    """Train each fold with each seed, those that have no result yet, each from ``weights`` on (as arguments).

    Raises:
        dg.RetryRequested, dg.Failure: as ``run_to_end`` does; names the runs that are unstable or crashed.
    """
    directory = directory_of(places, sweep, number)
    run_to_end(context, launcher, _spec(places, sweep, number, settings, weights, directory), observe)
    result = read_score(directory)
    if result is None:
        raise dg.Failure(f"{directory} has no score after its end: look into the log", allow_retries=False)
    if result.score_is_unstable:
        unstable = ", ".join(run.run_name for run in result.runs if run.is_unstable)
        again = "Materialise the trial again: it trains again what has no result."
        raise dg.Failure(f"{result.name} is unstable: {unstable}. {again}", allow_retries=False)
    return result


def means_of(result: CrossValidationResult) -> Mapping[str, float]:
    """The mean over the runs of each metric that all of them have, and the score."""
    first, *others = (run.metrics for run in result.runs)
    shared = [name for name in first if all(one.get(name) is not None for one in (first, *others))]
    means = {name: fmean(run.metrics[name] or 0.0 for run in result.runs) for name in shared}
    return {**means, SCORE: result.score}


def directory_of(places: Places, sweep: SweepPlace, number: int) -> Path:
    cv = cross_validation_name(sweep.tune, number)
    return places.root / "runs" / cross_validation_directory(cv, sweep.tune)


def _spec(
    places: Places, sweep: SweepPlace, number: int, settings: TrainConfig, weights: Sequence[str], directory: Path
) -> LaunchSpec:
    asked = sweep.sweep.cross_validation
    method = asked.method or ("kfold" if asked.folds > 1 else "none")
    recipe = directory / "recipe.yaml"
    write_text(recipe, dump_yaml(settings.model_dump(mode="json")))
    training_set = sweep.plan.training_set
    dataset = places.absolute(training_set.dataset.directory)
    write_provenance(directory, training_set, code_version(REPOSITORY), None, dataset)
    arguments = (
        *("crossval", str(recipe), "--data", str(places.absolute(training_set.directory))),
        *("--artifact-dir", str(places.root / "runs"), "--tune", sweep.tune, "--index", str(number), "--resume"),
        *("--folds", str(asked.folds), "--method", method, "--seeds", str(asked.seeds)),
        *("--set", "cross_validation.run_folds=null"),
        *weights,
    )
    # One process, which trains the runs itself: by ddp_fork where a run has several ranks.
    launch = settings.launch.model_copy(update={"strategy": "ddp_fork"})
    # Its wall is each run's own, one after the other.
    grace = DEADLINE_GRACE + (asked.runs - 1) * (launch.max_run_seconds or 0.0)
    return LaunchSpec(
        arguments, directory, new_attempt(), launch=launch, project=settings.project, deadline_grace=grace
    )
