"""``epochs.jsonl`` tells what has been trained, neither more nor less, whenever it is read."""

from pathlib import Path

import pytest
import torch

from trainer.contract.epochs import EPOCHS_FILE, read_epochs
from trainer.contract.results import Epoch
from trainer.contract.train_config import read_config
from trainer.data.loader import open_data
from trainer.data.staging import data_directory
from trainer.engine.callbacks.checkpoints import SaveCheckpoints
from trainer.engine.callbacks.epochs import Epochs
from trainer.engine.loop import Callback, Trainer
from trainer.engine.parallel import Ranks


class PowerCut(Callback):
    """Comes after ``step``, with all that was saved on disk; notes how many epochs could be read after each."""

    def __init__(self, run_dir: Path, step: int | None = None) -> None:
        self.run_dir, self.step, self.seen = run_dir, step, []

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self.seen.append(len(read_epochs(self.run_dir)))

    def after_step(self, trainer: Trainer) -> None:
        if trainer.progress.global_step == self.step:
            trainer.checkpointer.wait()
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(delivery, tmp_path_factory):
    return open_data(data_directory(delivery, tmp_path_factory.mktemp("data"), print), ("train", "val"))


def fit(recipe, data, run_dir, step=None, every=100):
    short = ["training.epochs=3", "data.workers=0", "data.batch_size=16", "telemetry.enabled=false"]
    config = read_config(recipe, short, environment={})
    cut = PowerCut(run_dir, step)
    callbacks = [Epochs(run_dir), SaveCheckpoints(every), cut]
    result = Trainer(config, data, run_dir, "abcd1234", Ranks(0, 1, torch.device("cpu")), callbacks).fit()
    return result, cut.seen


@pytest.mark.slow
def test_each_epoch_can_be_read_once_it_is_over_and_all_are_those_of_the_result(recipe, data, tmp_path):
    assert read_epochs(tmp_path) == ()
    result, seen = fit(recipe, data, tmp_path)
    assert seen == [1, 2, 3]
    assert read_epochs(tmp_path) == result.epochs


@pytest.mark.slow
def test_a_resumed_training_goes_on_behind_the_epochs_of_its_checkpoint(recipe, data, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, data, tmp_path, step=7)  # three steps an epoch: in the third one
    assert len(read_epochs(tmp_path)) == 2
    last = sorted((tmp_path / "checkpoints").glob("*"))[-1]
    (last / "COMPLETE").write_text("{}")  # damaged: the one of the first epoch's end is used
    with open(tmp_path / EPOCHS_FILE, "a") as stream:
        stream.write('{"epoch": 2, "glob')  # as a killed writer leaves it
    assert len(read_epochs(tmp_path)) == 2
    result, seen = fit(recipe, data, tmp_path)
    assert seen == [2, 3]
    assert result.resumed_from_step == 3
    assert read_epochs(tmp_path) == result.epochs
