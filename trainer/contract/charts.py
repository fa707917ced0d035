"""``charts.json``: the curves and confusion matrices of an evaluation, the samples it shows, and their pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, model_validator

from trainer.contract.manifest import Sha256

CHARTS_FILE = "charts.json"
BACKGROUND = "background"
"""No object, in the confusion matrix of a detector."""

CurveKind = Literal["precision_recall", "roc", "reliability"]
SUMMARY = {"precision_recall": "AP50", "roc": "AUC", "reliability": "ECE"}
"""What :class:`Line` sums up, by the kind of its curves."""

PictureFile = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*\.(svg|jpg)$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Line(_Model):
    """The curve of one class through the points (``x``, ``y``), all in 0…1.

    ``precision_recall``: recall, monotone precision; ``roc``: false and true positive rate; ``reliability``: mean
    confidence and accuracy of each bin, and in ``predictions`` how many there are in it.
    """

    name: str
    x: tuple[FiniteFloat, ...]
    y: tuple[FiniteFloat, ...]
    summary: FiniteFloat
    predictions: tuple[NonNegativeInt, ...] | None = None

    @model_validator(mode="after")
    def _of_equal_length(self) -> "Line":
        if len({len(self.x), len(self.y), len(self.x if self.predictions is None else self.predictions)}) > 1:
            raise ValueError(f"line '{self.name}': x, y and predictions are of unequal length")
        return self


class Curves(_Model):
    """The curves of all classes for which they are defined."""

    kind: CurveKind
    lines: tuple[Line, ...]


class Confusion(_Model):
    """``counts[truth][predicted]``, in pixels or objects."""

    kind: Literal["confusion"] = "confusion"
    classes: tuple[str, ...]
    counts: tuple[tuple[NonNegativeInt, ...], ...]

    @model_validator(mode="after")
    def _square(self) -> "Confusion":
        if {len(self.counts), *map(len, self.counts)} != {len(self.classes)}:
            raise ValueError(f"counts are not {len(self.classes)}×{len(self.classes)}, one row and column a class")
        return self


Chart = Curves | Confusion


class Drawing(_Model):
    """A chart of a task, and its picture beside this file."""

    task: str
    file: PictureFile
    chart: Annotated[Chart, Field(discriminator="kind")]


class Shown(_Model):
    """A sample in a sheet, and what the sheet's metric is on it alone."""

    sample_id: str
    value: FiniteFloat


class Sheet(_Model):
    """The picture of a task's best samples (upper row) and worst ones (lower row) by ``metric``, the first first."""

    task: str
    metric: str
    file: PictureFile
    best: tuple[Shown, ...]
    worst: tuple[Shown, ...]


class SplitCharts(_Model):
    drawings: tuple[Drawing, ...]
    sheets: tuple[Sheet, ...]


class Charts(_Model):
    """The charts of one evaluation of one checkpoint, by split."""

    format: Literal[1] = 1
    checkpoint_sha256: Sha256
    splits: dict[str, SplitCharts]

    def files(self) -> Iterator[str]:
        """The names of all pictures."""
        for split in self.splits.values():
            yield from (drawing.file for drawing in split.drawings)
            yield from (sheet.file for sheet in split.sheets)


def read_charts(directory: Path) -> Charts:
    """The charts of the evaluation in ``directory``."""
    return Charts.model_validate_json((directory / CHARTS_FILE).read_bytes())
