"""A sweep's report as Dagster shows it: its tables, and its numbers over time."""

import dagster as dg

from training_assets.metadata import numbers, table
from training_assets.sweeps.report.summary import SweepSummary
from training_assets.sweeps.report.tables import (
    Table,
    budget_table,
    defaults_table,
    failures_table,
    front_table,
    importance_table,
    leaderboard_table,
)
from training_assets.sweeps.report.words import headline, told

MOST = 20
"""Rows of the leaderboard; the page has all."""


def sweep_metadata(summary: SweepSummary) -> dict[str, dg.MetadataValue]:
    """What one looks for first; the page has the rest."""
    winner = next((row for row in summary.trials if row.id == summary.outcome.winner), None)
    importance = {
        f"importance of {one.metric}, {one.evaluator}": dg.MetadataValue.md(one.note.capitalize())
        if not one.effects
        else _table(importance_table(one))
        for one in summary.importance
    }
    tables = {
        "leaderboard": leaderboard_table(summary, MOST),
        "pareto_front": front_table(summary),
        "recommended": defaults_table(summary),
        "budget": budget_table(summary),
        "failures": failures_table(summary),
    }
    return {
        "headline": dg.MetadataValue.text(headline(summary)),
        "summary": dg.MetadataValue.md("\n".join(f"- {line}" for line in told(summary))),
        **{name: _table(one) for name, one in tables.items() if one.rows},
        **importance,
        "trials": dg.MetadataValue.int(len(summary.trials)),
        **{name: dg.MetadataValue.float(value) for name, value in numbers(winner.objectives if winner else {}).items()},
        **{f"used {one.what}": dg.MetadataValue.float(one.used) for one in summary.budget.caps},
    }


def _table(found: Table) -> dg.MarkdownMetadataValue:
    return table(found.header, found.rows)
