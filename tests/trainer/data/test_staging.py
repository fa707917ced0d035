import json
import shutil

import pytest

from trainer.__main__ import main
from trainer.contract.errors import ContractError
from trainer.contract.files import sha256_of
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


def test_each_manifest_has_its_list_and_each_frame_is_staged_once(delivery, tmp_path):
    out, lists = tmp_path / "shards", tmp_path / "lists"
    assert shard(delivery, "--out", out, "--list", lists) == 0
    first = {path.stem: json.loads(path.read_text()) for path in lists.iterdir()}
    assert {name: one["samples"] for name, one in first.items()} == {
        "golden_train": 48, "golden_val": 8, "golden_test": 8
    }  # fmt: skip
    assert first["golden_val"]["manifest_sha256"] == sha256_of(delivery / "golden_val.manifest")
    shard(delivery, "--out", out, "--list", lists)
    again = {path.stem: json.loads(path.read_text()) for path in lists.iterdir()}
    assert sum(one["bytes_staged"] for one in again.values()) == 0
    assert sum(one["bytes_reused"] for one in again.values()) == sum(one["bytes_staged"] for one in first.values()) > 0


def test_rows_may_lie_elsewhere_than_their_pictures_and_need_none_once_they_are_staged(delivery, tmp_path, capsys):
    manifest = tmp_path / "2026-01-05.manifest"
    shutil.copy(delivery / "golden_val.manifest", manifest)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        row["semantic-sha256"] = sha256_of(delivery / row["semantic-ref"])
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("--out", tmp_path / "shards", "--list", tmp_path / "lists", "--manifest", manifest)
    assert shard(delivery, *arguments) == 0
    assert shard(tmp_path / "no such directory", *arguments) == 0
    assert json.loads((tmp_path / "lists" / "2026-01-05.json").read_text())["samples"] == 8
    assert shard(tmp_path, "--out", tmp_path / "other", *arguments[2:]) == 2
    assert f"a file that exists inside {tmp_path}" in capsys.readouterr().err


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
    assert shard(copy, "--out", tmp_path / "out", "--list", tmp_path / "lists") == 2
    said = capsys.readouterr().err
    for word in ("manifest:2", "not_there", "outside", "s3://"):
        assert word in said
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_is_not_there_is_named(tmp_path, capsys):
    assert shard(tmp_path, "--out", tmp_path / "out", "--list", tmp_path / "lists") == 2
    assert "golden_train.manifest" in capsys.readouterr().err
