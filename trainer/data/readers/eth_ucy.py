"""Pedestrians' tracks of ETH and UCY (Pellegrini et al., 2009; Lerner et al., 2007), leave one scene out.

SRC holds the recordings as Social GAN and Social-STGCNN pass them on: text files with a line a position, ``frame``,
``pedestrian``, ``x``, ``y`` (metres) at 2.5 Hz. Either ``splits.json`` names the files of each split of each scene
(``{"eth": {"train": [path, …], "val": …, "test": …}, …}``, paths below SRC), or they lie in
``<scene>/<split>/*.txt``.

* **Rows.** As those projects' ``TrajectoryDataset`` counts: one for every 20 consecutive recorded frames (8 observed,
  12 to come), with a track of each pedestrian who is in all of them, if there are at least ``--min-people`` such;
  papers that follow Social GAN count with 2. Positions are rounded to 0.1 mm. Frames that a recording lacks are passed
  over, so that a step may now and then be longer than 0.4 s. Rows have no image.
* **Split.** ``--scene`` is test; its train and val are parts of the other recordings, as those projects cut them.
* **Times.** Assigned: the rows of a split in (recording, frame) order, by the rule in ``common.py``.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import OutsideRoot, inside
from trainer.contract.manifest import SPLITS, Point, Row, Track, tracks_sha256
from trainer.data.delivery_writer import DeliveryWriter
from trainer.data.readers import Progress
from trainer.data.readers.common import (
    add_common_arguments,
    add_time_arguments,
    assigned_times,
    counted,
    origin_of,
    read_json,
    summary,
)

SCENES = ("eth", "hotel", "univ", "zara1", "zara2")
OBSERVED, STEPS, HZ = 8, 20, 2.5
DECIMALS = 4
LICENCE = "unstated by ETH and UCY (research use)"
SPLITS_FILE: TypeAdapter[dict[str, dict[str, list[str]]]] = TypeAdapter(dict[str, dict[str, list[str]]])
SLICES: dict[str, Any] = {
    "slices": [
        {"name": "one or two people", "where": {"labels.tracks": {"max": 2}}},
        {"name": "three to nine people", "where": {"labels.tracks": {"min": 3, "max": 9}}},
        {"name": "ten people or more", "where": {"labels.tracks": {"min": 10}}},
    ]
}


@dataclass(frozen=True)
class Window:
    """Twenty frames of a recording, the first of them number ``frame``, and who walks through all of them."""

    recording: str
    frame: int
    tracks: tuple[Track, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    add_time_arguments(parser)
    parser.add_argument("--scene", choices=SCENES, required=True, help="the scene to test on")
    parser.add_argument(
        "--min-people", type=int, choices=(1, 2), default=2, help="fewest pedestrians of a window (default 2)"
    )


def run(arguments: argparse.Namespace, progress: Progress | None) -> None:
    """Write the delivery; see the module for its rules.

    Raises:
        ContractError: names every problem of the source.
    """
    problems: list[Problem] = []
    splits = {
        split: [window for path in paths for window in windows(path, arguments.min_people, problems)]
        for split, paths in _files(arguments.src, arguments.scene, problems).items()
    }
    problems += [
        Problem(str(arguments.src), f"no windows of {split}", f"{STEPS} frames with {arguments.min_people} pedestrians")
        for split in SPLITS
        if not splits[split] and not problems
    ]
    if problems:
        raise ContractError(f"{arguments.src} is not usable", problems, "Nothing was written.")
    times = {split: assigned_times(len(found), arguments.start, arguments.windows) for split, found in splits.items()}
    writer = DeliveryWriter(arguments.out)
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    timed = [(split, *one) for split in SPLITS for one in zip(splits[split], times[split], strict=True)]
    for split, window, moment in counted(timed, progress):
        rows[split].append(_row(window, captured_at=moment, origin=origin_of(arguments)))
    writer.finish(rows, SLICES)
    summary({split: len(found) for split, found in splits.items()}, arguments.out)


def _files(src: Path, scene: str, problems: list[Problem]) -> dict[str, list[Path]]:
    """The recordings of each split of ``scene``, in order."""
    listing = src / "splits.json"
    if not listing.is_file():
        found = {split: sorted((src / scene / split).glob("*.txt")) for split in SPLITS}
        problems += [
            Problem(str(src / scene / split), "no *.txt", "recordings there, or a splits.json in SRC")
            for split, paths in found.items()
            if not paths
        ]
        return found
    named = read_json(listing, SPLITS_FILE).get(scene, {})
    paths: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for name in sorted(named.get(split, ())):
            try:
                paths[split].append(inside(src, name))
            except OutsideRoot:
                problems.append(Problem(str(listing), f"'{name}'", "a path below SRC", field=f"{scene}.{split}"))
        if not named.get(split):
            problems.append(Problem(str(listing), "no files", "at least one", field=f"{scene}.{split}"))
    return paths


def windows(path: Path, min_people: int, problems: list[Problem]) -> list[Window]:
    """The windows of the recording at ``path`` in order; what is wrong with its lines goes into ``problems``."""
    walked: dict[int, dict[int, Point]] = defaultdict(dict)
    for number, frame, person, point in _positions(path, problems):
        if frame in walked[person]:
            problems.append(Problem(str(path), f"pedestrian {person} in frame {frame} again", "one position", number))
        walked[person][frame] = point
    frames = sorted({frame for path_of in walked.values() for frame in path_of})
    place = {frame: index for index, frame in enumerate(frames)}
    present: dict[int, list[int]] = defaultdict(list)
    for person in sorted(walked):
        places = sorted(place[frame] for frame in walked[person])
        # Of places that rise, the first and the last of twenty are nineteen apart only where none is missing.
        for first, last in zip(places, places[STEPS - 1 :], strict=False):
            if last - first == STEPS - 1:
                present[first].append(person)
    found = []
    for first in sorted(present):
        if len(present[first]) >= min_people:
            during = frames[first : first + STEPS]
            tracks = tuple(_track(person, walked[person], during) for person in present[first])
            found.append(Window(path.stem, during[0], tracks))
    return found


def _positions(path: Path, problems: list[Problem]) -> Iterator[tuple[int, int, int, Point]]:
    """Line number, frame, pedestrian and position of each good line."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        problems.append(Problem(str(path), error.strerror or str(error), "a recording"))
        return
    for number, line in enumerate(lines, start=1):
        try:
            frame, person, x, y = map(float, line.split())
            if not (frame.is_integer() and person.is_integer() and isfinite(x) and isfinite(y)):
                raise ValueError
        except ValueError:
            if line.strip():
                expected = "frame and pedestrian (whole numbers), x and y"
                problems.append(Problem(str(path), f"'{line}'", expected, number))
            continue
        yield number, int(frame), int(person), (round(x, DECIMALS), round(y, DECIMALS))


def _track(person: int, walked: dict[int, Point], frames: list[int]) -> Track:
    points = tuple(walked[frame] for frame in frames)
    return Track(track_id=str(person), category="pedestrian", hz=HZ, observed=OBSERVED, points=points)


def _row(window: Window, **given: Any) -> Row:
    return Row.model_validate(
        {
            "sample_id": f"{window.recording}-{window.frame:06d}",
            "sha256": tracks_sha256(window.tracks),
            "captured_at_source": "assigned",
            "attributes": {"recording": window.recording},
            "tracks": window.tracks,
            "licence": LICENCE,
            **given,
        }
    )
