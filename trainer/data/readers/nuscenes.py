"""Boxes and tracks of nuScenes (nuscenes.org), from the tables as its development kit lays them out.

SRC holds ``v1.0-trainval/`` or ``v1.0-mini/`` (``--version`` where it holds several) and ``samples/``. Each key frame
of CAM_FRONT is a sample.

* **Boxes.** The corners of each box in space are projected as the development kit does; a box counts if all corners
  are in front of the camera and one is within the image, and is clipped to it. Boxes that no lidar or radar point is in
  (the detection benchmark leaves them out) and those of visibility ``v0-40`` are to be ignored.
* **Categories.** As ``--categories`` maps them; by default the benchmark's ten classes.
* **Tracks.** Of each person and vehicle around the car that has a category and a future: where the centre of its box
  is in the global frame (metres), at the key frames' 2 Hz, for up to 2 s before and 6 s after; a key frame in which it
  is not annotated ends its track. ``at`` is the pixel of the centre, where it is to be seen.
* **Attributes.** ``scene``, ``location``; ``time_of_day`` is ``night`` and ``weather`` ``rain`` where the scene's
  description says so (in any form: "after rain" too), else ``day`` and ``dry``.
* **Split.** nuScenes' own val (or mini_val) and train scenes. Its test scenes have no annotations: test is cut from
  train by whole logs until it has 20 % of the images, in the order of the sha1 of the log's name.
* **Times.** Recorded: the camera's own.
"""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.manifest import Box, Track
from trainer.data.readers import Progress
from trainer.data.readers.category_map import MAPS, CategoryMap, add_category_argument, category_map
from trainer.data.readers.common import add_common_arguments, counted
from trainer.data.readers.nuscenes_camera import Camera
from trainer.data.readers.nuscenes_tables import Annotation, SampleData, Scene, Tables, read_tables
from trainer.data.readers.pictures import Picture, Source, found_image, sample_id_of
from trainer.data.readers.write_pictures import add_picture_arguments, slices_of, write_pictures

LICENCE = "CC-BY-NC-SA-4.0"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HZ, PAST, FUTURE = 2, 4, 12
MOVING = ("human.", "vehicle.")
HARDLY_VISIBLE = "v0-40"

# nuscenes-devkit, python-sdk/nuscenes/utils/splits.py
MINI_VAL = frozenset({"scene-0103", "scene-0916"})
VAL_NUMBERS = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 775 "
    "777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"
)


def _scenes(numbers: str) -> Iterator[str]:
    for span in numbers.split():
        first, _, last = span.partition("-")
        yield from (f"scene-{number:04d}" for number in range(int(first), int(last or first) + 1))


VAL = frozenset(_scenes(VAL_NUMBERS))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    add_picture_arguments(parser, LICENCE)
    add_category_argument(parser, MAPS / "nuscenes.yaml")
    parser.add_argument("--version", metavar="NAME", help="directory of the tables (default: the only v1.0-* of SRC)")


def run(arguments: argparse.Namespace, progress: Progress | None) -> None:
    """Write the delivery; see the module for its rules.

    Raises:
        ContractError: names every problem of the source.
    """
    root = _tables_directory(arguments.src, arguments.version)
    tables = read_tables(root)
    val = MINI_VAL if root.name.endswith("mini") else VAL
    source = Source(category_map(arguments))
    for frame in counted(tables.frames, progress):
        source.pictures += _picture(frame, tables, val, arguments.src, source)
    write_pictures(arguments, source, slices_of(source, ("weather", "time_of_day", "location")))


def _tables_directory(src: Path, version: str | None) -> Path:
    found = [src / version] if version else sorted(path for path in src.glob("v1.0-*") if path.is_dir())
    if len(found) == 1 and found[0].is_dir():
        return found[0]
    names = ", ".join(path.name for path in found if path.is_dir()) or "none"
    expected = f"a directory {version}" if version else "one directory v1.0-*, or --version"
    raise ContractError(f"{src} is not usable", [Problem(str(src), names, expected)])


def _picture(frame: SampleData, tables: Tables, val: frozenset[str], src: Path, source: Source) -> list[Picture]:
    image = found_image([src], frame.filename)
    if image is None:
        source.problems.append(Problem(str(src), "nothing", "an image", field=frame.filename))
        return []
    scene = tables.scene[tables.sample[frame.sample_token].scene_token]
    log = tables.log[scene.log_token]
    sensor = tables.calibrated_sensor[frame.calibrated_sensor_token]
    camera = Camera(tables.ego_pose[frame.ego_pose_token], sensor, (frame.width, frame.height))
    split = "val" if scene.name in val else "train"
    return [
        Picture(
            sample_id_of(f"{scene.name}-{frame.timestamp}"),
            image,
            sha256_of(image),
            group=f"{split} {log.logfile}",
            split=split,
            attributes={"scene": scene.name, "location": log.location, **conditions(scene)},
            captured_at=EPOCH + timedelta(microseconds=frame.timestamp),
            boxes=tuple(_boxes(frame, tables, camera, source.categories)),
            tracks=tuple(_tracks(frame, tables, camera, source.categories)),
        )
    ]


def conditions(scene: Scene) -> dict[str, str]:
    """Light and weather by the words of the scene's description."""
    said = scene.description.lower()
    return {"time_of_day": "night" if "night" in said else "day", "weather": "rain" if "rain" in said else "dry"}


def _boxes(frame: SampleData, tables: Tables, camera: Camera, categories: CategoryMap) -> Iterator[Box]:
    for annotation in tables.annotations.get(frame.sample_token, {}).values():
        bbox = camera.bbox(annotation)
        if bbox is not None:
            unseen = annotation.num_lidar_pts + annotation.num_radar_pts == 0
            visibility = tables.visibility.get(annotation.visibility_token)
            ignore = unseen or (visibility is not None and visibility.level == HARDLY_VISIBLE)
            yield from categories.boxes(_category(annotation, tables), bbox, ignore)


def _tracks(frame: SampleData, tables: Tables, camera: Camera, categories: CategoryMap) -> Iterator[Track]:
    for annotation in tables.annotations.get(frame.sample_token, {}).values():
        name = _category(annotation, tables)
        category = categories.target(name) if name.startswith(MOVING) else None
        past, future = _walk(annotation, tables, "prev", PAST), _walk(annotation, tables, "next", FUTURE)
        if category is not None and future:
            yield Track(
                track_id=annotation.instance_token,
                category=category,
                hz=HZ,
                observed=len(past) + 1,
                points=tuple(one.translation[:2] for one in (*reversed(past), annotation, *future)),
                at=camera.pixel(annotation),
            )


def _category(annotation: Annotation, tables: Tables) -> str:
    return tables.category[tables.instance[annotation.instance_token].category_token].name


def _walk(annotation: Annotation, tables: Tables, direction: str, most: int) -> list[Annotation]:
    """The same thing in up to ``most`` key frames before (``prev``) or after (``next``), as far as it is in each."""
    found: list[Annotation] = []
    sample = annotation.sample_token
    while len(found) < most:
        sample = getattr(tables.sample[sample], direction)
        there = tables.annotations.get(sample, {}).get(annotation.instance_token)
        if there is None:
            break
        found.append(there)
    return found
