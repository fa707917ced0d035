"""``status``, ``runs`` and ``summary``: they look and change nothing."""

import argparse

from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example


def _status(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.status import status

    return status()


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="those that have ended too")


def _runs(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.runs import runs

    return runs(arguments.all)


def _summary(arguments: argparse.Namespace) -> Answer:
    from training_assets.summary import summary

    return summary()


STATUS = Command(
    "status",
    "What waits, runs and failed, and why; what each window, slice and delivery has.",
    run=_status,
    examples=(
        Example("status"),
        Example("status --json | jq '.runs[] | select(.state == \"failed\") | .why'", "why runs failed, for a script"),
    ),
)
RUNS = Command(
    "runs",
    "Trainings wherever they run: attempt, step, samples/s, cost so far, why they wait.",
    run=_runs,
    add=_add_runs,
    examples=(
        Example("runs", "what runs where, at which step, at what cost"),
        Example("runs --all --json | jq 'map(.usd) | add'", "what all of them have cost"),
    ),
)
SUMMARY = Command(
    "summary",
    "What was made last: scores, gates, latency, versions, places.",
    run=_summary,
    examples=(Example("summary"), Example("summary --json | jq '.recipes[].reference'", "the newest versions")),
)
