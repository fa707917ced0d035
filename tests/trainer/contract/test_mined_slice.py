"""A mined slice: what is wrong with its rows, its files and what is in them, each in one report."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from trainer.contract.errors import ContractError
from trainer.contract.mined_slice import check_pictures, read_mined_slice, references
from trainer.contract.slices import Slices, read_slices


def nothing_lacks(asked: Iterable[str]) -> set[str]:
    return set()


@pytest.fixture
def rows(delivery: Path) -> list[dict]:
    return [json.loads(line) for line in (delivery / "golden_train.manifest").read_text().splitlines()[:3]]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_good_slice_gives_its_rows_and_the_files_that_they_name(
    delivery: Path, rows: list[dict], tmp_path: Path
) -> None:
    numbered = read_mined_slice(write(tmp_path / "fog.manifest", rows), "slices/fog.manifest", nothing_lacks)
    assert [number for number, _ in numbered] == [1, 2, 3]
    named = list(references(row for _, row in numbered))
    assert named == [row[field] for row in rows for field in ("source-ref", "semantic-ref")]
    check_pictures(numbered, delivery, "slices/fog.manifest", read_slices(delivery / "slices.yaml"))


def test_everything_that_is_wrong_with_the_rows_comes_in_one_report(rows: list[dict], tmp_path: Path) -> None:
    rows[0]["licence"] = ""
    rows[2]["sample_id"] = rows[1]["sample_id"]
    manifest = write(tmp_path / "copied-elsewhere.manifest", rows)
    with pytest.raises(ContractError) as refused:
        read_mined_slice(manifest, "slices/fog.manifest", lambda asked: {rows[1]["source-ref"]})
    found = {(problem.file, problem.line, problem.field) for problem in refused.value.problems}
    expected = {(1, "licence"), (3, "sample_id"), (2, "source-ref")}
    assert found == {("slices/fog.manifest", line, field) for line, field in expected}


def test_pictures_that_are_damaged_or_do_not_fit_their_labels_are_named(
    delivery: Path, rows: list[dict], tmp_path: Path
) -> None:
    rows[0]["sha256"] = "0" * 64
    rows[1]["boxes"][0]["bbox"] = [60, 60, 30, 30]
    numbered = read_mined_slice(write(tmp_path / "fog.manifest", rows), "fog", nothing_lacks)
    with pytest.raises(ContractError) as refused:
        check_pictures(numbered, delivery, "fog", Slices())
    assert [(problem.line, problem.field) for problem in refused.value.problems] == [
        (1, "sha256"),
        (2, "boxes.0.bbox"),
    ]
