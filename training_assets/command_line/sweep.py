"""``sweep`` and its actions."""

import argparse
from pathlib import Path

from trainer.contract.exit_codes import FAILED
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a sweep.yaml, or any W&B sweep file (docs/sweeps.md)")
    parser.add_argument("--recipe", metavar="RECIPE", help="what is tuned, where the file does not say it")
    parser.add_argument("--name", metavar="NAME", help="the sweep's; a readable random one when not given")
    parser.add_argument("--window", metavar="DATE", help="first day of the window; default: the newest one with rows")


def _start(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.sweep import Asked, start_sweep

    fields = ("file", "recipe", "name", "window")
    return Answer(start_sweep(Asked(**{name: getattr(arguments, name) for name in fields})))


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="SWEEP", help="one, with its trials; default: a line for each")


def _status(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.sweep import sweep_status

    return sweep_status(arguments.name)


def _add_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="SWEEP", help="its name")
    parser.add_argument("--reason", default="", help="kept with the sweep")


def _stop(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.sweep import stop_sweep

    return stop_sweep(arguments.name, arguments.reason)


def _add_apply(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="SWEEP", help="its name")


def _apply(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.sweep import apply_proposal

    return apply_proposal(arguments.name)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a sweep.yaml")
    parser.add_argument("--recipe", metavar="RECIPE", help="what is tuned, where the file does not say it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there; default: print it")
    create = "make the sweep in W&B, with the account that is logged in"
    parser.add_argument("--create", action="store_true", help=create)
    parser.add_argument("--project", metavar="NAME", help="W&B's; default: the file's, else the recipe's")
    parser.add_argument("--entity", metavar="NAME", help="W&B's; default: the file's, else the account's own")
    agents = "with --create: work on it until it is through"
    parser.add_argument("--agents", type=int, default=0, metavar="N", help=agents)
    parser.add_argument("--data", type=Path, metavar="DIR", help="a delivery or a data directory, which runs train on")


def _export(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.sweep_export import Asked, export

    fields = ("file", "recipe", "out", "create", "project", "entity", "agents", "data")
    return export(Asked(**{name: getattr(arguments, name) for name in fields}))


ACTIONS = (
    Command(
        "start",
        "Have the daemon carry a sweep file out.",
        run=_start,
        add=_add_start,
        examples=(
            Example("sweep start sweeps/scenes.yaml", "its data is staged first; returns at once"),
            Example("sweep start wandb.yaml --recipe scenes_multitask --name night-owl-1", "a W&B sweep file as it is"),
        ),
        exit_codes={FAILED: "its data could not be staged"},
    ),
    Command(
        "status",
        "How sweeps stand: trials, best, budget.",
        run=_status,
        add=_add_status,
        examples=(
            Example("sweep status", "a line for each"),
            Example("sweep status brisk-harbour-417", "one of them with its trials"),
            Example("sweep status --json | jq '.[0].best'", "for a script"),
        ),
    ),
    Command(
        "stop",
        "End a sweep: its trials save and end, then its report is made.",
        run=_stop,
        add=_add_stop,
        examples=(Example("sweep stop brisk-harbour-417 --reason 'good enough'"),),
    ),
    Command(
        "apply",
        "Change the recipe and the library as the sweep's report proposes.",
        run=_apply,
        add=_add_apply,
        examples=(Example("sweep apply brisk-harbour-417", "after you have read its diff in the report"),),
    ),
    Command(
        "export",
        "The file as a strict W&B sweep file; made in W&B, with agents.",
        run=_export,
        add=_add_export,
        examples=(
            Example("sweep export sweeps/scenes.yaml --out wandb.yaml"),
            Example(
                "sweep export sweeps/scenes.yaml --create --data deliveries/scenes --agents 2",
                "made in W&B, worked on by two agents here",
            ),
        ),
        exit_codes={FAILED: "an agent failed"},
    ),
)
SWEEP = Command(
    "sweep",
    "Search better settings for a recipe, within a budget.",
    actions=lambda: ACTIONS,
    examples=(Example("sweep start sweeps/scenes.yaml"), Example("sweep status"), Example("sweep start --help")),
)
