"""Rows that name their files in S3 become a delivery that holds them, with the same frames; or are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import boto3
import pytest

from trainer.contract.delivery import read_delivery
from trainer.contract.errors import ContractError
from training_assets.commands.deliver import deliver
from training_assets.localised import localised
from training_assets.stores.inbox import LocalInbox


@pytest.fixture
def remote(delivery: Path, tmp_path: Path, s3: str) -> Path:
    """``delivery`` with the pictures of its train and val rows in a bucket; those of test are where they were."""
    root, client, bucket = tmp_path / "remote_delivery", boto3.client("s3"), s3.removeprefix("s3://")
    shutil.copytree(delivery, root)
    for split in ("train", "val"):
        manifest = root / f"golden_{split}.manifest"
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        for row in rows:
            for field in ("source-ref", "semantic-ref"):
                client.upload_file(str(root / row[field]), bucket, f"curated/{row[field]}")
                (root / row[field]).unlink()
                row[field] = f"{s3}/curated/{row[field]}"
        write(manifest, rows)
    return root


def rows_of(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def write(manifest: Path, rows: list[dict[str, Any]]) -> None:
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_what_rows_name_in_s3_lies_in_the_delivery_afterwards(
    remote: Path, delivery: Path, tmp_path: Path, s3: str
) -> None:
    whole = localised(remote, tmp_path / "whole")
    found, before = read_delivery(whole), read_delivery(delivery)
    for split in ("train", "val", "test"):
        assert [(one.sample_id, one.sha256) for one in found.rows[split]] == [
            (one.sample_id, one.sha256) for one in before.rows[split]
        ]
    bucket = s3.removeprefix("s3://")
    assert found.rows["train"][0].source_ref == f"remote/{bucket}/curated/{before.rows['train'][0].source_ref}"
    assert (whole / "golden_test.manifest").read_bytes() == (delivery / "golden_test.manifest").read_bytes()
    assert not list(whole.rglob(".*"))


def test_a_delivery_that_holds_everything_is_taken_as_it_is(delivery: Path, tmp_path: Path) -> None:
    assert localised(delivery, tmp_path / "whole") == delivery
    assert not (tmp_path / "whole").exists()


@pytest.mark.slow
def test_every_object_that_is_missing_or_another_one_is_named_by_its_row(remote: Path, tmp_path: Path, s3: str) -> None:
    client, bucket = boto3.client("s3"), s3.removeprefix("s3://")
    rows = rows_of(remote / "golden_train.manifest")
    client.delete_object(Bucket=bucket, Key=rows[1]["source-ref"].removeprefix(f"{s3}/"))
    client.put_object(Bucket=bucket, Key=rows[2]["source-ref"].removeprefix(f"{s3}/"), Body=b"other")
    rows[3]["source-ref"] = "s3://somewhere/../else.png"
    write(remote / "golden_train.manifest", rows)
    with pytest.raises(ContractError) as refusal:
        localised(remote, tmp_path / "whole")
    problems = {problem.line: problem for problem in refusal.value.problems}
    assert set(problems) == {2, 3, 4}
    assert "an object that is there" in problems[2].expected
    assert rows[2]["sha256"] in problems[3].expected
    assert "none of which begins with a dot" in problems[4].expected
    assert all(problem.field == "source-ref" for problem in problems.values())


@pytest.mark.slow
def test_a_bad_line_is_left_to_the_check_of_the_delivery(remote: Path, tmp_path: Path) -> None:
    with open(remote / "golden_train.manifest", "a") as manifest:
        manifest.write("{not json\n[1]\n")
    whole = localised(remote, tmp_path / "whole")
    with pytest.raises(ContractError, match=r"golden_train\.manifest:49.*\{not json"):
        read_delivery(whole)


@pytest.mark.slow
def test_deliver_fetches_what_is_in_s3_and_leaves_no_copy(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_ASSETS_INBOX", str(tmp_path / "inbox"))
    monkeypatch.setenv("TRAINING_ASSETS_STORE", str(tmp_path / "store"))
    assert deliver(remote, "drop").code == 0
    found = LocalInbox(tmp_path / "inbox").find("drop")
    assert read_delivery(tmp_path / "inbox" / found.name).rows["train"]
    assert not list((tmp_path / "store").rglob("*.png"))
