"""``sweep_report.md``: the report as text, for reviews and for where no page can be opened."""

from collections.abc import Iterable, Iterator

from training_assets.sweeps.report.summary import SweepSummary
from training_assets.sweeps.report.tables import (
    Cell,
    Table,
    budget_table,
    decisions_table,
    defaults_table,
    failures_table,
    front_table,
    importance_table,
    leaderboard_table,
    packages_table,
)
from training_assets.sweeps.report.words import headline, told

MOST = 25
"""Rows of a long table; the page and the summary have all."""


def sweep_report(summary: SweepSummary) -> str:
    """The same summary makes the same text."""
    sections = {
        "Leaderboard": _leaderboard(summary),
        "Pareto front": _front(summary),
        "Best, judged again": _or(packages_table(summary), "Nothing was packaged."),
        "What matters": "\n\n".join(_importance(summary)),
        "Recommended defaults": _or(defaults_table(summary), "Too few trials to recommend anything by."),
        "Budget": _or(budget_table(summary), "Nothing is known of what was spent."),
        "Failures": _or(failures_table(summary), "No trial failed."),
        "Decisions": _decisions(summary),
    }
    head = [f"# Sweep {summary.sweep.name}", headline(summary), "\n".join(f"- {line}" for line in told(summary))]
    return "\n\n".join([*head, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def _leaderboard(summary: SweepSummary) -> str:
    if not summary.trials:
        return "No trial was made."
    left = len(summary.trials) - MOST
    rest = f"\n\n{left} more are in the summary." if left > 0 else ""
    return markdown(leaderboard_table(summary, MOST)) + rest


def _front(summary: SweepSummary) -> str:
    if len(summary.objectives) == 1:
        return "There is one objective: the best trial is the front."
    return _or(front_table(summary), "No trial may be on it.")


def _importance(summary: SweepSummary) -> Iterator[str]:
    for one in summary.importance:
        title = f"**{one.metric}**, by {one.evaluator}, over {one.trials} trials, values {one.basis}"
        fit = "" if one.fit is None else f"; out-of-bag R² {one.fit:.2f}"
        table = [markdown(importance_table(one))] if one.effects else []
        yield "\n\n".join([f"{title}{fit}.", *([f"{one.note.capitalize()}."] if one.note else []), *table])


def _decisions(summary: SweepSummary) -> str:
    table = decisions_table(summary)
    left = len(table.rows) - MOST
    short = Table(table.header, table.rows[:MOST])
    return _or(short, "No trial was ended or paused.") + (f"\n\n{left} more are in the summary." if left > 0 else "")


def _or(table: Table, otherwise: str) -> str:
    return markdown(table) if table.rows else otherwise


def markdown(table: Table) -> str:
    lines: list[Iterable[Cell]] = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Cell) -> str:
    return "–" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
