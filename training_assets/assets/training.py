"""From staged shards to a checkpoint: what a recipe trains on, and the training run itself.

How good the checkpoint is, is asked in ``evaluation.py``.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.errors import ContractError
from trainer.contract.files import digest_of, sha256_of, write_json, write_text
from trainer.contract.fitting import refuse_uneven_batch
from trainer.contract.history import PastRun
from trainer.contract.reference_profile import PROFILE_FILE
from trainer.contract.results import TrainResult
from trainer.contract.shard_index import DATA_FILE, DataSpec, read_index
from trainer.contract.slices import read_slices
from trainer.contract.train_config import TrainConfig
from trainer.contract.yaml_io import dump_yaml
from training_assets import metadata, partitions, run_gates, telemetry
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import new_attempt, run_with_pipes
from training_assets.places import Places
from training_assets.policies import GPU_POOL
from training_assets.profiles import REPOSITORY
from training_assets.records import Checkpoint, DatasetVersion, EvalShards, ShardList, TrainingSet
from training_assets.stores import source
from training_assets.stores.entries import CHECKPOINT
from training_assets.stores.events import Outbox, Subject, run_gate_events
from training_assets.stores.registry import Registry
from training_assets.versions import CONTRACT, code_version

HERE = "training_assets/assets/training.py"
TRAINING_SOURCES = (
    CONTRACT,
    "trainer/data",
    "trainer/engine",
    "trainer/evaluation/evaluate.py",  # chooses the best checkpoint, as the metrics do
    "trainer/metrics",
    "trainer/models",
    "trainer/tasks",
)
BASE36 = "abcdefghijklmnopqrstuvwxyz0123456789"


def training_chain(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition]:
    return [_training_set(recipe, windows), _checkpoint(recipe, windows)]


def _training_set(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=[recipe.name, "training_set"],
        partitions_def=windows,
        ins={
            "staged": dg.AssetIn("staged_shards", partition_mapping=partitions.rolling(recipe.window.count)),
            "mined": dg.AssetIn("mined_slice", partition_mapping=dg.AllPartitionMapping()),
        },
        code_version=f"{digest_of(recipe.window.model_dump(mode='json'))[:12]}-{code_version(HERE)}",
        description=f"The shards of the last {recipe.window.count} windows and of mined slices, and their digest.",
    )
    def training_set(
        context: dg.AssetExecutionContext,
        staged: dict[str, ShardList],
        mined: dict[str, ShardList],
        eval_shards: EvalShards,
        dataset_version: DatasetVersion,
        places: dg.ResourceParam[Places],
    ) -> dg.MaterializeResult[TrainingSet]:
        window = context.partition_key
        asked = partitions.rolling_names(windows, window, recipe.window.count)
        found = {name: staged[name] for name in asked if name in staged and staged[name].samples}
        end = windows.time_window_for_partition_key(window).end
        slices = usable_slices(mined, found.values(), eval_shards, places, end)
        train = [*found.values(), *slices.values()]
        refuse_misfit(recipe, train, eval_shards, places.absolute(dataset_version.directory), asked, list(found))
        spec = DataSpec(splits={"train": _paths(train), "val": _paths([eval_shards.val])})
        directory = places.training_set(recipe.name, window, spec.digest)
        record = TrainingSet(
            recipe=recipe.name,
            window=window,
            directory=places.relative(directory),
            digest=spec.digest,
            windows_found=tuple(found),
            windows_missing=tuple(name for name in asked if name not in found),
            slices=tuple(slices),
            samples=sum(part.samples for part in train),
            dataset=dataset_version,
        )
        write_data_directory(spec, places, directory, dataset_version)
        context.log.info(
            f"{record.samples} samples from {len(found)} of {len(asked)} windows"
            + (f"; without rows: {', '.join(record.windows_missing)}" if record.windows_missing else "")
        )
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(spec.digest),
            metadata={
                "samples": record.samples,
                "windows_asked": len(asked),
                "windows_found": len(found),
                "windows_missing": ", ".join(record.windows_missing) or "none",
                "mined_slices": ", ".join(slices) or "none",
                "windows": metadata.table(
                    ("window", "samples"), [(name, found[name].samples if name in found else None) for name in asked]
                ),
                "directory": dg.MetadataValue.path(str(directory)),
            },
        )

    return training_set


def _checkpoint(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    key = dg.AssetKey([recipe.name, "checkpoint"])

    @dg.asset(
        key=key,
        partitions_def=windows,
        ins={"training_set": dg.AssetIn([recipe.name, "training_set"])},
        code_version=f"{recipe.digest[:12]}-{code_version(*TRAINING_SOURCES)}",
        check_specs=run_gates.check_specs(key, windows),
        pool=GPU_POOL,
        description=f"The training run ({_devices_of(recipe)}): the checkpoint that is best on val.",
    )
    def checkpoint(
        context: dg.AssetExecutionContext,
        training_set: TrainingSet,
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
        registry: dg.ResourceParam[Registry],
        outbox: dg.ResourceParam[Outbox],
    ) -> Iterator[dg.MaterializeResult[Checkpoint] | dg.AssetCheckResult]:
        _refuse_uneven_batch(recipe)
        run_id = run_id_of(context.run, recipe, training_set)
        subject = Subject.of(recipe, training_set.window, run_id)
        directory = places.run(f"{recipe.name}-{training_set.window}", run_id)
        # The recipe as it is now, the environment's overrides included: it is frozen for all attempts of the run.
        write_text(directory / "recipe.yaml", dump_yaml(recipe.model_dump(mode="json")))
        arguments = ("train", str(directory / "recipe.yaml"), "--data", str(places.absolute(training_set.directory)))
        inputs = (
            *gate_inputs(recipe, training_set, places, directory),
            *warm_start(context, recipe, registry, directory),
            *(("--copy-to", f"{places.checkpoint_store}/{directory.name}") if places.checkpoint_store else ()),
        )
        spec = LaunchSpec(
            (*arguments, "--run-dir", str(directory), "--run-id", run_id, *inputs),
            directory,
            new_attempt(),
            launch=recipe.launch,
        )
        code = source.code_version(REPOSITORY)
        try:
            run_with_pipes(context, launcher, spec)
        except dg.Failure as failure:
            if verdict := run_gates.verdict_that_ended(spec.attempt_dir):
                outbox.emit(run_gate_events([verdict], subject), context.log.warning)
                yield run_gates.check_result(key, verdict)
            raise failure
        result = TrainResult.model_validate_json((directory / "result.json").read_bytes())
        record = Checkpoint(
            run_id=result.run_id,
            directory=places.relative(directory),
            sha256=sha256_of(directory / result.best_checkpoint),
            result=result,
            training_set=training_set,
            dagster_run_id=context.run.run_id,
            code=code,
        )
        subject = replace(subject, checkpoint_sha256=record.sha256)
        outbox.emit(run_gate_events(result.gates, subject), context.log.warning)
        yield dg.MaterializeResult(
            value=record, data_version=dg.DataVersion(record.sha256), metadata=_metadata(record, directory)
        )
        yield from run_gates.check_results(key, result.gates)

    return checkpoint


def _refuse_uneven_batch(recipe: TrainConfig) -> None:
    """Before anything is launched, where the recipe itself says how many ranks there will be."""
    if recipe.launch.processes is not None:
        try:
            refuse_uneven_batch(recipe, recipe.launch.processes * recipe.launch.num_nodes)
        except ContractError as error:
            raise dg.Failure(str(error), allow_retries=False) from None


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


def warm_start(
    context: dg.AssetExecutionContext, recipe: TrainConfig, registry: Registry, directory: Path
) -> tuple[str, ...]:
    """The weights to begin with, as the trainer's arguments; written down once, so that every try has the same."""
    asked, chosen = recipe.model.warm_start, directory / "warm_start.json"
    if asked is None:
        return ()
    if not chosen.exists():
        is_file = Path(asked).is_file()
        entry = None if is_file else registry.resolve(recipe.project, asked)
        path = asked if is_file else str(registry.directory(entry) / CHECKPOINT) if entry else None
        write_json(chosen, {"asked": asked, "version": entry.version if entry else None, "path": path})
    path = json.loads(chosen.read_bytes())["path"]
    if path is None:
        context.log.warning(f"{recipe.project} has no version '{asked}' yet: the training begins without a warm start")
        return ("--no-warm-start",)
    return ("--warm-start", str(path))


def _devices_of(recipe: TrainConfig) -> str:
    launch = recipe.launch
    nodes = f" on each of {launch.num_nodes} nodes" if launch.num_nodes > 1 else ""
    return f"{launch.strategy}, devices {launch.devices}{nodes}"


def run_id_of(run: dg.DagsterRun, recipe: TrainConfig, training_set: TrainingSet) -> str:
    """The training's id: the same for every try of one Dagster run, so that a retried step resumes.

    Derived rather than drawn: there is nothing to keep that a killed process could fail to write.
    """
    root = run.root_run_id or run.run_id
    identity = digest_of([root, recipe.digest, training_set.window, training_set.digest])
    number = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big")
    return "".join(BASE36[number // 36**place % 36] for place in range(8))


def write_data_directory(spec: DataSpec, places: Places, directory: Path, dataset: DatasetVersion) -> None:
    """A directory that the trainer takes as ``--data``: ``data.json`` and the pinned ``slices.yaml``.

    ``spec`` names indexes by their path in the shard directory; in the file they are relative to it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(places.absolute(dataset.directory) / "slices.yaml", directory / "slices.yaml")
    to_shards = Path(os.path.relpath(places.shards, directory))
    splits = {split: tuple((to_shards / name).as_posix() for name in names) for split, names in spec.splits.items()}
    write_text(directory / DATA_FILE, spec.model_copy(update={"splits": splits}).model_dump_json(indent=2) + "\n")


def refuse_misfit(
    recipe: TrainConfig,
    train: list[ShardList],
    eval_shards: EvalShards,
    dataset: Path,
    asked: list[str],
    found: list[str],
) -> None:
    """
    Raises:
        dg.Failure: the recipe cannot learn from this data, or there is too little of it.
    """
    samples = sum(part.samples for part in train)
    if samples < recipe.window.min_samples:
        raise dg.Failure(
            f"{recipe.name}: found {samples} samples in {len(found)} of the {len(asked)} windows to {asked[-1]},"
            f" expected at least {recipe.window.min_samples} (window.min_samples). Materialise staged_shards for the"
            " windows that have rows, choose a later window, or lower window.min_samples in the recipe.",
            allow_retries=False,
        )
    labels: Counter[str] = Counter()
    for part in [*train, eval_shards.val]:
        labels.update(part.label_counts)
    if reasons := recipe.misfits(read_slices(dataset / "slices.yaml"), labels):
        raise dg.Failure(f"{recipe.name} does not fit this data: {'; '.join(reasons)}", allow_retries=False)


def usable_slices(
    mined: Mapping[str, ShardList],
    train: Iterable[ShardList],
    eval_shards: EvalShards,
    places: Places,
    end: datetime,
) -> dict[str, ShardList]:
    """The mined slices that may be trained on: captured before the window's end, nothing of it in val, test or train.

    An older window so keeps its training set when a slice is mined later.
    """
    taken = {sample for part in [*train, eval_shards.val, eval_shards.test] for sample, _ in _samples(part, places)}
    usable = {}
    for name, part in sorted(mined.items()):
        samples = _samples(part, places)
        if samples and all(moment < end for _, moment in samples) and not taken & {sample for sample, _ in samples}:
            usable[name] = part
            taken |= {sample for sample, _ in samples}
    return usable


def _samples(part: ShardList, places: Places) -> list[tuple[str, datetime]]:
    indexes = (read_index(places.shards / f"{shard.key}.json") for shard in part.shards)
    return [(sample.row.sample_id, sample.row.captured_at) for index in indexes for sample in index.samples]


def _paths(parts: Iterable[ShardList]) -> tuple[str, ...]:
    return tuple(f"{shard.key}.json" for part in parts for shard in part.shards)


def _metadata(record: Checkpoint, directory: Path) -> dict[str, Any]:
    result = record.result
    best = next(
        (epoch for epoch in reversed(result.epochs) if epoch.global_step == result.best_step), result.epochs[-1]
    )
    overall = {name: value for name, value in best.metrics.items() if name.count("/") == 1}
    return {
        "run_id": result.run_id,
        **metadata.numbers(overall, "val/"),
        "samples_per_second": result.samples_per_second,
        "train_seconds": result.train_seconds,
        "global_step": result.global_step,
        "world_size": result.world_size,
        "parameters": result.parameters,
        "resumed_from_step": result.resumed_from_step if result.resumed_from_step is not None else "not resumed",
        "state_sha256": result.state_sha256,
        "curve": metadata.loss_curve(result.epochs, result.monitor),
        **telemetry.of_run(result.telemetry, directory),
        "epochs": metadata.table(
            ("epoch", "loss", result.monitor, "seconds"),
            [(e.epoch, e.losses["total"], e.metrics.get(result.monitor), e.seconds) for e in result.epochs],
        ),
        "best_checkpoint": dg.MetadataValue.path(str(directory / result.best_checkpoint)),
        "run_directory": dg.MetadataValue.path(str(directory)),
    }
