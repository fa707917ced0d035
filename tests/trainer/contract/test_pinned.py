"""The rows of a version by window: the same rows make the same files, whatever a delivery looks like."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.contract import pinned
from trainer.contract.delivery import DeliveryReader, Sample
from trainer.contract.manifest import Row, read_manifest
from trainer.contract.pinned import RowWriter, WindowRows, split_manifests, window_manifest
from trainer.contract.windows import window_named


def sample(name: str, moment: datetime, split: str = "train", **fields: object) -> Sample:
    value = {
        "sample_id": name,
        "source-ref": f"{name}.png",
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "captured_at": moment.isoformat(),
        "licence": "CC0-1.0",
        "origin": "test\twith a tab",
        **fields,
    }
    return Sample(split, 1, json.dumps(value).encode() + b"\r\n", Row.model_validate(value))


def write(samples: list[Sample], out: Path, cadence: str = "weekly") -> dict[str, WindowRows]:
    writer = RowWriter(out / "scratch", cadence)
    for one in samples:
        writer.add(one)
    return writer.finish(out / "version")


def rows_of(path: Path) -> list[Row]:
    problems: list[object] = []
    rows = [row for _, row in read_manifest(path, problems)]
    assert problems == []
    return rows


moments = st.datetimes(datetime(1969, 12, 1), datetime(1970, 3, 1), timezones=st.just(UTC))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(times=st.lists(moments, min_size=1, max_size=20), seed=st.randoms(), held=st.sampled_from([1, 1 << 20]))
def test_every_row_is_in_its_window_in_order_whatever_the_deliverys_order_and_the_memory(
    times, seed, held, tmp_path_factory, monkeypatch
):
    monkeypatch.setattr(pinned, "HELD_BYTES", held)
    tmp = tmp_path_factory.mktemp("rows")
    samples = [sample(f"s{number}", moment) for number, moment in enumerate(times)]
    windows = write(samples, tmp / "a")
    assert sum(window.rows for window in windows.values()) == len(samples)
    for name, window in windows.items():
        path = window_manifest(tmp / "a" / "version", name)
        found = rows_of(path)
        assert window == (len(found), hashlib.sha256(path.read_bytes()).hexdigest())
        assert all(row.captured_at in window_named(name) for row in found)
        assert [(row.captured_at, row.sample_id) for row in found] == sorted(
            (row.captured_at, row.sample_id) for row in found
        )
    seed.shuffle(samples)
    assert write(samples, tmp / "b") == windows


def test_one_more_row_changes_its_own_window_alone(tmp_path):
    first, second = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 12, tzinfo=UTC)
    before = write([sample("a", first), sample("b", second)], tmp_path / "before")
    after = write([sample("a", first), sample("b", second), sample("late", first)], tmp_path / "after")
    assert after["2026-01-12"] == before["2026-01-12"]
    assert after["2026-01-05"].rows == 2
    assert after["2026-01-05"].sha256 != before["2026-01-05"].sha256


def test_val_and_test_have_a_file_each_and_train_those_of_its_windows_oldest_first(tmp_path):
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    samples = [sample("v", moment, "val"), sample("t", moment, "test")]
    samples += [sample(f"w{day}", moment.replace(day=day)) for day in (20, 5)]
    windows = write(samples, tmp_path)
    assert list(windows) == ["2026-01-05", "2026-01-19"]
    version = tmp_path / "version"
    names = {
        split: [row.sample_id for path in split_manifests(version, split) for row in rows_of(path)]
        for split in ("train", "val", "test")
    }
    assert names == {"train": ["w5", "w20"], "val": ["v"], "test": ["t"]}


def test_windows_of_another_length_replace_those_that_were_there(tmp_path):
    samples = [sample("a", datetime(2026, 1, 7, tzinfo=UTC))]
    write(samples, tmp_path / "weekly")
    (tmp_path / "weekly" / "version").rename(tmp_path / "version")
    writer = RowWriter(tmp_path / "scratch", "daily")
    writer.add(samples[0])
    assert list(writer.finish(tmp_path / "version")) == ["2026-01-07"]
    assert not window_manifest(tmp_path / "version", "2026-01-05").exists()


def test_a_pinned_row_names_its_mask_so_that_another_mask_is_another_window(kit, tmp_path):
    for row in kit.rows["train"]:
        del row["semantic-sha256"]
    masks = [hashlib.sha256((kit.root / row["semantic-ref"]).read_bytes()).hexdigest() for row in kit.rows["train"]]
    writer = RowWriter(tmp_path / "scratch", "weekly")
    for one in DeliveryReader(kit.write()):
        writer.add(one)
    windows = writer.finish(tmp_path / "version")
    assert [row.semantic_sha256 for row in rows_of(window_manifest(tmp_path / "version", "2026-01-05"))] == masks
    assert windows["2026-01-05"].rows == 2


@pytest.mark.parametrize("line", [b"\t", b" \t "])
def test_tabs_around_a_row_do_not_confuse_it(line, tmp_path):
    one = sample("a", datetime(2026, 1, 7, tzinfo=UTC))
    one.content = line + one.content.replace(b'{"sample_id"', b'{\t"sample_id"')
    write([one], tmp_path)
    assert rows_of(window_manifest(tmp_path / "version", "2026-01-05")) == [one.row]
