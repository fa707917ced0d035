"""Profiles: where data lives, what launches, where it registers. One YAML file beside this one for each.

Here belongs what differs between a laptop and a cloud account. What a model is belongs into its recipe.

A string in a profile may say ``${NAME}`` or ``${NAME:-default}``; only names that begin with ``TRAINING_ASSETS_``
are looked up, so that a profile cannot read a secret out of the environment.
"""

import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.train_config import Launch
from trainer.contract.windows import Cadence, window_of
from trainer.contract.yaml_io import read_yaml
from training_assets.images import Images
from training_assets.profiles.hardware import Hardware
from training_assets.profiles.staging import NoStaging, Staging
from training_assets.profiles.watching import CloudWatch, Watch

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
SELECTED_BY = "TRAINING_ASSETS_PROFILE"
PREFIX = "TRAINING_ASSETS_"
LAUNCHING = ("launcher", "launch", "network_interface", "image", "hardware", "backend", "mount")
REFERENCE = re.compile(r"\$\{([^}:]*)(?::-([^}]*))?\}")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Windows(_Model):
    """The window partitions: the first one's first day, and how long each is."""

    start: date
    cadence: Cadence = "weekly"

    @model_validator(mode="after")
    def _begins_a_window(self) -> "Windows":
        first = window_of(datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC), self.cadence)
        if first.name != self.start.isoformat():
            raise ValueError(
                f"{self.start} is not the first day of a {self.cadence} window; the one around it begins {first.name}"
            )
        return self


class Events(_Model):
    """An EventBridge bus (name or ARN) that gets every event, and the source that it sees them from."""

    event_bus: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]{1,256}$")] = "training-assets"


class SageMaker(_Model):
    """A SageMaker Model Registry: ``<group_prefix><project>`` is a project's model package group.

    ``image`` is what serves a version there (an image in ECR); without one a package has no inference specification.
    """

    group_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9-]{0,15}$")] = "training-assets-"
    image: str | None = None


class Wandb(_Model):
    """Weights & Biases: kept in the store for ``wandb sync``, or, online, sent to ``entity`` at ``host``.

    Online needs ``WANDB_API_KEY`` in the environment of Dagster's processes.
    """

    entity: str | None = None
    mode: Literal["offline", "online"] = "offline"
    host: Annotated[str, Field(pattern=r"^https?://")] = "https://api.wandb.ai"


class MirrorRegistry(_Model):
    """One registry that is told what is in ours: exactly one of its fields is given."""

    sagemaker: SageMaker | None = None
    wandb: Wandb | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "MirrorRegistry":
        if (self.sagemaker is None) == (self.wandb is None):
            raise ValueError("exactly one of sagemaker and wandb ({} is enough)")
        return self


class Schedules(_Model):
    """When the schedules start, as cron says it: minute, hour, day, month, weekday. Switching them on is Dagster's."""

    nightly: str = "0 1 * * *"
    weekly: str = "0 3 * * 6"
    sweep: str = "0 5 * * 0"
    retention: str = "0 6 * * 0"
    timezone: str = "UTC"

    @field_validator("nightly", "weekly", "sweep", "retention")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        from dagster._utils.schedules import is_valid_cron_schedule

        if not is_valid_cron_schedule(value):
            raise ValueError("five fields as cron has them: '0 1 * * *' is each night at 1 o'clock")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("a name of the IANA time zones, like Europe/Berlin")
        return value


class Profile(_Model):
    """One profile. Relative paths are relative to the repository.

    ``inbox`` is where deliveries and mined slices arrive: a directory, or ``s3://bucket/prefix``. ``sweeps`` holds
    the sweep files that recipes name. ``launch`` has fields of a recipe's ``launch`` that this profile decides for
    all recipes; ``TRAIN__LAUNCH__<FIELD>`` in the environment wins over it. ``network_interface`` is what ranks talk
    over (``eth0``). ``image`` is what a launcher other than ``local`` runs, by digest (docs/images.md), ``hardware``
    what it starts nodes on, ``backend`` what it must know besides (``launchers/<launcher>/`` has the fields).
    ``mount`` is where nodes see the store, which all of them share, if not under the same path. ``checkpoint_store``
    is a URI (``s3://bucket/prefix``) that running trainings copy finished checkpoints to, for hosts whose own disks
    do not outlive them. ``archive`` is where models are registered: a directory or ``s3://bucket/prefix``, by default
    the store itself; ``registries`` are told what is registered and promoted there. ``events`` says where events go
    besides ``events.jsonl``. ``sensor_seconds`` is how often sensors look. ``staging`` is how data comes onto the
    fast storage (docs/staging.md), ``cloudwatch`` and ``watch`` are what is told of running trainings and when they
    are stopped (docs/telemetry.md).
    """

    name: str
    inbox: str
    store: Path
    recipes: Path
    sweeps: Path = Path("sweeps")
    launcher: str
    windows: Windows
    launch: dict[str, Any] = {}
    network_interface: str | None = None
    hardware: Hardware | None = None
    backend: dict[str, Any] = {}
    mount: Path | None = None
    checkpoint_store: str | None = None
    archive: str = ""
    registries: tuple[MirrorRegistry, ...] = ()
    image: Images | None = None
    events: Events | None = None
    schedules: Schedules = Schedules()
    sensor_seconds: Annotated[int, Field(ge=1)] = 30
    staging: Staging = NoStaging()
    cloudwatch: CloudWatch | None = None
    watch: Watch = Watch()

    @field_validator("launch")
    @classmethod
    def _fields_of_launch(cls, value: dict[str, Any]) -> dict[str, Any]:
        Launch.model_validate(value)
        return value

    @model_validator(mode="after")
    def _image_that_is_run(self) -> "Profile":
        if self.image and self.launcher == "local":
            raise ValueError("no image with launcher local, which starts processes of its own environment")
        return self

    @model_validator(mode="after")
    def _absolute(self) -> "Profile":
        for field in ("store", "recipes", "sweeps"):
            object.__setattr__(self, field, REPOSITORY / getattr(self, field).expanduser())
        if "://" not in self.inbox:
            object.__setattr__(self, "inbox", str(REPOSITORY / Path(self.inbox).expanduser()))
        if "://" not in self.archive:
            archive = REPOSITORY / Path(self.archive).expanduser() if self.archive else self.store
            object.__setattr__(self, "archive", str(archive))
        return self


def load_profile(name: str | None = None, environment: Mapping[str, str] = os.environ) -> Profile:
    """The profile called ``name``, by default the one that ``TRAINING_ASSETS_PROFILE`` names, or ``local``.

    Raises:
        ContractError: no such profile, or names each field that is wrong.
    """
    name = name or environment.get(SELECTED_BY) or "local"
    path = HERE / f"{name}.yaml"
    known = sorted(file.stem for file in HERE.glob("*.yaml"))
    if name not in known:
        raise ContractError("no such profile", [Problem(SELECTED_BY, f"'{name}'", f"one of {known}")])
    return parse_profile(read_yaml(path), path, environment)


def profile_to_launch_with(name: str, ours: Profile) -> Profile:
    """``ours`` with all that the launcher needs of the profile called ``name``.

    Raises:
        ContractError: no such profile, or it keeps another store: what it makes would not be found here.
    """
    other = load_profile(name)
    if other.store != ours.store:
        problem = Problem(
            f"profile {name}", str(other.store), f"{ours.store}, the store of profile {ours.name}", field="store"
        )
        raise ContractError("this profile cannot launch for another store", [problem], "Start the graph under it.")
    return ours.model_copy(update={field: getattr(other, field) for field in LAUNCHING})


def parse_profile(value: Any, path: Path, environment: Mapping[str, str]) -> Profile:
    if not isinstance(value, dict):
        raise ContractError(f"{path} is not a profile", [Problem(str(path), repr(value), "a mapping")])
    expanded = _expand(value, str(path), environment)
    try:
        return Profile.model_validate({"name": path.stem, **expanded})
    except ValidationError as error:
        raise ContractError(f"{path} is not a usable profile", problems_of(error, str(path))) from None


def _expand(value: Any, file: str, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, file, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, file, environment) for item in value]
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: _looked_up(match, file, environment), value)
    return value


def _looked_up(match: re.Match[str], file: str, environment: Mapping[str, str]) -> str:
    name, default = match.groups()
    if not name.startswith(PREFIX):
        problem = Problem(file, match.group(), f"a variable whose name begins with {PREFIX}")
        raise ContractError("a profile refers to a variable that it may not read", [problem])
    found = environment.get(name) or default
    if found is None:
        problem = Problem(file, f"{match.group()}, which is not set", f"{name} in the environment, or a default")
        raise ContractError("a profile needs a variable", [problem])
    return found
