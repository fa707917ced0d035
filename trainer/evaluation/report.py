"""``evaluate``: a checkpoint on splits of a data directory becomes ``eval_report.json``, charts and pictures."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from trainer.contract.charts import CHARTS_FILE, Charts
from trainer.contract.errors import ContractError, Problem
from trainer.contract.eval_report import Comparison, EvalReport, SplitScore
from trainer.contract.files import write_text
from trainer.contract.slices import Slices
from trainer.contract.train_config import TrainConfig
from trainer.data.loader import DataSet, open_data, single_threaded
from trainer.data.staging import data_directory
from trainer.evaluation.evaluate import Evaluated, evaluate
from trainer.evaluation.model import Checkpoint, load_checkpoint
from trainer.evaluation.plots import write_charts
from trainer.evaluation.slices import compare_split, lost, parts_of, score_split
from trainer.tasks import Task
from trainer.terminal.progress import counted

REPORT_FILE = "eval_report.json"


def write_report(
    checkpoint_path: Path,
    data_dir: Path,
    out: Path,
    splits: Sequence[str],
    say: Callable[[str], None],
    against: Path | None = None,
) -> EvalReport:
    """Evaluate ``checkpoint_path`` on ``splits`` and write ``charts.json``, its pictures and the report into ``out``.

    With ``against``, the checkpoint of another model, that one is run on the same samples and compared with.

    Raises:
        ContractError: no such checkpoint, data or split, or its labels mean another thing than the checkpoint's.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        single_threaded()
    checkpoint = load_checkpoint(checkpoint_path, device)
    other = None if against is None else load_checkpoint(against, device)
    data = open_data(data_directory(data_dir, out, say), splits)
    boxes = box_categories(data)
    if problems := _empty(data) + misfits(checkpoint.config, data.slices, boxes):
        raise ContractError(f"a checkpoint of {checkpoint.config.name} cannot be judged on this data", problems)
    comparison = None if other is None else _comparison(other, data.slices, boxes)
    out.mkdir(parents=True, exist_ok=True)
    scores, charts = {}, {}
    for split in splits:
        evaluated = _evaluated(checkpoint, data, split, device, say)
        parts = parts_of(evaluated, checkpoint.tasks, data.slices)
        scores[split] = score_split(parts, data.slices)
        say(f"{split}: {headlines(scores[split], checkpoint.tasks)}")
        if other is not None and comparison is not None and comparison.misfit is None:
            references = parts_of(_evaluated(other, data, split, device, say), other.tasks, data.slices, crossed=False)
            comparison.splits[split] = compare_split(parts, references)
            comparison.lost[split] = lost(parts, references)
        charts[split] = write_charts(out, split, checkpoint, data.readers[split], evaluated, device)
    report = EvalReport(
        run_id=checkpoint.run_id,
        recipe=checkpoint.config.name,
        checkpoint_sha256=checkpoint.sha256,
        data_digest=data.spec.digest,
        splits=scores,
        against=comparison,
    )
    drawn = Charts(checkpoint_sha256=checkpoint.sha256, splits=charts)
    write_text(out / CHARTS_FILE, drawn.model_dump_json() + "\n")
    write_text(out / REPORT_FILE, report.model_dump_json(indent=2) + "\n")
    return report


def _evaluated(
    checkpoint: Checkpoint, data: DataSet, split: str, device: torch.device, say: Callable[[str], None]
) -> list[Evaluated]:
    reader = data.readers[split]
    say(f"evaluating run {checkpoint.run_id} of {checkpoint.config.name} on {split}: {len(reader)} samples")
    samples, progress = range(len(reader)), counted(f"evaluated on {split}", "samples")
    return evaluate(checkpoint.model, checkpoint.tasks, reader, checkpoint.config.data, samples, device, progress)


def _comparison(other: Checkpoint, slices: Slices, boxes: Counter[str]) -> Comparison:
    misfit = "; ".join(str(problem.found) for problem in misfits(other.config, slices, boxes)) or None
    return Comparison(run_id=other.run_id, checkpoint_sha256=other.sha256, misfit=misfit)


def _empty(data: DataSet) -> list[Problem]:
    return [
        Problem("data", "no samples", "at least one sample", field=split)
        for split, reader in data.readers.items()
        if not len(reader)
    ]


def box_categories(data: DataSet) -> Counter[str]:
    """How many boxes of each category there are, as ``boxes.<category>``; every row is read for it."""
    rows = (reader.row(index) for reader in data.readers.values() for index in range(len(reader)))
    return Counter(f"boxes.{box.category}" for row in rows for box in row.boxes or ())


def misfits(config: TrainConfig, slices: Slices, boxes: Counter[str]) -> list[Problem]:
    """Labels that are merely absent leave their metrics undefined; other classes would make every figure wrong."""
    return [
        Problem("data", reason, "data with the classes of the checkpoint's recipe")
        for reason in config.class_misfits(slices, boxes)
    ]


def headlines(scores: SplitScore, tasks: Sequence[Task]) -> str:
    values = {f"{task.name}/{name}": scores.metrics[f"{task.name}/{name}"] for task in tasks for name in task.headlines}
    return ", ".join(f"{name} {'undefined' if value is None else f'{value:.4f}'}" for name, value in values.items())
