"""``sweep_report.html``: the report to look at and to play with. It opens offline and asks nothing of any network.

As with the dashboard of a model, the content security policy forbids all but the page's own script, and all is there
without the script too: it only sorts, lights up a trial wherever it is, and keeps those within a drawn range.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from training_assets import dashboard
from training_assets.intervals import figure
from training_assets.sweeps.goals import Objective
from training_assets.sweeps.report import tables
from training_assets.sweeps.report.figures.curves import learning_curves
from training_assets.sweeps.report.figures.effects import bars, strips
from training_assets.sweeps.report.figures.parallel import parallel_coordinates
from training_assets.sweeps.report.figures.scatter import scatters
from training_assets.sweeps.report.figures.spending import by_trial, over_time
from training_assets.sweeps.report.figures.svg import tones_of
from training_assets.sweeps.report.summary import Cap, Importance, SweepSummary
from training_assets.sweeps.report.words import headline, told

TEMPLATE = "page.html.j2"
SCRIPT = Path(__file__).with_name("page.js")


def page(summary: SweepSummary) -> str:
    """The page. The same summary makes the same page, byte for byte."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(TEMPLATE).render(**_content(summary))


def _content(summary: SweepSummary) -> dict[str, Any]:
    script = dashboard.SCRIPT.read_text() + SCRIPT.read_text()
    return {
        "sweep": summary.sweep,
        "outcome": summary.outcome,
        "headline": headline(summary),
        "told": list(told(summary)),
        "tiles": _tiles(summary),
        "leaderboard": tables.leaderboard_table(summary),
        "tones": tones_of(summary),
        "parallel": parallel_coordinates(summary),
        "curves": [(one.metric, drawn) for one in summary.objectives if (drawn := learning_curves(summary, one))],
        "scatters": list(scatters(summary)),
        "several": len(summary.objectives) > 1,
        "front": tables.front_table(summary),
        "importance": [_importance(summary, one) for one in summary.importance],
        "defaults": tables.defaults_table(summary),
        "caps": [_cap(one) for one in summary.budget.caps],
        "spending": [drawn for drawn in (over_time(summary), by_trial(summary)) if drawn],
        "packages": tables.packages_table(summary),
        "failures": tables.failures_table(summary),
        "decisions": tables.decisions_table(summary),
        "provenance": _provenance(summary),
        "script": script,
        "script_sha256": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def _tiles(summary: SweepSummary) -> list[tuple[str, str, str]]:
    """The first figures that one looks for: name, value, and a word beside it."""
    best = next((row for row in summary.trials if row.rank == 1), None)
    tiles = [_objective_tile(summary, one) for one in summary.objectives] if best else []
    ended = sum(row.state == "stopped" for row in summary.trials)
    failed = sum(row.state == "failed" for row in summary.trials)
    tiles.append(("trials", str(len(summary.trials)), f"{ended} ended early, {failed} failed"))
    return tiles + [(one.what, figure(one.used), "no limit" if one.limit is None else f"of {one.limit:g}") for one in
                    summary.budget.caps if one.what != "trials"]  # fmt: skip


def _objective_tile(summary: SweepSummary, objective: Objective) -> tuple[str, str, str]:
    row = next((one for one in summary.trials if one.id == summary.outcome.winner), summary.trials[0])
    difference = row.differences.get(objective.metric)
    beside = "" if difference is None or summary.baseline is None else f"{difference:+.3g} to {summary.baseline.name}"
    return objective.metric, figure(row.objectives.get(objective.metric)), beside


def _importance(summary: SweepSummary, found: Importance) -> dict[str, Any]:
    return {
        "found": found,
        "bars": bars(found) if found.effects else "",
        "strips": strips(summary, found) if any(one.shap for one in found.effects) else "",
    }


def _cap(cap: Cap) -> dict[str, Any]:
    """Shares of the limit in per cent, for a bar; without a limit there is none."""
    limit = cap.limit or 0.0
    return {
        "cap": cap,
        "used": figure(cap.used),
        "forecast": None if cap.forecast is None else figure(cap.forecast),
        "share": min(100.0, 100 * cap.used / limit) if limit else None,
        "foreseen": min(100.0, 100 * (cap.forecast or 0.0) / limit) if limit else None,
        "over": bool(limit) and max(cap.used, cap.forecast or 0.0) > limit,
    }


def _provenance(summary: SweepSummary) -> dict[str, str]:
    sweep = summary.sweep
    times = {"started": sweep.started_at, "ended": sweep.ended_at}
    found = {
        "recipe": f"{sweep.recipe} of project {sweep.project}",
        **{name: f"{at:%Y-%m-%d %H:%M} {at:%Z}".strip() for name, at in times.items() if at is not None},
        "window": sweep.window,
        "data": sweep.data_digest,
        "git commit": sweep.git_sha,
        "registered": summary.outcome.registered,
        "proposal": summary.outcome.proposal,
        "data request": summary.outcome.data_request,
    }
    return {name: value for name, value in found.items() if value is not None}
