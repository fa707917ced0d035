"""``tune``."""

import argparse
from pathlib import Path

from trainer.contract.exit_codes import DONE, FAILED
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example

FIELDS = ("file", "recipe", "data", "artifacts", "name", "resume", "parallel")


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="SWEEP_FILE", help="a sweep.yaml, or any W&B sweep file")
    parser.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="what is tuned")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a delivery or a data directory")
    where = "everything lies below it: TUNE/TUNE-cvN/…"
    parser.add_argument("--artifact-dir", type=Path, required=True, metavar="DIR", dest="artifacts", help=where)
    parser.add_argument("--name", metavar="NAME", help="the tune's; a readable random one when not given")
    parser.add_argument("--resume", action="store_true", help="go on with the one of this name")
    side = "tune-parallel: a trial on each of the recipe's devices at a time"
    parser.add_argument("--parallel", choices=("serial", "tune-parallel"), default="serial", help=side)


def _tune(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.tune import Asked, tune

    return tune(Asked(**{name: getattr(arguments, name) for name in FIELDS}))


TUNE = Command(
    "tune",
    "Carry a sweep out on this machine, without Dagster: each trial a cross-validation.",
    run=_tune,
    add=_add,
    examples=(
        Example(
            "tune sweeps/scenes.yaml --recipe recipes/scenes_multitask.yaml --data deliveries/scenes"
            " --artifact-dir tunes --name night-owl-1"
        ),
        Example(
            "tune sweeps/scenes.yaml --recipe recipes/scenes_multitask.yaml --data deliveries/scenes"
            " --artifact-dir tunes --name night-owl-1 --resume",
            "after a crash or Ctrl-C: go on where it was left",
        ),
    ),
    exit_codes={DONE: "at least one trial was completed", FAILED: "no trial was completed"},
)
