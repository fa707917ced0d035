"""What a person wants to know after a run: scores overall and per slice, gates, latency, version, places, what next.

Reads the records and the registry only, so it works without Dagster's database.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from trainer.contract.eval_report import OVERALL, SplitScore
from trainer.contract.results import Timing
from trainer.terminal.answers import Answer
from trainer.terminal.colours import painted, verdict
from training_assets import gates
from training_assets.dashboard import DASHBOARD_FILE
from training_assets.intervals import with_interval
from training_assets.places import Places
from training_assets.profiles import Profile, load_profile
from training_assets.recipes import load_recipes
from training_assets.records import DatasetVersion, Evaluation, ExportedModel, Registered
from training_assets.stores.entries import PRODUCTION
from training_assets.stores.record_store import WHOLE, MissingRecord, RecordStore
from training_assets.stores.registry import registry_of

METRICS_OF_A_TASK = 2


@dataclass(frozen=True)
class DatasetSummary:
    """The dataset version: its rows by split, its windows with rows, the directory with facts and drift pages."""

    version: str
    dvc_hash: str
    rows: dict[str, int]
    windows: tuple[str, ...]
    directory: Path


@dataclass(frozen=True)
class GateSummary:
    """A gate's verdict; ``margin`` says of its comparisons which came closest to failing, or failed by most."""

    name: str
    passed: bool
    margin: str


@dataclass(frozen=True)
class RecipeSummary:
    """What one recipe's chain for one window came to. ``latency`` by file: one image, one CPU thread."""

    recipe: str
    window: str
    reference: str
    aliases: tuple[str, ...]
    production: str | None
    scores: SplitScore
    gates: tuple[GateSummary, ...]
    latency: dict[str, Timing]
    directory: str

    @property
    def is_production(self) -> bool:
        return self.production == self.reference


def summary() -> Answer:
    """The newest registered window of each recipe."""
    profile = load_profile()
    records = RecordStore(Places(profile.store))
    try:
        dataset = dataset_summary(profile, records.read(dg.AssetKey("dataset_version"), WHOLE, DatasetVersion))
    except MissingRecord:
        nothing = f"Nothing has been made in {profile.store} yet: make demo"
        return Answer({"dataset": None, "recipes": []}, nothing)
    newest = {name: _newest(records, name) for name in load_recipes(profile.recipes)[0]}
    return told(dataset, [recipe_summary(profile, name, window) for name, window in newest.items() if window])


def told(dataset: DatasetSummary, recipes: list[RecipeSummary]) -> Answer:
    """Both as a command answers."""
    lines = [*_dataset_lines(dataset), *(line for one in recipes for line in recipe_lines(one))]
    return Answer({"dataset": dataset, "recipes": recipes}, lines)


def dataset_summary(profile: Profile, dataset: DatasetVersion) -> DatasetSummary:
    directory = profile.store / dataset.directory
    return DatasetSummary(
        dataset.version, dataset.dvc_hash, dict(dataset.rows), tuple(sorted(dataset.windows)), directory
    )


def recipe_summary(profile: Profile, recipe: str, window: str) -> RecipeSummary:
    places, registry = Places(profile.store), registry_of(profile)
    records = RecordStore(places)
    evaluation = records.read(dg.AssetKey([recipe, "eval_report"]), window, Evaluation)
    exported = records.read(dg.AssetKey([recipe, "exported_model"]), window, ExportedModel)
    registered = records.read(dg.AssetKey([recipe, "registry_entry"]), window, Registered)
    entry = registry.find(f"{registered.project}@{registered.version}")
    production = registry.resolve(registered.project, PRODUCTION)
    return RecipeSummary(
        recipe=recipe,
        window=window,
        reference=entry.reference,
        aliases=tuple(registered.aliases),
        production=production.reference if production else None,
        scores=evaluation.report.splits[gates.JUDGED_SPLIT],
        gates=tuple(GateSummary(gate.name, gate.passed, _margin(gate)) for gate in entry.gates),
        latency={file.name: file.latency for file in exported.exports.files},
        directory=str(registry.where(entry)),
    )


def recipe_lines(one: RecipeSummary) -> Iterator[str]:
    yield f"\n{painted(f'{one.recipe}, window {one.window}: {one.reference}', 'bold')}\n"
    yield from _score_lines(one.scores)
    yield "\n  gates"
    for gate in one.gates:
        word = verdict(gate.passed, f"{'passed' if gate.passed else 'FAILED':7}")
        yield f"    {word} {gate.name:31} {gate.margin}"
    yield "\n  latency of one image, one CPU thread"
    for name, took in one.latency.items():
        yield f"    {name:22} p50 {took.p50_ms:7.2f} ms   p95 {took.p95_ms:7.2f} ms   p99 {took.p99_ms:7.2f} ms"
    yield f"\n  registered {one.reference} as {', '.join(one.aliases)}"
    yield f"  in production: {one.production or 'nothing yet'}"
    yield f"  model         {_shown(one.directory)}"
    for what, file in (("dashboard", DASHBOARD_FILE), ("report", "eval_report.json"), ("model card", "model_card.md")):
        yield f"  {what:13} {_shown(f'{one.directory}/{file}')}"
    yield "\n  next"
    yield "    make ui"
    yield f"    {_command()} lineage {one.reference}"
    if not one.is_production:
        yield f"    {_command()} promote {one.reference}"


def _dataset_lines(dataset: DatasetSummary) -> Iterator[str]:
    rows = ", ".join(f"{split} {count}" for split, count in dataset.rows.items())
    yield f"\nDataset version {dataset.version[:12]} (DVC {dataset.dvc_hash}): {rows}"
    yield f"  windows with rows: {len(dataset.windows)}, {min(dataset.windows)} to {max(dataset.windows)}"
    yield f"  {_shown(dataset.directory)}: facts.json, reference_profile.json, drift_val.html, drift_test.html"


def _margin(gate: gates.GateResult) -> str:
    """How many comparisons were decided, and the one that came closest to failing, or failed by most."""
    decided = [row for row in gate.rows if row.passed is not None]
    if not gate.rows:
        return "nothing to compare with"
    tally = f"{len(decided)} of {len(gate.rows)} comparisons decided"
    closest = min((row for row in decided if row.margin is not None), key=lambda row: row.margin or 0.0, default=None)
    if closest is None:
        return tally
    return f"{tally}, smallest margin {closest.margin:.4g}: {closest.metric} on {closest.slice}"


def _score_lines(scores: SplitScore) -> Iterator[str]:
    """The first metrics of each task with their intervals."""
    names: list[str] = []
    for name in scores.metrics:
        task = name.partition("/")[0]
        if name.count("/") == 1 and sum(other.startswith(f"{task}/") for other in names) < METRICS_OF_A_TASK:
            names.append(name)
    table = [("test slice", "samples", *names)]
    for name, part in {OVERALL: scores, **scores.slices}.items():
        cells = (with_interval(part.metrics.get(one), part.intervals.get(one)) for one in names)
        table.append((name, str(part.samples), *cells))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *rest in table:
        cells = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        yield "  " + "  ".join([f"{first:{widths[0]}}", *cells])


def _newest(records: RecordStore, recipe: str) -> str | None:
    directory = records.path(dg.AssetKey([recipe, "registry_entry"])).parent
    return max((path.stem for path in directory.glob("*.json")), default=None)


def _command() -> str:
    """How the person at this place calls us: with the interpreter that runs this."""
    return f"{_shown(Path(sys.executable))} -m training_assets"


def _shown(place: Path | str) -> str:
    """Relative to where the person is, when that is shorter; a URI as it is."""
    text = str(place)
    return text if "://" in text else min(text, os.path.relpath(text), key=len)
