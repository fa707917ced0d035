"""``promote``, ``lineage`` and others by the command line, with an archive in S3."""

import json
from pathlib import Path

import pytest

from tests.training_assets.stores.conftest import make_draft
from training_assets.__main__ import main
from training_assets.profiles import load_profile
from training_assets.stores.registry import Registry, registry_of


@pytest.fixture
def registry(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("TRAINING_ASSETS_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("TRAINING_ASSETS_ARCHIVE", f"{s3}/archive")
    (tmp_path / "store").mkdir()
    registry = registry_of(load_profile())
    for run_id in ("aaaaaaaa", "bbbbbbbb"):
        (tmp_path / "best.pt").write_text(f"weights of {run_id}")
        registry.register(make_draft(run_id), {"best.pt": tmp_path / "best.pt"})
    return registry


def test_a_promotion_is_told(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["promote", "scenes@1.0.0"]) == 0
    assert main(["promote", "scenes@1.1.0", "--reason", "better at night"]) == 0
    assert "scenes@production is 1.1.0 (before: 1.0.0)" in capsys.readouterr().out
    newest = registry.newest("scenes", "production")
    assert newest is not None
    assert (newest.version, newest.reason) == ("1.1.0", "better at night")
    lines = (registry.root / "events.jsonl").read_text().splitlines()
    told = [(event["type"], event["version"], event["previous"]) for event in map(json.loads, lines)]
    assert told == [("model.promoted", "1.0.0", None), ("model.promoted", "1.1.0", "1.0.0")]


def test_lineage_reads_the_archive(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lineage", "scenes@1.0.0"]) == 0
    said = capsys.readouterr().out
    assert f"bytes in {registry.archive.uri}/models/scenes/1.0.0; files are as they were registered" in said


def test_an_archive_that_cannot_be_reached_is_said_to_be(
    registry: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_ASSETS_ARCHIVE", "s3://nobodys-bucket/archive")
    assert main(["lineage", "scenes@1.0.0"]) == 1
    assert "the archive cannot be used: s3://nobodys-bucket/archive" in capsys.readouterr().err


def test_an_archive_is_the_store_where_a_profile_names_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRAINING_ASSETS_STORE", str(tmp_path / "store"))
    assert registry_of(load_profile()).archive.uri == str(tmp_path / "store")
    monkeypatch.setenv("TRAINING_ASSETS_ARCHIVE", str(tmp_path / "elsewhere"))
    assert registry_of(load_profile()).archive.uri == str(tmp_path / "elsewhere")


def test_a_profile_whose_archive_cannot_be_read_lacks_something(
    registry: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["profile", "check", "local"])
    assert "field 'archive'" not in capsys.readouterr().out
    monkeypatch.setenv("TRAINING_ASSETS_ARCHIVE", "s3://nobodys-bucket/archive")
    assert main(["profile", "check", "local"]) == 2
    assert "field 'archive': found s3://nobodys-bucket/archive: " in capsys.readouterr().out
