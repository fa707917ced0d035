"""The synthetic delivery: deterministic, accepted by the contract, and drawn as its labels say."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.contract.delivery import Delivery, read_delivery
from trainer.contract.errors import ContractError
from trainer.contract.files import sha256_of
from trainer.contract.manifest import Row
from trainer.contract.slices import read_slices
from trainer.contract.windows import window_of
from trainer.data.scene_light import light
from trainer.data.scene_painting import AGENTS, CLASSES, HEIGHT, IGNORE, WIDTH, project
from trainer.data.scene_world import Conditions
from trainer.data.scenes import SHARES, START, make_rare_scenes, make_scenes, plan


def digests(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256_of(path) for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    """Two windows of 24 frames."""
    out = tmp_path_factory.mktemp("scenes") / "out"
    make_scenes(out, windows=2, frames_per_window=24)
    return read_delivery(out)


def pictures(delivery: Delivery):
    for _, row in delivery.all_rows():
        image = cv2.imread(str(delivery.root / row.source_ref))
        mask = cv2.imread(str(delivery.root / row.semantic_ref), cv2.IMREAD_UNCHANGED)
        yield row, image, mask


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        make_scenes(tmp_path / name, windows=1, frames_per_window=8)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 2 * 8 + 6


def test_another_seed_gives_other_pictures(tmp_path):
    for seed in (1, 2):
        make_scenes(tmp_path / str(seed), windows=1, frames_per_window=8, seed=seed)
    one, two = (set(digests(tmp_path / str(seed) / "images").values()) for seed in (1, 2))
    assert not one & two


@pytest.mark.slow
def test_a_smaller_delivery_over_a_larger_one_leaves_nothing_behind(tmp_path):
    make_scenes(tmp_path / "out", windows=2, frames_per_window=8)
    make_scenes(tmp_path / "out", windows=1, frames_per_window=8)
    make_scenes(tmp_path / "fresh", windows=1, frames_per_window=8)
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(ContractError, match=r"precious\.txt"):
        make_scenes(tmp_path, windows=1, frames_per_window=8)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_frames_fill_their_weekly_windows_three_quarters_for_train():
    frames = list(plan(8, 56, 42, START))
    assert len({frame.sample_id for frame in frames}) == len(frames) == 448
    for window in range(8):
        ours = [frame for frame in frames if frame.window == window]
        assert Counter(frame.split for frame in ours) == {"train": 42, "val": 7, "test": 7}
        assert len({window_of(frame.captured_at).name for frame in ours}) == 1
        assert len({frame.captured_at.date() for frame in ours}) == 7
    assert len({window_of(frame.captured_at).name for frame in frames}) == 8


def test_frames_taken_one_after_the_other_stay_in_one_split():
    frames = sorted(plan(8, 56, 42, START), key=lambda frame: (frame.window, frame.number))
    drives = [frames[start : start + 7] for start in range(0, len(frames), 7)]
    assert all(len({(frame.split, frame.conditions) for frame in drive}) == 1 for drive in drives)


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("attribute", sorted(SHARES))
def test_each_condition_has_ten_frames_to_be_judged_on(split, attribute):
    frames = [frame for frame in plan(8, 56, 42, START) if frame.split == split]
    counts = Counter(getattr(frame.conditions, attribute) for frame in frames)
    assert set(counts) == set(SHARES[attribute])
    assert min(counts.values()) >= 10


@pytest.mark.parametrize(("windows", "frames"), [(0, 56), (1, 7)])
def test_too_few_frames_are_refused(windows, frames):
    with pytest.raises(ValueError, match="at least"):
        list(plan(windows, frames, 42, START))


def test_pictures_have_the_promised_size_and_every_class(small):
    seen: Counter[int] = Counter()
    for _, image, mask in pictures(small):
        assert image.shape == (HEIGHT, WIDTH, 3) == (128, 160, 3)
        seen.update(np.unique(mask).tolist())
    assert set(seen) == {*range(len(CLASSES)), IGNORE}


def test_boxes_lie_in_the_picture_and_hold_what_they_name(small):
    wanted = {"vehicle": CLASSES.index("vehicle"), "pedestrian": CLASSES.index("pedestrian"), "cyclist": IGNORE}
    checked = 0
    for row, _, mask in pictures(small):
        for box in row.boxes:
            x, y, w, h = box.bbox
            assert min(x, y) >= 0
            assert x + w <= WIDTH + 0.01
            assert y + h <= HEIGHT + 0.01
            if not box.ignore:
                inside = mask[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))]
                assert (inside == wanted[box.category]).mean() > 0.15
                checked += 1
    assert checked > 60


@pytest.mark.parametrize("category", ["vehicle", "pedestrian"])
def test_no_pixel_of_a_class_lies_outside_all_its_boxes(small, category):
    for row, _, mask in pictures(small):
        left = mask == CLASSES.index(category)
        for box in row.boxes:
            x, y, w, h = box.bbox
            if box.category == category:
                left[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))] = False
        assert left.sum() <= 12, row.sample_id  # slivers below the size that gets a box


def test_lanes_lie_on_markings_where_nothing_stands_on_them(small):
    marking, road = CLASSES.index("lane_marking"), CLASSES.index("road")
    on = total = 0
    for row, _, mask in pictures(small):
        for lane in row.lanes:
            assert [v for _, v in lane] == sorted((v for _, v in lane), reverse=True)
            for u, v in lane:
                value = mask[min(int(v), HEIGHT - 1), min(int(u), WIDTH - 1)]
                on, total = on + (value in (marking, road)), total + 1
    assert on / total > 0.75


def test_a_track_passes_where_its_agent_is_drawn(small):
    for _, row in small.all_rows():
        boxes = [box for box in row.boxes if not box.ignore]
        assert len(boxes) == len(row.tracks)
        for box, track in zip(boxes, row.tracks, strict=True):
            assert (track.hz, track.observed, len(track.points), track.category) == (2.5, 8, 20, box.category)
            _, z = track.points[track.observed - 1]
            ground = project(0, 0, z)[1]
            _, y, _, h = box.bbox
            if track.category != "vehicle" and y + h < HEIGHT:
                assert y < ground < y + h + 4


def test_tracks_move_as_fast_as_people_and_cars_do(small):
    for _, row in small.all_rows():
        for track in row.tracks:
            speed = np.linalg.norm(np.diff(track.points, axis=0), axis=1).mean() * track.hz
            low, high = {"pedestrian": (0.5, 2.2), "cyclist": (2.5, 6.5), "vehicle": (3.5, 29)}[track.category]
            assert low < speed < high


def lit(**conditions: str):
    """A board of light and dark fields, 5 m away on the left and 50 m on the right, as it comes out."""
    paint = np.repeat((np.indices((64, 80)).sum(axis=0) // 8 % 2 * 0.6 + 0.2)[..., None], 3, axis=2)
    depth = np.full((64, 80), 5.0, np.float32)
    depth[:, 40:] = 50.0
    depth[:8] = 150.0
    plain = {"weather": "clear", "time_of_day": "day", "road_class": "urban", "region": "east"}
    given = Conditions(**plain | conditions)
    picture = light(paint, np.zeros_like(paint), depth, given, np.random.default_rng(0)).astype(float)
    return picture[8:, :40], picture[8:, 40:]


def test_fog_takes_contrast_with_distance():
    (near, far), (near_in_fog, far_in_fog) = lit(), lit(weather="fog")
    assert near_in_fog.std() > 0.6 * near.std()
    assert far_in_fog.std() < 0.3 * far.std()


def test_far_things_are_darkest_at_night_and_headlights_reach_what_is_near():
    (day, _), (dusk, _), (near, far) = lit(), lit(time_of_day="dusk"), lit(time_of_day="night")
    assert day.mean() > dusk.mean() > far.mean()
    assert near.mean() > 1.5 * far.mean()


def test_rain_takes_contrast_even_near():
    assert lit(weather="rain")[0].std() < 0.9 * lit()[0].std()


def test_every_category_of_agent_is_declared_as_a_box(small):
    assert set(small.slices.labels.boxes) == set(AGENTS)


@pytest.mark.slow
def test_the_delivery_of_the_demo_holds_enough_of_every_slice(tmp_path):
    calls = []
    make_scenes(tmp_path / "out", progress=lambda done, total: calls.append((done, total)))
    delivery = read_delivery(tmp_path / "out")
    assert calls[-1] == (448, 448)
    for one in delivery.slices.slices:
        for split in ("train", "val", "test"):
            assert sum(map(one.holds, delivery.rows[split])) >= one.min_samples >= 10, (one.name, split)
    sides = [min(box.bbox[2:]) for _, row in delivery.all_rows() for box in row.boxes if not box.ignore]
    assert np.median(sides) >= 10


def test_rare_scenes_are_weather_in_the_dark_in_test_alone(tmp_path):
    make_rare_scenes(tmp_path / "rare", frames=12)
    rows = [json.loads(line) for line in (tmp_path / "rare" / "golden_test.manifest").read_text().splitlines()]
    met = Counter((row["attributes"]["weather"], row["attributes"]["time_of_day"]) for row in rows)
    assert met == {("fog", "night"): 4, ("rain", "night"): 4, ("fog", "dusk"): 2, ("rain", "dusk"): 2}
    assert (tmp_path / "rare" / "golden_train.manifest").read_text() == ""
    slices = read_slices(tmp_path / "rare" / "slices.yaml").slices
    parsed = [Row.model_validate(row) for row in rows]
    assert {one.name: sum(map(one.holds, parsed)) for one in slices} == {
        "fog_night": 4, "rain_night": 4, "fog_dusk": 2, "rain_dusk": 2,
    }  # fmt: skip
