import json
import shutil

import pytest

from trainer.__main__ import main
from trainer.contract.errors import ContractError
from trainer.contract.shard_index import read_data_spec
from trainer.data.loader import open_data
from trainer.data.staging import data_directory


def silent(text: str) -> None:
    pass


def shard(*arguments: object) -> int:
    return main(["shard", *map(str, arguments)])


def test_a_delivery_becomes_a_data_directory_once(delivery, tmp_path):
    said: list[str] = []
    out = data_directory(delivery, tmp_path, said.append)
    assert data_directory(delivery, tmp_path, said.append) == out
    assert "3 new shards" in said[0]
    assert "0 new shards" in said[1]
    data = open_data(out)
    assert {split: len(reader) for split, reader in data.readers.items()} == {"train": 48, "val": 8, "test": 8}
    assert [one.name for one in data.slices.slices] == ["night"]


def test_a_data_directory_is_taken_as_it_is(delivery, tmp_path):
    out = data_directory(delivery, tmp_path / "first", silent)
    assert data_directory(out, tmp_path / "second", silent) == out
    assert not (tmp_path / "second").exists()


def test_a_directory_that_is_neither_is_refused(tmp_path):
    with pytest.raises(ContractError, match=str(tmp_path)):
        data_directory(tmp_path, tmp_path / "work", silent)


def test_the_data_digest_follows_the_samples(delivery, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(delivery, copy)
    first = read_data_spec(data_directory(delivery, tmp_path / "a", silent)).digest
    assert read_data_spec(data_directory(copy, tmp_path / "b", silent)).digest == first
    lines = (copy / "golden_train.manifest").read_text().splitlines(keepends=True)
    (copy / "golden_train.manifest").write_text("".join(lines[:-1]))
    assert read_data_spec(data_directory(copy, tmp_path / "c", silent)).digest != first


def test_windows_part_the_rows_and_each_frame_is_staged_once(delivery, tmp_path, capsys):
    out, lists = tmp_path / "shards", tmp_path / "lists"
    windows = ["--window", "2026-01-05", "--window", "2026-01-12", "--window", "2026-01-19"]
    assert shard(delivery, "--out", out, "--list", lists, *windows) == 0
    first = {path.stem: json.loads(path.read_text()) for path in lists.iterdir()}
    rows = [json.loads(line) for line in (delivery / "golden_train.manifest").read_text().splitlines()]
    assert {name: one["samples"] for name, one in first.items()} == {
        name: sum(row["captured_at"][:10] >= name and row["captured_at"][:10] < end for row in rows)
        for name, end in (("2026-01-05", "2026-01-12"), ("2026-01-12", "2026-01-19"), ("2026-01-19", "2026-01-26"))
    }
    assert first["2026-01-19"]["shards"] == []
    shard(delivery, "--out", out, "--list", lists, *windows)
    again = {path.stem: json.loads(path.read_text()) for path in lists.iterdir()}
    assert sum(one["bytes_staged"] for one in again.values()) == 0
    assert sum(one["bytes_reused"] for one in again.values()) == sum(one["bytes_staged"] for one in first.values()) > 0


def test_a_mined_slices_manifest_is_staged_under_its_name(delivery, tmp_path):
    slices = delivery / "golden_val.manifest"
    assert shard(delivery, "--out", tmp_path, "--list", tmp_path / "lists", "--manifest", slices) == 0
    assert json.loads((tmp_path / "lists" / "val.json").read_text())["samples"] == 8


def test_a_bad_row_stages_nothing(delivery, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(delivery, copy)
    with open(copy / "golden_train.manifest", "a") as manifest:
        manifest.write('{"sample_id": "x"}\n')
    assert shard(copy, "--out", tmp_path / "out", "--list", tmp_path / "lists") == 2
    assert "golden_train.manifest:49" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_row_that_cannot_be_staged_is_named_before_anything_is(delivery, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(delivery, copy)
    rows = [json.loads(line) for line in (copy / "golden_train.manifest").read_text().splitlines()]
    rows[1]["sample_id"] = rows[0]["sample_id"]
    rows[2]["source-ref"] = "images/not_there.png"
    rows[3]["semantic-ref"] = "../outside.png"
    rows[4]["source-ref"] = "s3://bucket/a.png"
    (copy / "golden_train.manifest").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert shard(copy, "--out", tmp_path / "out", "--list", tmp_path / "lists", "--window", "2026-01-06") == 2
    said = capsys.readouterr().err
    for word in ("manifest:2", "not_there", "outside", "s3://", "--window", "2026-01-05"):
        assert word in said
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_is_not_there_is_named(tmp_path, capsys):
    assert shard(tmp_path, "--out", tmp_path / "out", "--list", tmp_path / "lists") == 2
    assert "golden_train.manifest" in capsys.readouterr().err
