"""Data small enough that the documents' commands end in seconds."""

from pathlib import Path

import yaml

from trainer.data.scenes import make_scenes

FRAMES_PER_WINDOW = 16
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


def small_recipe(path: Path) -> None:
    """The recipe at ``path`` with one task and a small network."""
    recipe = yaml.safe_load(path.read_text())
    recipe["tasks"] = {"segmentation": recipe["tasks"]["segmentation"]}
    recipe["model"] |= {"width": 8, "neck_channels": 8}
    path.write_text(yaml.safe_dump(recipe))
