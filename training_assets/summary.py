"""What a person wants to know after a run: scores overall and per slice, gates, latency, version, places, what next.

Reads the records and the registry only, so it works without Dagster's database.
"""

import os
import sys
from pathlib import Path

import dagster as dg

from trainer.contract.eval_report import OVERALL, SplitScore
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


def summary() -> int:
    """The newest registered window of each recipe."""
    profile = load_profile()
    records = RecordStore(Places(profile.store))
    try:
        dataset = records.read(dg.AssetKey("dataset_version"), WHOLE, DatasetVersion)
    except MissingRecord:
        print(f"Nothing has been made in {profile.store} yet: make demo")
        return 0
    newest = {name: _newest(records, name) for name in load_recipes(profile.recipes)[0]}
    print_dataset(profile, dataset)
    for name, window in newest.items():
        if window is not None:
            print_recipe(profile, name, window)
    return 0


def print_dataset(profile: Profile, dataset: DatasetVersion) -> None:
    rows = ", ".join(f"{split} {count}" for split, count in dataset.rows.items())
    print(f"\nDataset version {dataset.version[:12]} (DVC {dataset.dvc_hash}): {rows}")
    print(f"  windows with rows: {len(dataset.windows)}, {min(dataset.windows)} to {max(dataset.windows)}")
    pages = "facts.json, reference_profile.json, drift_val.html, drift_test.html"
    print(f"  {_shown(profile.store / dataset.directory)}: {pages}")


def print_recipe(profile: Profile, recipe: str, window: str) -> None:
    """What one recipe's chain for one window came to."""
    places, registry = Places(profile.store), registry_of(profile)
    records = RecordStore(places)
    evaluation = records.read(dg.AssetKey([recipe, "eval_report"]), window, Evaluation)
    exported = records.read(dg.AssetKey([recipe, "exported_model"]), window, ExportedModel)
    registered = records.read(dg.AssetKey([recipe, "registry_entry"]), window, Registered)
    reference = f"{registered.project}@{registered.version}"
    print(f"\n{recipe}, window {window}: {reference}")
    _print_scores(evaluation.report.splits[gates.JUDGED_SPLIT])
    entry = registry.find(reference)
    print("\n  gates")
    for gate in entry.gates:
        print(f"    {'passed' if gate.passed else 'FAILED':7} {gate.name:31} {_margin(gate)}")
    print("\n  latency of one image, one CPU thread")
    for file in exported.exports.files:
        one = file.latency
        print(f"    {file.name:22} p50 {one.p50_ms:7.2f} ms   p95 {one.p95_ms:7.2f} ms   p99 {one.p99_ms:7.2f} ms")
    production = registry.resolve(registered.project, PRODUCTION)
    print(f"\n  registered {reference} as {', '.join(registered.aliases)}")
    print(f"  in production: {f'{production.reference}' if production else 'nothing yet'}")
    released = registry.where(entry)
    print(f"  model         {_shown(released)}")
    print(f"  dashboard     {_shown(f'{released}/{DASHBOARD_FILE}')}")
    print(f"  report        {_shown(f'{released}/eval_report.json')}")
    print(f"  model card    {_shown(f'{released}/model_card.md')}")
    print("\n  next")
    print("    make ui")
    print(f"    {_command()} lineage {reference}")
    if production is None or production.version != registered.version:
        print(f"    {_command()} promote {reference}")


def _margin(gate: gates.GateResult) -> str:
    """How many comparisons were decided, and the one that came closest to failing, or failed by most."""
    decided = [row for row in gate.rows if row.passed is not None]
    if not gate.rows:
        return "nothing to compare with"
    told = f"{len(decided)} of {len(gate.rows)} comparisons decided"
    closest = min((row for row in decided if row.margin is not None), key=lambda row: row.margin or 0.0, default=None)
    if closest is None:
        return told
    return f"{told}, smallest margin {closest.margin:.4g}: {closest.metric} on {closest.slice}"


def _print_scores(scores: SplitScore) -> None:
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
    print()
    for first, *rest in table:
        cells = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        print("  " + "  ".join([f"{first:{widths[0]}}", *cells]))


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
