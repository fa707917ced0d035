"""Arguments that several commands have."""

import argparse
from collections.abc import Callable
from pathlib import Path


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a delivery or a data directory")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="best.pt of a run")


def add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--warm-start", type=Path, metavar="FILE", help="begin with the weights of this best.pt")
    parser.add_argument("--no-warm-start", action="store_true", help="whatever the recipe says, begin at random")
    parser.add_argument("--copy-to", metavar="URI", help="copy finished checkpoints there; a new host resumes there")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a field of the recipe")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="reference profile for the drift gate (see profile)"
    )
    parser.add_argument("--history", type=Path, metavar="FILE", help="earlier runs' metrics for the median rule (JSON)")


def at_least(least: int, why: str = "") -> Callable[[str], int]:
    """The type of a whole number that is not less than ``least``."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}{why}")
        return value

    number.__name__ = "number"  # argparse: "invalid number value: 'x'"
    return number
