"""nuScenes tables → delivery: projection, tracks, conditions, recorded times."""

import json
from datetime import UTC, datetime
from math import cos, sin, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.readers import nuscenes
from trainer.data.readers.nuscenes_camera import Camera
from trainer.data.readers.nuscenes_tables import Annotation, CalibratedSensor, Pose

WIDTH, HEIGHT = 128, 64
FOCAL = 100.0
INTRINSIC = [[FOCAL, 0.0, 64.0], [0.0, FOCAL, 32.0], [0.0, 0.0, 1.0]]
FORWARD = [0.5, -0.5, 0.5, -0.5]
"""The camera's z is the vehicle's x (forward), its x the vehicle's -y (right), its y the vehicle's -z (down)."""
NORTH = [sqrt(0.5), 0.0, 0.0, sqrt(0.5)]
"""Heading along the global y."""
MOUNT = [1.5, 0.0, 1.5]
START = 1532402927612460  # microseconds
TABLES = ["attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample",
          "sample_annotation", "sample_data", "scene", "sensor", "visibility"]  # fmt: skip


class Source:
    """The tables of a data set whose vehicle stands at (100, 200), heading along the global y."""

    def __init__(self, root: Path, draw) -> None:
        self.root, self.draw = root, draw
        self.tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        for token, level in (("1", "v0-40"), ("2", "v40-60"), ("3", "v60-80"), ("4", "v80-100")):
            self.add("visibility", token, level=level, description="")
        for channel, modality in (("CAM_FRONT", "camera"), ("CAM_BACK", "camera"), ("LIDAR_TOP", "lidar")):
            self.add("sensor", channel, channel=channel, modality=modality)
            intrinsic = INTRINSIC if modality == "camera" else []
            given = {"translation": MOUNT, "rotation": FORWARD, "camera_intrinsic": intrinsic}
            self.add("calibrated_sensor", f"calibrated {channel}", sensor_token=channel, **given)

    def add(self, table: str, token: str, **fields: Any) -> dict[str, Any]:
        row = {"token": token, **fields}
        if not any(one["token"] == token for one in self.tables[table]):
            self.tables[table].append(row)
        return row

    def scene(
        self, name: str, log: str, frames: int, description: str = "Parked cars", location: str = "boston"
    ) -> None:
        self.add("log", log, logfile=f"{log}.log", vehicle="n015", date_captured="2018-07-24", location=location)
        self.add("scene", name, name=name, description=description, log_token=log, nbr_samples=frames,
                 first_sample_token=f"{name} 0", last_sample_token=f"{name} {frames - 1}")  # fmt: skip
        for number in range(frames):
            token, time = f"{name} {number}", START + 500_000 * number + 3_600_000_000 * len(self.tables["scene"])
            self.add("sample", token, scene_token=name, timestamp=time, next=f"{name} {number + 1}",
                     prev=f"{name} {number - 1}")  # fmt: skip
            self.add("ego_pose", token, translation=[100.0, 200.0, 0.0], rotation=NORTH, timestamp=time)
            for channel in ("CAM_FRONT", "CAM_BACK", "LIDAR_TOP"):
                for key_frame in (True, False):
                    path = f"{'samples' if key_frame else 'sweeps'}/{channel}/{name}__{number}.jpg"
                    if channel == "CAM_FRONT" and key_frame:
                        self.draw(self.root / path, WIDTH, HEIGHT)
                    size = {"width": WIDTH, "height": HEIGHT} if channel != "LIDAR_TOP" else {"width": 0, "height": 0}
                    self.add("sample_data", f"{token} {channel} {key_frame}", sample_token=token, ego_pose_token=token,
                             calibrated_sensor_token=f"calibrated {channel}", timestamp=time, fileformat="jpg",
                             is_key_frame=key_frame, filename=path, prev="", next="", **size)  # fmt: skip
        self.tables["sample"][-frames]["prev"] = self.tables["sample"][-1]["next"] = ""

    def thing(
        self, name: str, category: str, scene: str, positions: dict[int, tuple[float, float, float]], **given: Any
    ) -> None:
        """``positions`` by key frame are (forward, left, up) of the box's centre from the camera, in metres."""
        self.add("category", category, name=category, description="")
        self.add("instance", name, category_token=category, nbr_annotations=len(positions))
        for number, (forward, left, up) in positions.items():
            common = {"size": [2.0, 4.0, 1.0], "rotation": NORTH, "num_lidar_pts": 5, "num_radar_pts": 0,
                      "visibility_token": "4", "attribute_tokens": [], "prev": "", "next": ""}  # fmt: skip
            place = {"translation": [100 - left, 200 + MOUNT[0] + forward, MOUNT[2] + up]}
            tokens = {"sample_token": f"{scene} {number}", "instance_token": name}
            self.add("sample_annotation", f"{name} {number}", **{**tokens, **place, **common, **given})

    def write(self, version: str = "v1.0-trainval") -> Path:
        (self.root / version).mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (self.root / version / f"{name}.json").write_text(json.dumps(rows))
        return self.root


@pytest.fixture
def source(tmp_path, draw) -> Source:
    """Train scenes of three logs, a val scene of the first of these."""
    source = Source(tmp_path / "nuscenes", draw)
    for name, log, frames in (
        ("scene-0001", "a", 20),
        ("scene-0002", "a", 2),
        ("scene-0004", "b", 3),
        ("scene-0003", "a", 2),
    ):
        source.scene(name, log, frames)
    source.scene("scene-0005", "c", 4, "Night, after rain, turn left", "singapore-onenorth")
    source.thing("a car", "vehicle.car", "scene-0001", {0: (20.0, 0.0, 0.0)})
    return source


def rows_of(delivery, scene: str):
    """The rows of a scene by the number of their key frame."""
    found = [row for _, row in delivery.all_rows() if row.attributes["scene"] == scene]
    return sorted(found, key=lambda row: row.captured_at)


def first_boxes(delivery):
    return rows_of(delivery, "scene-0001")[0].boxes


def test_a_box_straight_ahead_is_as_large_as_its_nearest_face(source, imported):
    """Four metres long, two wide, one high: the face 18 m away is 2/18 by 1/18 of the focal length."""
    (box,) = first_boxes(imported("nuscenes", source.write()))
    expected = (64 - FOCAL / 18, 32 - FOCAL / 36, 2 * FOCAL / 18, FOCAL / 18)
    assert (box.category, box.ignore) == ("car", False)
    assert box.bbox == pytest.approx(expected, abs=1e-9)


def test_a_box_seen_from_its_side_is_as_wide_as_it_is_long(source, imported):
    source.thing("another", "vehicle.truck", "scene-0001", {0: (20.0, 0.0, 0.0)}, rotation=[1.0, 0.0, 0.0, 0.0])
    box = first_boxes(imported("nuscenes", source.write()))[1]
    assert box.bbox == pytest.approx((64 - 2 * FOCAL / 19, 32 - FOCAL / 38, 4 * FOCAL / 19, FOCAL / 19), abs=1e-9)


def test_a_box_at_the_border_is_clipped_and_its_centre_is_not_in_the_image(source, imported):
    source.thing("another", "vehicle.bus.rigid", "scene-0001", {0: (20.0, 13.0, 2.0), 1: (20.0, 13.0, 2.0)})
    row = rows_of(imported("nuscenes", source.write()), "scene-0001")[0]
    left, right = max(0.0, 64 - FOCAL * 14 / 18), 64 - FOCAL * 12 / 22
    top, bottom = 32 - FOCAL * 2.5 / 18, 32 - FOCAL * 1.5 / 22
    assert row.boxes[1].bbox == pytest.approx((left, top, right - left, bottom - top), abs=1e-9)
    assert next(track.at for track in row.tracks if track.track_id == "another") is None


@pytest.mark.parametrize(
    "place",
    [(-20.0, 0.0, 0.0), (1.9, 0.0, 0.0), (20.0, 16.0, 0.0), (20.0, 0.0, -9.0)],
    ids=["behind", "around the camera", "left of the image", "below the image"],
)
def test_a_box_that_is_not_to_be_seen_is_none(source, imported, place):
    source.thing("another", "vehicle.car", "scene-0001", {0: place})
    assert len(first_boxes(imported("nuscenes", source.write()))) == 1


@pytest.mark.parametrize(("forward", "seen"), [(0.6, 0), (1.2, 1)])
def test_what_is_within_a_metre_of_the_camera_is_not_seen(source, imported, forward, seen):
    source.thing("insect", "vehicle.car", "scene-0001", {0: (forward, 0.0, 0.0)}, size=[0.1, 0.1, 0.1])
    assert len(first_boxes(imported("nuscenes", source.write()))) == 1 + seen


def test_what_cannot_be_seen_well_is_to_be_ignored(source, imported):
    facts = (
        {"visibility_token": "1"},
        {"num_lidar_pts": 0},
        {"num_lidar_pts": 0, "num_radar_pts": 1},
        {"visibility_token": ""},
    )
    for number, fact in enumerate(facts):
        source.thing(f"another {number}", "human.pedestrian.adult", "scene-0001", {0: (20.0, 1.0, 0.0)}, **fact)
    boxes = first_boxes(imported("nuscenes", source.write()))[1:]
    assert [(box.category, box.ignore) for box in boxes] == [
        ("pedestrian", True),
        ("pedestrian", True),
        ("pedestrian", False),
        ("pedestrian", False),
    ]


def test_categories_are_the_benchmarks(source, imported):
    for name in ("animal", "static_object.bicycle_rack", "movable_object.trafficcone", "vehicle.construction"):
        source.thing(name, name, "scene-0001", {0: (20.0, 1.0, 0.0), 1: (20.0, 1.0, 0.0)})
    row = rows_of(imported("nuscenes", source.write()), "scene-0001")[0]
    assert [(box.category, box.ignore) for box in row.boxes[1:]] == [
        ("bicycle", True),
        ("traffic_cone", False),
        ("construction_vehicle", False),
    ]
    assert [track.category for track in row.tracks] == ["construction_vehicle"], "cones and animals are not forecast"


Q = tuple[float, float, float, float]


def hamilton(a: Q, b: Q) -> Q:
    w, x, y, z = a
    v, i, j, k = b
    return (w * v - x * i - y * j - z * k, w * i + x * v + y * k - z * j, w * j - x * k + y * v + z * i,
            w * k + x * j - y * i + z * v)  # fmt: skip


def turned(rotation: Q, point: np.ndarray) -> np.ndarray:
    w, x, y, z = rotation
    return np.array(hamilton(hamilton(rotation, (0.0, *point)), (w, -x, -y, -z))[1:])


def inverse(rotation: Q) -> Q:
    return rotation[0], -rotation[1], -rotation[2], -rotation[3]


def as_the_devkit(annotation: Annotation, vehicle: Pose, sensor: CalibratedSensor) -> list[float] | None:
    """``get_sample_data``: the box is moved and turned as a whole, then its corners are made and projected."""
    centre, orientation = np.array(annotation.translation), annotation.rotation
    for pose in (vehicle, sensor):
        back = inverse(pose.rotation)
        centre, orientation = turned(back, centre - np.array(pose.translation)), hamilton(back, orientation)
    width, length, height = annotation.size
    corners = []
    for x in (length / 2, -length / 2):
        for y, z in (
            (width / 2, height / 2),
            (-width / 2, height / 2),
            (-width / 2, -height / 2),
            (width / 2, -height / 2),
        ):
            corners.append(centre + turned(orientation, np.array([x, y, z])))
    if not all(corner[2] > 0.1 for corner in corners):
        return None
    pixels = [(FOCAL * x / z + 64, FOCAL * y / z + 32) for x, y, z in corners]
    inside = [0 < u < WIDTH and 0 < v < HEIGHT and c[2] > 1 for (u, v), c in zip(pixels, corners, strict=True)]
    if not any(inside):
        return None
    us, vs = zip(*pixels, strict=True)
    left, top = max(0.0, min(us)), max(0.0, min(vs))
    return [left, top, min(WIDTH, max(us)) - left, min(HEIGHT, max(vs)) - top]


angles = st.floats(-3.1, 3.1)
metres = st.floats(-30, 30)


def unit(yaw: float, pitch: float) -> Q:
    return hamilton((cos(yaw / 2), 0.0, 0.0, sin(yaw / 2)), (cos(pitch / 2), 0.0, sin(pitch / 2), 0.0))


@given(angles, st.floats(-0.3, 0.3), angles, st.tuples(metres, metres, st.floats(-3, 3)), st.floats(0.2, 12))
def test_boxes_are_projected_as_the_devkit_does(heading, pitch, yaw, place, length):
    vehicle = Pose(token="", translation=(5.0, -7.0, 0.5), rotation=unit(heading, pitch))
    sensor = CalibratedSensor(
        token="", sensor_token="", translation=MOUNT, rotation=FORWARD, camera_intrinsic=INTRINSIC
    )
    facts = {"sample_token": "", "instance_token": "", "visibility_token": "", "num_lidar_pts": 1, "num_radar_pts": 0}
    annotation = Annotation(token="", translation=place, rotation=unit(yaw, 0.1), size=(2.0, length, 1.5), **facts)
    found = Camera(vehicle, sensor, (WIDTH, HEIGHT)).bbox(annotation)
    expected = as_the_devkit(annotation, vehicle, sensor)
    assert (found is None) == (expected is None)
    assert found is None or list(found) == pytest.approx(expected, abs=1e-6)


def test_tracks_reach_two_seconds_back_and_six_ahead(source, imported):
    source.thing("mover", "vehicle.car", "scene-0001", {number: (10.0 + number, 0.0, 0.0) for number in range(20)})
    rows = rows_of(imported("nuscenes", source.write()), "scene-0001")
    tracks = [next((one for one in row.tracks if one.track_id == "mover"), None) for row in rows]
    assert [(one.observed, len(one.points)) for one in tracks[:-1]] == [
        (min(number, 4) + 1, min(number, 4) + 1 + min(19 - number, 12)) for number in range(19)
    ]
    assert tracks[19] is None, "it has no future"
    assert {one.hz for one in tracks[:-1]} == {2}
    expected = tuple((100.0, pytest.approx(200 + 1.5 + 10 + number)) for number in range(2, 19))
    assert tracks[6].points == expected
    assert tracks[6].at == pytest.approx((64, 32))


def test_a_gap_ends_a_track(source, imported):
    places = {number: (10.0 + number, 0.0, 0.0) for number in range(20) if number != 10}
    source.thing("mover", "human.pedestrian.child", "scene-0001", places)
    rows = rows_of(imported("nuscenes", source.write()), "scene-0001")
    tracks = [next((one for one in row.tracks if one.track_id == "mover"), None) for row in rows]
    assert (tracks[8].observed, len(tracks[8].points)) == (5, 6)
    assert tracks[9] is tracks[10] is None
    assert (tracks[11].observed, len(tracks[11].points)) == (1, 9)


def test_times_are_the_cameras_and_recorded(source, imported):
    row = rows_of(imported("nuscenes", source.write()), "scene-0001")[0]
    assert row.captured_at == datetime(2018, 7, 24, 4, 28, 47, 612460, tzinfo=UTC)  # an hour after START
    assert row.captured_at_source == "recorded"
    assert (row.licence, row.origin) == ("CC-BY-NC-SA-4.0", "nuscenes")


def test_conditions_come_from_the_scenes_description(source, imported):
    delivery = imported("nuscenes", source.write())
    assert rows_of(delivery, "scene-0005")[0].attributes == {
        "scene": "scene-0005",
        "location": "singapore-onenorth",
        "time_of_day": "night",
        "weather": "rain",
    }
    assert rows_of(delivery, "scene-0001")[0].attributes["weather"] == "dry"
    counts = {one.name: sum(one.holds(row) for _, row in delivery.all_rows()) for one in delivery.slices.slices}
    assert counts == {
        "weather-dry": 27,
        "weather-rain": 4,
        "time_of_day-day": 27,
        "time_of_day-night": 4,
        "location-boston": 27,
        "location-singapore-onenorth": 4,
        "crowded": 0,
    }


def test_val_is_as_published_and_test_is_cut_from_train_by_logs(source, imported):
    delivery = imported("nuscenes", source.write())
    scenes = {split: {row.attributes["scene"] for row in rows} for split, rows in delivery.rows.items()}
    assert scenes["val"] == {"scene-0003"}
    assert scenes["train"] | scenes["test"] == {"scene-0001", "scene-0002", "scene-0004", "scene-0005"}
    assert not scenes["train"] & scenes["test"]
    assert ({"scene-0001", "scene-0002"} <= scenes["train"]) != ({"scene-0001", "scene-0002"} <= scenes["test"])


def test_the_published_val_has_150_scenes_and_holds_those_of_mini(tmp_path, draw, imported):
    assert len(nuscenes.VAL) == 150
    assert nuscenes.MINI_VAL < nuscenes.VAL
    source = Source(tmp_path / "nuscenes", draw)
    for number, name in enumerate(("scene-0061", "scene-0553", "scene-0103", "scene-0916")):
        source.scene(name, f"log {number}", 2)
    delivery = imported("nuscenes", source.write("v1.0-mini"))
    # scene-0553 is of val, but of mini_train.
    assert {row.attributes["scene"] for row in delivery.rows["val"]} == {"scene-0103", "scene-0916"}


def test_one_of_several_versions_must_be_chosen(source, imported, refused):
    source.write("v1.0-mini")
    assert "--version" in refused("nuscenes", source.write())[0].expected
    assert all(imported("nuscenes", source.root, "--version", "v1.0-trainval").rows.values())


def test_tables_that_are_missing_are_named(source, refused):
    (source.write() / "v1.0-trainval/ego_pose.json").unlink()
    assert refused("nuscenes", source.root)[0].file.endswith("ego_pose.json")


def test_a_frame_that_does_not_say_whether_it_is_a_key_frame_is_refused(source, refused):
    source.tables["sample_data"][0].pop("is_key_frame")
    assert [problem.field for problem in refused("nuscenes", source.write())] == ["0.is_key_frame"]


@pytest.mark.parametrize(
    ("table", "change", "field"),
    [
        ("ego_pose", {"rotation": [0, 0, 0, 0]}, "0.rotation"),
        ("ego_pose", {"translation": [1, 2]}, "0.translation.2"),
        ("sample_annotation", {"size": [1, 0, 1]}, "0.size.1"),
        ("sample_annotation", {"instance_token": "x"}, "instance_token"),
        ("sample_annotation", {"sample_token": "x"}, "sample_token"),
        ("sample_annotation", {"visibility_token": "x"}, "visibility_token"),
        ("sample", {"next": "x"}, "next"),
        ("scene", {"log_token": "x"}, "log_token"),
        ("instance", {"category_token": "x"}, "category_token"),
        ("calibrated_sensor", {"camera_intrinsic": []}, "camera_intrinsic"),
    ],
)
def test_a_row_that_cannot_be_right_is_refused_by_its_field(source, refused, table, change, field):
    source.tables[table][0] |= change
    problems = refused("nuscenes", source.write())
    assert {(Path(problem.file).name, problem.field) for problem in problems} == {(f"{table}.json", field)}


def test_missing_images_come_in_one_report_and_can_be_left_out(source, refused, imported, capsys):
    for number in (1, 3):
        (source.root / f"samples/CAM_FRONT/scene-0001__{number}.jpg").unlink()
    assert [problem.field for problem in refused("nuscenes", source.write())] == [
        f"samples/CAM_FRONT/scene-0001__{number}.jpg" for number in (1, 3)
    ]
    delivery = imported("nuscenes", source.root, "--skip-bad")
    assert len(rows_of(delivery, "scene-0001")) == 18
    assert "left out 2 bad" in capsys.readouterr().out
