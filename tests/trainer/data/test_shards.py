import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from trainer.contract.delivery import read_delivery
from trainer.contract.errors import ContractError
from trainer.contract.files import digest_of
from trainer.contract.shard_index import DataSpec, Selection, read_head, read_index
from trainer.data.loader import read_mask
from trainer.data.shards import ShardReader, stage


@pytest.fixture
def rows(delivery: Path):
    return read_delivery(delivery, check_images=False).rows["train"]


def test_members_read_by_offset_are_the_files_as_delivered(delivery, rows, tmp_path):
    staged = stage(rows, delivery, tmp_path, samples_per_shard=20)
    reader = ShardReader(shard.path for shard in staged)
    assert len(staged) == 3
    assert [reader.row(index) for index in range(len(reader))] == rows
    for index, row in enumerate(rows):
        assert reader.read(index, "png") == (delivery / row.source_ref).read_bytes()
        assert reader.read(index, "semantic.png") == (delivery / str(row.semantic_ref)).read_bytes()


def test_a_selection_has_its_samples_in_its_order_and_no_other(delivery, rows, tmp_path):
    paths = [shard.path for shard in stage(rows, delivery, tmp_path, samples_per_shard=20)]
    reader = ShardReader(paths, Selection(samples=(45, 3, 20), labels={"boxes": 3}))
    assert [reader.row(index) for index in range(len(reader))] == [rows[45], rows[3], rows[20]]
    assert reader.read(1, "png") == (delivery / rows[3].source_ref).read_bytes()
    assert rows[20].sample_id in reader.name(2)
    assert reader.label_counts == {"boxes": 3}
    with pytest.raises(IndexError):
        reader.row(3)
    # Decoded images are kept by sample number: never under the same name as another selection's.
    assert reader.keys != ShardReader(paths).keys
    assert reader.keys != ShardReader(paths, Selection(samples=(3, 45, 20), labels={})).keys


def test_a_selection_beyond_its_shards_is_refused(delivery, rows, tmp_path):
    paths = [shard.path for shard in stage(rows, delivery, tmp_path)]
    with pytest.raises(ContractError, match="sample 48"):
        ShardReader(paths, Selection(samples=(0, 48), labels={}))


def test_a_selection_makes_other_data_and_none_leaves_the_digest_as_it_was():
    plain = DataSpec(splits={"train": ("shards/ab.json",)})
    assert plain.digest == digest_of({"train": ["ab"]})
    assert "selection" not in plain.text
    some = plain.model_copy(update={"selection": {"train": Selection(samples=(0, 2), labels={})}})
    other = plain.model_copy(update={"selection": {"train": Selection(samples=(0, 1), labels={})}})
    assert len({plain.digest, some.digest, other.digest}) == 3
    assert DataSpec.model_validate_json(some.text) == some


def test_the_webdataset_library_reads_the_shards_as_they_are(delivery, rows, tmp_path):
    import webdataset

    staged = stage(rows, delivery, tmp_path)
    samples = list(webdataset.WebDataset(str(staged[0].path.with_suffix(".tar")), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [row.sample_id for row in rows]
    assert samples[0]["png"] == (delivery / rows[0].source_ref).read_bytes()
    assert {"png", "semantic.png", "json"} <= set(samples[0])


def test_the_index_names_the_sha256_of_the_tar_file(delivery, rows, tmp_path):
    for shard in stage(rows, delivery, tmp_path, samples_per_shard=20):
        tar = shard.path.with_suffix(".tar").read_bytes()
        assert hashlib.sha256(tar).hexdigest() == shard.head.sha256
        assert len(tar) == shard.head.bytes


def test_a_second_run_stages_nothing_and_gives_the_same_shards(delivery, rows, tmp_path):
    first = stage(rows, delivery, tmp_path)
    content = {path: path.read_bytes() for path in tmp_path.iterdir()}
    inodes = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    second = stage(rows, delivery, tmp_path)
    assert [shard.reused for shard in first] == [False]
    assert [shard.reused for shard in second] == [True]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == inodes


def test_a_shard_that_is_found_again_is_young_again(delivery, rows, tmp_path):
    (shard,) = stage(rows, delivery, tmp_path)
    os.utime(shard.path, (0, 0))
    stage(rows, delivery, tmp_path)
    assert shard.path.stat().st_mtime > time.time() - 60


def test_the_same_rows_make_byte_identical_shards_elsewhere(delivery, rows, tmp_path):
    first, second = (stage(rows, delivery, tmp_path / name)[0].head for name in ("one", "two"))
    assert (first.key, first.sha256) == (second.key, second.sha256)


def test_a_changed_mask_changes_the_shard(delivery, rows, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(delivery, copy)
    before = stage(rows, copy, tmp_path / "shards")[0].head.key
    first, second = (copy / str(row.semantic_ref) for row in rows[:2])
    first.write_bytes(second.read_bytes())
    assert stage(rows, copy, tmp_path / "shards")[0].head.key != before


def test_an_image_that_is_not_what_its_row_says_is_refused_and_leaves_no_shard(delivery, rows, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(delivery, copy)
    (copy / rows[3].source_ref).write_bytes(b"something else")
    with pytest.raises(ContractError, match=rows[3].sample_id):
        stage(rows, copy, tmp_path / "shards")
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_tar_without_its_index_is_written_again(delivery, rows, tmp_path):
    shard = stage(rows, delivery, tmp_path)[0]
    shard.path.unlink()
    shard.path.with_suffix(".tar").write_bytes(b"half")
    again = stage(rows, delivery, tmp_path)[0]
    assert not again.reused
    assert read_index(again.path).sha256 == shard.head.sha256


def test_a_truncated_shard_is_an_error_not_a_short_read(delivery, rows, tmp_path):
    shard = stage(rows, delivery, tmp_path)[0]
    reader = ShardReader([shard.path])
    with open(shard.path.with_suffix(".tar"), "r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(OSError, match=shard.head.key):
        reader.read(len(rows) - 1, "png")


def test_the_head_of_an_index_says_what_the_samples_say(rows, delivery, tmp_path):
    for shard in stage(rows, delivery, tmp_path, samples_per_shard=20):
        head, whole = read_head(shard.path), read_index(shard.path)
        assert (head.key, head.sha256, head.bytes) == (whole.key, whole.sha256, whole.bytes)
        assert head.count == len(whole.samples)
        assert head.labels == {"boxes": head.count, "semantic": head.count, "lanes": 0, "tracks": 0}


def test_an_index_of_format_1_is_read_as_before(rows, delivery, tmp_path):
    shard = stage(rows, delivery, tmp_path)[0]
    old = (
        read_index(shard.path)
        .model_copy(update={"format": 1, "count": None, "labels": None})
        .model_dump(mode="json", by_alias=True, exclude_none=True)
    )
    for sample in old["samples"]:
        del sample["members"]["semantic.rle"]
    shard.path.write_text(json.dumps(old))
    reader = ShardReader([shard.path])
    assert [reader.row(index) for index in range(len(reader))] == rows
    assert reader.label_counts["semantic"] == len(rows)
    assert read_mask(reader, 3) is not None


def test_a_missing_index_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"gone\.json"):
        ShardReader([tmp_path / "gone.json"])


def test_more_shards_than_may_be_open_are_read_with_few_descriptors(rows, delivery, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.data.shards.OPEN_SHARDS", 3)
    reader = ShardReader(shard.path for shard in stage(rows, delivery, tmp_path, samples_per_shard=2))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for index in [*range(len(rows)), 0, 47, 1]:
        assert reader.read(index, "png") == (delivery / rows[index].source_ref).read_bytes()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3


def test_a_reader_of_very_many_shards_opens_without_reading_their_samples(rows, delivery, tmp_path, monkeypatch):
    paths = [shard.path for shard in stage(rows, delivery, tmp_path, samples_per_shard=16)]
    monkeypatch.setattr("trainer.data.shards.read_members", lambda path: pytest.fail(f"{path} was read whole"))
    assert len(ShardReader(paths * 1000)) == 48_000


def test_a_sample_beyond_the_end_is_an_error(rows, delivery, tmp_path):
    reader = ShardReader(shard.path for shard in stage(rows, delivery, tmp_path))
    for index in (-1, 48):
        with pytest.raises(IndexError):
            reader.row(index)
