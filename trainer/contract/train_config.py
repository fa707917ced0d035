"""``train.yaml``: one recipe, everything that decides what a training makes of its data.

A recipe can be changed without editing it, in this order (later wins):

1. environment: ``TRAIN__OPTIM__LR=1e-3`` (levels parted by two underscores, any case);
2. ``--set optim.lr=1e-3`` on the command line.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from trainer.contract.cross_validation_settings import CrossValidation
from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.files import digest_of
from trainer.contract.scores import metric_of
from trainer.contract.slices import SemanticLabels, Slices, distinct
from trainer.contract.yaml_io import parse_yaml, read_yaml

ENVIRONMENT_PREFIX = "TRAIN__"

Positive = Annotated[FiniteFloat, Field(gt=0)]
NonNegative = Annotated[FiniteFloat, Field(ge=0)]
Zoom = Annotated[FiniteFloat, Field(ge=1)]
Blocks = Annotated[int, Field(ge=1)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
CheckName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]{0,63}$")]

LABEL_OF_TASK = {"detection": "boxes", "segmentation": "semantic", "lanes": "lanes", "trajectory": "tracks"}
"""The kind of label that each task learns from (see ``manifest.LABEL_FIELDS``)."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augmentation(_Model):
    """Per-sample augmentation; the random numbers come from (seed, epoch, sample)."""

    flip: Share = Field(default=0.5, description="Probability of a left-right flip.")
    scale: tuple[Zoom, Zoom] = Field(default=(1.0, 1.0), description="Zoom range: 1 is the whole image, 2 half of it.")
    brightness: NonNegative = Field(default=0.2, description="Largest relative change of brightness.")
    contrast: NonNegative = Field(default=0.2, description="Largest relative change of contrast.")

    @field_validator("scale")
    @classmethod
    def _rises(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError(f"scale {list(scale)}: the lower end comes first")
        return scale


class Data(_Model):
    """From shard members to batches."""

    image_size: tuple[int, int] | None = Field(
        description="Height and width the network sees, multiples of 4; null: no camera, tracks alone."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(default=16, description="Samples of one step over all ranks.")
    workers: Annotated[int, Field(ge=0)] = Field(default=1, description="Loader processes of each rank.")
    cache_mb: Annotated[int, Field(ge=0)] = Field(
        default=1024, description="Decoded images kept for later epochs, MB in the node's temporary directory; 0: none."
    )
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _divisible(self) -> "Data":
        if self.image_size is not None and any(side < 32 or side % 4 for side in self.image_size):
            raise ValueError(f"image_size {list(self.image_size)}: both sides must be multiples of 4, at least 32")
        return self

    @property
    def camera(self) -> bool:
        return self.image_size is not None


class Model(_Model):
    """HydraNet: one backbone and one neck, a head for each task."""

    backbone: str = Field(default="resnet", description="Name in trainer/models/backbones.py.")
    width: Annotated[int, Field(ge=8)] = Field(default=32, description="Channels of the first stage.")
    blocks: tuple[Blocks, Blocks, Blocks, Blocks] = Field(
        default=(2, 2, 2, 2), description="Residual blocks of the stages, strides 4, 8, 16 and 32."
    )
    neck_channels: Annotated[int, Field(ge=8)] = Field(default=64, description="Channels of each pyramid level.")
    sync_batchnorm: bool = Field(default=False, description="BatchNorm over the batch of all ranks.")
    warm_start: str | None = Field(
        default=None, description="Begin with the weights of a registry alias (production) or of a checkpoint file."
    )


class Task(_Model):
    """One head: what it tells apart, how much its loss counts, and the task's own options."""

    classes: tuple[str, ...] = ()
    weight: NonNegative = 1.0
    options: dict[str, Any] = {}

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        return distinct(classes)


class Optim(_Model):
    """AdamW with linear warm-up, then a decay over the whole training."""

    lr: Positive = 1e-3
    weight_decay: NonNegative = 1e-2
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    schedule: Literal["cosine", "poly", "constant"] = Field(
        default="cosine", description="After the warm-up: half a cosine or a power down to zero, or no change."
    )
    poly_power: Positive = Field(default=0.9, description="Power of the poly schedule.")
    clip_norm: Positive = Field(default=5.0, description="Largest gradient norm (L2 over all parameters).")
    accumulate: Annotated[int, Field(ge=1)] = Field(
        default=1, description="Parts that a rank's batch is computed in, where it does not fit into memory at once."
    )
    ema_decay: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Keep a moving average of the weights with this decay; it is evaluated and released."
    )


class Stage(_Model):
    """One stage of a curriculum: the factors of the tasks' weights from ``epoch`` (0 is the first) on."""

    epoch: Annotated[int, Field(ge=0)]
    factors: dict[Name, NonNegative]


class Balancing(_Model):
    """How the losses of several tasks become one, beside each task's own weight."""

    method: Literal["fixed", "uncertainty", "dwa"] = Field(
        default="fixed",
        description="fixed weights; learned uncertainty (Kendall 2018); dynamic weight average (Liu 2019).",
    )
    temperature: Positive = Field(default=2.0, description="Of dwa: the larger, the more equal the weights.")
    curriculum: tuple[Stage, ...] = Field(default=(), description="Factors of the weights by epoch.")


class Training(_Model):
    """How long, how exactly, and what is looked at on the way."""

    epochs: Annotated[int, Field(ge=1)] = 10
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="bf16 or fp16: automatic mixed precision, fp16 with gradient scaling."
    )
    channels_last: bool = Field(default=False, description="NHWC memory layout: faster convolutions on tensor cores.")
    compile: bool = Field(default=False, description="torch.compile the network.")
    eval_every: Annotated[int, Field(ge=1)] = Field(default=1, description="Epochs between evaluations on val.")
    checkpoint_every: Annotated[int, Field(ge=1)] = Field(default=50, description="Steps between checkpoints.")
    keep_last: Annotated[int, Field(ge=1)] = Field(default=2, description="Checkpoints kept beside the best one.")
    keep_every: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Steps between checkpoints that are kept for good."
    )
    copy_every: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Least steps between checkpoints that are copied to the object store.",
    )
    monitor: str = Field(description="Metric (<task>/<metric>) that chooses the best checkpoint.")


class Launch(_Model):
    """What the training runs on; profiles may override it."""

    accelerator: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: CUDA where there is any.")
    strategy: Literal["auto", "ddp", "fsdp", "ddp_fork"] = Field(
        default="auto",
        description="ddp: a replica on each device; fsdp: the model sharded over the devices; ddp_fork: ddp whose "
        "processes this command forks itself, without torchrun; auto: ddp.",
    )
    devices: Literal["auto"] | Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default="auto", description="On each node: how many, which ones ([0, 2]), or auto: all GPUs, one CPU process."
    )
    num_nodes: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] = Field(default=1, description="CPU threads of each rank.")
    max_run_seconds: Positive | None = Field(
        default=None, description="Hard wall: the training saves and ends after so long, all its attempts together."
    )

    @property
    def processes(self) -> int | None:
        """Ranks on each node; None: one for each GPU that the node has, or one on a CPU."""
        if self.devices == "auto":
            return 1 if self.accelerator == "cpu" else None
        return self.devices if isinstance(self.devices, int) else len(self.devices)

    @field_validator("accelerator", mode="before")
    @classmethod
    def _gpu_is_cuda(cls, value: Any) -> Any:
        return "cuda" if value == "gpu" else value

    @field_validator("devices", mode="before")
    @classmethod
    def _a_list_of_auto_is_auto(cls, value: Any) -> Any:
        return "auto" if value in (["auto"], ("auto",)) else value


class DryRun(_Model):
    """One forward and backward pass on the first batch, before anything moves."""

    enabled: bool = True
    max_loss: Positive = Field(default=1e4, description="Largest loss of a task, without its weight.")


class Determinism(_Model):
    """Two short runs from the same state and seed on a few samples of the first batch; not after a resume."""

    enabled: bool = True
    steps: Annotated[int, Field(ge=1)] = 2
    samples: Annotated[int, Field(ge=2)] = Field(default=4, description="Samples of each rank.")
    tolerance: NonNegative = Field(default=1e-3, description="Largest relative difference of a loss.")
    on_failure: Literal["warn", "abort"] = "abort"


class LossSpikes(_Model):
    """Steps whose loss stands out of those before, task by task (``trainer/engine/callbacks/loss_spikes.py``)."""

    enabled: bool = True
    window: Annotated[int, Field(ge=5)] = Field(default=50, description="Steps that a loss is compared with.")
    warmup: Annotated[int, Field(ge=5)] = Field(default=20, description="Steps before the first is judged.")
    threshold: Positive = Field(default=8.0, description="Robust standard deviations above the median.")
    look_every: Annotated[int, Field(ge=1)] = Field(default=20, description="Steps between looks at the device.")
    abort_after: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Spikes, all tasks together, that end the run; none: they are only told."
    )
    sustained: Annotated[int, Field(ge=2)] | None = Field(
        default=50, description="Spikes of one task in a row that end the run: its loss exploded."
    )


class Drift(_Model):
    """The training's source images and labels against the reference profile (``trainer profile``).

    Distances are in standard deviations of the reference (or PSI); labels only warn, they are mined on purpose.
    """

    enabled: bool = True
    statistic: Literal["wasserstein", "psi"] = "wasserstein"
    every: Annotated[int, Field(ge=1)] = Field(default=20, description="Steps between batches that are looked at.")
    samples: Annotated[int, Field(ge=1)] = Field(default=16, description="Most samples of such a batch.")
    min_samples: Annotated[int, Field(ge=2)] = Field(default=64, description="Looked at first, at the start.")
    window: Annotated[int, Field(ge=2)] = Field(default=256, description="Newest samples that are compared.")
    warn: Positive = Field(default=0.5, description="Distance of a feature that is told.")
    abort: Positive | None = Field(default=2.0, description="Distance of an image's feature that ends the run.")


class EarlyStopping(_Model):
    """When more epochs are not worth it. Nothing is asked by default."""

    monitor: str | None = Field(default=None, description="Metric; default: training.monitor.")
    patience: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Epochs without an improvement after which the run ends."
    )
    min_delta: NonNegative = Field(default=0.0, description="Smallest change that is an improvement.")
    median_rule: bool = Field(
        default=False, description="End a run whose best is below the median of earlier runs' running averages."
    )
    min_runs: Annotated[int, Field(ge=1)] = Field(default=3, description="Earlier runs that the median needs.")
    first_epoch: Annotated[int, Field(ge=1)] = Field(default=3, description="Epochs before anything is decided.")


class Guards(_Model):
    """The gates inside a run: what stops it, and what it only warns of."""

    dry_run: DryRun = DryRun()
    determinism: Determinism = Determinism()
    loss_spikes: LossSpikes = LossSpikes()
    drift: Drift = Drift()
    early_stopping: EarlyStopping = EarlyStopping()


class Telemetry(_Model):
    """What a run measures of itself (docs/telemetry.md)."""

    enabled: bool = True
    interval_ms: Annotated[int, Field(ge=10)] = Field(default=500, description="Between two samples of a node's load.")
    sample_every: Annotated[int, Field(ge=2)] = Field(
        default=50, description="Steps between those whose phases are timed on the GPU and whose all-reduce is timed."
    )


TrackingMode = Literal["disabled", "offline", "online"]
"""From the most silent one on."""


class Tracking(_Model):
    """Experiment tracking with Weights & Biases (docs/tracking.md); its project is the recipe's.

    The API key is read from ``WANDB_API_KEY`` of the training's environment, and from nowhere else.
    """

    mode: TrackingMode = Field(
        default="offline",
        description="offline: kept in the run directory, no account and no network; online: sent as it comes.",
    )
    entity: str | None = Field(default=None, description="W&B user or team; none: the account's own.")
    every: Annotated[int, Field(ge=1)] = Field(
        default=10, description="Steps between rows of losses, gradient norm and learning rate."
    )
    media: bool = Field(default=True, description="Pictures of samples and charts of each evaluation.")
    system: bool = Field(default=True, description="W&B's own measurements of the host, beside our telemetry.")
    system_seconds: Annotated[FiniteFloat, Field(ge=0.1)] = Field(
        default=15.0, description="Between two of those measurements."
    )


class RollingWindow(_Model):
    """The training set: the newest ``count`` windows up to the partition's own."""

    count: Annotated[int, Field(ge=1, le=520)] = 4
    min_samples: Annotated[int, Field(ge=1)] = 16


class Release(_Model):
    """What an exported model must fulfil besides the targets in ``slices.yaml``."""

    targets: dict[str, FiniteFloat] = Field(
        default={}, description="Least value of metrics on the whole test split; of errors (FDE, ECE, …) the largest."
    )
    allowed_regression: NonNegative = Field(default=0.02, description="How much worse than production, overall.")
    protected_slices: Annotated[tuple[CheckName, ...], AfterValidator(distinct)] = Field(
        default=(), description="Slices that `slices.yaml` must have, each with a check of its own in Dagster's pages."
    )
    max_calibration_error: Positive = Field(default=0.15, description="Largest ECE of a task; more is warned of.")
    latency_p95_ms: Positive = Field(default=1000.0, description="Batch 1, ONNX Runtime, one thread.")
    parity_tolerance: Positive = Field(default=1e-3, description="Largest |export - eager| over the largest |eager|.")
    max_quantization_loss: NonNegative = Field(
        default=0.05, description="How much worse than eager's a headline metric of the int8 file may be; more warns."
    )


class Automation(_Model):
    """What is started for this recipe without anybody asking (docs/automation.md). Nothing is by default."""

    on_delivery: bool = Field(default=False, description="Train the newest window when a delivery was checked.")
    nightly: bool = Field(
        default=False, description="Train the newest window each night that something is out of date."
    )
    weekly: bool = Field(default=False, description="Run the whole chain each week, from the newest delivery on.")
    on_weak_slice: Literal["nothing", "train", "sweep", "data_request"] = Field(
        default="data_request",
        description="When production is below target on a mined slice: train the newest window with the slice from "
        "production's weights, or tell that a sweep or more data is wanted.",
    )
    slice_targets: dict[str, FiniteFloat] = Field(
        default={}, description="Least value of metrics on a mined slice, of errors the largest; none: release.targets."
    )
    sweep_weekly: bool = Field(default=False, description="Tell each week that a sweep is wanted.")
    on_weak_candidate: Literal["nothing", "sweep"] = Field(
        default="nothing", description="When a trained model misses a slice's targets: nothing more, or a sweep."
    )
    sweep: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.yaml$")] | None = Field(
        default=None,
        description="File in the profile's `sweeps` that is started where a sweep is wanted; none: it is only told.",
    )


class TrainConfig(_Model):
    """A recipe: ``recipes/<name>.yaml``, and ``train.yaml`` beside each run that used it."""

    name: Name
    project: Name
    description: str = ""
    owner: str | None = Field(default=None, description="E-mail or team:<name>, shown in Dagster.")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    window: RollingWindow = RollingWindow()
    data: Data
    model: Model = Model()
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    optim: Optim = Optim()
    balancing: Balancing = Balancing()
    training: Training
    guards: Guards = Guards()
    launch: Launch = Launch()
    telemetry: Telemetry = Telemetry()
    tracking: Tracking = Tracking()
    release: Release = Release()
    automation: Automation = Automation()
    cross_validation: CrossValidation = CrossValidation()

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        asked = [
            ("training.monitor", self.training.monitor),
            ("guards.early_stopping.monitor", self.guards.early_stopping.monitor),
            *(("cross_validation.score.metrics", metric_of(one)) for one in self.cross_validation.score.metrics),
        ]
        for field, metric in asked:
            if metric is not None and metric.partition("/")[0] not in self.tasks:
                raise ValueError(f"{field} '{metric}' is not of one of the tasks {list(self.tasks)}")
        blind = [name for name in self.tasks if not self.data.camera and LABEL_OF_TASK.get(name, "") != "tracks"]
        if blind:
            raise ValueError(f"data.image_size is null, but the tasks {blind} need images")
        if self.training.precision == "fp16" and self.launch.strategy == "fsdp":
            raise ValueError("training.precision fp16 does not go with launch.strategy fsdp: bf16 needs no scaling")
        return self

    @property
    def digest(self) -> str:
        """sha256 of all that decides what a training computes from its data, not where it runs or how it is judged."""
        # Gates judge a training, but early stopping decides how long it is.
        judging = {name for name in Guards.model_fields if name != "early_stopping"}
        # A cross-validation decides on the seed and the data of its runs, which are told of themselves.
        names = ("description", "owner", "launch", "telemetry", "tracking", "window", "release", "automation")
        elsewhere = dict.fromkeys((*names, "cross_validation"), True)
        parts = {"guards": judging, "data": {"workers", "cache_mb"}}
        return digest_of(self.model_dump(mode="json", exclude={**elsewhere, **parts}))

    @property
    def scoring(self) -> tuple[str, ...]:
        """The metrics that a cross-validation's score is made of."""
        return self.cross_validation.score.metrics or (self.training.monitor,)

    @property
    def slice_targets(self) -> Mapping[str, float]:
        """What is asked of production on a mined slice."""
        return self.automation.slice_targets or self.release.targets

    def misfits(self, slices: Slices, labels: Mapping[str, int]) -> list[str]:
        """Why this recipe cannot be trained on a delivery with these label names and counts; empty when it can."""
        reasons = []
        for name in self.tasks:
            kind = LABEL_OF_TASK.get(name)
            if kind is not None and not labels.get(kind):
                reasons.append(f"task {name} needs '{kind}' labels, the delivery has none")
        return reasons + self.class_misfits(slices, labels)

    def class_misfits(self, slices: Slices, labels: Mapping[str, int]) -> list[str]:
        """Where labels mean another thing to this recipe than to a delivery, so that no figure on it is right.

        ``labels`` may count ``boxes.<category>``, for deliveries that declare no categories; 0 is one whose boxes are
        all to be ignored.
        """
        reasons: list[str] = []
        for name, task in self.tasks.items():
            if LABEL_OF_TASK.get(name) == "semantic":
                reasons += _semantic_misfits(name, task, slices.labels.semantic)
            if LABEL_OF_TASK.get(name) == "boxes":
                found = {label.removeprefix("boxes.") for label in labels if label.startswith("boxes.")}
                unknown = sorted((found | set(slices.labels.boxes or ())) - set(task.classes))
                reasons += [f"task {name} does not know the box categories {unknown}"] if unknown else []
        return reasons


def _semantic_misfits(name: str, task: Task, declared: SemanticLabels | None) -> Iterator[str]:
    if declared is None:
        return
    if declared.classes != task.classes:
        yield f"task {name} has classes {list(task.classes)}, the masks have {list(declared.classes)}"
    # An ignore value beyond the classes is never scored; one among them is a class to whoever is not told.
    if declared.ignore_id < len(declared.classes) and task.options.get("ignore_id") != declared.ignore_id:
        yield f"task {name} scores value {declared.ignore_id}, which the masks ignore: set options.ignore_id to it"


def read_config(path: Path, overrides: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> TrainConfig:
    """The recipe at ``path`` with the environment's and the given overrides (``a.b=c``) applied.

    Raises:
        ContractError: names each field that is wrong.
    """
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise ContractError(f"{path} is not a recipe", [Problem(str(path), repr(value), "a mapping")])
    given = [*_environment_overrides(environment), *_given_overrides(overrides)]
    return _overridden(value, given, f"{path} is not a usable recipe", str(path))


def with_overrides(config: TrainConfig, overrides: Iterable[str]) -> TrainConfig:
    """``config`` with ``a.b=c`` applied.

    Raises:
        ContractError: names each field that is wrong.
    """
    value, name = config.model_dump(mode="json"), f"recipe {config.name}"
    return _overridden(value, _given_overrides(overrides), f"{name} cannot be overridden so", name)


Override = tuple[list[str], str, str]


def _environment_overrides(environment: Mapping[str, str]) -> list[Override]:
    return [
        (name[len(ENVIRONMENT_PREFIX) :].lower().split("__"), text, f"environment {name}")
        for name, text in sorted(environment.items())
        if name.startswith(ENVIRONMENT_PREFIX)
    ]


def _given_overrides(overrides: Iterable[str]) -> list[Override]:
    result = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ContractError("an override is not usable", [Problem("--set", override, "the form a.b=c")])
        result.append((key.strip().split("."), text, f"--set {override}"))
    return result


def _overridden(value: dict[str, Any], overrides: Iterable[Override], title: str, file: str) -> TrainConfig:
    for key, text, source in overrides:
        _put(value, key, parse_yaml(text, source), source)
    try:
        return TrainConfig.model_validate(value)
    except ValidationError as error:
        raise ContractError(title, problems_of(error, file)) from None


def _put(value: dict[str, Any], key: list[str], new: Any, source: str) -> None:
    for part in key[:-1]:
        inner = value.get(part, {})
        if not isinstance(inner, dict):
            found = f"'{part}' has the value {inner!r}"
            raise ContractError("an override is not usable", [Problem(source, found, "a mapping to go into")])
        # A copy: a YAML alias is the same mapping in two places, and only this one is meant.
        value[part] = dict(inner)
        value = value[part]
    value[key[-1]] = new
