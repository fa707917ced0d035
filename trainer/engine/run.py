"""One training in one run directory: from a recipe and data to ``result.json``."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of, write_text
from trainer.contract.fitting import refuse_uneven_batch
from trainer.contract.names import IDENTITY_FILE, RUN_ID, new_run_id
from trainer.contract.results import RESULT_FILE, TrainResult
from trainer.contract.tracking import effective_mode
from trainer.contract.train_config import TrainConfig
from trainer.contract.yaml_io import dump_yaml, read_yaml
from trainer.data.loader import DataSet, open_data
from trainer.data.staging import data_directory
from trainer.engine.callbacks.checkpoints import SaveCheckpoints
from trainer.engine.callbacks.copying import CopyCheckpoints
from trainer.engine.callbacks.epochs import Epochs
from trainer.engine.callbacks.gates import GateInputs, gates
from trainer.engine.callbacks.progress import Progress
from trainer.engine.callbacks.stopping import Stop, Stopping
from trainer.engine.callbacks.telemetry import Telemetry
from trainer.engine.callbacks.tracking import Tracking
from trainer.engine.checkpoint_files import complete_checkpoints, damaged_files
from trainer.engine.copier import CopyPlan, fetch_newest, store_at
from trainer.engine.heartbeat import Heartbeat
from trainer.engine.lock import taken
from trainer.engine.loop import Callback, Trainer
from trainer.engine.parallel import Ranks, join
from trainer.evaluation.evaluate import score
from trainer.reporting import Reporter, reporter
from trainer.tasks import build_tasks


def train(
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    run_id: str | None = None,
    *,
    warm_start: Path | str | None = None,
    copy_to: str | None = None,
    inputs: GateInputs | None = None,
    tracked: Mapping[str, str] | None = None,
) -> TrainResult:
    """Train ``config`` on ``data_dir`` (a data directory or a delivery) in ``run_dir``, all ranks together.

    Started again on the same ``run_dir`` it goes on from the last checkpoint. ``warm_start``: a ``best.pt`` whose
    weights the training begins with. ``copy_to``: where finished checkpoints are copied to, and the newest is fetched
    from when ``run_dir`` has none (the host is a new one). ``tracked``: the run's ``name``, ``group`` and
    ``job_type`` in experiment tracking, kept with its id.

    Raises:
        ContractError: the recipe does not fit the data, the ranks or what the run directory already holds.
        GateFailed: a gate inside the run ended it.
    """
    with join(config.launch) as ranks, reporter(ranks.leads) as report, taken(run_dir, ranks):
        _check_ranks(config, ranks)
        data = _open(config, data_dir, run_dir, ranks, report)
        weights = _warm_start(warm_start)
        run_id = _identify(config, data, run_dir, run_id, weights, tracked or {}, ranks)
        callbacks = callbacks_of(config, run_dir, copy_to, inputs or GateInputs(), ranks, report)
        if (mode := effective_mode(config.tracking.mode)) != "disabled":
            # The last one: it tells of what the others found.
            callbacks.append(Tracking(config.tracking, mode, run_dir, data_dir, report))
        result = _trained(Trainer(config, data, run_dir, run_id, ranks, callbacks, weights))
        if ranks.leads:
            write_text(run_dir / RESULT_FILE, result.model_dump_json(indent=2) + "\n")
            report.info(f"trained {config.name} (run {run_id}): {_summary(result)}")
    return result


def _trained(trainer: Trainer) -> TrainResult:
    try:
        result = trainer.fit()
    except Stop:
        # The first rank that leaves has the launcher stop the others, and the leader may have had a last copy to make.
        trainer.ranks.barrier()
        raise
    for callback in trainer.callbacks:
        result = callback.added_to(result)
    return result


def callbacks_of(
    config: TrainConfig, run_dir: Path, copy_to: str | None, inputs: GateInputs, ranks: Ranks, report: Reporter
) -> list[Callback]:
    """Every policy of a run, in the order in which the loop calls them."""
    callbacks: list[Callback] = [Heartbeat(run_dir, ranks.rank), Epochs(run_dir), *gates(config, inputs, report)]
    callbacks.append(Progress(report))
    if copy_to is not None:
        callbacks.append(_copying(config, run_dir, copy_to, ranks, report))
    # A second signal must not end the last copy; and whatever has a state or ends the run comes before what saves it.
    callbacks += [Stopping(config.launch.max_run_seconds), SaveCheckpoints(config.training.checkpoint_every)]
    return [*callbacks, Telemetry(config.telemetry, run_dir, report)] if config.telemetry.enabled else callbacks


def _copying(config: TrainConfig, run_dir: Path, uri: str, ranks: Ranks, report: Reporter) -> CopyCheckpoints:
    root, store = run_dir / "checkpoints", store_at(uri)
    usable = ranks.leads and any(not damaged_files(directory) for directory in reversed(complete_checkpoints(root)))
    if ranks.leads and not usable and (name := fetch_newest(store, root)):
        report.info(f"fetched checkpoint {name} from {uri}")
    ranks.barrier()
    training = config.training
    return CopyCheckpoints(run_dir, uri, CopyPlan(training.copy_every, training.keep_last, training.keep_every))


def _summary(result: TrainResult) -> str:
    best = "not defined" if result.best_metric is None else f"{result.best_metric:.4f} at step {result.best_step}"
    return f"best {result.monitor} {best}; {result.samples_per_second:.1f} samples/s, {result.train_seconds:.0f} s"


def _check_ranks(config: TrainConfig, ranks: Ranks) -> None:
    refuse_uneven_batch(config, ranks.world_size)
    if config.model.sync_batchnorm and ranks.device.type == "cpu" and ranks.world_size > 1:
        found = "true on the CPU, which torch's SyncBatchNorm does not know"
        problem = Problem("recipe", found, "false, or CUDA devices", field="model.sync_batchnorm")
        raise ContractError(f"recipe {config.name} cannot run on {ranks.device.type}", [problem])


def _warm_start(given: Path | str | None) -> Path | None:
    path = None if given is None else Path(given)
    if path is not None and not path.is_file():
        problem = Problem("recipe", str(path), "a checkpoint file (best.pt)", field="model.warm_start")
        advice = "An alias of the registry is looked up by the asset graph; here give --warm-start FILE."
        raise ContractError("there is nothing to begin with", [problem], advice)
    return path


def _open(config: TrainConfig, data_dir: Path, run_dir: Path, ranks: Ranks, report: Reporter) -> DataSet:
    # The leader alone stages; what it found, good or bad, reaches the others before they look.
    outcome: Path | str = ""
    if ranks.leads:
        try:
            outcome = data_directory(data_dir, run_dir, report.info)
        except ContractError as error:
            outcome = str(error)
            ranks.gather(outcome)
            raise
    outcome = ranks.gather(outcome)[0]
    if not isinstance(outcome, Path):
        raise ContractError(outcome)
    data = open_data(outcome, ("train", "val"))
    _check_fit(config, data)
    return data


def _check_fit(config: TrainConfig, data: DataSet) -> None:
    counts: Counter[str] = Counter()
    for reader in data.readers.values():
        counts.update(reader.label_counts)
    problems = [
        Problem("data", reason, "a recipe that fits its data") for reason in config.misfits(data.slices, counts)
    ]
    problems += [
        Problem("data", "no samples", "at least one sample", field=split)
        for split, reader in data.readers.items()
        if not len(reader)
    ]
    tasks = build_tasks(config.tasks)
    if config.training.monitor not in score([], tasks):
        headlines = [f"{task.name}/{name}" for task in tasks for name in task.headlines]
        expected = f"a metric of its tasks, like {', '.join(headlines)}"
        problems.append(Problem("recipe", config.training.monitor, expected, field="training.monitor"))
    if problems:
        raise ContractError(f"recipe {config.name} does not fit the data", problems)


def _identify(
    config: TrainConfig,
    data: DataSet,
    run_dir: Path,
    given: str | None,
    warm_start: Path | None,
    tracked: Mapping[str, str],
    ranks: Ranks,
) -> str:
    """The run's id, kept in the run directory with what the run is made of, which must not change on the way."""
    if given is not None and not RUN_ID.match(given):
        raise ContractError("run id", [Problem("--run-id", given, "eight characters of a-z and 0-9")])
    path = run_dir / IDENTITY_FILE
    identity = {"run_id": given or new_run_id(), "config_digest": config.digest, "data_digest": data.spec.digest}
    if warm_start is not None:
        identity["warm_start"] = sha256_of(warm_start)
    if ranks.leads and not path.exists():
        write_text(run_dir / "train.yaml", dump_yaml(config.model_dump(mode="json")))
        write_text(path, dump_yaml({**identity, **tracked}))
    ranks.barrier()
    kept: dict[str, str] = read_yaml(path)
    problems = [
        Problem(str(path), f"{name} {kept.get(name)}", f"{identity.get(name)}, as of this command", field=name)
        for name in ("config_digest", "data_digest", "warm_start", *(["run_id"] if given else []))
        if kept.get(name) != identity.get(name)
    ]
    if problems:
        advice = "A run goes on with the recipe and data it began with: use another --run-dir for another training."
        raise ContractError("the run directory holds another run", problems, advice)
    return kept["run_id"]
