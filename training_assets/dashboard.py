"""``dashboard.html``: one page to look at a judged model with. It opens offline and asks nothing of any network.

Pictures are inside it, and the script that sorts its tables; its content security policy forbids everything else. All
is there without the script too. The same facts make the same page, byte for byte.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainer.contract.charts import SUMMARY, Charts, SplitCharts
from trainer.contract.eval_report import CROSS, OVERALL, Change, EvalReport, SliceScore, SplitScore
from trainer.contract.files import write_text
from trainer.contract.results import Exports
from trainer.contract.slices import Slice, Slices
from trainer.contract.train_config import TrainConfig
from training_assets.facts import general
from training_assets.gates import BY_SIZE, JUDGED_SPLIT, GateResult, tendency
from training_assets.intervals import changed, figure, spread
from training_assets.timings import Tabular, int8_note, int8_table, timing_table

DASHBOARD_FILE = "dashboard.html"
TEMPLATE = "dashboard.html.j2"
SCRIPT = Path(__file__).with_name("dashboard.js")
MIME = {".svg": "image/svg+xml", ".jpg": "image/jpeg"}
TONES = {"better": "better", "worse": "worse", "within noise": "same"}


@dataclass(frozen=True)
class Cell:
    """One metric of one slice: the value, its interval, and the change to production with its own."""

    metric: str
    value: str
    interval: str
    change: str
    tone: str


@dataclass(frozen=True)
class Line:
    """One slice. ``few`` says so where there are too few samples to judge it by."""

    name: str
    samples: int
    critical: bool
    few: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """The slices of a split by the metrics that are not of one class or object size."""

    metrics: list[str]
    lines: list[Line]


class Shown(Protocol):
    """What the page shows of a model. ``origin`` says where it comes from and what it was judged on, a line each.

    ``pictures`` holds what ``charts`` names. ``compared_with`` calls the other model of the report by its name.
    """

    @property
    def config(self) -> TrainConfig: ...
    @property
    def slices(self) -> Slices: ...
    @property
    def report(self) -> EvalReport: ...
    @property
    def charts(self) -> Charts: ...
    @property
    def pictures(self) -> Path: ...
    @property
    def exports(self) -> Exports: ...
    @property
    def gates(self) -> Sequence[GateResult]: ...
    @property
    def compared_with(self) -> str: ...
    @property
    def origin(self) -> Mapping[str, str]: ...


def write_dashboard(facts: Shown) -> Path:
    """Write the page beside the report that it shows."""
    path = facts.pictures / DASHBOARD_FILE
    write_text(path, dashboard(facts))
    return path


def dashboard(facts: Shown) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(TEMPLATE).render(**_content(facts))


def _content(facts: Shown) -> dict[str, Any]:
    report, script = facts.report, SCRIPT.read_text()
    judged = report.splits.get(JUDGED_SPLIT)
    drawn = facts.charts.splits.get(JUDGED_SPLIT, SplitCharts(drawings=(), sheets=()))
    return {
        "title": f"{facts.config.name}, run {report.run_id}",
        "description": facts.config.description,
        "blocked": [gate.name for gate in facts.gates if gate.blocks],
        "against": _against(facts),
        "split": JUDGED_SPLIT,
        "tables": {split: _table(facts, split) for split in _judged_first(report.splits)},
        "crossed": _crossed(facts),
        "classes": [] if judged is None else list(_by_class(judged)),
        "gates": [(gate, _verdict(gate), _rows(gate)) for gate in facts.gates],
        "curves": list(_curves(facts, drawn)),
        "confusions": list(_confusions(facts, drawn)),
        "sheets": [(sheet, _inlined(facts.pictures / sheet.file)) for sheet in drawn.sheets],
        "latency": _cells(timing_table(facts.exports)),
        "int8": _cells(int8_table(facts.exports)),
        "int8_note": int8_note(facts.exports),
        "provenance": facts.origin,
        "figure": figure,
        "script": script,
        "script_sha256": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def _against(facts: Shown) -> str:
    against = facts.report.against
    if against is None:
        return "There was no other model to compare with."
    if against.misfit is not None:
        other = f"The other model (run {against.run_id}, {facts.compared_with})"
        return f"{other} cannot be judged on this data: {against.misfit}."
    lost = ", ".join(against.lost.get(JUDGED_SPLIT, ()))
    return (
        f"Changes are to run {against.run_id} ({against.checkpoint_sha256[:12]}), {facts.compared_with}, on the same"
        " samples." + (f" Only that one has: {lost}." if lost else "")
    )


def _judged_first(splits: Mapping[str, SplitScore]) -> list[str]:
    return sorted(splits, key=lambda name: (name != JUDGED_SPLIT, name))


def _table(facts: Shown, split: str) -> Table:
    scores, slices = facts.report.splits[split], {one.name: one for one in facts.slices.slices}
    against = facts.report.against
    changes = {} if against is None else against.splits.get(split, {})
    metrics = general(scores)
    lines = [_line(OVERALL, scores, metrics, changes, [])]
    lines += [_line(name, part, metrics, changes, [slices[name]]) for name, part in scores.slices.items()]
    return Table(metrics, lines)


def _crossed(facts: Shown) -> Table:
    """What two slices share; it has too few samples when it has fewer than either asks for."""
    judged = facts.report.splits.get(JUDGED_SPLIT)
    if judged is None:
        return Table([], [])
    slices, metrics = {one.name: one for one in facts.slices.slices}, general(judged)
    parts = judged.crossed.items()
    return Table(metrics, [_line(n, part, metrics, {}, [slices[one] for one in n.split(CROSS)]) for n, part in parts])


def _line(
    name: str,
    part: SliceScore,
    metrics: list[str],
    changes: Mapping[str, Mapping[str, Change]],
    slices: Sequence[Slice],
) -> Line:
    needed = max((one.min_samples for one in slices), default=0)
    few = f"too few samples ({part.samples} of {needed})" if part.samples < needed else ""
    found = changes.get(name, {})
    cells = [_cell(metric, part, found.get(metric), bool(few)) for metric in metrics]
    return Line(name, part.samples, any(one.safety_critical for one in slices), few, cells)


def _cell(metric: str, part: SliceScore, change: Change | None, few: bool) -> Cell:
    tone = "" if change is None or few else TONES[tendency(metric, change)]
    return Cell(
        metric=metric,
        value=figure(part.metrics.get(metric)),
        interval=spread(part.intervals.get(metric)),
        change="" if change is None else changed(change),
        tone=tone,
    )


def _by_class(judged: SplitScore) -> Iterator[tuple[str, str, str]]:
    for name, value in judged.metrics.items():
        if name.count("/") > 1 or BY_SIZE.search(name):
            yield name, figure(value), spread(judged.intervals.get(name))


def _verdict(gate: GateResult) -> tuple[str, str]:
    """Word and tone."""
    if gate.passed:
        return ("passed", "better") if gate.rows else ("nothing to compare", "same")
    return ("FAILED", "worse") if gate.severity == "block" else ("failed (warning)", "warned")


def _rows(gate: GateResult) -> list[tuple[Any, str]]:
    """Failed rows first, and each row's tone."""
    tones = {True: "better", False: "worse", None: "same"}
    ordered = sorted(gate.rows, key=lambda row: (row.passed is not False, row.passed is not None))
    return [(row, tones[row.passed]) for row in ordered]


def _curves(facts: Shown, drawn: SplitCharts) -> Iterator[tuple[str, str, str]]:
    """Name, figures and picture."""
    for one in drawn.drawings:
        if one.chart.kind != "confusion":
            summary = SUMMARY[one.chart.kind]
            figures = ", ".join(f"{line.name} {summary} {figure(line.summary)}" for line in one.chart.lines)
            yield f"{one.task}: {one.chart.kind.replace('_', ' ')}", figures, _inlined(facts.pictures / one.file)


def _confusions(facts: Shown, drawn: SplitCharts) -> Iterator[tuple[str, str]]:
    for one in drawn.drawings:
        if one.chart.kind == "confusion":
            yield f"{one.task}: confusion matrix", _inlined(facts.pictures / one.file)


def _inlined(path: Path) -> str:
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _cells(table: Tabular) -> tuple[Sequence[str], list[list[str]]]:
    """Header and rows as text."""
    header, rows = table
    return header, [[str(one) if isinstance(one, str | int) else figure(one) for one in row] for row in rows]
