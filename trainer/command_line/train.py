"""``train``."""

import argparse
from pathlib import Path

from trainer.command_line.arguments import add_data, add_training
from trainer.contract.exit_codes import STOPPED
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the recipe (train.yaml)")
    add_data(parser)
    places = parser.add_mutually_exclusive_group(required=True)
    places.add_argument("--run-dir", type=Path, metavar="DIR", help="checkpoints, best.pt and result.json go here")
    places.add_argument("--artifact-dir", type=Path, metavar="DIR", help="or into DIR/_runs/NAME-RUN_ID")
    parser.add_argument("--run-id", help="eight characters of a-z and 0-9; chosen at random when not given")
    for label, what in (("name", "name"), ("group", "group (its tune)"), ("job-type", "type (its cross-validation)")):
        parser.add_argument(f"--{label}", help=f"the run's {what} in experiment tracking")
    add_training(parser)


def _train(arguments: argparse.Namespace) -> Answer:
    from trainer.commands.train import train

    return train(arguments)


TRAIN = Command(
    "train",
    "Train a recipe; run under torchrun. Goes on where RUN_DIR was left.",
    run=_train,
    add=_add,
    examples=(
        Example(
            "train recipes/scenes_multitask.yaml --data deliveries/scenes --run-dir runs/first --set training.epochs=4",
            "on one device, with another number of epochs than the recipe's",
        ),
        Example(
            "torchrun --nproc-per-node 2 -m trainer train recipes/scenes_multitask.yaml --data deliveries/scenes"
            " --run-dir runs/first",
            "two ranks; started again on the same --run-dir it resumes",
        ),
        Example(
            "train recipes/scenes_multitask.yaml --data deliveries/scenes --artifact-dir artifacts"
            " --warm-start runs/first/best.pt",
            "fine-tune other weights, under a name that is drawn",
        ),
    ),
    exit_codes={STOPPED: "stopped by SIGTERM (with strategy ddp_fork by Ctrl-C too) with a checkpoint saved"},
)
