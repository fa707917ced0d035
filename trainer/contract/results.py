"""What commands leave behind: ``result.json`` of a training, ``exports.json`` of an export."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from trainer.contract.manifest import Sha256

RESULT_FILE = "result.json"

REVISION = "TRAINING_ASSETS_REVISION"
"""The variable by which an image says which commit it was built from."""


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


Bottleneck = Literal["input", "communication", "straggler", "checkpoint", "callbacks", "compute", "unknown"]


class Telemetry(_Model):
    """What held a training up, from ``telemetry/`` of its run directory (docs/telemetry.md).

    ``shares`` of the training time by phase, the mean of the ranks, evaluation aside; on the host's clock, or on the
    device's where there is a GPU. Times in milliseconds, memory in bytes, utilisations in percent, ``mfu`` in 0…1
    (model FLOPs of one GPU over its peak; Chowdhery et al., PaLM, 2022, appendix B). None: not known here.
    """

    bottleneck: Bottleneck
    verdict: str
    steps: int
    clock: Literal["host", "device"]
    shares: dict[str, FiniteFloat]
    step_p50_ms: FiniteFloat | None
    step_p95_ms: FiniteFloat | None
    samples_per_second: FiniteFloat | None
    samples_per_second_by_epoch: dict[int, FiniteFloat]
    gpu: str | None
    step_flops: FiniteFloat | None
    mfu: FiniteFloat | None
    cpu_percent: FiniteFloat | None
    iowait_percent: FiniteFloat | None
    gpu_percent: FiniteFloat | None
    peak_ram_bytes: FiniteFloat | None
    peak_gpu_memory_bytes: FiniteFloat | None


class WarmStart(_Model):
    """What a training took over from another's weights: how many tensors, and the names of those that did not fit."""

    sha256: Sha256
    matched: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: tuple[str, ...]


class TrainResult(_Model):
    """``result.json``: what a finished training was.

    ``state_sha256`` is over the model's and the optimizer's tensors; ``samples_per_second`` over the training
    steps alone, all ranks together; paths are relative to the run directory. ``stop_reason`` is ``max_epochs``,
    ``max_run_seconds`` or ``early_stopping``; ``gates`` has the verdict of each gate inside the run. ``revision`` is
    the commit of the image that trained, None outside of one. ``run_seconds`` are those of the whole loop, evaluations
    and checkpoints included, all attempts together.
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
    run_seconds: FiniteFloat | None = None
    resumed_from_step: int | None
    warm_start: WarmStart | None = None
    state_sha256: Sha256
    stop_reason: str
    gates: tuple[Verdict, ...]
    parameters: int
    best_checkpoint: str
    last_checkpoint: str | None
    telemetry: Telemetry | None = None
    revision: str | None = None

    @property
    def best_metrics(self) -> dict[str, float | None]:
        """The metrics on val of the model in ``best_checkpoint``; none where it was never evaluated."""
        return next((epoch.metrics for epoch in self.epochs if epoch.global_step == self.best_step), {})


FAILURE_FILE = "failure.json"

FailureKind = Literal[
    "bad_input",
    "gate",
    "not_finite",
    "out_of_memory",
    "shared_memory",
    "data",
    "port_taken",
    "deadline",
    "stopped",
    "timeout",
    "rank_lost",
    "crash",
    "spot",
    "host_lost",
    "capacity",
    "quota",
    "image",
    "no_progress",
    "cost",
    "cancelled",
]

AFTERMATH: frozenset[str] = frozenset({"rank_lost", "timeout"})
"""What ranks see of another rank's failure: any other word says more."""


class Failure(_Model):
    """``failure.json`` of an attempt, or of a run directory without launcher: why it ended without a result.

    torchrun turns every rank's exit code into 1; this is where the launcher reads what happened. ``rank`` is the one
    that says so, ``step`` the last that it finished, ``advice`` what to change, ``verdict`` that of the gate that
    ended the run.
    """

    kind: FailureKind
    message: str
    rank: int
    step: int | None = None
    advice: str = ""
    verdict: Verdict | None = None


EXPORTS_FILE = "exports.json"


class Timing(_Model):
    """Forward passes of ``batch`` samples in a process of its own, on one CPU thread.

    Milliseconds are of one pass. ``peak_memory_bytes`` is the most that the whole process had resident till then,
    interpreter and runtime included; None where the system does not say. ``pinned``: it was kept on one core.
    """

    batch: int
    p50_ms: FiniteFloat
    p95_ms: FiniteFloat
    p99_ms: FiniteFloat
    samples_per_second: FiniteFloat
    peak_memory_bytes: int | None
    repeats: int
    pinned: bool


class Measured(_Model):
    """One form of the model: ``latency`` with one sample at a time, ``throughput`` with several."""

    latency: Timing
    throughput: Timing


class ExportedFile(Measured):
    """One exported form of the model and how far its outputs are from eager's, for one sample and for several.

    ``max_relative_error`` is the largest ``|export - eager|`` over the largest ``|eager|``, the worst output.
    """

    name: str
    format: str
    bytes: int
    sha256: Sha256
    max_relative_error: FiniteFloat


class MetricLoss(_Model):
    """One metric of eager and of the quantised file; a ``loss`` above zero: the quantised one is worse by so much."""

    eager: FiniteFloat | None
    quantized: FiniteFloat | None
    loss: FiniteFloat | None


class Quantization(_Model):
    """What the int8 ``file`` loses: headline metrics over ``judged_samples`` samples of val, none if there are none."""

    file: str
    calibration_samples: int
    judged_samples: int
    losses: dict[str, MetricLoss]


class TensorRT(_Model):
    """``command`` makes a plan of the ONNX file, in the package; ``plan`` is its name if that was done here."""

    command: str
    command_file: str
    plan: str | None
    note: str


class Exports(_Model):
    """``exports.json``: every form the checkpoint was exported to.

    ``inputs`` has the shapes of one sample, the image's NCHW; any batch fits. ``flops`` is of one sample's forward
    pass, a multiplication and its addition counted as two. Without data to calibrate on there is no ``quantization``.
    """

    format: Literal[2] = 2
    checkpoint_sha256: Sha256
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    parameters: int
    flops: FiniteFloat
    eager: Measured
    files: tuple[ExportedFile, ...]
    quantization: Quantization | None
    tensorrt: TensorRT

    @property
    def package(self) -> tuple[str, ...]:
        """The names of all files beside ``exports.json``."""
        plan = () if self.tensorrt.plan is None else (self.tensorrt.plan,)
        return (*(file.name for file in self.files), self.tensorrt.command_file, *plan)
