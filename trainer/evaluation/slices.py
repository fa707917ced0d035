"""Scores of a split and its slices, with intervals, and beside another model's on the same samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from trainer.contract.eval_report import CROSS, OVERALL, Change, SliceScore, SplitScore
from trainer.contract.slices import Slices
from trainer.evaluation.evaluate import Evaluated
from trainer.metrics.statistics import Values, interval, intervals, points, resampled
from trainer.tasks import Task


@dataclass(frozen=True)
class Part:
    """How many samples a part of a split has, and the ``values`` of ``<task>/<metric>`` over them and their draws."""

    samples: int
    values: Values


def parts_of(
    evaluated: Sequence[Evaluated], tasks: Sequence[Task], slices: Slices, crossed: bool = True
) -> dict[str, Part]:
    """The whole split, each slice of it, and each two slices that share some but not all of their samples.

    Slices of the same samples are the same part.
    """
    members = {
        one.name: frozenset(place for place, sample in enumerate(evaluated) if one.holds(sample.row))
        for one in slices.slices
    }
    found = {OVERALL: frozenset(range(len(evaluated))), **members, **(dict(_crossed(members)) if crossed else {})}
    parts = {one: _part([evaluated[place] for place in sorted(one)], tasks) for one in set(found.values())}
    return {name: parts[places] for name, places in found.items()}


def _crossed(members: Mapping[str, frozenset[int]]) -> Iterator[tuple[str, frozenset[int]]]:
    for (one, places), (other, others) in combinations(members.items(), 2):
        both = places & others
        if both and both not in (places, others):
            yield f"{one}{CROSS}{other}", both


def _part(evaluated: Sequence[Evaluated], tasks: Sequence[Task]) -> Part:
    values = {
        f"{task.name}/{name}": drawn
        for task in tasks
        for name, drawn in resampled(task.statistics([one.records[task.name] for one in evaluated])).items()
    }
    return Part(len(evaluated), values)


def score_split(parts: Mapping[str, Part], slices: Slices) -> SplitScore:
    """The metrics of every part of :func:`parts_of`, with their intervals."""
    scores = {name: _scored(part) for name, part in parts.items()}
    return SplitScore(
        **dict(scores[OVERALL]),
        slices={one.name: scores[one.name] for one in slices.slices},
        crossed={name: score for name, score in scores.items() if CROSS in name},
    )


def _scored(part: Part) -> SliceScore:
    found = {name: known for name, known in intervals(part.values).items() if known is not None}
    return SliceScore(samples=part.samples, metrics=points(part.values), intervals=found)


def compare_split(parts: Mapping[str, Part], references: Mapping[str, Part]) -> dict[str, dict[str, Change]]:
    """Part → metric: this model's beside that of the ``references``, whose samples are the same in the same order.

    Only parts and metrics that both have are compared.
    """
    return {name: _changes(parts[name].values, reference.values) for name, reference in references.items()}


def _changes(values: Values, references: Values) -> dict[str, Change]:
    found, known = points(values), points(references)
    changes = {}
    for name in sorted(found.keys() & known.keys()):
        value, reference = found[name], known[name]
        between = interval(values[name][1:] - references[name][1:])
        if value is not None and reference is not None and between is not None:
            changes[name] = Change(value=value, reference=reference, interval=between)
    return changes


def lost(parts: Mapping[str, Part], references: Mapping[str, Part]) -> tuple[str, ...]:
    """The metrics that are defined on the whole split for the reference alone."""
    known, reference = (
        {name for name, value in points(one[OVERALL].values).items() if value is not None}
        for one in (parts, references)
    )
    return tuple(sorted(reference - known))
