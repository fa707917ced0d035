"""``copy-checkpoints`` and ``track``: what is told of a run elsewhere."""

import argparse
from pathlib import Path

from trainer.contract.exit_codes import DONE, FAILED
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="DIR", help="the run's directory")
    parser.add_argument("store", metavar="URI", help="a directory, or what fsspec knows, like s3://bucket/prefix")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="least steps between copied checkpoints")
    parser.add_argument("--keep-last", type=int, default=2, metavar="N", help="passing ones that stay (default 2)")
    parser.add_argument("--keep-every", type=int, metavar="N", help="steps between checkpoints that are kept for good")
    parser.add_argument("--watch", action="store_true", help="go on until a line comes on standard input")


def _copy(arguments: argparse.Namespace) -> Answer:
    from trainer.engine.copier import CopyPlan, copy_finished, store_at, watch

    root, store = arguments.run_dir / "checkpoints", store_at(arguments.store)
    plan = CopyPlan(arguments.every, arguments.keep_last, arguments.keep_every)
    if arguments.watch:
        watch(root, store, plan)
        return Answer({"store": str(store), "copied": None})
    copied = copy_finished(root, store, plan)
    said = f"copied to {store}: {', '.join(copied) or 'nothing new'}"
    return Answer({"store": str(store), "copied": copied}, said)


def _add_track(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="DIR", help="the run's directory")


def _track(arguments: argparse.Namespace) -> Answer:
    from trainer.tracking import catch_up_by_hand

    told = catch_up_by_hand(arguments.run_dir, print)
    return Answer({"run_dir": arguments.run_dir, "told": bool(told)}, code=DONE if told else FAILED)


COPY_CHECKPOINTS = Command(
    "copy-checkpoints",
    "Copy a run's finished checkpoints to an object store.",
    run=_copy,
    add=_add,
    examples=(
        Example("copy-checkpoints runs/first s3://bucket/checkpoints/first"),
        Example("copy-checkpoints runs/first /mnt/backup/first --every 500 --keep-every 5000", "some of them"),
    ),
)
TRACK = Command(
    "track",
    "Tell Weights & Biases what it was not told yet of a run (docs/tracking.md).",
    run=_track,
    add=_add_track,
    examples=(Example("track runs/first", "after the network was away"),),
    exit_codes={FAILED: "something is still to be told"},
)
