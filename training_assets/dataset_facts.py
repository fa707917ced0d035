"""What is told of a dataset version: counts by window, slice, label, attribute, licence, and features of each sample.

Both take samples one by one and keep counts or packed columns, never the rows.
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.contract.delivery import Sample, count_labels
from trainer.contract.files import atomic_open
from trainer.contract.manifest import LABEL_FIELDS, SPLITS
from trainer.contract.slices import Slices

if TYPE_CHECKING:
    import pyarrow

PACKED = 20_000
"""Samples whose features are held as Python values before they become columns."""


class Tally:
    """Counts over all samples, or by split where it says so."""

    def __init__(self, slices: Slices) -> None:
        self._slices = slices.slices
        self.rows: Counter[str] = Counter(dict.fromkeys(SPLITS, 0))
        self.kinds: Counter[str] = Counter(dict.fromkeys(LABEL_FIELDS, 0))
        """How many rows were annotated with each kind of label: what ``TrainConfig.misfits`` asks."""
        self.licences: Counter[str] = Counter()
        self._classes: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._slice_rows = {one.name: Counter(dict.fromkeys(SPLITS, 0)) for one in self._slices}
        self._attributes: dict[str, Counter[str]] = {}
        self._origins: Counter[str] = Counter()
        self._captured_at: Counter[str] = Counter()

    def add(self, sample: Sample) -> None:
        row, split = sample.row, sample.split
        self.rows[split] += 1
        self.licences[row.licence] += 1
        self._origins[row.origin] += 1
        self._captured_at[row.captured_at_source] += 1
        count_labels([row], into=self._classes[split])
        for kind in LABEL_FIELDS:
            self.kinds[kind] += row.has_label(kind)
        for one in self._slices:
            self._slice_rows[one.name][split] += one.holds(row)
        for name, value in row.attributes.items():
            self._attributes.setdefault(name, Counter())[str(value)] += 1

    @property
    def labels(self) -> dict[str, int]:
        """Objects of each category, and rows with each kind of label."""
        objects = Counter[str]()
        for found in self._classes.values():
            objects.update(found)
        return {**objects, **self.kinds}

    def facts(self) -> dict[str, Any]:
        return {
            "slices": {name: dict(by_split) for name, by_split in self._slice_rows.items()},
            "classes": {split: dict(found) for split, found in self._classes.items()},
            "attributes": {name: dict(found.most_common()) for name, found in sorted(self._attributes.items())},
            "licences": dict(self.licences.most_common()),
            "origins": dict(self._origins.most_common()),
            "captured_at": dict(self._captured_at),
        }


class FeatureTable:
    """``features.parquet``: a line for each sample; a column that a sample says nothing of is empty there."""

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []
        self._packed: list[pyarrow.Table] = []

    def add(self, sample: Sample) -> None:
        self._waiting.append(_features(sample))
        if len(self._waiting) == PACKED:
            self._pack()

    def write(self, path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        self._pack()
        with atomic_open(path) as stream:
            parquet.write_table(pyarrow.concat_tables(self._packed, promote_options="permissive"), stream)

    def _pack(self) -> None:
        import pandas as pd
        import pyarrow

        table = pyarrow.Table.from_pandas(pd.DataFrame(self._waiting), preserve_index=False)
        self._packed.append(table.replace_schema_metadata(None))
        self._waiting = []


def _features(sample: Sample) -> dict[str, Any]:
    row, facts = sample.row, sample.facts  # no facts without an image
    boxes = Counter(box.category for box in row.boxes or ())
    return {
        "sample_id": row.sample_id,
        "split": sample.split,
        **{f"attributes.{name}": str(value) for name, value in row.attributes.items()},
        **({name: getattr(facts, name) for name in ("luma_mean", "luma_std", "width", "height")} if facts else {}),
        "boxes": sum(boxes.values()),
        **{f"boxes.{category}": count for category, count in boxes.items()},
    }
