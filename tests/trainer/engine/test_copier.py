import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from trainer.contract.errors import ContractError
from trainer.engine.checkpoint_files import MARKER, complete_checkpoints, name_of
from trainer.engine.checkpointer import Checkpointer
from trainer.engine.copier import Copier, CopyPlan, copy_finished, fetch_newest, store_at
from trainer.engine.parallel import Ranks

steps = st.lists(st.integers(0, 60), unique=True, max_size=12).map(sorted)


def names(*numbers: int) -> list[str]:
    return [name_of(number, 0) for number in numbers]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = Checkpointer(tmp_path / "run", Ranks(0, 1, torch.device("cpu")), keep_last=9)
    for step in (10, 20, 30):
        files.save(name_of(step, 0), {"weight": torch.full((512,), float(step))}, {"step": step})
    files.close()
    return tmp_path / "run" / "checkpoints"


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_what_was_copied_comes_back_byte_for_byte(root, tmp_path):
    store, back = UPath(tmp_path / "store"), tmp_path / "back"
    assert copy_finished(root, store, CopyPlan(keep_last=9)) == names(10, 20, 30)
    assert copy_finished(root, store, CopyPlan(keep_last=9)) == []
    assert contents(tmp_path / "store") == contents(root)
    assert fetch_newest(store, back) == name_of(30, 0)
    assert contents(back / name_of(30, 0)) == contents(root / name_of(30, 0))


def test_an_s3_store_takes_and_gives_like_a_directory(root, tmp_path, s3):
    store, back = store_at(f"{s3}/run/checkpoints"), tmp_path / "back"
    assert fetch_newest(store, back) is None
    assert copy_finished(root, store, CopyPlan(every=20)) == names(10, 30)
    assert fetch_newest(store, back) == name_of(30, 0)
    assert contents(back / name_of(30, 0)) == contents(root / name_of(30, 0))
    assert copy_finished(root, store, CopyPlan(every=1, keep_last=1)) == []


def test_only_as_many_are_kept_in_the_store_as_locally(root, tmp_path):
    store = UPath(tmp_path / "store")
    copy_finished(root, store, CopyPlan(keep_last=1, keep_every=20))
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == names(20, 30)


def test_a_copy_without_its_marker_is_copied_again_and_never_fetched(root, tmp_path):
    store = UPath(tmp_path / "store")
    copy_finished(root, store, CopyPlan(keep_last=9))
    (tmp_path / "store" / name_of(30, 0) / MARKER).unlink()
    assert fetch_newest(store, tmp_path / "back") == name_of(20, 0)
    assert copy_finished(root, store, CopyPlan(keep_last=9)) == names(30)


def test_a_damaged_checkpoint_is_not_copied_and_a_damaged_copy_not_used(root, tmp_path, capsys):
    store = UPath(tmp_path / "store")
    (root / name_of(30, 0) / "state.json").write_text("{}")
    assert copy_finished(root, store, CopyPlan(keep_last=9)) == names(10, 20)
    (tmp_path / "store" / name_of(20, 0) / "__0_0.distcp").write_bytes(b"torn")
    assert fetch_newest(store, tmp_path / "back") == name_of(10, 0)
    assert "is damaged" in capsys.readouterr().out
    assert [path.name for path in complete_checkpoints(tmp_path / "back")] == names(10)


def test_the_copying_process_copies_the_last_one_before_it_ends(root, tmp_path):
    copier = Copier(root.parent, str(tmp_path / "store"), CopyPlan(every=1000))
    assert copier.finish(60)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == names(10, 30)


def test_a_store_that_cannot_be_is_refused_in_words(tmp_path):
    with pytest.raises(ContractError, match="s3://bucket/prefix"):
        store_at("nosuchscheme://somewhere")


@given(finished=steps, copied=steps, every=st.integers(1, 30), last_call=st.booleans())
def test_chosen_checkpoints_are_new_in_order_and_far_enough_apart(finished, copied, every, last_call):
    plan = CopyPlan(every=every, keep_every=25)
    chosen = plan.chosen(names(*finished), names(*copied), last_call)
    assert chosen == sorted(chosen)
    assert not set(chosen) & set(names(*copied))
    assert {name for name in names(*finished) if int(name[5:13]) % 25 == 0} <= set(chosen) | set(names(*copied))
    if last_call and finished:
        assert name_of(finished[-1], 0) in chosen + names(*copied)
    ordinary = [int(name[5:13]) for name in chosen if int(name[5:13]) % 25 and int(name[5:13]) != max(finished)]
    assert all(later - earlier >= every for earlier, later in pairwise(ordinary))


def test_the_marker_in_the_store_is_the_one_of_the_run(root, tmp_path):
    copy_finished(root, UPath(tmp_path / "store"), CopyPlan())
    marker = json.loads((tmp_path / "store" / name_of(30, 0) / MARKER).read_text())
    assert set(marker["files"]) == {".metadata", "__0_0.distcp", "state.json"}


@pytest.mark.parametrize("damage", ["torn marker", "missing file"])
def test_a_copy_that_lacks_something_is_named_and_the_one_before_it_fetched(root, tmp_path, capsys, damage):
    store, back = UPath(tmp_path / "store"), tmp_path / "back"
    copy_finished(root, store, CopyPlan())
    if damage == "torn marker":
        marker = tmp_path / "store" / name_of(30, 0) / MARKER
        marker.write_bytes(marker.read_bytes()[:100])
    else:
        (tmp_path / "store" / name_of(30, 0) / "state.json").unlink()
    assert fetch_newest(store, back) == name_of(20, 0)
    assert f"{store / name_of(30, 0)} is damaged" in capsys.readouterr().out
    assert sorted(path.name for path in back.iterdir()) == names(20)


def test_a_damaged_checkpoint_gives_way_to_the_copy_of_its_name(root, tmp_path):
    store = UPath(tmp_path / "store")
    copy_finished(root, store, CopyPlan())
    whole = contents(root / name_of(30, 0))
    (root / name_of(30, 0) / "state.json").write_text("{}")
    assert fetch_newest(store, root) == name_of(30, 0)
    assert contents(root / name_of(30, 0)) == whole


def test_the_copying_process_does_without_torch():
    # It lies beside every training: a second and some 200 MB.
    code = "import sys, trainer.engine.copier; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
