"""``profile check``."""

import argparse

from trainer.contract.exit_codes import BAD_INPUT
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="PROFILE", help="a file of training_assets/profiles, without .yaml")


def _check(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.profile import check

    return check(arguments.name)


CHECK = Command(
    "check",
    "Tell what a profile lacks before it can launch anything, and what an hour of each recipe costs.",
    run=_check,
    add=_add_check,
    examples=(
        Example("profile check local"),
        Example("profile check ecs", "before anything costs money: roles, image, queue, places"),
    ),
    exit_codes={BAD_INPUT: "something is missing; each thing is told with what was expected"},
)
PROFILE = Command(
    "profile",
    "Tell what a profile lacks before it can launch anything, and what it costs.",
    actions=lambda: [CHECK],
    examples=(Example("profile check ecs"),),
)
