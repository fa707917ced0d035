"""The file registry: each version once and whole, aliases with a history, nothing ever overwritten."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.contract.errors import ContractError
from trainer.contract.files import sha256_of
from training_assets.stores.entries import Draft
from training_assets.stores.exclusive import create_exclusively
from training_assets.stores.registry import Registry

REPOSITORY = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("register_once.py")
Drafts = Callable[..., Draft]
Files = dict[str, Path]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")


def start(registry: Registry, draft: Draft, files: Files, moment: str = "") -> subprocess.Popen[str]:
    """Another process that registers ``draft``."""
    directory = next(iter(files.values())).parent
    path = directory.parent / f"draft-{draft.lineage.run.run_id}.json"
    path.write_text(draft.model_dump_json())
    command = [sys.executable, str(SCRIPT), str(registry.root), str(path), str(directory), *filter(None, [moment])]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def tree(root: Path) -> dict[str, str]:
    """Every file below ``root`` with its digest; locks are empty and left out."""
    return {str(p.relative_to(root)): sha256_of(p) for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_registered_version_reads_back_as_it_was_given(registry: Registry, draft: Drafts, files: Files) -> None:
    given = draft()
    entry = registry.register(given, files)
    found = registry.resolve("scenes", "1.0.0")
    assert found == entry
    assert found is not None
    assert Draft(**{name: getattr(found, name) for name in Draft.model_fields}) == given
    assert {name: (registry.directory(found) / name).read_bytes() for name in found.files} == {
        name: path.read_bytes() for name, path in files.items()
    }


def test_the_same_run_with_the_same_files_is_registered_once(registry: Registry, draft: Drafts, files: Files) -> None:
    first = registry.register(draft(), files)
    before = tree(registry.root)
    assert registry.register(draft(), files) == first
    assert tree(registry.root) == before


def test_other_files_or_another_run_make_another_version(registry: Registry, draft: Drafts, files: Files) -> None:
    registry.register(draft(), files)
    assert registry.register(draft("zzzzzzzz"), files).version == "1.1.0"
    files["best.pt"].write_bytes(b"other weights")
    assert registry.register(draft(), files).version == "1.2.0"
    assert registry.versions("scenes") == ["1.0.0", "1.1.0", "1.2.0"]


def test_the_tenth_version_comes_after_the_ninth(registry: Registry, draft: Drafts, files: Files) -> None:
    for number in range(11):
        registry.register(draft(f"run{number:05d}"), files)
    assert registry.versions("scenes")[-2:] == ["1.9.0", "1.10.0"]


def test_projects_count_their_versions_apart(registry: Registry, draft: Drafts, files: Files) -> None:
    registry.register(draft(), files)
    assert registry.register(draft(project="fog"), files).version == "1.0.0"
    assert registry.projects() == ["fog", "scenes"]


def test_processes_that_register_at_once_each_get_a_version(registry: Registry, draft: Drafts, files: Files) -> None:
    writers = [start(registry, draft(f"run{number:05d}"), files) for number in range(4)]
    results = [writer.communicate(timeout=120) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, results
    assert {out.strip() for out, _ in results} == {"1.0.0", "1.1.0", "1.2.0", "1.3.0"}
    entries = [registry.resolve("scenes", version) for version in registry.versions("scenes")]
    assert {entry.lineage.run.run_id for entry in entries if entry} == {f"run{number:05d}" for number in range(4)}
    assert all(entry is not None and registry.verify(entry) == [] for entry in entries)


def test_the_same_run_registered_at_once_is_one_version(registry: Registry, draft: Drafts, files: Files) -> None:
    writers = [start(registry, draft(), files) for _ in range(3)]
    results = [writer.communicate(timeout=120) for writer in writers]
    assert {out.strip() for out, _ in results} == {"1.0.0"}, results
    assert registry.versions("scenes") == ["1.0.0"]


@pytest.mark.parametrize("moment", ["link", "rename"])
def test_a_killed_writer_leaves_no_entry_and_the_next_one_gets_through(
    registry: Registry, draft: Drafts, files: Files, moment: str
) -> None:
    killed = start(registry, draft(), files, moment)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert registry.versions("scenes") == []
    entry = registry.register(draft(), files)
    assert registry.verify(entry) == []
    assert registry.versions("scenes") == [entry.version]


def test_a_file_is_created_once_only(tmp_path: Path) -> None:
    create_exclusively(tmp_path / "entry.json", b"first")
    with pytest.raises(FileExistsError):
        create_exclusively(tmp_path / "entry.json", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("entry.json", b"first")]


def test_nothing_that_was_written_ever_changes(registry: Registry, draft: Drafts, files: Files) -> None:
    registry.register(draft(), files)
    registry.promote("scenes", "1.0.0", by="ann")
    before = tree(registry.root)
    registry.register(draft("zzzzzzzz"), files)
    registry.promote("scenes", "1.1.0", by="ben")
    registry.promote("scenes", "1.0.0", by="ann", reason="rolled back")
    after = tree(registry.root)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2 + 1 + 2  # two files, one entry, two moves of the alias


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


def test_a_move_that_lost_a_race_comes_after_the_winner(
    registry: Registry, draft: Drafts, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id in ("aaaaaaaa", "bbbbbbbb"):
        registry.register(draft(run_id), files)
    stale = [registry.history("scenes", "production")]
    registry.promote("scenes", "1.0.0", by="winner")
    real = registry.history
    monkeypatch.setattr(registry, "history", lambda *names: stale.pop() if stale else real(*names))
    lost = registry.promote("scenes", "1.1.0", by="loser")
    assert (lost.sequence, lost.previous) == (2, "1.0.0")


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
    assert not list(registry.root.rglob("*.json"))


def test_verify_names_each_damaged_and_each_missing_file(registry: Registry, draft: Drafts, files: Files) -> None:
    entry = registry.register(draft(), files)
    (registry.directory(entry) / "best.pt").write_bytes(b"damaged")
    (registry.directory(entry) / "model.onnx").unlink()
    found = {Path(problem.file).name: problem.found for problem in registry.verify(entry)}
    assert set(found) == {"best.pt", "model.onnx"}
    assert found["model.onnx"] == "nothing"


def test_a_model_behind_a_failed_gate_is_not_registered(registry: Registry, draft: Drafts, files: Files) -> None:
    with pytest.raises(ContractError, match="gate targets_met: found detection/AP50 on all"):
        registry.register(draft(passed=False), files)
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
