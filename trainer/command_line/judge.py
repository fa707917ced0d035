"""``evaluate``, ``export`` and ``score``: what is made of a model, and what is said of it."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from trainer.command_line.arguments import add_checkpoint, add_data, at_least
from trainer.command_line.data import docstring_of
from trainer.terminal.answers import Answer, plain
from trainer.terminal.commands import Command, Example

SPLITS = ("train", "val", "test")
"""As in the contract's ``manifest``, which takes its time to import; a test compares them."""


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    add_data(parser)
    out = "eval_report.json, charts.json and pictures go here"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)
    parser.add_argument("--split", action="append", choices=SPLITS, help="default: val and test")
    against = "compare with this best.pt on the same samples"
    parser.add_argument("--against", type=Path, metavar="FILE", help=against)


def _evaluate(arguments: argparse.Namespace) -> Answer:
    from trainer.evaluation.report import REPORT_FILE, write_report
    from trainer.tracking import tell_made

    splits = arguments.split or ("val", "test")
    report = write_report(arguments.checkpoint, arguments.data, arguments.out, splits, print, arguments.against)
    tell_made(arguments.checkpoint.parent, "evaluation", arguments.out, print)
    return Answer(report, f"wrote {arguments.out / REPORT_FILE}")


def _add_export(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the models and exports.json go here")
    data = "calibrate int8 on its train split, judge it on val; without: no int8"
    parser.add_argument("--data", type=Path, metavar="DIR", help=data)
    batch = at_least(2, ": one sample at a time is measured anyway")
    parser.add_argument("--batch", type=batch, default=8, metavar="N", help="samples of a large batch (default 8)")


def _export(arguments: argparse.Namespace) -> Answer:
    from trainer.export.export import export
    from trainer.tracking import tell_made

    def say(text: str) -> None:
        print(text, flush=True)

    exports = export(arguments.checkpoint, arguments.out, say, arguments.data, arguments.batch)
    tell_made(arguments.checkpoint.parent, "export", arguments.out, say)
    return Answer(exports)


def _tasks() -> Sequence[Command]:
    from trainer.evaluation.score import SCORERS

    return [_task(name, module) for name, module in SCORERS.items()]


def _task(name: str, module: str) -> Command:
    def add(parser: argparse.ArgumentParser) -> None:
        from trainer.evaluation.score import add_arguments

        add_arguments(parser, name)

    def run(arguments: argparse.Namespace) -> Answer:
        from trainer.evaluation.score import score

        found = score(name, arguments)
        return Answer(found, json.dumps(plain(found), indent=2))

    about = docstring_of(module)
    examples = (Example(f"score {name} --ground-truth truth --predictions predictions"),)
    return Command(name, about.partition("\n")[0], run=run, add=add, examples=examples, about=about)


EVALUATE = Command(
    "evaluate",
    "Score a checkpoint on splits, overall and per slice.",
    run=_evaluate,
    add=_add_evaluate,
    examples=(
        Example("evaluate runs/first/best.pt --data deliveries/scenes --out runs/first/evaluation"),
        Example(
            "evaluate runs/second/best.pt --data deliveries/scenes --out compared --split test"
            " --against runs/first/best.pt",
            "beside another model, on the same samples",
        ),
        Example(
            "evaluate runs/first/best.pt --data deliveries/scenes --out evaluation --json | jq .splits.test.metrics",
            "for a script",
        ),
    ),
)
EXPORT = Command(
    "export",
    "Write a checkpoint as ONNX, .pt2, TorchScript and int8 ONNX, beside eager.",
    run=_export,
    add=_add_export,
    examples=(
        Example("export runs/first/best.pt --out runs/first/export --data deliveries/scenes"),
        Example("export runs/first/best.pt --out runs/first/export", "without int8, which needs data"),
    ),
)
SCORE = Command(
    "score",
    "Score files in standard formats, made by anybody; prints JSON.",
    actions=_tasks,
    examples=(
        Example("score detection --ground-truth gt.json --predictions dt.json"),
        Example("score detection --help", "what the files look like"),
    ),
)
