import re
import subprocess
import sys

import cv2
import numpy as np
import psutil
import pytest
import torch

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import read_config
from trainer.data.augment import View
from trainer.data.loader import TrainingLoader, TrainingSamples, open_data, read_mask, to_tensor
from trainer.data.order import Order
from trainer.data.shards import DamagedShard
from trainer.data.staging import data_directory
from trainer.tasks import build_tasks

SEED = 5


@pytest.fixture(scope="module")
def data_dir(delivery, tmp_path_factory):
    return data_directory(delivery, tmp_path_factory.mktemp("staged"), print)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A cache of the test's own: cold at first."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def make(recipe, data_dir):
    def loader(workers: int = 0, cache_mb: int = 0, rank: int = 0, world_size: int = 1) -> TrainingLoader:
        config = read_config(recipe, environment={})
        data = config.data.model_copy(update={"workers": workers, "cache_mb": cache_mb})
        tasks = {task.name: task.targets for task in build_tasks(config.tasks)}
        reader = open_data(data_dir, ("train",)).readers["train"]
        samples = TrainingSamples(reader, data, tasks, SEED)
        return TrainingLoader(samples, Order(len(reader), data.batch_size, SEED), rank, world_size, pin=False)

    return loader


def batches(loader: TrainingLoader, epochs=(0, 1), first_step: int = 0) -> list[dict[str, torch.Tensor]]:
    # A worker's memory may be used again: a test that keeps batches keeps copies.
    return [{k: v.clone() for k, v in b.items()} for e in epochs for b in loader.epoch(e, first_step)]


def same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_batches_are_the_same_with_any_number_of_workers_and_with_a_cold_and_a_warm_cache(make, workers):
    alone = batches(make())
    assert len(alone) == 12
    cached = make(workers, cache_mb=64)
    assert same(batches(cached), alone)
    assert same(batches(cached), alone)


def test_the_second_epoch_reads_the_cache(make, temporary):
    loader = make(workers=2, cache_mb=64)
    first = batches(loader, [0])
    table = next(temporary.glob("training-assets-*/*.pixels"))
    assert table.stat().st_size >= 48 * 64 * 64 * 3
    # What is in the file is what is trained on: grey pixels put there come out.
    grey = np.full(table.stat().st_size - 48 * 20, 127, np.uint8)
    with open(table, "r+b") as stream:
        stream.seek(48 * 20)
        stream.write(grey.tobytes())
    second = batches(loader, [1])
    assert max(int(b["image"].float().std() > 30) for b in first) == 1
    assert all(float(image.float().std()) < 1 for b in second for image in b["image"])


def test_ranks_and_a_resumed_epoch_give_the_parts_of_the_same_batches(make):
    alone = batches(make(), [3])
    ranks = [batches(make(1, 64, rank, 2), [3]) for rank in (0, 1)]
    joined = [{k: torch.cat([a[k], b[k]]) for k in a} for a, b in zip(*ranks, strict=True)]
    assert same(joined, alone)
    assert same(batches(make(2, 64), [3], first_step=4), alone[4:])


def test_an_image_that_cannot_be_decoded_is_named_whoever_loads_it(make, tmp_path, delivery):
    for workers in (0, 2):
        loader = make(workers)
        reader = loader._loader.dataset.reader
        broken = reader.row(7).sample_id
        original = reader.read
        reader.read = lambda index, name, original=original: (
            b"no image" if index == 7 and name == "png" else original(index, name)
        )
        with pytest.raises(DamagedShard) as raised:
            batches(loader)
        assert f"sample '{broken}' (number 7), member 'png': cannot be decoded" in str(raised.value)


def test_what_goes_wrong_in_a_task_names_the_sample(make):
    loader = make(workers=1)
    samples = loader._loader.dataset

    def fail(labelled):
        raise KeyError("no such class")

    samples.targets = {"detection": fail}
    with pytest.raises(KeyError) as raised:
        batches(loader)
    assert re.search(r"while loading \S+\.tar: sample 'train\d+' \(number \d+\) for epoch 0", str(raised.value))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_task_refuses_is_refused_in_its_own_words_in_whatever_process(make, workers):
    loader = make(workers=workers)

    def refuse(labelled):
        raise ContractError("too many agents", [Problem("sample 'a'", "9 agents", "at most 4")], "Raise max_agents.")

    loader._loader.dataset.targets = {"trajectory": refuse}
    with pytest.raises(ContractError) as raised:
        batches(loader)
    said = "too many agents: 1 problem\n  sample 'a': found 9 agents, expected at most 4\nRaise max_agents."
    assert str(raised.value).startswith(said)
    assert "Traceback" not in str(raised.value)


RANK = """
import sys, time
from pathlib import Path
import psutil
from trainer.contract.train_config import read_config
from trainer.data.loader import TrainingLoader, TrainingSamples, open_data
from trainer.data.order import Order
config = read_config(Path(sys.argv[1]), ["data.workers=2", "data.cache_mb=0"])
reader = open_data(Path(sys.argv[2]), ("train",)).readers["train"]
loader = TrainingLoader(TrainingSamples(reader, config.data, {}, 5), Order(len(reader), 8, 5), 0, 1, False)
next(loader.epoch(0))
print(*(child.pid for child in psutil.Process().children()), flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_workers_are_gone_when_their_rank_is_killed(recipe, data_dir):
    command = [sys.executable, "-c", RANK, str(recipe), str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as rank:
        workers = [psutil.Process(int(number)) for number in rank.stdout.readline().split()]
        rank.kill()
    assert len(workers) >= 2
    assert psutil.wait_procs(workers, timeout=10)[1] == []


@pytest.mark.slow
def test_the_mask_is_the_same_from_runs_and_from_png(make):
    reader = make()._loader.dataset.reader
    for index in range(0, len(reader), 7):
        png = cv2.imdecode(np.frombuffer(reader.read(index, "semantic.png"), np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(read_mask(reader, index), png)


def test_a_tensor_has_the_planes_of_its_image():
    image = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(to_tensor(image).numpy(), np.transpose(image, (2, 0, 1)))


def test_shrinking_does_not_alias_and_is_near_the_mean_of_the_area():
    """Stripes of one pixel are grey once they are smaller than a pixel; OpenCV's area resampling is the reference."""
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 254
    small = View(0, 0, 96, 96, 40, 40).image(stripes)
    assert np.abs(small.astype(int) - 127).max() < 40
    photo = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8), (0, 0), 3)
    ours = View(10, 5, 100, 75, 32, 48).image(photo).astype(int)
    area = cv2.resize(photo[5:80, 10:110], (48, 32), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(ours - area).mean() < 2


def test_mirrored_is_the_mirror_image_in_pixels_and_mask():
    image = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    plain, mirrored = View(4, 6, 50, 40, 32, 32), View(4, 6, 50, 40, 32, 32, mirrored=True)
    assert np.array_equal(mirrored.image(image), plain.image(image)[:, ::-1])
    assert np.array_equal(mirrored.mask(image[..., 0]), plain.mask(image[..., 0])[:, ::-1])
