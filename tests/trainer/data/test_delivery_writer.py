"""Writing deliveries: only over our own output, and never half a one."""

import hashlib

import pytest

from trainer.contract.errors import ContractError
from trainer.contract.files import OutsideRoot
from trainer.contract.manifest import SPLITS, Row
from trainer.data.delivery_writer import JOURNAL, DeliveryWriter


def rows_of(writer: DeliveryWriter, content: bytes = b"picture"):
    stored = writer.put("images/ä.png", content)
    row = Row.model_validate(
        {
            "sample_id": "a",
            "source-ref": stored.reference,
            "sha256": stored.sha256,
            "captured_at": "2026-01-07T12:00:00Z",
            "licence": "ö",
            "origin": "x",
        }
    )
    return {split: [row] for split in SPLITS}


def test_references_are_relative_and_digests_those_of_the_bytes(tmp_path):
    (tmp_path / "source.png").write_bytes(b"abc")
    stored = DeliveryWriter(tmp_path / "out").copy(tmp_path / "source.png", "images/a.png")
    assert stored.reference == "images/a.png"
    assert stored.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert (tmp_path / "out/images/a.png").read_bytes() == b"abc"
    assert not (tmp_path / "out/images/a.png").is_symlink()


def test_a_started_delivery_is_none_until_it_is_finished(tmp_path):
    writer = DeliveryWriter(tmp_path / "out")
    writer.finish(rows_of(writer), {})
    again = DeliveryWriter(tmp_path / "out")
    again.put("images/b.png", b"x")
    assert not list((tmp_path / "out").glob("golden_*.manifest"))


def test_writing_twice_gives_the_same_manifests(tmp_path):
    contents = []
    for _ in range(2):
        writer = DeliveryWriter(tmp_path / "out")
        writer.finish(rows_of(writer), {"slices": [{"name": "all"}]})
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.*")})
    assert contents[0] == contents[1]
    assert len(contents[0]["golden_train.manifest"].splitlines()) == 1


@pytest.mark.parametrize("reference", ["../a.png", "/a.png", ""])
def test_nothing_is_written_outside(tmp_path, reference):
    with pytest.raises(OutsideRoot):
        DeliveryWriter(tmp_path / "out").put(reference, b"x")


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(ContractError, match="a directory"):
        DeliveryWriter(tmp_path / "out")


def test_slices_that_are_not_usable_are_refused_before_the_manifests(tmp_path):
    writer = DeliveryWriter(tmp_path / "out")
    with pytest.raises(ContractError, match="slices"):
        writer.finish(rows_of(writer), {"slices": [{"nam": "all"}]})
    assert not list((tmp_path / "out").glob("golden_*.manifest"))


def test_a_way_through_a_directory_that_is_not_there_yet_is_judged_by_where_it_leads(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/precious").write_text("x")
    with pytest.raises(ContractError, match="precious"):
        DeliveryWriter(tmp_path / "home" / "new" / "..")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["precious"]


def test_only_what_an_earlier_output_wrote_is_removed(tmp_path):
    writer = DeliveryWriter(tmp_path / "out")
    writer.put("images/old.png", b"x")
    writer.finish(rows_of(writer), {})
    (tmp_path / "out/evaluation").mkdir()
    for name in ("notes.txt", "images/mine.png", "evaluation/eval_report.json"):
        (tmp_path / "out" / name).write_text("mine")
    again = DeliveryWriter(tmp_path / "out")
    again.finish(rows_of(again), {})
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"notes.txt", "images/mine.png", "evaluation/eval_report.json", "images/ä.png"} <= files
    assert "images/old.png" not in files


def test_what_a_killed_output_left_is_removed_by_the_next_one(tmp_path):
    DeliveryWriter(tmp_path / "out").put("images/old.png", b"x")  # and never finished
    with open(tmp_path / "out" / JOURNAL, "a") as stream:
        stream.write('"images/half')
    DeliveryWriter(tmp_path / "out").put("images/older.png", b"x")  # nor this one
    again = DeliveryWriter(tmp_path / "out")
    again.finish(rows_of(again), {})
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == ["ä.png"]
