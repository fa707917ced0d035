"""``eval_report.json``: what one model scored, overall and on every slice."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat

from trainer.contract.manifest import Sha256

Metrics = dict[str, FiniteFloat | None]
"""``<task>/<metric>`` → value; ``None`` where it is not defined (no ground truth of a class, say)."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SliceScore(_Model):
    """The metrics of one slice over ``samples`` samples."""

    samples: int
    metrics: Metrics


class SplitScore(SliceScore):
    """The metrics of a whole split and of each of its slices."""

    slices: dict[str, SliceScore]


class EvalReport(_Model):
    """One evaluation of one checkpoint."""

    format: Literal[1] = 1
    run_id: str
    recipe: str
    checkpoint_sha256: Sha256
    data_digest: Sha256
    splits: dict[str, SplitScore]
