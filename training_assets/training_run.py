"""One training as it is launched: settings and a training set become a run directory, a command and a record.

The checkpoint asset trains a window with it, a sweep each of its trials. How a launched command is watched and tried
again is ``launchers/session.py``.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from trainer.contract.files import sha256_of, write_json, write_text
from trainer.contract.fitting import refuse_uneven_batch
from trainer.contract.history import PastRun
from trainer.contract.reference_profile import PROFILE_FILE
from trainer.contract.results import TrainResult
from trainer.contract.train_config import TrainConfig
from trainer.contract.yaml_io import dump_yaml
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import Observer, Spent, new_attempt, run_with_pipes
from training_assets.observability import Labels, observer_of
from training_assets.places import Places
from training_assets.profiles import REPOSITORY, Profile
from training_assets.records import Checkpoint, TrainingSet
from training_assets.stores import source
from training_assets.stores.source import CodeVersion
from training_assets.tracking import write_provenance
from training_assets.versions import CONTRACT, code_version
from training_assets.warm_start import warm_started_from

TRAINING_SOURCES = (
    CONTRACT,
    "trainer/data",
    "trainer/engine",
    "trainer/evaluation/evaluate.py",  # chooses the best checkpoint, as the metrics do
    "trainer/metrics",
    "trainer/models",
    "trainer/tasks",
)


@dataclass(frozen=True)
class TrainingRun:
    """A training that is ready to be launched. ``settings`` is the recipe as this run uses it, ``code`` what ran it.

    ``image`` is the trainer's, None where it runs in this machine's own environment.
    """

    settings: TrainConfig
    training_set: TrainingSet
    run_id: str
    directory: Path
    spec: LaunchSpec
    code: CodeVersion
    image: str | None = None

    def finished(
        self,
        context: dg.AssetExecutionContext,
        launcher: Launcher,
        profile: Profile,
        also: Callable[[Observer | None, LaunchSpec], Observer | None] = lambda observer, spec: observer,
    ) -> Spent:
        """Launch it, or go on with what runs of it, and wait for its success; what all attempts at it took.

        ``also`` may put another observer before the profile's own.

        Raises:
            dg.RetryRequested, dg.Failure: as ``run_to_end`` does, and what an observer raises.
        """
        labels = Labels(self.settings.project, self.settings.name, self.run_id)
        size, warn = self.settings.data.batch_size, context.log.warning

        def observe(spec: LaunchSpec) -> Observer | None:
            return also(observer_of(profile, spec.attempt_dir, labels, size, warn), spec)

        return run_with_pipes(context, launcher, self.spec, observe)

    def record(self, places: Places, dagster_run_id: str, overrides: Sequence[str], profile: str) -> Checkpoint:
        """What it left behind, once it has ended well."""
        result = TrainResult.model_validate_json((self.directory / "result.json").read_bytes())
        return Checkpoint(
            run_id=result.run_id,
            directory=places.relative(self.directory),
            sha256=sha256_of(self.directory / result.best_checkpoint),
            result=result,
            training_set=self.training_set,
            dagster_run_id=dagster_run_id,
            code=self.code.ran_in(self.image, result.revision),
            overrides=tuple(overrides),
            profile=profile,
            warm_started_from=warm_started_from(self.directory, self.settings.project),
        )


def training_run(
    settings: TrainConfig,
    training_set: TrainingSet,
    run_id: str,
    directory: Path,
    places: Places,
    *,
    image: str | None = None,
    weights: Sequence[str] = (),
    tune: str | None = None,
    cv: str | None = None,
) -> TrainingRun:
    """A training of ``settings`` in ``directory``; ``weights`` are the arguments that say what it begins with.

    ``tune`` and ``cv`` are those that it belongs to, its group and job type in experiment tracking.
    """
    # The recipe as it is now, the environment's overrides included: it is frozen for all attempts of the run.
    write_text(directory / "recipe.yaml", dump_yaml(settings.model_dump(mode="json")))
    arguments = (
        *("train", str(directory / "recipe.yaml"), "--data", str(places.absolute(training_set.directory))),
        *("--run-dir", str(directory), "--run-id", run_id, "--name", directory.name.removesuffix(f"-{run_id}")),
        *(() if tune is None else ("--group", tune)),
        *(() if cv is None else ("--job-type", cv)),
        *gate_inputs(settings, training_set, places, directory),
        *weights,
        *(("--copy-to", f"{places.checkpoint_store}/{directory.name}") if places.checkpoint_store else ()),
    )
    spec = LaunchSpec(arguments, directory, new_attempt(), launch=settings.launch, project=settings.project)
    code = source.code_version(REPOSITORY)
    write_provenance(directory, training_set, code, image, places.absolute(training_set.dataset.directory))
    return TrainingRun(settings, training_set, run_id, directory, spec, code, image)


def training_version(recipe: TrainConfig) -> str:
    """Of the recipe and of the code that trains it: where it differs, a training would be another."""
    return f"{recipe.digest[:12]}-{code_version(*TRAINING_SOURCES)}"


def refuse_ranks_that_do_not_divide(recipe: TrainConfig) -> None:
    """Before anything is launched, where the recipe itself says how many ranks there will be.

    Raises:
        ContractError: the batch does not go round.
    """
    if recipe.launch.processes is not None:
        refuse_uneven_batch(recipe, recipe.launch.processes * recipe.launch.num_nodes)


def gate_inputs(recipe: TrainConfig, training_set: TrainingSet, places: Places, directory: Path) -> tuple[str, ...]:
    """What the gates inside the run compare it with, as the trainer's arguments; what is not there is left out.

    The profile is that of the dataset version which the training set was made from. It is no input of the asset: a
    new delivery has a new profile, and would make every older window's checkpoint out of date.
    """
    arguments: list[str] = []
    profile = places.absolute(training_set.dataset.directory) / PROFILE_FILE
    if profile.is_file():
        arguments += ["--profile", str(profile)]
    if recipe.guards.early_stopping.median_rule:
        records = sorted((places.records / recipe.name / "checkpoint").glob("*.json"))
        runs = [json.loads(path.read_bytes())["result"] for path in records]
        history = [PastRun.model_validate(run).model_dump() for run in runs]
        write_json(directory / "history.json", history)
        arguments += ["--history", str(directory / "history.json")]
    return tuple(arguments)
