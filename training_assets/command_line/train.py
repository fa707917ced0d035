"""``train``."""

import argparse

from trainer.contract.exit_codes import DONE, FAILED
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example

FIELDS = ("recipe", "window", "dataset", "warm_start", "profile", "detach")


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="its name")
    parser.add_argument("--window", metavar="DATE", help="first day of the window; default: the newest one with rows")
    parser.add_argument("--dataset", metavar="VERSION", help="a pinned dataset version; default: the current one")
    begin = "begin with these weights: a version or an alias of the recipe's project, or a checkpoint file"
    parser.add_argument("--from", dest="warm_start", metavar="VERSION_OR_CHECKPOINT", help=begin)
    parser.add_argument("--profile", metavar="PROFILE", help="launch as this profile does; its store must be the same")
    setting = "a setting of the recipe for this run alone, as optim.lr=1e-3; repeat for more"
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C", help=setting)
    parser.add_argument("--detach", action="store_true", help="put it into the daemon's queue and do not wait for it")


def _train(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.train import Asked, train

    fields = {name: getattr(arguments, name) for name in FIELDS}
    return train(Asked(**fields, overrides=tuple(arguments.overrides)))


TRAIN = Command(
    "train",
    "Train a window of a recipe, judge and register the model, up to date or not.",
    run=_train,
    add=_add,
    examples=(
        Example("train scenes_multitask", "the newest window; in the queue where a daemon is at work"),
        Example(
            "train scenes_multitask --window 2026-02-09 --from production --set optim.lr=1e-4",
            "fine-tune the production model on one week",
        ),
        Example("train scenes_multitask --detach --json", "for a script: the id of the run in the queue"),
    ),
    exit_codes={
        DONE: "the model is registered; with --detach: the run is in the queue",
        FAILED: "a gate was not passed or a run failed, or --detach finds no daemon at work",
    },
)
