"""The registry: each version once and whole, aliases with a history, nothing ever overwritten; local and in S3."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from trainer.contract.errors import ContractError
from trainer.contract.files import sha256_of
from training_assets.stores.entries import Draft
from training_assets.stores.exclusive import create_exclusively
from training_assets.stores.objects import CorruptObject, store_at
from training_assets.stores.registry import Registry

REPOSITORY = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("register_once.py")
Drafts = Callable[..., Draft]
Files = dict[str, Path]


@pytest.fixture(params=["local", "s3"])
def registry(tmp_path: Path, request: pytest.FixtureRequest) -> Registry:
    if request.param == "local":
        return Registry(tmp_path / "store")
    request.getfixturevalue("moto")
    bucket = f"bucket-{uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return Registry(tmp_path / "store", store_at(f"s3://{bucket}/archive"))


def process(registry: Registry, *arguments: str) -> subprocess.Popen[str]:
    """Another process that does something with the same registry."""
    command = [sys.executable, str(SCRIPT), str(registry.root), registry.archive.uri, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start(registry: Registry, draft: Draft, files: Files, moment: str = "") -> subprocess.Popen[str]:
    """Another process that registers ``draft``."""
    directory = next(iter(files.values())).parent
    path = directory.parent / f"draft-{draft.lineage.run.run_id}.json"
    path.write_text(draft.model_dump_json())
    return process(registry, "register", str(path), str(directory), *filter(None, [moment]))


def tree(registry: Registry) -> dict[str, str]:
    """Every object of the archive with its digest."""
    archive = registry.archive
    names = (*archive.list("registry"), *archive.list("models"))
    return {name: hashlib.sha256(archive.read(name).content).hexdigest() for name in names}


def test_a_registered_version_reads_back_as_it_was_given(registry: Registry, draft: Drafts, files: Files) -> None:
    given = draft()
    entry = registry.register(given, files)
    found = registry.resolve("scenes", "1.0.0")
    assert found == entry
    assert found is not None
    assert Draft(**{name: getattr(found, name) for name in Draft.model_fields}) == given
    assert {name: registry.file(found, name).read_bytes() for name in found.files} == {
        name: path.read_bytes() for name, path in files.items()
    }


def test_the_same_run_with_the_same_files_is_registered_once(registry: Registry, draft: Drafts, files: Files) -> None:
    first = registry.register(draft(), files)
    before = tree(registry)
    assert registry.register(draft(), files) == first
    assert tree(registry) == before


def test_other_files_or_another_run_make_another_version(registry: Registry, draft: Drafts, files: Files) -> None:
    registry.register(draft(), files)
    assert registry.register(draft("zzzzzzzz"), files).version == "1.1.0"
    files["best.pt"].write_bytes(b"other weights")
    assert registry.register(draft(), files).version == "1.2.0"
    assert registry.versions("scenes") == ["1.0.0", "1.1.0", "1.2.0"]


@pytest.mark.slow
def test_the_tenth_version_comes_after_the_ninth(registry: Registry, draft: Drafts, files: Files) -> None:
    for number in range(11):
        registry.register(draft(f"run{number:05d}"), files)
    assert registry.versions("scenes")[-2:] == ["1.9.0", "1.10.0"]


def test_projects_count_their_versions_apart(registry: Registry, draft: Drafts, files: Files) -> None:
    registry.register(draft(), files)
    assert registry.register(draft(project="fog"), files).version == "1.0.0"
    assert registry.projects() == ["fog", "scenes"]


@pytest.mark.slow
def test_processes_that_register_at_once_each_get_a_version(registry: Registry, draft: Drafts, files: Files) -> None:
    writers = [start(registry, draft(f"run{number:05d}"), files) for number in range(3)]
    results = [writer.communicate(timeout=120) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 3, results
    assert {out.strip() for out, _ in results} == {"1.0.0", "1.1.0", "1.2.0"}
    entries = [registry.resolve("scenes", version) for version in registry.versions("scenes")]
    assert {entry.lineage.run.run_id for entry in entries if entry} == {f"run{number:05d}" for number in range(3)}
    assert all(entry is not None and registry.verify(entry) == [] for entry in entries)


@pytest.mark.slow
def test_the_same_run_registered_at_once_is_one_version(registry: Registry, draft: Drafts, files: Files) -> None:
    writers = [start(registry, draft(), files) for _ in range(3)]
    results = [writer.communicate(timeout=120) for writer in writers]
    assert {out.strip() for out, _ in results} == {"1.0.0"}, results
    assert registry.versions("scenes") == ["1.0.0"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["claim", "file", "entry"])
def test_a_killed_writer_leaves_no_entry_and_the_next_one_gets_through(
    registry: Registry, draft: Drafts, files: Files, moment: str
) -> None:
    killed = start(registry, draft(), files, moment)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert registry.versions("scenes") == []
    entry = registry.register(draft(), files)
    assert registry.verify(entry) == []
    assert registry.versions("scenes") == [entry.version] == ["1.0.0"]


@pytest.mark.slow
def test_a_run_that_was_killed_keeps_its_number_and_others_take_the_next(
    registry: Registry, draft: Drafts, files: Files
) -> None:
    start(registry, draft(), files, "file").communicate(timeout=120)
    assert registry.register(draft("zzzzzzzz"), files).version == "1.1.0"
    assert registry.register(draft(), files).version == "1.0.0"


def test_a_file_is_created_once_only(tmp_path: Path) -> None:
    create_exclusively(tmp_path / "entry.json", b"first")
    with pytest.raises(FileExistsError):
        create_exclusively(tmp_path / "entry.json", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("entry.json", b"first")]


def test_nothing_that_was_written_ever_changes(registry: Registry, draft: Drafts, files: Files) -> None:
    registry.register(draft(), files)
    registry.promote("scenes", "1.0.0", by="ann")
    before = tree(registry)
    registry.register(draft("zzzzzzzz"), files)
    registry.promote("scenes", "1.1.0", by="ben")
    registry.promote("scenes", "1.0.0", by="ann", reason="rolled back")
    after = tree(registry)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2 + 1 + 1 + 2  # two files, a claim, an entry, two moves of the alias


def test_an_alias_follows_its_newest_move_and_keeps_all(registry: Registry, draft: Drafts, files: Files) -> None:
    for run_id in ("aaaaaaaa", "bbbbbbbb"):
        registry.register(draft(run_id), files)
    registry.promote("scenes", "1.0.0", by="ann", reason="first")
    registry.promote("scenes", "1.1.0", by="ben", reason="better at night")
    registry.promote("scenes", "1.0.0", by="ann", reason="rolled back")
    found = registry.resolve("scenes", "production")
    assert found is not None
    assert found.version == "1.0.0"
    moves = [(m.sequence, m.previous, m.version, m.by, m.reason) for m in registry.history("scenes", "production")]
    assert moves == [
        (1, None, "1.0.0", "ann", "first"),
        (2, "1.0.0", "1.1.0", "ben", "better at night"),
        (3, "1.1.0", "1.0.0", "ann", "rolled back"),
    ]


def test_promoting_what_is_promoted_writes_nothing(registry: Registry, draft: Drafts, files: Files) -> None:
    registry.register(draft(), files)
    first = registry.promote("scenes", "1.0.0", by="ann")
    assert registry.promote("scenes", "1.0.0", by="ben") == first
    assert len(registry.history("scenes", "production")) == 1


def test_an_alias_may_lie_inside_the_name_of_another(registry: Registry, draft: Drafts, files: Files) -> None:
    for run_id in ("aaaaaaaa", "bbbbbbbb"):
        registry.register(draft(run_id), files)
    registry.promote("scenes", "1.0.0", "candidate", by="ann")
    registry.promote("scenes", "1.1.0", "candidate/detection/2026-02-23", by="ann")
    found = {name: move.version for name, move in registry.aliases("scenes").items()}
    assert found == {"candidate": "1.0.0", "candidate/detection/2026-02-23": "1.1.0"}
    assert len(registry.history("scenes", "candidate")) == 1


@pytest.mark.slow
def test_of_two_promotions_at_once_one_wins_and_the_other_is_told_who(
    registry: Registry, draft: Drafts, files: Files, tmp_path: Path
) -> None:
    for run_id in ("aaaaaaaa", "bbbbbbbb"):
        registry.register(draft(run_id), files)
    (tmp_path / "meeting").mkdir()
    ends = [("1.0.0", "ann"), ("1.1.0", "ben")]
    both = [process(registry, "promote", "scenes", *end, str(tmp_path / "meeting")) for end in ends]
    results = [one.communicate(timeout=120) for one in both]
    said = {by: out.strip() for (_, by), (out, _) in zip(ends, results, strict=True)}
    winner, loser = sorted(said, key=lambda by: said[by].startswith("lost"))
    assert said[winner] == "won 1", results
    version = {by: version for version, by in ends}
    assert f"found {version[winner]}, moved there by {winner} at" in said[loser]
    assert f"scenes@{version[loser]} was not promoted" in said[loser]
    (move,) = registry.history("scenes", "production")
    assert (move.version, move.by) == (version[winner], winner)


@pytest.mark.slow
def test_two_that_promote_the_same_version_at_once_both_have_what_they_want(
    registry: Registry, draft: Drafts, files: Files, tmp_path: Path
) -> None:
    registry.register(draft(), files)
    (tmp_path / "meeting").mkdir()
    both = [process(registry, "promote", "scenes", "1.0.0", by, str(tmp_path / "meeting")) for by in ("ann", "ben")]
    assert [one.communicate(timeout=120)[0].strip() for one in both] == ["won 1", "won 1"]
    assert len(registry.history("scenes", "production")) == 1


def test_an_alias_that_nobody_decides_on_comes_after_who_was_faster(
    registry: Registry, draft: Drafts, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id in ("aaaaaaaa", "bbbbbbbb"):
        registry.register(draft(run_id), files)
    stale, real = [registry.newest("scenes", "candidate")], registry.newest
    registry.promote("scenes", "1.0.0", "candidate", by="winner")
    monkeypatch.setattr(registry, "newest", lambda *names: stale.pop() if stale else real(*names))
    last = registry.follow("scenes", "1.1.0", "candidate", by="follower")
    assert (last.sequence, last.previous) == (2, "1.0.0")


def test_what_does_not_exist_resolves_to_nothing(registry: Registry) -> None:
    assert registry.resolve("scenes", "1.0.0") is None
    assert registry.resolve("scenes", "production") is None
    assert registry.aliases("scenes") == {}
    assert registry.projects() == []


def test_a_model_that_is_not_found_is_answered_with_those_that_are(
    registry: Registry, draft: Drafts, files: Files
) -> None:
    registry.register(draft(), files)
    registry.promote("scenes", "1.0.0", by="ann")
    assert registry.find("scenes@production").reference == "scenes@1.0.0"
    with pytest.raises(ContractError, match=r"found 'scenes@2\.0\.0', expected one of scenes@1\.0\.0, scenes@prod"):
        registry.find("scenes@2.0.0")


def test_an_alias_of_a_version_that_is_not_there_is_refused(registry: Registry) -> None:
    with pytest.raises(ContractError, match=r"found '1\.0\.0', expected one of \(no versions yet\)"):
        registry.promote("scenes", "1.0.0", by="ann")
    assert tree(registry) == {}


def test_verify_names_each_damaged_and_each_missing_file(registry: Registry, draft: Drafts, files: Files) -> None:
    entry = registry.register(draft(), files)
    files["best.pt"].write_bytes(b"damaged")
    registry.archive.upload(files["best.pt"], "models/scenes/1.0.0/best.pt")
    registry.archive.delete("models/scenes/1.0.0/model.onnx")
    found = {Path(problem.file).name: problem.found for problem in registry.verify(entry)}
    assert set(found) == {"best.pt", "model.onnx"}
    assert found["model.onnx"] == "nothing"


def test_a_file_that_is_not_what_was_registered_is_not_handed_out(
    registry: Registry, draft: Drafts, files: Files
) -> None:
    entry = registry.register(draft(), files)
    expected = entry.files["best.pt"].sha256
    files["best.pt"].write_bytes(b"damaged")
    registry.archive.upload(files["best.pt"], "models/scenes/1.0.0/best.pt")
    with pytest.raises(
        CorruptObject, match=rf"best\.pt: found sha256 {sha256_of(files['best.pt'])}, expected {expected}"
    ):
        registry.file(entry, "best.pt")


def test_a_file_of_another_machine_is_fetched_once_and_mended_where_it_was_damaged(
    registry: Registry, draft: Drafts, files: Files
) -> None:
    entry = registry.register(draft(), files)
    path = registry.file(entry, "best.pt")
    assert path.is_relative_to(registry.root)
    before = path.stat().st_ino
    assert registry.file(entry, "best.pt").stat().st_ino == before
    if registry.archive.path("models/scenes/1.0.0/best.pt") is None:
        path.write_bytes(b"damaged")
        assert sha256_of(registry.file(entry, "best.pt")) == entry.files["best.pt"].sha256


def test_the_documents_are_every_entry_and_every_move_whatever_the_project_is_called(
    registry: Registry, draft: Drafts, files: Files
) -> None:
    entry = registry.register(draft(project="claims"), files)
    move = registry.promote("claims", "1.0.0", "candidate/claims/x", by="ann")
    found = [json.loads(document) for document in registry.documents()]
    assert sorted(found, key=str) == sorted([one.model_dump(mode="json") for one in (entry, move)], key=str)


def test_another_process_sees_what_this_one_wrote(registry: Registry, draft: Drafts, files: Files) -> None:
    other = Registry(registry.root, store_at(registry.archive.uri))
    assert other.newest("scenes", "production") is None
    entry = registry.register(draft(), files)
    registry.promote("scenes", "1.0.0", by="ann")
    assert other.resolve("scenes", "production") == entry


def test_a_model_behind_a_failed_gate_is_not_registered(registry: Registry, draft: Drafts, files: Files) -> None:
    with pytest.raises(ContractError, match="gate targets_met: found detection/AP50 on all"):
        registry.register(draft(passed=False), files)
    assert tree(registry) == {}
    assert not registry.root.exists()


def test_a_file_that_is_missing_is_named_and_nothing_is_registered(
    registry: Registry, draft: Drafts, files: Files
) -> None:
    files["model.onnx"].unlink()
    with pytest.raises(ContractError, match=r"model\.onnx: found nothing, expected a file to register"):
        registry.register(draft(), files)
    assert registry.versions("scenes") == []


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a//b", "", ".hidden", "a/../../b"])
def test_a_file_cannot_leave_its_version(registry: Registry, draft: Drafts, files: Files, name: str) -> None:
    with pytest.raises(ValueError, match="files"):
        registry.register(draft(), {name: files["best.pt"]})
    assert registry.versions("scenes") == []
