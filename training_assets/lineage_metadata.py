"""A registered version's lineage as Dagster shows it: a table whose lines lead to what it was made from."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import dagster as dg

from training_assets import metadata
from training_assets.stores.entries import RegistryEntry

DIGITS = 12
"""Of a digest, as people read it; the registry has it whole."""


def lineage_metadata(entry: RegistryEntry) -> dict[str, Any]:
    """The table, and Dagster's own links to the training's run and to the asset of the training set."""
    run = entry.lineage.run
    own = {} if run.dagster_run_id is None else {"dagster_run": dg.MetadataValue.dagster_run(run.dagster_run_id)}
    return {
        "lineage": metadata.table(("made from", "which", "where"), _rows(entry)),
        "trained_on": dg.MetadataValue.asset(dg.AssetKey([entry.recipe, "training_set"])),
        **own,
    }


def _rows(entry: RegistryEntry) -> Iterable[tuple[str, str, str]]:
    lineage, recipe = entry.lineage, entry.recipe
    dataset, used, code, run = lineage.dataset, lineage.training_set, lineage.code, lineage.run
    yield "dataset version", f"{dataset.version[:DIGITS]}, DVC {dataset.dvc_hash}", asset("dataset_version")
    yield "training set", used.digest[:DIGITS], asset(recipe, "training_set", partition=used.window)
    windows = (asset("staged_shards", partition=window, text=window) for window in used.windows)
    yield "windows with rows", f"{len(used.windows)}", ", ".join(windows)
    if used.mined_slices:
        slices = (asset("mined_slice", partition=name, text=name) for name in used.mined_slices)
        yield "mined slices", f"{len(used.mined_slices)}", ", ".join(slices)
    for split, shards in used.shards.items():
        yield f"{split} shards", f"{len(shards)}", ", ".join(shard.key for shard in shards)
    yield (
        "training run",
        f"{run.run_id}, seeds {_listed(run.seeds)}",
        asset(recipe, "checkpoint", partition=used.window),
    )
    if run.dagster_run_id:
        yield "Dagster run", run.dagster_run_id[:8], f"[run](/runs/{run.dagster_run_id})"
    yield "settings", f"digest {run.config_digest[:DIGITS]}", "overrides: " + (", ".join(run.overrides) or "none")
    yield "began with", run.warm_started_from or "nothing", ""
    if lineage.sweep:
        tune = lineage.sweep.tune
        yield "sweep", f"{tune}, trial {lineage.sweep.trial}", asset(recipe, "sweep_report", partition=tune)
    yield "code", f"commit {(code.git_sha or 'not known')[:DIGITS]}", "with uncommitted changes" if code.dirty else ""
    yield "environment", f"lock {(code.lock_sha256 or 'not known')[:DIGITS]}", f"image {code.image_digest or 'none'}"


def asset(*key: str, partition: str | None = None, text: str | None = None) -> str:
    """A link to the page of an asset, of one partition where one is named."""
    asked = "" if partition is None else f"?view=partitions&partition={quote(partition)}"
    return f"[{text or '/'.join(key)}](/assets/{'/'.join(map(quote, key))}{asked})"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
