"""``lineage``, ``evaluate``, ``promote`` and ``rollback``: a registered model, to its frames and to production."""

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


def _add_rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", metavar="PROJECT", help="its name")
    parser.add_argument("--reason", required=True, help="kept in the alias's history")


def _rollback(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.promote import rollback

    return rollback(arguments.project, arguments.reason)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    add_reference(parser)
    data = "a delivery in the inbox, or the path of a delivery or manifest; default: what was pinned last"
    parser.add_argument("--data", default="", metavar="DATA", help=data)
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="which of it; default: test")
    own = "another slices.yaml; default: the one beside the data, else the pinned one"
    parser.add_argument("--slices", default="", metavar="FILE", help=own)
    other = "compare with this version or alias of the project; default: production; '' for none"
    parser.add_argument("--against", default="production", metavar="VERSION", help=other)


def _evaluate(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.evaluate import evaluate
    from training_assets.evaluating import Asked

    fields = ("data", "split", "slices", "against")
    return evaluate(Asked(model=arguments.reference, **{name: getattr(arguments, name) for name in fields}))


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
ROLLBACK = Command(
    "rollback",
    "Make the version before the production model of a project again.",
    run=_rollback,
    add=_add_rollback,
    examples=(Example("rollback scenes --reason 'misses cyclists'", "others are told, as with promote"),),
)
EVALUATE = Command(
    "evaluate",
    "Judge a registered version on any data; nothing else changes.",
    run=_evaluate,
    add=_add_evaluate,
    examples=(Example("evaluate scenes@1.1.0 --data deliveries/rain --against 1.0.0", "beside another version"),),
)
