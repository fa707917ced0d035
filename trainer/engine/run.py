"""One training in one run directory: from a recipe and data to ``result.json``."""

import contextlib
import fcntl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import write_text
from trainer.contract.names import RUN_ID, new_run_id
from trainer.contract.results import TrainResult
from trainer.contract.train_config import TrainConfig
from trainer.contract.yaml_io import dump_yaml, read_yaml
from trainer.data.loader import DataSet, open_data
from trainer.data.staging import data_directory
from trainer.engine.callbacks.checkpoints import SaveCheckpoints, StopOnSignal
from trainer.engine.callbacks.finite import FiniteGuard
from trainer.engine.callbacks.progress import Progress
from trainer.engine.loop import Trainer
from trainer.engine.parallel import Ranks, join
from trainer.reporting import Reporter, reporter

LOOK_EVERY = 10
IDENTITY_FILE = "run.yaml"
RESULT_FILE = "result.json"
LOCK_FILE = ".lock"


def train(config: TrainConfig, data_dir: Path, run_dir: Path, run_id: str | None = None) -> TrainResult:
    """Train ``config`` on ``data_dir`` (a data directory or a delivery) in ``run_dir``, all ranks together.

    Started again on the same ``run_dir`` it goes on from the last checkpoint.

    Raises:
        ContractError: the recipe does not fit the data, the ranks or what the run directory already holds.
    """
    with join(config.launch.threads) as ranks, reporter(ranks.leads) as report, _taken(run_dir, ranks):
        _check_ranks(config, ranks)
        data = _open(config, data_dir, run_dir, ranks, report)
        run_id = _identify(config, data, run_dir, run_id, ranks)
        callbacks = [
            FiniteGuard(every=LOOK_EVERY),
            Progress(report),
            SaveCheckpoints(config.training.checkpoint_every),
            StopOnSignal(),
        ]
        result = Trainer(config, data, run_dir, run_id, ranks, callbacks).fit()
        if ranks.leads:
            write_text(run_dir / RESULT_FILE, result.model_dump_json(indent=2) + "\n")
            report.info(f"trained {config.name} (run {run_id}): {_summary(result)}")
    return result


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
    if config.data.batch_size % ranks.world_size:
        found = f"data.batch_size {config.data.batch_size} on {ranks.world_size} ranks"
        problem = Problem("recipe", found, "a batch size that the number of ranks divides", field="data.batch_size")
        raise ContractError(f"recipe {config.name} cannot run on {ranks.world_size} ranks", [problem])


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
        counts.update(reader.label_counts)
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


def _identify(config: TrainConfig, data: DataSet, run_dir: Path, given: str | None, ranks: Ranks) -> str:
    """The run's id, kept in the run directory with what the run is made of, which must not change on the way."""
    if given is not None and not RUN_ID.match(given):
        raise ContractError("run id", [Problem("--run-id", given, "eight characters of a-z and 0-9")])
    path = run_dir / IDENTITY_FILE
    identity = {"run_id": given or new_run_id(), "config_digest": config.digest, "data_digest": data.spec.digest}
    if ranks.leads and not path.exists():
        write_text(run_dir / "train.yaml", dump_yaml(config.model_dump(mode="json")))
        write_text(path, dump_yaml(identity))
    ranks.barrier()
    kept: dict[str, str] = read_yaml(path)
    problems = [
        Problem(str(path), f"{name} {kept[name]}", f"{identity[name]}, as of this command", field=name)
        for name in ("config_digest", "data_digest", *(["run_id"] if given else []))
        if kept[name] != identity[name]
    ]
    if problems:
        advice = "A run goes on with the recipe and data it began with: use another --run-dir for another training."
        raise ContractError("the run directory holds another run", problems, advice)
    return kept["run_id"]
