"""``score``: files in standard formats, made by anybody, become metrics.

A task is a module that follows :class:`Scorer`; a new one is a new file here and a line in ``SCORERS``.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from trainer.evaluation.score.samples import Samples
from trainer.evaluation.score.slicing import sliced

SCORERS = {
    "detection": "trainer.evaluation.score.detection",
    "segmentation": "trainer.evaluation.score.segmentation",
    "lanes": "trainer.evaluation.score.lanes",
    "trajectory": "trainer.evaluation.score.trajectory",
}
"""``python -m trainer score <task>`` → the module that does it."""


class Scorer(Protocol):
    """What a task's module offers; its docstring says what the files look like."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the task's own options."""

    def read(self, arguments: argparse.Namespace) -> Samples:
        """What the files ``ground_truth`` and ``predictions`` of ``arguments`` say, sample by sample.

        Raises:
            ContractError: names every problem of the files.
        """

    def score(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """The metrics over all samples, None where one is not defined.

        Raises:
            ContractError: as :meth:`read`.
        """


def scorer_named(task: str) -> Scorer:
    """The module of ``task`` in ``SCORERS``."""
    return cast(Scorer, import_module(SCORERS[task]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare each task with the options that all share and its own."""
    tasks = parser.add_subparsers(title="tasks", dest="task", metavar="TASK", required=True)
    for name in SCORERS:
        scorer = scorer_named(name)
        sub = tasks.add_parser(name, help=(scorer.__doc__ or "").splitlines()[0], description=scorer.__doc__,
                               formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
        sub.add_argument("--ground-truth", type=Path, required=True, metavar="PATH")
        sub.add_argument("--predictions", type=Path, required=True, metavar="PATH")
        sub.add_argument("--slices", type=Path, metavar="YAML", help="slices.yaml: metrics for each slice as well")
        sub.add_argument("--attributes", type=Path, metavar="CSV", help="what the slices ask for, a row a sample")
        scorer.add_arguments(sub)


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """The metrics that the command line asks for: flat, or with ``--slices`` overall and for each slice.

    Raises:
        ContractError: names every problem of the files.
    """
    scorer = scorer_named(arguments.task)
    if arguments.slices is None and arguments.attributes is None:
        return scorer.score(arguments)
    return {"task": arguments.task, **sliced(scorer.read(arguments), arguments.slices, arguments.attributes)}
