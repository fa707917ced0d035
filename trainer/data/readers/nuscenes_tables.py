"""The tables of nuScenes (nuscenes-devkit, docs/schema_nuscenes.md), as far as they are read."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, FiniteFloat, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator

from trainer.contract.errors import ContractError, Problem
from trainer.data.readers.common import read_json

CAMERA = "CAM_FRONT"


def _unit(rotation: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    length = hypot(*rotation)
    if length < 1e-6:
        raise ValueError("should be a rotation, not zero")
    w, x, y, z = rotation
    return w / length, x / length, y / length, z / length


Vector = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Length = Annotated[FiniteFloat, Field(gt=0)]
Quaternion = Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat], AfterValidator(_unit)]
"""w, x, y, z, made a unit."""


@dataclass(frozen=True, slots=True)
class _Table:
    token: str


@dataclass(frozen=True, slots=True)
class Scene(_Table):
    name: str
    description: str
    log_token: str


@dataclass(frozen=True, slots=True)
class Log(_Table):
    logfile: str
    location: str


@dataclass(frozen=True, slots=True)
class Sample(_Table):
    """A key frame; ``prev`` and ``next`` are empty at the ends of its scene."""

    scene_token: str
    prev: str
    next: str


@dataclass(frozen=True, slots=True)
class SampleData(_Table):
    """What one sensor recorded; ``timestamp`` in microseconds since 1970 (UTC)."""

    sample_token: str
    ego_pose_token: str
    calibrated_sensor_token: str
    filename: str
    width: int
    height: int
    timestamp: int
    is_key_frame: bool


@dataclass(frozen=True, slots=True)
class Sensor(_Table):
    channel: str


@dataclass(frozen=True, slots=True)
class Pose(_Table):
    """Where a frame of coordinates stands in the one around it: metres, and a rotation."""

    translation: Vector
    rotation: Quaternion


@dataclass(frozen=True, slots=True)
class CalibratedSensor(Pose):
    """A sensor on the vehicle; the intrinsic matrix of 3×3 is empty where it is no camera."""

    sensor_token: str
    camera_intrinsic: tuple[Vector, Vector, Vector] | tuple[()]


@dataclass(frozen=True, slots=True)
class Annotation(Pose):
    """A box in the global frame: its centre, (width, length, height) in metres, and its rotation."""

    sample_token: str
    instance_token: str
    visibility_token: str
    size: tuple[Length, Length, Length]
    num_lidar_pts: int
    num_radar_pts: int


@dataclass(frozen=True, slots=True)
class Instance(_Table):
    category_token: str


@dataclass(frozen=True, slots=True)
class Category(_Table):
    name: str


@dataclass(frozen=True, slots=True)
class Visibility(_Table):
    level: str


T = TypeVar("T", bound=_Table)


@dataclass(frozen=True)
class Tables:
    """Each table by token; ``frames`` are the key frames of CAM_FRONT, ``annotations`` by sample, then by instance."""

    scene: Mapping[str, Scene]
    log: Mapping[str, Log]
    sample: Mapping[str, Sample]
    ego_pose: Mapping[str, Pose]
    calibrated_sensor: Mapping[str, CalibratedSensor]
    instance: Mapping[str, Instance]
    category: Mapping[str, Category]
    visibility: Mapping[str, Visibility]
    frames: list[SampleData]
    annotations: Mapping[str, Mapping[str, Annotation]]


def read_tables(root: Path) -> Tables:
    """The tables in the directory ``root``, which is called ``v1.0-…``.

    Raises:
        ContractError: a table is missing or not as its schema has it, or a token names no row.
    """
    sensor = _read(root, "sensor", Sensor)
    calibrated = _read(root, "calibrated_sensor", CalibratedSensor)
    cameras = {token for token, one in calibrated.items() if _channel(sensor, one) == CAMERA}
    frames = _read(
        root,
        "sample_data",
        SampleData,
        lambda row: row.get("is_key_frame") is not False and row.get("calibrated_sensor_token") in cameras,
    )
    poses = {frame.ego_pose_token for frame in frames.values()}
    annotations: dict[str, dict[str, Annotation]] = {}
    for one in _read(root, "sample_annotation", Annotation).values():
        annotations.setdefault(one.sample_token, {})[one.instance_token] = one
    tables = Tables(
        scene=_read(root, "scene", Scene),
        log=_read(root, "log", Log),
        sample=_read(root, "sample", Sample),
        ego_pose=_read(root, "ego_pose", Pose, lambda row: row.get("token") in poses),
        calibrated_sensor=calibrated,
        instance=_read(root, "instance", Instance),
        category=_read(root, "category", Category),
        visibility=_read(root, "visibility", Visibility),
        frames=list(frames.values()),
        annotations=annotations,
    )
    problems = list(_dangling(root, tables))
    for token in sorted(cameras):
        if not calibrated[token].camera_intrinsic:
            found = f"nothing in the row '{token}'"
            file = str(root / "calibrated_sensor.json")
            problems.append(Problem(file, found, "a matrix of 3×3", field="camera_intrinsic"))
    if not tables.frames:
        problems.append(Problem(str(root / "sample_data.json"), f"no key frames of {CAMERA}", "at least one"))
    if problems:
        raise ContractError(f"{root} is not usable", problems)
    return tables


def _read(root: Path, name: str, kind: type[T], wanted: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, T]:
    """The rows of a table; where ``wanted`` is given, those alone: of millions that sensors made few are key frames."""

    def chosen(row: Any, validate: ValidatorFunctionWrapHandler) -> T | None:
        left_out = wanted is not None and isinstance(row, dict) and not wanted(row)
        return None if left_out else validate(row)

    rows: TypeAdapter[list[T | None]] = TypeAdapter(list[Annotated[kind | None, WrapValidator(chosen)]])  # type: ignore[valid-type]
    return {row.token: row for row in read_json(root / f"{name}.json", rows) if row is not None}


def _channel(sensor: Mapping[str, Sensor], calibrated: CalibratedSensor) -> str | None:
    return sensor[calibrated.sensor_token].channel if calibrated.sensor_token in sensor else None


def _dangling(root: Path, tables: Tables) -> Iterator[Problem]:
    """Tokens that name no row; an empty ``prev``, ``next`` or ``visibility_token`` names none on purpose."""
    annotations = [one for found in tables.annotations.values() for one in found.values()]
    keys: list[tuple[str, Iterable[_Table], str, Container[str]]] = [
        ("scene", tables.scene.values(), "log_token", tables.log),
        ("sample", tables.sample.values(), "scene_token", tables.scene),
        ("sample", tables.sample.values(), "prev", {"", *tables.sample}),
        ("sample", tables.sample.values(), "next", {"", *tables.sample}),
        ("sample_data", tables.frames, "sample_token", tables.sample),
        ("sample_data", tables.frames, "ego_pose_token", tables.ego_pose),
        ("sample_annotation", annotations, "sample_token", tables.sample),
        ("sample_annotation", annotations, "instance_token", tables.instance),
        ("sample_annotation", annotations, "visibility_token", {"", *tables.visibility}),
        ("instance", tables.instance.values(), "category_token", tables.category),
    ]
    for name, rows, field, known in keys:
        for row in rows:
            if getattr(row, field) not in known:
                found = f"'{getattr(row, field)}' in the row '{row.token}'"
                yield Problem(str(root / f"{name}.json"), found, "the token of a row", field=field)
