"""``demo`` and ``demo-sweep``."""

import argparse
from pathlib import Path

from trainer.contract.exit_codes import FAILED
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="a delivery; default: synthetic scenes, made on the spot"
    )
    parser.add_argument("--recipe", metavar="RECIPE", help="only this recipe; default: each one that fits the delivery")
    parser.add_argument("--window", metavar="DATE", help="first day of the window; default: the newest one with rows")


def _demo(arguments: argparse.Namespace) -> Answer:
    from training_assets.demo import demo

    return demo(arguments.data, arguments.recipe, arguments.window)


def _add_demo_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, metavar="FILE", help="the sweep; default: sweeps/demo.yaml")
    parser.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="how long it may take")


def _demo_sweep(arguments: argparse.Namespace) -> Answer:
    from training_assets.demo_sweep import demo_sweep

    return demo_sweep(arguments.file, arguments.limit)


DEMO = Command(
    "demo",
    "Materialise everything that is out of date for the newest window of a delivery.",
    run=_demo,
    add=_add_demo,
    examples=(
        Example("demo", "synthetic scenes, newest window; run again it finds everything up to date"),
        Example("demo --data deliveries/camvid", "each recipe that fits your delivery"),
        Example("demo --data deliveries/camvid --recipe camvid_segmentation", "or just one"),
    ),
    exit_codes={FAILED: "a run or a gate failed; the report names the asset, the gate and the margin"},
)
DEMO_SWEEP = Command(
    "demo-sweep",
    "Sweep on synthetic scenes with Dagster's daemon, to the report.",
    run=_demo_sweep,
    add=_add_demo_sweep,
    examples=(
        Example("demo-sweep", "nine trials, about ten minutes on two cores"),
        Example("demo-sweep --file sweeps/demo.yaml --limit 1200", "a sweep of yours, within 20 minutes"),
    ),
    exit_codes={FAILED: "no report within the limit; the sweep itself goes on where a daemon is at work"},
)
