import json
import pickle
import threading
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from trainer.engine.checkpoint_files import MARKER, damaged_files, name_of
from trainer.engine.checkpointer import Checkpointer
from trainer.engine.parallel import Ranks
from trainer.models.state import load, sha256_of_tensors

ALONE = Ranks(0, 1, torch.device("cpu"))


def checkpointer(run_dir: Path, keep_last: int = 2, keep_every: int | None = None) -> Checkpointer:
    return Checkpointer(run_dir, ALONE, keep_last, keep_every)


def saved(run_dir: Path, *steps: int, **options) -> list[Path]:
    """Checkpoints of ``steps`` with a tensor of that value; those that are left."""
    files = checkpointer(run_dir, **options)
    for step in steps:
        files.save(name_of(step, 0), {"weight": torch.full((64,), float(step))}, {"step": step})
    files.close()
    return files.complete()


def latest_value(run_dir: Path) -> float | None:
    files = checkpointer(run_dir)
    directory = files.latest()
    if directory is None:
        return None
    tensors = {"weight": torch.zeros(64)}
    files.load(directory, tensors)
    assert files.document(directory)["step"] == tensors["weight"][0]
    return float(tensors["weight"][0])


def test_the_newest_checkpoints_and_the_permanent_ones_are_kept_and_the_latest_is_loaded(tmp_path):
    left = saved(tmp_path, 10, 20, 30, 40, 50, keep_last=2, keep_every=20)
    assert [path.name for path in left] == [name_of(step, 0) for step in (20, 30, 40, 50)]
    assert sorted((tmp_path / "checkpoints").iterdir()) == left
    assert latest_value(tmp_path) == 50


def test_without_any_checkpoint_there_is_nothing_to_load(tmp_path):
    assert latest_value(tmp_path) is None


def test_a_checkpoint_without_its_marker_does_not_exist(tmp_path):
    newest = saved(tmp_path, 10, 20)[-1]
    (newest / MARKER).unlink()
    assert latest_value(tmp_path) == 10


def test_what_a_killed_save_left_behind_is_swept_away_and_never_loaded(tmp_path):
    newest = saved(tmp_path, 10, 20)[-1]
    leftover = newest.rename(newest.with_name(f"{name_of(30, 0)}.part"))
    assert latest_value(tmp_path) == 10
    assert not leftover.exists()


@pytest.mark.parametrize("file", ["__0_0.distcp", ".metadata", "state.json", MARKER])
@pytest.mark.parametrize("damage", ["torn", "flipped", "gone"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path, capsys, file, damage):
    newest = saved(tmp_path, 10, 20)[-1]
    content = (newest / file).read_bytes()
    if damage == "gone":
        (newest / file).unlink()
    elif damage == "torn":
        (newest / file).write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        (newest / file).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert latest_value(tmp_path) == 10
    if not (file == MARKER and damage == "gone"):
        assert f"{newest} is damaged" in capsys.readouterr().out


def test_a_state_that_changes_after_the_copy_is_saved_as_it_was(tmp_path):
    files, weight = checkpointer(tmp_path), torch.full((64,), 1.0)
    files.save(name_of(1, 0), {"weight": weight}, {"step": 1})
    files.wait_for_copy()
    weight.fill_(2.0)
    files.close()
    assert latest_value(tmp_path) == 1


def test_saving_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    gate = threading.Event()
    write = Checkpointer._write
    monkeypatch.setattr(Checkpointer, "_write", lambda *arguments: (gate.wait(30), write(*arguments)))
    files = checkpointer(tmp_path)
    files.save(name_of(1, 0), {"weight": torch.ones(64)}, {"step": 1})
    files.wait_for_copy()
    assert files.complete() == []
    gate.set()
    files.close()
    assert len(files.complete()) == 1


def test_an_error_of_the_writing_thread_reaches_the_training(tmp_path):
    files = checkpointer(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name_of(2, 0)).write_text("a file where the directory should go")
    files.save(name_of(2, 0), {"weight": torch.ones(64)}, {"step": 2})
    with pytest.raises(OSError, match="Not a directory"):
        files.wait()


def test_the_best_model_of_the_moment_is_part_of_each_checkpoint(tmp_path):
    files = checkpointer(tmp_path)
    for step in (1, 2):
        files.save_best({"global_step": step})
        files.save(name_of(step, 0), {"weight": torch.ones(64)}, {"step": step})
    files.close()
    first, second = files.complete()
    assert [load(path / "best.pt")["global_step"] for path in (first, second)] == [1, 2]
    (tmp_path / "best.pt").unlink()
    files = checkpointer(tmp_path)
    files.load(first, {"weight": torch.ones(64)})
    assert load(tmp_path / "best.pt")["global_step"] == 1


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


def test_a_file_never_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(pickle.UnpicklingError):
        load(tmp_path / "evil.pt")
    assert not (tmp_path / "evil").exists()


def test_metadata_of_a_checkpoint_never_runs_code(tmp_path, monkeypatch):
    """Even where the digests are right: whoever can write files can write digests."""
    monkeypatch.chdir(tmp_path)
    newest = saved(tmp_path, 10)[-1]
    (newest / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointException, match=r"must not refer to pathlib\.Path\.touch"):
        checkpointer(tmp_path).load(newest, {"weight": torch.zeros(64)})
    assert not (tmp_path / "evil").exists()


def test_the_marker_names_every_file(tmp_path):
    newest = saved(tmp_path, 10)[-1]
    named = json.loads((newest / MARKER).read_text())["files"]
    assert sorted([*named, MARKER]) == sorted(path.name for path in newest.iterdir())


def test_the_state_digest_sees_every_bit_name_and_shape():
    tensors = {"a": torch.ones(4), "b": torch.ones(2, 2)}
    digest = sha256_of_tensors(tensors)
    assert sha256_of_tensors(dict(reversed(tensors.items()))) == digest
    others = [
        {**tensors, "a": torch.ones(4).index_fill(0, torch.tensor([3]), 1 + 1e-7)},
        {**tensors, "b": torch.ones(4)},
        {"c": tensors["a"], "b": tensors["b"]},
        {**tensors, "a": torch.ones(4, dtype=torch.float64)},
    ]
    assert digest not in {sha256_of_tensors(other) for other in others}


def test_a_checkpoint_that_is_asked_for_twice_is_never_away(tmp_path):
    files = checkpointer(tmp_path, keep_last=1)
    written = []
    for _ in range(2):
        files.save(name_of(10, 0), {"weight": torch.zeros(64)}, {"step": 10})
        files.wait()
        written.append([(path.stat().st_ino, path.stat().st_mtime_ns) for path in files.complete()])
    assert written[0] == written[1]
    files.save(name_of(20, 0), {"weight": torch.ones(64)}, {"step": 20})
    files.close()
    assert [path.name for path in files.complete()] == [name_of(20, 0)]


def test_what_a_killed_removal_left_behind_is_swept_away(tmp_path):
    older, newer = saved(tmp_path, 10, 20)
    (older / MARKER).unlink()
    checkpointer(tmp_path)
    assert sorted((tmp_path / "checkpoints").iterdir()) == [newer]


@pytest.mark.slow
def test_no_bit_of_a_marker_may_be_flipped_unseen(tmp_path):
    marker = saved(tmp_path, 10)[0] / MARKER
    whole, facts = marker.read_bytes(), json.loads(marker.read_text())
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        marker.write_bytes(content)
        if not damaged_files(marker.parent):
            assert json.loads(content) == facts
