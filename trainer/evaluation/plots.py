"""Pictures of an evaluation: curves, confusion matrices, and samples with what the model saw."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import default_collate

from trainer.contract.charts import Drawing, Sheet, Shown, SplitCharts
from trainer.contract.files import write_bytes, write_text
from trainer.contract.metrics import direction
from trainer.data.loader import EvaluationSamples, read_image, to_device
from trainer.data.order import spread
from trainer.data.shards import ShardReader
from trainer.evaluation.evaluate import Evaluated
from trainer.evaluation.model import Checkpoint
from trainer.evaluation.svg import svg_of
from trainer.models.hydranet import of_task
from trainer.tasks import Task

SHOWN = 4
RANKED = 200
TILE_WIDTH = 280
LABEL_HEIGHT = 18
JPEG_QUALITY = 80


def write_charts(
    out: Path,
    split: str,
    checkpoint: Checkpoint,
    reader: ShardReader,
    evaluated: Sequence[Evaluated],
    device: torch.device,
) -> SplitCharts:
    """Write the pictures of ``split`` into ``out``: each task's charts, and its best and worst samples."""
    drawings, sheets = [], []
    for task in checkpoint.tasks:
        for chart in task.charts([one.records[task.name] for one in evaluated]):
            file = f"{chart.kind}_{task.name}_{split}.svg"
            write_text(out / file, svg_of(task.name, chart))
            drawings.append(Drawing(task=task.name, file=file, chart=chart))
        best, worst = best_and_worst(evaluated, task)
        if best:
            file = f"samples_{task.name}_{split}.jpg"
            tile = _Tiles(checkpoint, task, reader, device)
            write_bytes(
                out / file, _jpeg(_stacked([[tile(one, value) for one, value in row] for row in (best, worst)]))
            )
            shown = [tuple(Shown(sample_id=one.row.sample_id, value=v) for one, v in row) for row in (best, worst)]
            metric = f"{task.name}/{task.headlines[0]}"
            sheets.append(Sheet(task=task.name, metric=metric, file=file, best=shown[0], worst=shown[1]))
    return SplitCharts(drawings=tuple(drawings), sheets=tuple(sheets))


Ranked = list[tuple[Evaluated, float]]


def best_and_worst(evaluated: Sequence[Evaluated], task: Task) -> tuple[Ranked, Ranked]:
    """At most four samples each by the task's first headline on the sample alone, none in both; undefined ones aside.

    Chosen among at most ``RANKED`` samples, evenly spread.
    """
    some = [evaluated[place] for place in spread(len(evaluated), RANKED)]
    alone = task.statistics([one.records[task.name] for one in some]).metrics(np.eye(len(some)))
    values = zip(some, map(float, alone[task.headlines[0]]), strict=True)
    known = [(one, value) for one, value in values if not np.isnan(value)]
    ranked = sorted(known, key=lambda pair: -direction(task.headlines[0]) * pair[1])
    return ranked[:SHOWN], ranked[SHOWN:][-SHOWN:][::-1]


class _Tiles:
    """Samples as small pictures with what ``task`` says of them."""

    def __init__(self, checkpoint: Checkpoint, task: Task, reader: ShardReader, device: torch.device) -> None:
        self.checkpoint, self.task, self.reader, self.device = checkpoint, task, reader, device
        inputs = {one.name: one.observed for one in checkpoint.tasks}
        self.samples = EvaluationSamples(reader, checkpoint.config.data, inputs)

    @torch.inference_mode()
    def __call__(self, one: Evaluated, value: float) -> np.ndarray:
        sample, given = self.samples[one.index]
        outputs = self.checkpoint.model(to_device(default_collate([given]), self.device))
        own = {name: tensor[0] for name, tensor in of_task(outputs, self.task.name).items()}
        image = self.task.draw(self._image(one.index), own, sample)
        size = (TILE_WIDTH, max(1, round(image.shape[0] * TILE_WIDTH / image.shape[1])))
        tile = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        label = np.zeros((LABEL_HEIGHT, TILE_WIDTH, 3), np.uint8)
        text = f"{self.task.headlines[0]} {value:.2f}  {one.row.sample_id}"
        cv2.putText(label, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1, cv2.LINE_AA)
        return np.vstack([label, tile])

    def _image(self, index: int) -> np.ndarray:
        if self.checkpoint.config.data.camera:
            return read_image(self.reader, index)
        return np.full((TILE_WIDTH, TILE_WIDTH, 3), 255, np.uint8)


def _stacked(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The tiles row by row, the shorter ones and the missing ones filled up."""
    rows = [row for row in rows if row]
    height, width = max(tile.shape[0] for row in rows for tile in row), max(len(row) for row in rows) * TILE_WIDTH

    def line(row: Sequence[np.ndarray]) -> np.ndarray:
        filled = np.full((height, width, 3), 255, np.uint8)
        for place, tile in enumerate(row):
            filled[: tile.shape[0], place * TILE_WIDTH : (place + 1) * TILE_WIDTH] = tile
        return filled

    return np.vstack([line(row) for row in rows])


def _jpeg(rgb: np.ndarray) -> bytes:
    picture = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    if not done:
        raise ValueError(f"a picture of shape {rgb.shape} cannot be written as JPEG")
    return data.tobytes()
