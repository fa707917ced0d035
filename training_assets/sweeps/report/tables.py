"""The report's tables, header and rows: the same in Markdown, on the page and in Dagster's metadata."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training_assets.intervals import NOTHING, figure
from training_assets.sweeps.report.summary import Cap, Importance, Kept, Recommended, SweepSummary, TrialRow
from training_assets.sweeps.report.values import shown

Cell = str | int | float | None
HARDLY = 0.05
"""A smaller share of the variance is hardly told from noise."""


@dataclass(frozen=True)
class Table:
    """``trials`` has the trial that each row is about, where it is about one."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    trials: tuple[int | None, ...] = ()


def leaderboard_table(summary: SweepSummary, most: int | None = None) -> Table:
    """One row a trial; an objective's difference to the baseline stands beside it."""
    header = ["rank", "trial", "state"]
    for objective in summary.objectives:
        header += [objective.metric, *([f"Δ {summary.baseline.name}"] if summary.baseline else [])]
    header += [str(constraint) for constraint in summary.constraints]
    header += [axis.name for axis in summary.parameters]
    header += ["epochs", *(name for name, _ in _costs(summary))]
    rows = summary.trials[:most]
    return Table(tuple(header), tuple(tuple(_trial(summary, row)) for row in rows), tuple(row.id for row in rows))


def _trial(summary: SweepSummary, row: TrialRow) -> Iterator[Cell]:
    yield from (row.rank, row.name + (" ★" if row.id == summary.outcome.winner else ""), row.state)
    for objective in summary.objectives:
        yield figure(row.objectives.get(objective.metric))
        if summary.baseline:
            difference = row.differences.get(objective.metric)
            yield NOTHING if difference is None else f"{difference:+.3g}"
    yield from (kept_in_words(one) for one in row.constraints)
    yield from (shown(row.params.get(axis.name)) for axis in summary.parameters)
    yield row.epochs
    yield from (figure(getattr(row, field)) for _, field in _costs(summary))


def _costs(summary: SweepSummary) -> list[tuple[str, str]]:
    """Columns of what trials cost, those that are known of any."""
    columns = [("GPU hours", "gpu_hours"), ("USD", "cost_usd"), ("seconds", "seconds")]
    return [one for one in columns if any(getattr(row, one[1]) is not None for row in summary.trials)]


def kept_in_words(one: Kept) -> str:
    if one.kept is None:
        return "not known"
    return f"{figure(one.value)} {'✓' if one.kept else '✗ broken'}"


def front_table(summary: SweepSummary) -> Table:
    names = [objective.metric for objective in summary.objectives]
    rows = [summary.trial(one) for one in summary.front]
    cells = tuple((row.name, *(figure(row.objectives.get(name)) for name in names)) for row in rows)
    return Table(("trial", *names), cells, tuple(row.id for row in rows))


def importance_table(found: Importance) -> Table:
    return Table(
        ("parameter", found.evaluator),
        tuple((one.parameter, f"{one.share:.1%}") for one in found.effects),
    )


def defaults_table(summary: SweepSummary) -> Table:
    header = ("parameter", "recipe", "recommended", "best region", "winner", "matters (fANOVA)", "note")
    rows = []
    for one in summary.defaults:
        region = "" if one.low is None or one.high is None else f"{shown(one.low)} … {shown(one.high)}"
        region = region if one.share is None else f"{one.share:.0%} of the best"
        matters = NOTHING if one.matters is None else f"{one.matters:.1%}"
        cells = (one.parameter, shown(one.recipe), shown(one.value), region, shown(one.winner), matters)
        rows.append((*cells, "; ".join(_notes(one))))
    return Table(header, tuple(rows))


def _notes(one: Recommended) -> Iterator[str]:
    if one.matters is not None and one.matters < HARDLY:
        yield "hardly matters: no reason to change it"
    if one.at_edge:
        yield f"at the {one.at_edge} end of the search: a wider one may find better"


def budget_table(summary: SweepSummary) -> Table:
    rows = [(one.what, figure(one.used), figure(one.limit), _part(one), figure(one.forecast)) for one in
            summary.budget.caps]  # fmt: skip
    return Table(("budget", "used", "limit", "of it", "forecast"), tuple(rows))


def _part(one: Cap) -> str:
    return f"{one.used / one.limit:.0%}" if one.limit else NOTHING


def decisions_table(summary: SweepSummary, *, all_of_them: bool = False) -> Table:
    """What was decided of whom, by which rule; without those that let a trial go on unless they are asked for."""
    header = ("trial", "epoch", "decision", "rule", "rung", "reached", "threshold", "peers", "reason")
    found = [(row, one) for row in summary.trials for one in row.decisions]
    told = sorted(
        ((row, one) for row, one in found if all_of_them or one.verdict != "continue"),
        key=lambda pair: (pair[0].id, pair[1].epoch),
    )
    rows = [
        (row.name, one.epoch, one.verdict, one.rule, one.rung, figure(one.reached), figure(one.threshold), one.peers,
         one.reason) for row, one in told
    ]  # fmt: skip
    return Table(header, tuple(rows), tuple(row.id for row, _ in told))


def failures_table(summary: SweepSummary) -> Table:
    rows = [row for row in summary.trials if row.state == "failed"]
    cells = tuple((row.name, row.epochs, row.error or "no word of why") for row in rows)
    return Table(("trial", "epochs", "why"), cells, tuple(row.id for row in rows))


def packages_table(summary: SweepSummary) -> Table:
    """The best few, judged again on what no trial has seen."""
    packages = summary.outcome.packages
    held, smoke = (_names([getattr(one, part) for one in packages]) for part in ("holdout", "smoke"))
    header = (
        "trial",
        *(f"{name} (hold-out)" for name in held),
        *(f"{name} (smoke)" for name in smoke),
        "note",
        "package",
    )
    rows = [
        (
            summary.trial(one.trial).name,
            *(figure(one.holdout.get(name)) for name in held),
            *(figure(one.smoke.get(name)) for name in smoke),
            one.note,
            one.path,
        )
        for one in packages
    ]
    return Table(header, tuple(rows), tuple(one.trial for one in packages))


def _names(scores: Sequence[dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for one in scores for name in one))
