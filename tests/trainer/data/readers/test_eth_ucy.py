"""ETH/UCY → rows without an image: the windows that Social GAN's loader counts, and the published baselines."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.contract.manifest import tracks_sha256
from trainer.data.readers.eth_ucy import SCENES, Window, windows

Positions = list[tuple[int, int, float, float]]


def write(path: Path, positions: Positions) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{frame}\t{person}.0\t{x}\t{y}\n" for frame, person, x, y in positions))
    return path


def walk(person: int, frames: range, speed: float = 0.4) -> Positions:
    return [(frame, person, speed * index + person, 2.0 * person) for index, frame in enumerate(frames)]


@pytest.fixture
def source(tmp_path) -> Path:
    """Two people for 25 frames in each of train, val and test; one of them stays for five frames more."""
    root = tmp_path / "datasets"
    for number, split in enumerate(("train", "val", "test")):
        positions = walk(1 + number, range(0, 250, 10)) + walk(11 + number, range(0, 300, 10))
        write(root / "eth" / split / f"recording_{split}.txt", sorted(positions))
    return root


def test_a_row_is_a_window_with_everyone_who_is_in_all_of_it(source, imported):
    delivery = imported("eth_ucy", source, "--scene", "eth")
    assert {split: len(rows) for split, rows in delivery.rows.items()} == {"train": 6, "val": 6, "test": 6}
    row = delivery.rows["val"][2]
    assert row.sample_id == "recording_val-000020"
    assert row.source_ref is None
    assert row.sha256 == tracks_sha256(row.tracks)
    assert [(track.track_id, track.category, track.hz, track.observed) for track in row.tracks] == [
        ("2", "pedestrian", 2.5, 8),
        ("12", "pedestrian", 2.5, 8),
    ]
    assert row.tracks[0].points == tuple((pytest.approx(0.4 * step + 2), 4.0) for step in range(2, 22))
    assert (row.origin, row.captured_at_source) == ("datasets", "assigned")
    assert row.attributes == {"recording": "recording_val"}


def test_one_person_is_enough_only_when_asked_for(source, imported):
    delivery = imported("eth_ucy", source, "--scene", "eth", "--min-people", "1")
    assert [len(row.tracks) for row in delivery.rows["test"]] == [2] * 6 + [1] * 5


def test_files_of_a_split_are_named_by_splits_json(source, imported):
    files = {split: [f"eth/{split}/recording_{split}.txt"] for split in ("train", "val", "test")}
    (source / "splits.json").write_text(json.dumps({"zara1": {**files, "val": files["val"] + ["more.txt"]}}))
    write(source / "more.txt", walk(5, range(0, 200, 10)) + walk(6, range(0, 200, 10)))
    delivery = imported("eth_ucy", source, "--scene", "zara1")
    assert [row.attributes["recording"] for row in delivery.rows["val"]] == ["recording_val"] * 6 + ["more"]


def reference(positions: Positions) -> dict[int, list[int]]:
    """First frame → pedestrians, as Social GAN's TrajectoryDataset finds them: frame by frame, person by person."""
    data = np.array(positions, float)
    frames = np.unique(data[:, 0]).tolist()
    found = defaultdict(list)
    for index in range(len(frames) - 19):
        part = data[np.isin(data[:, 0], frames[index : index + 20])]
        for person in np.unique(part[:, 1]):
            if len(part[part[:, 1] == person]) == 20:
                found[int(frames[index])].append(int(person))
    return dict(found)


stays = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 40), st.sets(st.integers(0, 39), max_size=1)), max_size=5)


@settings(max_examples=40)
@given(stays)
def test_windows_are_those_of_the_loader_that_papers_use(tmp_path_factory, stays):
    positions = [
        (10 * (start + step), person, float(step), float(person))
        for person, (start, length, missing) in enumerate(stays)
        for step in range(length)
        if step not in missing
    ]
    path = write(tmp_path_factory.mktemp("walks") / "walks.txt", positions)
    expected = reference(positions) if positions else {}
    for least in (1, 2):
        problems = []
        found = {one.frame: [int(track.track_id) for track in one.tracks] for one in windows(path, least, problems)}
        assert found == {frame: people for frame, people in expected.items() if len(people) >= least}
        assert not problems


def test_all_that_is_bad_comes_in_one_report(source, refused):
    path = source / "eth/val/recording_val.txt"
    lines = path.read_text().splitlines()
    lines[0], lines[1], lines[2], lines[3] = (
        "780\t1.0\t8.46",
        "x\t1.0\t8.46\t3.5",
        "780\t1.5\t8.4\t3.5",
        "780\t1\tnan\t3",
    )
    path.write_text("\n".join([*lines, lines[10], ""]))
    problems = refused("eth_ucy", source, "--scene", "eth")
    assert [(problem.file, problem.line) for problem in problems] == [
        (str(path), 1),
        (str(path), 2),
        (str(path), 3),
        (str(path), 4),
        (str(path), len(lines) + 1),
    ]


def test_missing_recordings_are_named(source, refused):
    assert [problem.file for problem in refused("eth_ucy", source, "--scene", "hotel")] == [
        str(source / "hotel" / split) for split in ("train", "val", "test")
    ]
    (source / "splits.json").write_text(json.dumps({"eth": {"train": ["../x.txt"], "val": ["y.txt"]}}))
    problems = refused("eth_ucy", source, "--scene", "eth")
    assert [problem.field for problem in problems] == ["eth.train", "eth.test", None]


def test_a_split_without_a_window_is_refused(source, refused):
    write(source / "eth/test/recording_test.txt", walk(1, range(0, 190, 10)))
    assert "no windows of test" in refused("eth_ucy", source, "--scene", "eth")[0].found


@pytest.fixture(scope="module")
def published(real_data):
    """``splits.json`` of the real recordings, and what was published of three scenes by another count of them."""
    root = real_data / "eth_ucy"
    counts = json.loads((root / "window_counts_and_baselines.json").read_text())
    return root, json.loads((root / "splits.json").read_text()), counts


def windows_of(published, scene: str, split: str, least: int) -> list[Window]:
    root, splits, _ = published
    problems: list = []
    found = [window for name in splits[scene][split] for window in windows(root / name, least, problems)]
    assert not problems
    return found


@pytest.mark.parametrize("scene", ["eth", "hotel", "zara1"])
@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.slow), "val", "test"])
def test_the_real_windows_are_counted_as_published(published, scene, split, least):
    every = windows_of(published, scene, split, least)
    counts = published[2][scene][f"{split}_minped>{least - 1}"]
    assert len(every) == counts["windows"]
    assert sum(len(window.tracks) for window in every) == counts["trajectories"]


@pytest.mark.parametrize("scene", ["eth", "hotel", "zara1"])
@pytest.mark.parametrize("least", [1, 2])
def test_constant_velocity_on_the_real_tracks_is_as_published(published, scene, least):
    points = np.array([track.points for one in windows_of(published, scene, "test", least) for track in one.tracks])
    velocity = points[:, 7] - points[:, 6]
    guess = points[:, 7, None] + velocity[:, None] * np.arange(1, 13)[None, :, None]
    distance = np.linalg.norm(guess - points[:, 8:], axis=2)
    counts = published[2][scene][f"test_minped>{least - 1}"]
    assert distance.mean() == pytest.approx(counts["cv_ade"], abs=5e-5)
    assert distance[:, -1].mean() == pytest.approx(counts["cv_fde"], abs=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_every_real_scene_passes_the_contract(published, imported, scene):
    """No sample, and no tracks of the same content, in two splits; with one person or more there are most rows."""
    root, splits, _ = published
    delivery = imported("eth_ucy", root, "--scene", scene, "--min-people", "1")
    for split, rows in delivery.rows.items():
        assert {row.attributes["recording"] for row in rows} == {Path(name).stem for name in splits[scene][split]}
