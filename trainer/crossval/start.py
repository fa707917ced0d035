"""A cross-validation begins: its place, its folds as data directories, its plan. Everything later only reads them."""

import argparse
import contextlib
import fcntl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.cross_validation import (
    FOLDS_FILE,
    PLAN_FILE,
    CrossValidationPlan,
    plan_of,
    read_plan,
    write_plan,
)
from trainer.contract.cross_validation_settings import CrossValidation
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import write_json, write_text
from trainer.contract.folds import Folds, folds_of
from trainer.contract.manifest import LABEL_FIELDS, Row
from trainer.contract.shard_index import DATA_FILE, DataSpec, Selection, read_data_spec, read_index
from trainer.contract.train_config import LABEL_OF_TASK, TrainConfig
from trainer.contract.yaml_io import dump_yaml
from trainer.data.staging import data_directory

Say = Callable[[str], None]


def started(arguments: argparse.Namespace, config: TrainConfig, directory: Path, say: Say) -> CrossValidationPlan:
    """The plan in ``directory``, made now if there is none; the recipe as it is used lies beside it.

    Raises:
        ContractError: the data cannot be cut so, or what is in ``directory`` was planned otherwise.
    """
    with _planning(directory):
        data = data_directory(arguments.data, directory, say)
        spec = _whole(read_data_spec(data), data)
        if not (directory / PLAN_FILE).exists():
            folds = _cut(config, directory, spec)
            # Last: what is planned has its folds.
            write_plan(directory, plan_of(directory.name, arguments.tune, config, spec.digest, folds.digest))
        plan = _kept(directory, config, spec)
        # Where and how it is trained may change from one start to the next.
        write_text(directory / "train.yaml", dump_yaml(config.model_dump(mode="json")))
    return plan


@contextlib.contextmanager
def _planning(directory: Path) -> Iterator[None]:
    """Processes that are to train some runs each may be started at once, and must have one plan."""
    with open(directory / ".planning", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fold_directory(directory: Path, fold: int) -> Path:
    """The data directory of ``fold``."""
    return directory / "folds" / f"f{fold}"


def _kept(directory: Path, config: TrainConfig, spec: DataSpec) -> CrossValidationPlan:
    plan = read_plan(directory)
    asked = {
        "config_digest": config.digest,
        "data_digest": spec.digest,
        "settings": _lasting(config.cross_validation),
        "metrics": config.scoring,
    }
    kept = {**{name: getattr(plan, name) for name in asked}, "settings": _lasting(plan.settings)}
    problems = [
        Problem(str(directory / PLAN_FILE), str(kept[name]), f"{asked[name]}, as of this command", field=name)
        for name in asked
        if kept[name] != asked[name]
    ]
    if problems:
        advice = "A cross-validation goes on with the recipe and data it began with: give another one another name."
        raise ContractError(f"{plan.name} is another cross-validation", problems, advice)
    return plan


def _lasting(settings: CrossValidation) -> CrossValidation:
    """``settings`` without what may be another one at each start."""
    return settings.model_copy(update={"parallel": "serial"})


@dataclass(frozen=True)
class _Pooled:
    """The samples that are cut, of which the first ``train`` are the train split's.

    ``numbers`` has the place of each within the shards ``paths``.
    """

    rows: list[Row]
    numbers: list[int]
    paths: tuple[str, ...]
    train: int

    def selection(self, chosen: Sequence[int]) -> Selection:
        labels = {kind: sum(self.rows[number].has_label(kind) for number in chosen) for kind in LABEL_FIELDS}
        return Selection(samples=tuple(self.numbers[number] for number in chosen), labels=labels)


def _cut(config: TrainConfig, directory: Path, spec: DataSpec) -> Folds:
    """Cut the pooled samples, and write ``folds.json`` and a data directory for each fold; ``spec`` has whole paths."""
    settings = config.cross_validation
    # Without folds, val is what the data says it is.
    pool = ("train", "val") if settings.method == "none" else settings.pool
    pooled = _pooled(spec, pool)
    kinds = sorted({LABEL_OF_TASK[task] for task in config.tasks if task in LABEL_OF_TASK})
    folds = folds_of(pooled.rows, pooled.train, kinds, settings)
    facts = {"digest": folds.digest, "data_digest": spec.digest, "pool": pool}
    write_json(directory / FOLDS_FILE, {**facts, "size": folds.size, "test": folds.test, "val": folds.val})
    for fold in range(len(folds.val)):
        write_text(fold_directory(directory, fold) / DATA_FILE, _of_fold(spec, pooled, folds, fold).text)
    return folds


def _pooled(spec: DataSpec, pool: Sequence[str]) -> _Pooled:
    rows, numbers, train, begin = list[Row](), list[int](), 0, 0
    for split in pool:
        there = [sample.row for path in spec.splits.get(split, ()) for sample in read_index(Path(path)).samples]
        selected = spec.selected(split)
        chosen = range(len(there)) if selected is None else selected.samples
        rows += [there[number] for number in chosen]
        numbers += [begin + number for number in chosen]
        begin += len(there)
        train = train or len(rows)
    return _Pooled(rows, numbers, tuple(path for split in pool for path in spec.splits.get(split, ())), train)


def _of_fold(spec: DataSpec, pooled: _Pooled, folds: Folds, fold: int) -> DataSpec:
    """``spec`` as ``fold`` has it: which samples of the pooled shards are trained on, validated on, held out."""
    parts = {"train": folds.train(fold), "val": folds.val[fold]}
    if not folds.test and parts["train"] == tuple(range(pooled.train)) and folds.size > pooled.train:
        return spec  # its own train and val
    parts |= {"test": folds.test} if folds.test else {}
    return spec.model_copy(
        update={
            "splits": {**spec.splits, **dict.fromkeys(parts, pooled.paths)},
            "selection": {split: pooled.selection(chosen) for split, chosen in parts.items()},
        }
    )


def _whole(spec: DataSpec, data: Path) -> DataSpec:
    """``spec`` with paths that hold wherever its file lies."""
    splits = {split: tuple(str((data / path).resolve()) for path in paths) for split, paths in spec.splits.items()}
    return spec.model_copy(update={"splits": splits, "slices": str((data / spec.slices).resolve())})
