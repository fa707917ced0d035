"""Scores of a split and its slices, with intervals, and beside another model's on the same samples."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from trainer.contract.eval_report import CROSS, OVERALL, Change, SliceScore, SplitScore
from trainer.contract.slices import Slices
from trainer.evaluation.evaluate import Evaluated
from trainer.metrics.statistics import draws, interval
from trainer.tasks import Task

Values = dict[str, np.ndarray]
"""Each metric: over the samples as they are, then over each bootstrap draw of them."""


def score_split(evaluated: Sequence[Evaluated], tasks: Sequence[Task], slices: Slices) -> SplitScore:
    """The metrics of ``evaluated``, of each slice's part of it, and of the parts that two slices share."""
    parts = parts_of(evaluated, slices)
    scores = {name: _scored(resampled(part, tasks), len(part)) for name, part in parts.items()}
    named = {one.name for one in slices.slices}
    return SplitScore(
        **dict(scores[OVERALL]),
        slices={name: score for name, score in scores.items() if name in named},
        crossed={name: score for name, score in scores.items() if CROSS in name},
    )


def compare_split(
    evaluated: Sequence[Evaluated],
    tasks: Sequence[Task],
    reference: Sequence[Evaluated],
    reference_tasks: Sequence[Task],
    slices: Slices,
) -> dict[str, dict[str, Change]]:
    """Slice → metric: this model's beside the ``reference``'s, whose samples are the same in the same order.

    Only what both have is compared, and nothing on crossed slices.
    """
    others = parts_of(reference, slices, crossed=False)
    return {
        name: _changes(resampled(part, tasks), resampled(others[name], reference_tasks))
        for name, part in parts_of(evaluated, slices, crossed=False).items()
    }


def parts_of(evaluated: Sequence[Evaluated], slices: Slices, crossed: bool = True) -> dict[str, list[Evaluated]]:
    """The samples of the whole split, of each slice, and of each two slices that share some but not all."""
    members = {
        one.name: frozenset(place for place, sample in enumerate(evaluated) if one.holds(sample.row))
        for one in slices.slices
    }
    found = {OVERALL: frozenset(range(len(evaluated))), **members, **(dict(_crossed(members)) if crossed else {})}
    return {name: [evaluated[place] for place in sorted(places)] for name, places in found.items()}


def _crossed(members: Mapping[str, frozenset[int]]) -> Iterator[tuple[str, frozenset[int]]]:
    for (one, places), (other, others) in combinations(members.items(), 2):
        both = places & others
        if both and both not in (places, others):
            yield f"{one}{CROSS}{other}", both


def resampled(part: Sequence[Evaluated], tasks: Sequence[Task]) -> Values:
    """``<task>/<metric>`` of ``part`` as it is and, behind it, of each bootstrap draw of its samples."""
    counts = np.concatenate([np.ones((1, len(part))), draws(len(part))])
    return {
        f"{task.name}/{name}": values
        for task in tasks
        for name, values in task.statistics([one.records[task.name] for one in part]).metrics(counts).items()
    }


def _scored(values: Values, samples: int) -> SliceScore:
    intervals = {name: interval(drawn[1:]) for name, drawn in values.items() if not np.isnan(drawn[0])}
    return SliceScore(
        samples=samples,
        metrics={name: None if np.isnan(drawn[0]) else float(drawn[0]) for name, drawn in values.items()},
        intervals={name: found for name, found in intervals.items() if found is not None},
    )


def _changes(values: Values, references: Values) -> dict[str, Change]:
    changes = {}
    for name in values.keys() & references.keys():
        value, reference = values[name], references[name]
        between = interval(value[1:] - reference[1:])
        if between is not None and not np.isnan(value[0]) and not np.isnan(reference[0]):
            changes[name] = Change(value=float(value[0]), reference=float(reference[0]), interval=between)
    return dict(sorted(changes.items()))
