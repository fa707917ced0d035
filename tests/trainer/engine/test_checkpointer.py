import pickle
from pathlib import Path

import pytest
import torch

from trainer.engine.checkpointer import Checkpointer
from trainer.models.state import load, state_sha256


def state(step: int) -> dict:
    return {"model": {"weight": torch.full((4,), float(step))}, "progress": {"global_step": step}}


def test_the_newest_checkpoints_are_kept_and_the_latest_is_loaded(tmp_path):
    checkpointer = Checkpointer(tmp_path, keep_last=2)
    for step in (10, 20, 30):
        checkpointer.save(step, state(step))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000020", "step-00000030"]
    assert checkpointer.load_latest(torch.device("cpu"))["progress"]["global_step"] == 30


def test_a_checkpoint_without_its_marker_does_not_exist(tmp_path):
    checkpointer = Checkpointer(tmp_path, keep_last=2)
    checkpointer.save(10, state(10))
    (checkpointer.save(20, state(20)) / "COMPLETE").unlink()
    assert checkpointer.load_latest(torch.device("cpu"))["progress"]["global_step"] == 10


def test_the_last_good_checkpoint_outlives_a_damaged_newer_one(tmp_path):
    checkpointer = Checkpointer(tmp_path, keep_last=2)
    checkpointer.save(10, state(10))
    damaged = checkpointer.save(20, state(20)) / "state.pt"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    assert checkpointer.load_latest(torch.device("cpu"))["progress"]["global_step"] == 10


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


def test_a_checkpoint_never_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(pickle.UnpicklingError):
        load(tmp_path / "evil.pt")
    assert not (tmp_path / "evil").exists()


def test_the_state_digest_sees_every_tensor():
    def build():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        return model, optimizer

    digests = {state_sha256(*build()), state_sha256(*build())}
    assert len(digests) == 1
    model, optimizer = build()
    optimizer.state_dict()["state"][1]["exp_avg"][0] += 1e-6
    assert state_sha256(model, optimizer) not in digests
