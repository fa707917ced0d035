"""``python -m trainer profile``: the reference profile of a delivery, and pages on how val and test differ from it."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trainer.contract.delivery import DeliveryReader, manifest_name
from trainer.contract.files import atomic_open, inside, write_text
from trainer.contract.manifest import SPLITS, Row, count_lines, read_manifest
from trainer.contract.pinned import split_manifests
from trainer.contract.reference_profile import PROFILE_FILE, ReferenceProfile, feature_of, page_of
from trainer.contract.slices import SLICES_FILE, Slices, read_slices
from trainer.data.features import Features, column, sample_features
from trainer.data.order import spread

MOST_SAMPLES = 5000
"""Samples of a split that are looked at, evenly spread over its manifest."""


def write_profile(root: Path, out: Path, say: Callable[[str], None], pinned: Path | None = None) -> ReferenceProfile:
    """Write ``out/reference_profile.json`` and ``out/drift_{val,test}.html`` (Evidently) for the delivery in ``root``.

    With ``pinned``, the directory of a dataset version, the rows are that version's; ``root`` has its pictures alone.

    Raises:
        ContractError: the delivery is not in order.
    """
    slices = read_slices((pinned or root) / SLICES_FILE)
    rows = {split: _features(root, chosen, slices) for split, chosen in _chosen(root, pinned).items()}
    names = sorted({name for row in rows["train"] for name in row})
    columns = {split: {name: column(part, name) for name in names} for split, part in rows.items()}
    out.mkdir(parents=True, exist_ok=True)
    distances = {split: _compare(columns["train"], columns[split], out / page_of(split)) for split in ("val", "test")}
    profile = ReferenceProfile(
        samples=len(rows["train"]),
        features={name: feature_of(values) for name, values in columns["train"].items()},
        distances=distances,
    )
    # The profile last: where there is one, its pages are there.
    write_text(out / PROFILE_FILE, profile.model_dump_json() + "\n")
    say(f"profiled {profile.samples} train samples of {root}: {len(names)} features")
    return profile


def _chosen(root: Path, pinned: Path | None) -> dict[str, list[Row]]:
    """The rows of each split that are looked at; no others are kept in memory."""
    if pinned is None:
        files = {split: [root / manifest_name(split)] for split in SPLITS}
        rows = ((sample.split, sample.row) for sample in DeliveryReader(root, check_images=False))
    else:
        files = {split: split_manifests(pinned, split) for split in SPLITS}
        rows = ((split, row) for split in SPLITS for path in files[split] for _, row in read_manifest(path, []))
    wanted = {split: set(spread(sum(map(count_lines, paths)), MOST_SAMPLES)) for split, paths in files.items()}
    places = {split: count() for split in SPLITS}
    chosen: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for split, row in rows:
        if next(places[split]) in wanted[split]:
            chosen[split].append(row)
    return chosen


def _features(root: Path, rows: Sequence[Row], slices: Slices) -> list[Features]:
    def one(row: Row) -> Features:
        image = mask = None
        if row.source_ref is not None:
            image = np.asarray(cv2.imread(str(inside(root, row.source_ref)), cv2.IMREAD_COLOR_RGB))
        if row.semantic_ref is not None:
            mask = cv2.imread(str(inside(root, row.semantic_ref)), cv2.IMREAD_UNCHANGED)
        return sample_features(image, mask, row, slices)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(one, rows))


def _compare(reference: dict[str, list[float]], current: dict[str, list[float]], page: Path) -> dict[str, float]:
    """Evidently's Wasserstein distance of each feature that both have, and its report as ``page``."""
    os.environ["DO_NOT_TRACK"] = "1"  # before the import: Evidently reports its use when it is imported
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = [name for name in reference if reference[name] and current[name]]

    def dataset(columns: dict[str, list[float]]) -> Any:
        frame = pd.DataFrame({name: pd.Series(columns[name], dtype=float) for name in names})
        return Dataset.from_pandas(frame, data_definition=DataDefinition(numerical_columns=names))

    # Its page correlates the columns: one that never changes has no correlation, which is no news.
    with np.errstate(divide="ignore", invalid="ignore"):
        report = Report([DataDriftPreset(num_method="wasserstein")]).run(dataset(current), dataset(reference))
        content = report.get_html_str(as_iframe=False).encode()
    with atomic_open(page) as stream:
        stream.write(content)
    found = {metric["config"].get("column"): metric["value"] for metric in report.dict()["metrics"]}
    return {name: float(found[name]) for name in names}
