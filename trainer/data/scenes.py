"""A synthetic driving delivery: perspective road scenes with boxes, masks, lanes and tracks.

Every frame is drawn from (seed, window, frame), so two runs give the same bytes. A weekly window has eight drives;
the frames of a drive share hour, weather, road class and region, and stay in one split: six drives for train, one
for val, one for test. Train draws its conditions at random; val and test go through ``DRIVES`` so that eight
windows hold each of them equally often and every slice has samples enough.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from trainer.contract.manifest import SPLITS, Row
from trainer.contract.windows import window_of
from trainer.data.delivery_writer import DeliveryWriter
from trainer.data.scene_painting import CLASSES, IGNORE, Painted, paint
from trainer.data.scene_world import HZ, OBSERVED, Conditions, make_world, track_of

START = date(2026, 1, 5)
DRIVES_PER_WINDOW = 8
LICENCE = "CC0-1.0"
ORIGIN = "synthetic_scenes"
JPEG_QUALITY = 95

DRIVES = (
    Conditions("clear", "day", "urban", "north"),
    Conditions("clear", "night", "urban", "south"),
    Conditions("rain", "dusk", "highway", "east"),
    Conditions("fog", "day", "residential", "west"),
    Conditions("rain", "night", "urban", "north"),
    Conditions("clear", "day", "highway", "south"),
    Conditions("fog", "dusk", "residential", "east"),
    Conditions("clear", "night", "residential", "west"),
)
"""What val and test drive through, one a window: every value of every attribute at least twice."""

RARE = (
    Conditions("fog", "night", "urban", "west"),
    Conditions("rain", "night", "highway", "east"),
    Conditions("fog", "night", "highway", "south"),
    Conditions("rain", "night", "residential", "south"),
    Conditions("fog", "dusk", "urban", "north"),
    Conditions("rain", "dusk", "residential", "west"),
)
"""What a fleet seldom meets, and a delivery's val and test hardly hold: weather and dark at once."""
RARE_SLICES = ("fog_night", "rain_night", "fog_dusk", "rain_dusk")
RARE_MINUTES = 5
RARE_WINDOW = 99
"""In the names and the random numbers of their frames, so that none is a frame of the delivery."""

SHARES: dict[str, dict[str, float]] = {
    "weather": {"clear": 0.5, "rain": 0.25, "fog": 0.25},
    "time_of_day": {"day": 0.4, "dusk": 0.25, "night": 0.35},
    "road_class": {"highway": 0.25, "urban": 0.4, "residential": 0.35},
    "region": {"north": 0.25, "south": 0.25, "east": 0.25, "west": 0.25},
}
"""How often train drives through what."""

HOURS = {"day": 12, "dusk": 17, "night": 22}

BASIC = {"detection/AP50": 0.15, "segmentation/mIoU": 0.3}
SLICES: dict[str, Any] = {
    "labels": {
        "semantic": {"classes": list(CLASSES), "ignore_id": IGNORE},
        "boxes": ["vehicle", "pedestrian", "cyclist"],
    },
    "slices": [
        {"name": "day", "where": {"attributes.time_of_day": "day"}, "targets": BASIC},
        {"name": "dusk", "where": {"attributes.time_of_day": "dusk"}, "targets": BASIC},
        {"name": "night", "where": {"attributes.time_of_day": "night"}, "targets": BASIC},
        {"name": "rain", "where": {"attributes.weather": "rain"}, "targets": BASIC},
        {"name": "fog", "where": {"attributes.weather": "fog"}, "targets": BASIC},
        {
            "name": "night_pedestrians",
            "where": {"attributes.time_of_day": "night", "labels.boxes.pedestrian": {"min": 1}},
            "targets": {"detection/AP50": 0.1},
            "allowed_regression": 0.01,
            "safety_critical": True,
        },
        *({"name": name, "where": {"attributes.road_class": name}} for name in SHARES["road_class"]),
        *({"name": f"region_{name}", "where": {"attributes.region": name}} for name in SHARES["region"]),
    ],
}


@dataclass(frozen=True)
class Frame:
    """One frame to draw: where it belongs and what it is like."""

    window: int
    number: int
    split: str
    captured_at: datetime
    conditions: Conditions

    @property
    def sample_id(self) -> str:
        return f"scene-w{self.window:02d}-f{self.number:03d}"


def make_scenes(
    out: Path,
    *,
    windows: int = 8,
    frames_per_window: int = 56,
    seed: int = 42,
    start: date = START,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the delivery to ``out``: ``windows`` weekly windows, the first of them the one that holds ``start``.

    Raises:
        ContractError: ``out`` holds something else.
        ValueError: fewer frames in a window than drives.
    """
    frames = sorted(plan(windows, frames_per_window, seed, start), key=lambda frame: frame.captured_at)
    writer = DeliveryWriter(out)
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for done, frame in enumerate(frames, start=1):
        rows[frame.split].append(_make_frame(frame, seed, writer))
        if progress is not None:
            progress(done, len(frames))
    writer.finish(rows, SLICES)


def make_rare_scenes(
    out: Path, *, frames: int = 48, seed: int = 42, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write a delivery to ``out`` that has a test split alone: ``frames`` frames that go through ``RARE`` in turn.

    Raises:
        ContractError: ``out`` holds something else.
        ValueError: no frames.
    """
    if frames < 1:
        raise ValueError(f"{frames} frames: at least 1")
    writer, rows = DeliveryWriter(out), []
    for number in range(frames):
        rows.append(_make_frame(_rare(number), seed, writer))
        if progress is not None:
            progress(number + 1, frames)
    writer.finish({"train": [], "val": [], "test": rows}, {**SLICES, "slices": list(map(_rare_slice, RARE_SLICES))})


def _rare(number: int) -> Frame:
    conditions = RARE[number % len(RARE)]
    first = datetime.combine(START, time(HOURS[conditions.time_of_day]), UTC)
    moment = first + timedelta(minutes=RARE_MINUTES * (number // len(RARE)))
    return Frame(RARE_WINDOW, number, "test", moment, conditions)


def _rare_slice(name: str) -> dict[str, Any]:
    weather, hour = name.split("_")
    return {"name": name, "where": {"attributes.weather": weather, "attributes.time_of_day": hour}, "min_samples": 1}


def plan(windows: int, frames_per_window: int, seed: int, start: date) -> Iterator[Frame]:
    """Every frame with its split, time and conditions."""
    if windows < 1 or frames_per_window < DRIVES_PER_WINDOW:
        raise ValueError(f"{windows} windows of {frames_per_window} frames: at least 1 of {DRIVES_PER_WINDOW}")
    monday = window_of(datetime.combine(start, time(), UTC)).start
    for window in range(windows):
        drives = np.array_split(np.arange(frames_per_window), DRIVES_PER_WINDOW)
        for drive, numbers in enumerate(drives):
            split, conditions = _drive(window, drive, np.random.default_rng([seed, window, drive, 1]))
            first = monday + timedelta(weeks=window, days=drive * 7 // DRIVES_PER_WINDOW)
            first += timedelta(hours=HOURS[conditions.time_of_day], minutes=60 * (drive % 2))
            pause = timedelta(minutes=40) / len(numbers)
            for place, number in enumerate(numbers):
                moment = (first + place * pause).replace(microsecond=0)
                yield Frame(window, int(number), split, moment, conditions)


def _drive(window: int, drive: int, rng: np.random.Generator) -> tuple[str, Conditions]:
    """The split and the conditions of a drive; which drives are val and test changes from window to window."""
    test = (3 * window + 2) % DRIVES_PER_WINDOW
    if drive == test:
        return "test", DRIVES[window % len(DRIVES)]
    if drive == (test + 4) % DRIVES_PER_WINDOW:
        return "val", DRIVES[(window + 3) % len(DRIVES)]
    chosen = {name: str(rng.choice(list(shares), p=list(shares.values()))) for name, shares in SHARES.items()}
    return "train", Conditions(**chosen)


def _make_frame(frame: Frame, seed: int, writer: DeliveryWriter) -> Row:
    rng = np.random.default_rng([seed, frame.window, frame.number, 2])
    painted = paint(make_world(frame.conditions, rng), rng)
    jpeg = _encoded(".jpg", painted.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    image = writer.put(f"images/{frame.sample_id}.jpg", jpeg)
    mask = writer.put(f"masks/{frame.sample_id}.png", _encoded(".png", painted.mask, []))
    return Row.model_validate(
        {
            "sample_id": frame.sample_id,
            "source-ref": image.reference,
            "sha256": image.sha256,
            "captured_at": frame.captured_at,
            "attributes": asdict(frame.conditions),
            "boxes": painted.boxes,
            "semantic-ref": mask.reference,
            "semantic-sha256": mask.sha256,
            "lanes": painted.lanes,
            "tracks": _tracks(painted, rng),
            "licence": LICENCE,
            "origin": ORIGIN,
        }
    )


def _tracks(painted: Painted, rng: np.random.Generator) -> list[dict[str, Any]]:
    shown = [box for box in painted.boxes if not box.ignore]
    return [
        {
            "track_id": f"{agent.category}-{index}",
            "category": agent.category,
            "hz": HZ,
            "observed": OBSERVED,
            "points": track_of(agent, rng),
            "at": (box.bbox[0] + box.bbox[2] / 2, box.bbox[1] + box.bbox[3] / 2),
        }
        for index, (agent, box) in enumerate(zip(painted.seen, shown, strict=True))
    ]


def _encoded(suffix: str, picture: npt.NDArray[Any], options: list[int]) -> bytes:
    done, content = cv2.imencode(suffix, np.ascontiguousarray(picture), options)
    if not done:
        raise RuntimeError(f"OpenCV cannot write {suffix}")
    return content.tobytes()
