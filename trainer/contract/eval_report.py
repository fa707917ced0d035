"""``eval_report.json``: what one model scored, overall and on every slice."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat

from trainer.contract.manifest import Sha256

Metrics = dict[str, FiniteFloat | None]
"""``<task>/<metric>`` → value; ``None`` where it is not defined (no ground truth of a class, say)."""

Interval = tuple[FiniteFloat, FiniteFloat]
"""The 95 % percentile interval of 1,000 bootstrap draws of the samples."""

OVERALL = "all"
"""The whole split, where slices are named."""
CROSS = " × "
"""Between the names of two slices: the samples that are in both."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SliceScore(_Model):
    """The metrics of one slice over ``samples`` samples, and the interval of each that has one."""

    samples: int
    metrics: Metrics
    intervals: dict[str, Interval] = {}


class SplitScore(SliceScore):
    """The metrics of a whole split, of each of its slices, and of the slices ``crossed`` in pairs."""

    slices: dict[str, SliceScore]
    crossed: dict[str, SliceScore] = {}


class Change(_Model):
    """A metric beside the ``reference`` model's on the same samples.

    ``interval`` is that of ``value - reference`` when both are drawn the same samples (a paired bootstrap).
    """

    value: FiniteFloat
    reference: FiniteFloat
    interval: Interval


class Comparison(_Model):
    """This model beside another on the same samples: split → slice (``all``: the whole split) → metric.

    ``lost`` names the metrics that only the other has. ``misfit`` says why the other cannot be judged on these
    samples; then there are no splits.
    """

    run_id: str
    checkpoint_sha256: Sha256
    splits: dict[str, dict[str, dict[str, Change]]] = {}
    lost: dict[str, tuple[str, ...]] = {}
    misfit: str | None = None


class EvalReport(_Model):
    """One evaluation of one checkpoint; ``against`` the model in production, if there was one to compare with."""

    format: Literal[2] = 2
    run_id: str
    recipe: str
    checkpoint_sha256: Sha256
    data_digest: Sha256
    splits: dict[str, SplitScore]
    against: Comparison | None = None
