"""What the scored files say, sample by sample."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.metrics.statistics import Statistics, point


@dataclass(frozen=True)
class Boxes:
    """The categories that a ground truth knows, and those of each sample's boxes."""

    categories: Sequence[str]
    of_samples: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Samples:
    """The samples of a ground truth and what each adds to the metrics.

    A table of attributes may use any of a sample's ``names``. ``statistics`` makes metrics of any choice of
    ``records``; ``counts`` are told beside the metrics.
    """

    names: Sequence[tuple[str, ...]]
    records: Sequence[Any]
    statistics: Callable[[Sequence[Any]], Statistics]
    counts: Mapping[str, int] = field(default_factory=dict)
    boxes: Boxes | None = None

    def metrics(self) -> dict[str, Any]:
        """``counts`` and the metrics over all samples."""
        return {**self.counts, **point(self.statistics(self.records))}
