"""One training in one run directory: from a recipe and data to ``result.json``."""

import contextlib
import fcntl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of, write_text
from trainer.contract.manifest import LABEL_FIELDS
from trainer.contract.names import RUN_ID, new_run_id
from trainer.contract.results import TrainResult
from trainer.contract.train_config import TrainConfig
from trainer.contract.yaml_io import dump_yaml, read_yaml
from trainer.data.loader import DataSet, open_data
from trainer.data.staging import data_directory
from trainer.engine.callbacks.checkpoints import SaveCheckpoints
from trainer.engine.callbacks.copying import CopyCheckpoints
from trainer.engine.callbacks.finite import FiniteGuard
from trainer.engine.callbacks.progress import Progress
from trainer.engine.callbacks.stopping import Stopping
from trainer.engine.checkpointer import complete_checkpoints
from trainer.engine.copier import CopyPlan, fetch_newest, store_at
from trainer.engine.loop import Callback, Trainer
from trainer.engine.parallel import Ranks, join
from trainer.reporting import Reporter, reporter

LOOK_EVERY = 10
IDENTITY_FILE = "run.yaml"
RESULT_FILE = "result.json"
LOCK_FILE = ".lock"


def train(
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    run_id: str | None = None,
    warm_start: Path | None = None,
    copy_to: str | None = None,
) -> TrainResult:
    """Train ``config`` on ``data_dir`` (a data directory or a delivery) in ``run_dir``, all ranks together.

    Started again on the same ``run_dir`` it goes on from the last checkpoint. ``warm_start``: a ``best.pt`` whose
    weights the training begins with. ``copy_to``: where finished checkpoints are copied to, and the newest is fetched
    from when ``run_dir`` has none (the host is a new one).

    Raises:
        ContractError: the recipe does not fit the data, the ranks or what the run directory already holds.
    """
    with join(config.launch) as ranks, reporter(ranks.leads) as report, _taken(run_dir, ranks):
        _check_ranks(config, ranks)
        data = _open(config, data_dir, run_dir, ranks, report)
        warm_start = _warm_start(config, warm_start)
        run_id = _identify(config, data, run_dir, run_id, warm_start, ranks)
        callbacks = callbacks_of(config, run_dir, copy_to, ranks, report)
        result = Trainer(config, data, run_dir, run_id, ranks, callbacks, warm_start).fit()
        if ranks.leads:
            write_text(run_dir / RESULT_FILE, result.model_dump_json(indent=2) + "\n")
            report.info(f"trained {config.name} (run {run_id}): {_summary(result)}")
    return result


def callbacks_of(
    config: TrainConfig, run_dir: Path, copy_to: str | None, ranks: Ranks, report: Reporter
) -> list[Callback]:
    """Every policy of a run, in the order in which the loop calls them."""
    callbacks: list[Callback] = [
        FiniteGuard(every=LOOK_EVERY),
        Progress(report),
        SaveCheckpoints(config.training.checkpoint_every),
        Stopping(config.launch.max_run_seconds),
    ]
    if copy_to is not None:
        callbacks.append(_copying(config, run_dir, copy_to, ranks, report))
    return callbacks


def _copying(config: TrainConfig, run_dir: Path, uri: str, ranks: Ranks, report: Reporter) -> CopyCheckpoints:
    root, store = run_dir / "checkpoints", store_at(uri)
    if ranks.leads and not complete_checkpoints(root) and (name := fetch_newest(store, root)):
        report.info(f"fetched checkpoint {name} from {uri}")
    ranks.barrier()
    training = config.training
    return CopyCheckpoints(run_dir, uri, CopyPlan(training.copy_every, training.keep_last, training.keep_every))


@contextlib.contextmanager
def _taken(run_dir: Path, ranks: Ranks) -> Iterator[None]:
    """The run directory for this training alone. The kernel gives back what a killed process held."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / LOCK_FILE, "w") as lock:
        free = True
        if ranks.leads:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                free = False
        if ranks.any(not free):
            problem = Problem(str(run_dir), "another training at work in it", "a run directory of its own")
            raise ContractError("the run directory is taken", [problem], "Wait for it, or stop it first.")
        yield


def _summary(result: TrainResult) -> str:
    best = "not defined" if result.best_metric is None else f"{result.best_metric:.4f} at step {result.best_step}"
    return f"best {result.monitor} {best}; {result.samples_per_second:.1f} samples/s, {result.train_seconds:.0f} s"


def _check_ranks(config: TrainConfig, ranks: Ranks) -> None:
    problems = []
    share, size = ranks.world_size * config.optim.accumulate, config.data.batch_size
    if size % share:
        fitting = " or ".join(str(fit) for fit in (size // share * share, (size // share + 1) * share) if fit)
        found = f"data.batch_size {size} on {ranks.world_size} ranks, optim.accumulate {config.optim.accumulate}"
        expected = f"a multiple of {ranks.world_size} × {config.optim.accumulate}: {fitting}"
        problems.append(Problem("recipe", found, expected, field="data.batch_size"))
    if config.training.precision == "fp16" and config.launch.strategy == "fsdp":
        problems.append(Problem("recipe", "fp16 with fsdp", "bf16, which needs no scaling", field="training.precision"))
    if config.model.sync_batchnorm and ranks.device.type == "cpu" and ranks.world_size > 1:
        found = "true on the CPU, which torch's SyncBatchNorm does not know"
        problems.append(Problem("recipe", found, "false, or CUDA devices", field="model.sync_batchnorm"))
    if problems:
        raise ContractError(f"recipe {config.name} cannot run on {ranks.world_size} ranks", problems)


def _warm_start(config: TrainConfig, given: Path | None) -> Path | None:
    path = given or (Path(config.model.warm_start) if config.model.warm_start else None)
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
        raise ContractError(outcome, [])
    data = open_data(outcome, ("train", "val"))
    _check_fit(config, data)
    return data


def _check_fit(config: TrainConfig, data: DataSet) -> None:
    counts: Counter[str] = Counter()
    for reader in data.readers.values():
        for index in range(len(reader)):
            counts.update(kind for kind in LABEL_FIELDS if reader.row(index).has_label(kind))
    problems = [
        Problem("data", reason, "a recipe that fits its data") for reason in config.misfits(data.slices, counts)
    ]
    problems += [
        Problem("data", "no samples", "at least one sample", field=split)
        for split, reader in data.readers.items()
        if not len(reader)
    ]
    if problems:
        raise ContractError(f"recipe {config.name} does not fit the data", problems)


def _identify(
    config: TrainConfig, data: DataSet, run_dir: Path, given: str | None, warm_start: Path | None, ranks: Ranks
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
        write_text(path, dump_yaml(identity))
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
