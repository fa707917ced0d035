"""``data_request.json``: when no setting helps a slice, it wants data. What, how far it is off, and how much may help.

How many frames is a guess, and says so: errors of trained models fall as a power of the number of samples (Hestness
et al., 2017, "Deep learning scaling is predictable, empirically"), but with which power is only known once two sizes
were trained. 1/2 is the best that statistics allow; on real tasks they found 0.07 to 0.35. So ``low`` is by 1/2 and
``high`` by 1/4, of the frames of the slice that there were to learn from.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt

from trainer.contract.charts import Charts
from trainer.contract.eval_report import OVERALL
from trainer.contract.files import write_text
from trainer.contract.metrics import direction
from trainer.contract.train_config import TrainConfig
from training_assets.gates import JUDGED_SPLIT, GateResult, GateRow
from training_assets.stores.event_types import DataRequested
from training_assets.stores.events import wanted_by_sweep

DATA_REQUEST_FILE = "data_request.json"
SLICE_GATES = ("targets_met", "no_regression", "slice_targets_met", "slices_kept")
"""Gates whose rows are about slices of the data; others name files there."""
FORMULA = "frames · ((error / wanted error)^(1/b) - 1); b = 1/2 for low, 1/4 for high; error is 1 - value of a score"
OPTIMISTIC, CAUTIOUS = 0.5, 0.25
HOPELESS = 100
"""Times the frames that there are: more frames alone will hardly do."""
LEAST_TRIALS = 3
EXAMPLES = 8


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Frames(_Model):
    """How many more may be wanted: a range, by ``FORMULA``; None where it cannot be said, for which there is a note."""

    present: NonNegativeInt | None
    low: NonNegativeInt | None = None
    high: NonNegativeInt | None = None
    formula: str = FORMULA
    note: str = ""


class SliceWanted(_Model):
    """A slice that all ``trials`` fail by ``metric``: the best of them reached ``best`` of ``target``.

    ``gap`` is how much better it would have to be. ``examples`` are sample ids, those that models did worst on first.
    """

    slice: str
    gate: str
    metric: str
    target: FiniteFloat | None
    best: FiniteFloat | None
    best_trial: str | None
    gap: FiniteFloat | None
    trials: NonNegativeInt
    frames: Frames
    examples: tuple[str, ...]


class DataRequest(_Model):
    format: Literal[1] = 1
    sweep: str
    project: str
    recipe: str
    slices: tuple[SliceWanted, ...] = Field(min_length=1)


def data_request(
    sweep: str,
    recipe: TrainConfig,
    gates: Mapping[str, Sequence[GateResult]],
    frames: Mapping[str, int],
    examples: Mapping[str, Sequence[str]],
) -> DataRequest | None:
    """What is wanted because every trial of ``gates`` (by name: those that ran to their end) fails the same slices.

    None where there is no such slice, or fewer than three trials. ``frames`` counts the training set's by slice,
    ``examples`` has sample ids by slice (:func:`worst_first`).
    """
    if len(gates) < LEAST_TRIALS:
        return None
    slices = tuple(
        _wanted(*key, rows, frames.get(key[1]), examples.get(key[1], ())) for key, rows in _failed_by_all(gates)
    )
    return DataRequest(sweep=sweep, project=recipe.project, recipe=recipe.name, slices=slices) if slices else None


def _failed_by_all(
    gates: Mapping[str, Sequence[GateResult]],
) -> Iterator[tuple[tuple[str, str, str], dict[str, GateRow]]]:
    """(gate, slice, metric), and each trial's row. One that nothing was decided of has not failed."""
    failed: dict[tuple[str, str, str], dict[str, GateRow]] = {}
    for trial, results in gates.items():
        for gate, row in _rows(results):
            if row.passed is False:
                failed.setdefault((gate, row.slice, row.metric), {})[trial] = row
    yield from ((key, rows) for key, rows in sorted(failed.items()) if len(rows) == len(gates))


def _rows(results: Iterable[GateResult]) -> Iterator[tuple[str, GateRow]]:
    for result in results:
        if result.name in SLICE_GATES:
            yield from ((result.name, row) for row in result.rows if row.slice != OVERALL)


def _wanted(
    gate: str, name: str, metric: str, rows: Mapping[str, GateRow], present: int | None, examples: Sequence[str]
) -> SliceWanted:
    margins = {trial: row.margin for trial, row in rows.items() if row.margin is not None}
    nearest = max(margins, key=lambda trial: margins[trial], default=None)
    best = None if nearest is None else rows[nearest]
    value, target = (None, None) if best is None else (best.value, best.limit)
    return SliceWanted(
        slice=name,
        gate=gate,
        metric=metric,
        target=target,
        best=value,
        best_trial=nearest,
        gap=None if nearest is None else -margins[nearest],
        trials=len(rows),
        frames=frames_wanted(metric, value, target, present),
        examples=tuple(examples[:EXAMPLES]),
    )


def frames_wanted(metric: str, value: float | None, target: float | None, present: int | None) -> Frames:
    """How many more frames of a slice may bring ``value`` to ``target`` where ``present`` are learnt from."""
    told = Frames(present=present)
    if value is None or target is None:
        return told.model_copy(update={"note": "no trial has a value to go by"})
    if not present:
        return told.model_copy(update={"note": "no frames of this slice were learnt from: nothing to go by"})
    error, wanted = (value, target) if direction(metric) < 0 else (1 - value, 1 - target)
    if wanted <= 0 or error <= wanted:
        return told.model_copy(update={"note": "the target leaves no error to go by"})
    low, high = (round(present * ((error / wanted) ** (1 / power) - 1)) for power in (OPTIMISTIC, CAUTIOUS))
    note = "more frames alone will hardly do" if low > HOPELESS * present else ""
    return told.model_copy(update={"low": low, "high": high, "note": note})


def worst_first(
    charts: Charts, members: Mapping[str, Sequence[str]], split: str = JUDGED_SPLIT
) -> dict[str, tuple[str, ...]]:
    """The samples of each slice (``members``: of ``split``), those that the model did worst on first.

    Only the worst few of the whole split are known one by one (``charts``); the others follow in their order.
    """
    drawn = charts.splits.get(split)
    worst = [shown.sample_id for sheet in (drawn.sheets if drawn else ()) for shown in sheet.worst]
    return {
        name: tuple(dict.fromkeys([*(one for one in worst if one in set(ids)), *ids])) for name, ids in members.items()
    }


def write_data_request(request: DataRequest, directory: Path) -> Path:
    path = directory / DATA_REQUEST_FILE
    write_text(path, request.model_dump_json(indent=1) + "\n")
    return path


def events_of(request: DataRequest) -> list[DataRequested]:
    """One a slice; told again it is the same event."""
    found: dict[str, list[GateRow]] = {}
    for one in request.slices:
        verdict = f"failed by all {one.trials} trials of sweep {request.sweep}"
        margin = None if one.gap is None else -one.gap
        row = GateRow(
            metric=one.metric, slice=one.slice, value=one.best, limit=one.target, passed=False, verdict=verdict,
            margin=margin,
        )  # fmt: skip
        found.setdefault(one.slice, []).append(row)
    return [wanted_by_sweep(request.project, request.recipe, request.sweep, name, rows) for name, rows in found.items()]
