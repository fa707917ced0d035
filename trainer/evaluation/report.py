"""``evaluate``: a checkpoint on splits of a data directory becomes ``eval_report.json`` and pictures."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from trainer.contract.errors import ContractError, Problem
from trainer.contract.eval_report import EvalReport, SplitScore
from trainer.contract.files import write_text
from trainer.contract.train_config import TrainConfig
from trainer.data.loader import DataSet, open_data, single_threaded
from trainer.data.staging import data_directory
from trainer.evaluation.evaluate import evaluate, score_split
from trainer.evaluation.model import load_checkpoint
from trainer.evaluation.plots import write_confusion, write_samples
from trainer.tasks import Task

REPORT_FILE = "eval_report.json"


def write_report(
    checkpoint_path: Path, data_dir: Path, out: Path, splits: Sequence[str], say: Callable[[str], None]
) -> EvalReport:
    """Evaluate ``checkpoint_path`` on ``splits`` and write the report and its pictures into ``out``.

    Raises:
        ContractError: no such checkpoint, data or split, or its labels mean another thing than the checkpoint's.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        single_threaded()
    checkpoint = load_checkpoint(checkpoint_path, device)
    data = open_data(data_directory(data_dir, out, say), splits)
    _check_fit(checkpoint.config, data)
    out.mkdir(parents=True, exist_ok=True)
    scores = {}
    for split in splits:
        reader = data.readers[split]
        say(f"evaluating {checkpoint.config.name} on {split}: {len(reader)} samples")
        indices = range(len(reader))
        evaluated = evaluate(checkpoint.model, checkpoint.tasks, reader, checkpoint.config.data, indices, device)
        scores[split] = score_split(evaluated, checkpoint.tasks, data.slices)
        say(f"{split}: {headlines(scores[split], checkpoint.tasks)}")
        write_samples(out / f"samples_{split}.jpg", checkpoint, reader, evaluated, device)
        for task in checkpoint.tasks:
            write_confusion(out / f"confusion_{task.name}_{split}.png", task, evaluated)
    report = EvalReport(
        run_id=checkpoint.run_id,
        recipe=checkpoint.config.name,
        checkpoint_sha256=checkpoint.sha256,
        data_digest=data.spec.digest,
        splits=scores,
    )
    write_text(out / REPORT_FILE, report.model_dump_json(indent=2) + "\n")
    return report


def _check_fit(config: TrainConfig, data: DataSet) -> None:
    """Labels that are merely absent leave their metrics undefined; other classes would make every figure wrong."""
    rows = [reader.row(index) for reader in data.readers.values() for index in range(len(reader))]
    boxes = Counter(f"boxes.{box.category}" for row in rows for box in row.boxes or ())
    problems = [
        Problem("data", reason, "data with the classes of the checkpoint's recipe")
        for reason in config.class_misfits(data.slices, boxes)
    ]
    problems += [
        Problem("data", "no samples", "at least one sample", field=split)
        for split, reader in data.readers.items()
        if not len(reader)
    ]
    if problems:
        raise ContractError(f"a checkpoint of {config.name} cannot be judged on this data", problems)


def headlines(scores: SplitScore, tasks: Sequence[Task]) -> str:
    values = {f"{task.name}/{name}": scores.metrics[f"{task.name}/{name}"] for task in tasks for name in task.headlines}
    return ", ".join(f"{name} {'undefined' if value is None else f'{value:.4f}'}" for name, value in values.items())
