"""What commands leave behind: ``result.json`` of a training, ``exports.json`` of an export."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from trainer.contract.manifest import Sha256


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Epoch(_Model):
    """One epoch: mean losses by name, metrics on val by ``<task>/<metric>``, seconds of training alone."""

    epoch: int
    global_step: int
    losses: dict[str, FiniteFloat]
    metrics: dict[str, FiniteFloat | None]
    seconds: FiniteFloat


class Verdict(_Model):
    """What one gate inside the run found. ``severity`` says what a failure does: ``abort`` ends the run.

    ``figures`` are numbers a person may want to see or plot.
    """

    gate: str
    passed: bool
    severity: Literal["abort", "warn"]
    message: str
    figures: dict[str, FiniteFloat] = {}


class TrainResult(_Model):
    """``result.json``: what a finished training was.

    ``state_sha256`` is over the model's and the optimizer's tensors; ``samples_per_second`` over the training
    steps alone, all ranks together; paths are relative to the run directory. ``stop_reason`` is ``max_epochs``,
    ``max_run_seconds`` or ``early_stopping``; ``gates`` has the verdict of each gate inside the run.
    """

    run_id: str
    recipe: str
    config_digest: Sha256
    data_digest: Sha256
    seed: int
    world_size: int
    global_step: int
    epochs: tuple[Epoch, ...]
    monitor: str
    best_metric: FiniteFloat | None
    best_step: int
    samples_per_second: Annotated[FiniteFloat, Field(ge=0)]
    train_seconds: FiniteFloat
    resumed_from_step: int | None
    state_sha256: Sha256
    stop_reason: str
    gates: tuple[Verdict, ...]
    parameters: int
    best_checkpoint: str
    last_checkpoint: str


FAILURE_FILE = "failure.json"


class Failure(_Model):
    """``failure.json`` of a run directory: why the last attempt ended without a result.

    torchrun turns every rank's exit code into 1; this is where the launcher reads what happened. ``verdict`` is that
    of the gate that ended the run.
    """

    kind: Literal["bad_input", "stopped", "not_finite", "gate", "crash"]
    message: str
    rank: int
    verdict: Verdict | None = None


class Latency(_Model):
    """Milliseconds of one forward pass with batch 1 on ``threads`` CPU threads."""

    p50_ms: FiniteFloat
    p95_ms: FiniteFloat
    threads: int
    repeats: int


class ExportedFile(_Model):
    """One exported form of the model and how far its outputs are from eager's.

    ``max_relative_error`` is the largest ``|export - eager|`` over the largest ``|eager|``, the worst output.
    """

    name: str
    format: str
    bytes: int
    sha256: Sha256
    max_relative_error: FiniteFloat
    latency: Latency


class Exports(_Model):
    """``exports.json``: every form the checkpoint was exported to; ``inputs`` is the image tensor's shape NCHW."""

    checkpoint_sha256: Sha256
    inputs: tuple[int, ...]
    outputs: tuple[str, ...]
    eager_latency: Latency
    files: tuple[ExportedFile, ...]
