"""Pictures of an evaluation: samples with what the model saw, confusion matrices."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import default_collate

from trainer.contract.files import write_bytes
from trainer.contract.metrics import direction
from trainer.data.loader import EvaluationSamples, read_image, to_device
from trainer.data.shards import ShardReader
from trainer.evaluation.evaluate import Evaluated
from trainer.evaluation.model import Checkpoint
from trainer.models.hydranet import of_task
from trainer.tasks import Task

SHOWN = 4
RANKED = 200
TILE_WIDTH = 320


def write_samples(
    path: Path, checkpoint: Checkpoint, reader: ShardReader, evaluated: Sequence[Evaluated], device: torch.device
) -> None:
    """A sheet of the best (left) and the worst samples (right) by the first task's first headline, with overlays.

    Chosen among at most ``RANKED`` samples, evenly spread.
    """
    ranked = _ranked(evaluated[:: -(-len(evaluated) // RANKED)], checkpoint.tasks[0])
    best, worst = ranked[:SHOWN], ranked[SHOWN:][-SHOWN:][::-1]
    columns = [
        [_tile(checkpoint, reader, one, value, title, device) for one, value in chosen]
        for title, chosen in (("best", best), ("worst", worst))
        if chosen
    ]
    if not columns:
        return
    height = max(tile.shape[0] for column in columns for tile in column)
    padded = [
        [cv2.copyMakeBorder(tile, 0, height - tile.shape[0], 0, 0, cv2.BORDER_CONSTANT) for tile in column]
        for column in columns
    ]
    blank = np.zeros_like(padded[0][0])
    rows = [
        np.hstack([column[row] if row < len(column) else blank for column in padded])
        for row in range(max(len(column) for column in padded))
    ]
    write_bytes(path, _encoded(".jpg", np.vstack(rows)))


def _ranked(evaluated: Sequence[Evaluated], task: Task) -> list[tuple[Evaluated, float]]:
    values = [(one, task.metrics([one.records[task.name]]).get(task.headlines[0])) for one in evaluated]
    sign = direction(task.headlines[0])
    return sorted([(one, value) for one, value in values if value is not None], key=lambda pair: -sign * pair[1])


@torch.inference_mode()
def _tile(
    checkpoint: Checkpoint, reader: ShardReader, one: Evaluated, value: float, title: str, device: torch.device
) -> np.ndarray:
    tasks, data = checkpoint.tasks, checkpoint.config.data
    sample, given = EvaluationSamples(reader, data, {task.name: task.observed for task in tasks})[one.index]
    outputs = checkpoint.model(to_device(default_collate([given]), device))
    image = read_image(reader, one.index) if data.camera else np.full((TILE_WIDTH, TILE_WIDTH, 3), 255, np.uint8)
    size = image.shape[:2]
    for task in checkpoint.tasks:
        image = task.draw(image, {k: v[0] for k, v in of_task(outputs, task.name).items()}, sample)
    tile = cv2.resize(image, (TILE_WIDTH, max(1, round(size[0] * TILE_WIDTH / size[1]))), interpolation=cv2.INTER_AREA)
    label = f"{title} {checkpoint.tasks[0].headlines[0]} {value:.2f}  {one.row.sample_id}"
    tile[:20] = tile[:20] // 3
    cv2.putText(tile, label, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return tile


def write_confusion(path: Path, task: Task, evaluated: Sequence[Evaluated]) -> None:
    """The task's confusion matrix, rows (truth) normalised to one; nothing for a task that has none."""
    matrices = [record.confusion for one in evaluated if hasattr(record := one.records[task.name], "confusion")]
    if not matrices:
        return
    total = np.sum(matrices, axis=0).astype(float)
    share = total / np.maximum(total.sum(axis=1, keepdims=True), 1)
    write_bytes(path, _encoded(".png", _matrix_picture(share, task.classes)))  # type: ignore[attr-defined]


def _matrix_picture(share: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    cell, margin = 44, 110
    side = cell * len(classes) + margin
    picture = np.full((side, side, 3), 255, np.uint8)
    for row, name in enumerate(classes):
        _write(picture, name, (4, margin + row * cell + 26))
        _write(picture, name[:6], (margin + row * cell + 2, margin - 8))
        for column in range(len(classes)):
            value = float(share[row, column])
            x, y = margin + column * cell, margin + row * cell
            shade = tuple(int(v) for v in np.array([255, 255, 255]) - value * np.array([200, 120, 40]))
            cv2.rectangle(picture, (x, y), (x + cell - 2, y + cell - 2), shade, -1)
            if value >= 0.005:
                _write(picture, f"{value:.2f}", (x + 6, y + 26))
    _write(picture, "truth (rows) by prediction", (4, 16))
    return picture


def _write(picture: np.ndarray, text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)


def _encoded(suffix: str, rgb: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"a picture of shape {rgb.shape} cannot be written as {suffix}")
    return data.tobytes()
