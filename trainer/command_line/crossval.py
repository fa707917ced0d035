"""``crossval``."""

import argparse
from pathlib import Path

from trainer.command_line.arguments import add_data, add_training
from trainer.contract.exit_codes import DONE, FAILED, STOPPED
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example

ABOUT = """\
Cross-validate a recipe: one training for each fold with each seed, in ARTIFACT_DIR/_cross_validations/NAME (of a
tune: ARTIFACT_DIR/TUNE/TUNE-cvINDEX). Their metrics and the score are in run_infos.parquet and score.json there.
docs/cross_validation.md has the folds and the scores."""


def _add(parser: argparse.ArgumentParser) -> None:
    from typing import get_args

    from trainer.contract.cross_validation_settings import FoldMethod, Parallel

    parser.add_argument("config", type=Path, metavar="CONFIG", help="the recipe (train.yaml)")
    add_data(parser)
    parser.add_argument("--artifact-dir", type=Path, required=True, metavar="DIR", help="what all names lie below")
    parser.add_argument("--name", help="the cross-validation's; a readable random one when not given")
    parser.add_argument("--tune", metavar="NAME", help="the tune that it belongs to; then --index names it")
    parser.add_argument("--index", type=int, metavar="N", help="its number within the tune")
    parser.add_argument("--resume", action="store_true", help="go on with the one of this name, if there is one")
    only = "train these runs alone (f1s42); of a name given"
    parser.add_argument("--only", action="append", metavar="RUN", help=only)
    parser.add_argument("--folds", type=int, metavar="N", help="how many; default: the recipe's")
    parser.add_argument("--method", choices=get_args(FoldMethod), help="how samples are dealt into folds")
    parser.add_argument("--seeds", metavar="N", help="how many (42, 21, 69, …), or which ones: [7, 8]")
    parser.add_argument("--parallel", choices=get_args(Parallel), help="one run after the other, or one on each device")
    add_training(parser)


def _crossval(arguments: argparse.Namespace) -> Answer:
    from trainer.crossval.command import run

    return run(arguments)


CROSSVAL = Command(
    "crossval",
    "Cross-validate a recipe: train it on each fold with each seed.",
    run=_crossval,
    add=_add,
    about=ABOUT,
    examples=(
        Example(
            "crossval recipes/scenes_multitask.yaml --data deliveries/scenes --artifact-dir artifacts"
            " --folds 5 --method kfold"
        ),
        Example(
            "crossval recipes/scenes_multitask.yaml --data deliveries/scenes --artifact-dir artifacts"
            " --name brisk-harbour-417 --resume",
            "go on with one that was stopped",
        ),
        Example(
            "crossval recipes/scenes_multitask.yaml --data deliveries/scenes --artifact-dir artifacts"
            " --name brisk-harbour-417 --only f1s42 --only f2s42",
            "a part of its runs here, the others on another host",
        ),
    ),
    exit_codes={
        DONE: "all runs that were asked for have a result",
        FAILED: "runs failed with different codes; with one and the same, it is that code",
        STOPPED: "stopped by SIGTERM or Ctrl-C, the runs at work saved; --resume goes on",
    },
)
