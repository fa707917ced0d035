"""CamVid → delivery: classes, the cut of test, assigned times, palette masks."""

import argparse
import csv
import struct
import zlib
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.contract.delivery import Delivery, read_delivery
from trainer.contract.errors import ContractError
from trainer.contract.files import sha256_of
from trainer.contract.windows import window_of
from trainer.data.readers import READERS, camvid, reader_named

REAL = Path(__file__).parents[4] / ".." / "shared" / "data" / "camvid"
COLUMNS = ["id", "image", "mask", "split", "sequence", "time_of_day"]


def make_source(root: Path, frames: list[tuple[str, str, str]]) -> Path:
    """A source of (id, split, sequence)."""
    for place in ("train", "trainannot"):
        (root / place).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with open(root / "manifest.csv", "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        for name, split, sequence in frames:
            cv2.imwrite(str(root / f"train/{name}.jpg"), rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
            cv2.imwrite(str(root / f"trainannot/{name}.png"), rng.integers(0, 12, (24, 32), dtype=np.uint8))
            table.writerow([name, f"train/{name}.jpg", f"trainannot/{name}.png", split, sequence, "day"])
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two train sequences of 10 and 5 frames, one val sequence of 4; listed last frame first."""
    frames = [(f"A_{number}", "train", "A") for number in range(10, 0, -1)]
    frames += [(f"B_{number}", "train", "B") for number in range(5)] + [
        (f"C_{number}", "val", "C") for number in range(4)
    ]
    return make_source(tmp_path / "my source", frames)


def run(source: Path, out: Path, *options: str, progress=None) -> Delivery:
    parser = argparse.ArgumentParser()
    camvid.add_arguments(parser)
    camvid.run(parser.parse_args([str(source), str(out), *options]), progress)
    return read_delivery(out)


def ids(delivery: Delivery, split: str) -> list[str]:
    return [row.sample_id for row in delivery.rows[split]]


def test_the_reader_is_registered():
    assert reader_named("camvid") is camvid
    assert all(hasattr(reader_named(name), "run") and hasattr(reader_named(name), "add_arguments") for name in READERS)


def test_test_is_the_last_fifth_of_each_train_sequence(source, tmp_path):
    delivery = run(source, tmp_path / "out")
    assert ids(delivery, "train") == [*(f"A_{number}" for number in range(1, 9)), "B_0", "B_1", "B_2", "B_3"]
    assert ids(delivery, "test") == ["A_9", "A_10", "B_4"]
    assert ids(delivery, "val") == ["C_0", "C_1", "C_2", "C_3"]


def test_a_test_split_that_the_source_has_is_kept(tmp_path):
    frames = [("A_1", "train", "A"), ("A_2", "train", "A"), ("B_1", "val", "B"), ("C_1", "test", "C")]
    delivery = run(make_source(tmp_path / "source", frames), tmp_path / "out")
    assert {split: ids(delivery, split) for split in delivery.rows} == {
        "train": ["A_1", "A_2"],
        "val": ["B_1"],
        "test": ["C_1"],
    }


def test_times_are_assigned_by_the_documented_rule(source, tmp_path):
    delivery = run(source, tmp_path / "out", "--start", "2026-02-04", "--windows", "3")
    monday = date(2026, 2, 2)  # of the week that holds the start
    for rows in delivery.rows.values():
        places = [(window_of(row.captured_at).start.date() - monday).days / 7 for row in rows]
        assert places == [index * 3 // len(rows) for index in range(len(rows))]
        assert [row.captured_at for row in rows] == sorted(row.captured_at for row in rows)
        assert {row.captured_at_source for row in rows} == {"assigned"}


def test_times_inside_a_window_rise_evenly(source, tmp_path):
    rows = run(source, tmp_path / "out", "--windows", "1").rows["train"]
    gaps = {b.captured_at - a.captured_at for a, b in pairwise(rows)}
    assert len(gaps) == 1


def test_windows_that_would_end_in_the_future_are_refused(source, tmp_path):
    with pytest.raises(ContractError, match="--start"):
        run(source, tmp_path / "out", "--start", "2990-01-01")
    assert not (tmp_path / "out").exists()


def test_rows_carry_licence_origin_and_attributes(source, tmp_path):
    row = run(source, tmp_path / "out").rows["train"][0]
    assert (row.licence, row.origin) == ("CC-BY-NC-4.0 (research use only)", "my source")
    assert row.attributes == {"sequence": "A", "time_of_day": "day"}
    assert run(source, tmp_path / "out", "--origin", "elsewhere").rows["train"][0].origin == "elsewhere"


def test_files_are_copied_byte_for_byte(source, tmp_path):
    delivery = run(source, tmp_path / "out")
    for _, row in delivery.all_rows():
        assert sha256_of(source / f"train/{row.sample_id}.jpg") == row.sha256
        assert sha256_of(source / f"trainannot/{row.sample_id}.png") == row.semantic_sha256


def test_running_again_gives_the_same_delivery(source, tmp_path):
    calls = []
    first = run(source, tmp_path / "out", progress=lambda done, total: calls.append((done, total))).digest
    assert calls == [(done, 19) for done in range(1, 20)]
    assert run(source, tmp_path / "out").digest == first == run(source, tmp_path / "other").digest


def palette_png(indices: np.ndarray, depth: int) -> bytes:
    """A palette PNG with two entries of one colour, so that colours do not tell the indices."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = indices.shape
    bits = np.unpackbits(indices.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :].reshape(height, -1)
    lines = b"".join(b"\0" + np.packbits(line).tobytes() for line in bits)
    palette = bytes([9, 9, 9, 9, 9, 9, *(value % 251 for value in range(3 * (2**depth - 2)))])
    header = struct.pack(">IIBBBBB", width, height, depth, 3, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"PLTE", palette)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("depth", [4, 8])
def test_palette_masks_keep_their_indices(source, tmp_path, depth):
    indices = np.random.default_rng(1).integers(0, 12, (24, 32))
    (source / "trainannot/A_1.png").write_bytes(palette_png(indices, depth))
    delivery = run(source, tmp_path / "out")
    row = delivery.rows["train"][0]
    mask = cv2.imread(str(delivery.root / row.semantic_ref), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, indices)


def problems(source: Path, out: Path) -> list[tuple[int | None, str | None]]:
    with pytest.raises(ContractError) as caught:
        run(source, out)
    assert not out.exists()
    return [(problem.line, problem.field) for problem in caught.value.problems]


def test_all_bad_rows_are_reported_and_nothing_is_written(source, tmp_path):
    table = (source / "manifest.csv").read_text().splitlines()
    table[1] = table[1].replace(",train,", ",training,")
    table[2] = table[2].replace("train/A_9.jpg", "../A_9.jpg")
    table[4] = table[3]
    (source / "manifest.csv").write_text("\n".join(table))
    cv2.imwrite(str(source / "trainannot/B_0.png"), np.zeros((24, 32, 3), np.uint8))
    (source / "trainannot/B_1.png").write_bytes(b"nothing")
    assert set(problems(source, tmp_path / "out")) == {
        (2, "split"),
        (3, "image"),
        (5, "id"),
        (12, "mask"),
        (13, "mask"),
    }


def test_missing_columns_are_named(source, tmp_path):
    table = (source / "manifest.csv").read_text().replace("time_of_day", "hour").replace("sequence", "drive")
    (source / "manifest.csv").write_text(table)
    assert problems(source, tmp_path / "out") == [(1, "sequence"), (1, "time_of_day")]


def test_a_source_without_its_csv_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"manifest\.csv"):
        run(tmp_path, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data/camvid is not there")
def test_the_real_set_passes_the_contract(tmp_path):
    delivery = run(REAL, tmp_path / "out")
    counts = {split: Counter(row.attributes["time_of_day"] for row in rows) for split, rows in delivery.rows.items()}
    assert {split: count.total() for split, count in counts.items()} == {"train": 295, "val": 101, "test": 72}
    assert counts["test"]["dusk"] >= 10
    assert delivery.slices.labels.semantic.classes[3] == "road"
    assert {window_of(row.captured_at).name for row in delivery.rows["test"]} == {
        "2026-01-05",
        "2026-01-12",
        "2026-01-19",
        "2026-01-26",
    }
