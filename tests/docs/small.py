"""Data small enough that the documents' commands end in seconds."""

import csv
import shutil
from pathlib import Path

import yaml

from trainer.data.scenes import make_scenes

FRAMES_PER_WINDOW = 24
SETTINGS = {"TRAIN__TRAINING__EPOCHS": "1", "TRAIN__TRAINING__EVAL_EVERY": "1", "TRAIN__WINDOW__MIN_SAMPLES": "8",
            "TRAIN__RELEASE__TARGETS": "{}", "TRAIN__DATA__IMAGE_SIZE": "[64, 96]"}  # fmt: skip
"""Of every recipe: one epoch, and no more asked of it than that the gates run."""


def small_scenes(out: Path) -> None:
    """The demo's delivery with fewer frames, and slices that ask for nothing."""
    make_scenes(out, frames_per_window=FRAMES_PER_WINDOW)
    slices = yaml.safe_load((out / "slices.yaml").read_text())
    for one in slices["slices"]:
        one["targets"] = {}
    (out / "slices.yaml").write_text(yaml.safe_dump(slices))


def small_camvid(source: Path, out: Path, every: int = 6) -> Path:
    """Each ``every``-th frame of CamVid."""
    out.mkdir()
    with open(source / "manifest.csv") as file:
        reader = csv.DictReader(file)
        rows = list(reader)[::every]
    with open(out / "manifest.csv", "w") as file:
        writer = csv.DictWriter(file, reader.fieldnames or ())
        writer.writeheader()
        writer.writerows(rows)
    for file in (row[column] for row in rows for column in ("image", "mask")):
        (out / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / file, out / file)
    return out
