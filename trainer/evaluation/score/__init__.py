"""``score``: files in standard formats, made by anybody, become metrics.

A task is a module that follows :class:`Scorer`; a new one is a new file here and a line in ``SCORERS``.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from trainer.evaluation.score.samples import Samples

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

    def read(self, arguments: argparse.Namespace) -> "Samples":
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


def add_arguments(parser: argparse.ArgumentParser, task: str) -> None:
    """Declare the options that all tasks share and those of ``task``."""
    parser.add_argument("--ground-truth", type=Path, required=True, metavar="PATH", help="a file or a directory")
    parser.add_argument("--predictions", type=Path, required=True, metavar="PATH", help="a file or a directory")
    parser.add_argument("--slices", type=Path, metavar="YAML", help="slices.yaml: metrics for each slice as well")
    parser.add_argument("--attributes", type=Path, metavar="CSV", help="what the slices ask for, a row a sample")
    scorer_named(task).add_arguments(parser)


def score(task: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The metrics that the command line asks for: flat, or with ``--slices`` overall and for each slice.

    Raises:
        ContractError: names every problem of the files.
    """
    scorer = scorer_named(task)
    if arguments.slices is None and arguments.attributes is None:
        return scorer.score(arguments)
    from trainer.evaluation.score.slicing import sliced

    return {"task": task, **sliced(scorer.read(arguments), arguments.slices, arguments.attributes)}
