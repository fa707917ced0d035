"""``lineage`` and ``promote``: a registered model, back to its frames and on to production."""

import argparse

from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example


def add_reference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help="PROJECT@VERSION or PROJECT@ALIAS, as in scenes@production")


def _add_lineage(parser: argparse.ArgumentParser) -> None:
    add_reference(parser)
    parser.add_argument("--frames", action="store_true", help="only the frames, one a line")


def _lineage(arguments: argparse.Namespace) -> Answer:
    from training_assets.lineage import as_dict, describe, frame_line, frames
    from training_assets.profiles import load_profile
    from training_assets.stores.registry import registry_of

    registry = registry_of(load_profile())
    entry = registry.find(arguments.reference)
    if arguments.frames:
        found = frames(entry, registry.root)
        return Answer(list(found)) if arguments.json else Answer(text=map(frame_line, found))
    return Answer(as_dict(entry, registry)) if arguments.json else Answer(text=describe(entry, registry))


def _add_promote(parser: argparse.ArgumentParser) -> None:
    add_reference(parser)
    parser.add_argument("--reason", default="", help="kept in the alias's history")


def _promote(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.promote import promote

    return promote(arguments.reference, arguments.reason)


LINEAGE = Command(
    "lineage",
    "The way from a registered model back to its frames: gates, run, code, data.",
    run=_lineage,
    add=_add_lineage,
    examples=(
        Example("lineage scenes@1.0.0"),
        Example("lineage scenes@production --frames | wc -l", "how many frames made it"),
        Example("lineage scenes@1.0.0 --json | jq .lineage.code.git_sha", "the commit, for a script"),
    ),
)
PROMOTE = Command(
    "promote",
    "Make a registered model the production model of its project.",
    run=_promote,
    add=_add_promote,
    examples=(Example("promote scenes@1.0.0 --reason 'fewer misses at night'", "kept in the history"),),
)
