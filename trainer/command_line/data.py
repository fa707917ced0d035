"""``scenes``, ``import``, ``shard`` and ``profile``: what makes and describes data."""

import argparse
import ast
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from trainer.command_line.arguments import at_least
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example
from trainer.terminal.progress import counted

NEEDED = {"eth_ucy": " --scene zara1"}
"""What an example of a format must have besides SRC and OUT."""


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the delivery goes here")
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="of all that is drawn (default 42)")
    rare = "N frames of rare conditions, test alone, instead"
    parser.add_argument("--rare", type=at_least(1), metavar="N", help=rare)


def _scenes(arguments: argparse.Namespace) -> Answer:
    from trainer.data.scenes import make_rare_scenes, make_scenes

    if arguments.rare:
        make_rare_scenes(arguments.out, frames=arguments.rare, seed=arguments.seed, progress=counted("drawn", "scenes"))
    else:
        make_scenes(arguments.out, seed=arguments.seed, progress=counted("drawn", "scenes"))
    return _delivery(arguments.out)


def _delivery(out: Path) -> Answer:
    from trainer.contract.delivery import manifest_name
    from trainer.contract.manifest import SPLITS, count_lines

    files = {split: out / manifest_name(split) for split in SPLITS}
    return Answer({"delivery": out, "rows": {split: count_lines(path) for split, path in files.items()}})


def _formats() -> Sequence[Command]:
    from trainer.data.readers import READERS

    return [_format(name, module) for name, module in READERS.items()]


def _format(name: str, module: str) -> Command:
    from trainer.data.readers import reader_named

    def run(arguments: argparse.Namespace) -> Answer:
        reader_named(name).run(arguments, counted("imported", "samples"))
        return _delivery(arguments.out)

    about = docstring_of(module)
    return Command(
        name,
        about.partition("\n")[0],
        run=run,
        add=lambda parser: reader_named(name).add_arguments(parser),
        examples=(Example(f"import {name} SRC deliveries/{name}{NEEDED.get(name, '')}"),),
        about=about,
    )


def docstring_of(module: str) -> str:
    """The docstring of a module that is not imported for it."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""


def _add_shard(parser: argparse.ArgumentParser) -> None:
    root = "the directory that the rows' paths are relative to"
    parser.add_argument("root", type=Path, metavar="DELIVERY", help=root)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the shards go here")
    lists = "directory for the list of each manifest's shards"
    parser.add_argument("--list", type=Path, required=True, metavar="DIR", help=lists)
    rows = "rows to stage; default: the golden manifests"
    parser.add_argument("--manifest", type=Path, action="append", metavar="FILE", help=rows)


def _shard(arguments: argparse.Namespace) -> Answer:
    from trainer.contract.delivery import manifest_name
    from trainer.contract.manifest import SPLITS
    from trainer.data.staging import stage_manifest

    manifests = arguments.manifest or [arguments.root / manifest_name(split) for split in SPLITS]
    staged = [
        stage_manifest(manifest, arguments.root, arguments.out, arguments.list, print, counted("staged", "samples"))
        for manifest in manifests
    ]
    return Answer(staged)


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("delivery", type=Path, metavar="DELIVERY", help="directory with the golden manifests")
    out = "reference_profile.json and .html pages go here"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)
    pinned = "take the rows of this dataset version instead"
    parser.add_argument("--pinned", type=Path, metavar="DIR", help=pinned)


def _profile(arguments: argparse.Namespace) -> Answer:
    from trainer.data.profile import write_profile

    said: list[str] = []
    return Answer(write_profile(arguments.delivery, arguments.out, said.append, arguments.pinned), said)


SCENES = Command(
    "scenes",
    "Make the synthetic driving delivery.",
    run=_scenes,
    add=_add_scenes,
    examples=(
        Example("scenes --out deliveries/scenes"),
        Example("scenes --out deliveries/rare --rare 24", "frames of rare conditions, to mine"),
    ),
)
IMPORT = Command(
    "import",
    "Turn a public data set into a delivery.",
    actions=_formats,
    examples=(
        Example("import camvid SRC deliveries/camvid --start 2026-01-05"),
        Example("import bdd100k SRC deliveries/bdd100k --categories my_classes.yaml"),
        Example("import coco --help", "what a format expects, and its options"),
    ),
)
SHARD = Command(
    "shard",
    "Stage rows as content-addressed WebDataset shards.",
    run=_shard,
    add=_add_shard,
    examples=(
        Example("shard deliveries/scenes --out shards --list lists", "the golden manifests"),
        Example("shard deliveries/scenes --out shards --list lists --manifest windows/2026-01-05.manifest"),
    ),
)
PROFILE = Command(
    "profile",
    "Describe a delivery's train split, and how val and test differ from it.",
    run=_profile,
    add=_add_profile,
    examples=(Example("profile deliveries/scenes --out profiles/scenes", "with drift_val.html and drift_test.html"),),
)
