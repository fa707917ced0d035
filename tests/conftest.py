"""What many tests share: a small delivery, and the real data when it lies beside the project."""

import functools
import gc
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import settings

from tests.browser.fixtures import browser, open_file  # noqa: F401 - fixtures for all tests

REPOSITORY = Path(__file__).resolve().parents[1]
ORDINARY_SECONDS = 10
"""What a slow test without a time limit of its own is taken to need."""

settings.register_profile("fast", max_examples=20)

# Tests train a great deal: only those of the tracking itself pay for W&B's start. All that they start inherits it.
os.environ["WANDB_MODE"] = "disabled"


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """No test takes the power away from its own process; those that it starts keep the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def no_credentials_of_another_test() -> Iterator[None]:
    """boto3's default session keeps the credentials it first met, and emulators take an account from them."""
    yield
    if boto3 := sys.modules.get("boto3"):
        boto3.DEFAULT_SESSION = None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it skip without it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data sets in {folder.name}/ beside the project")
    return folder


@pytest.fixture(scope="session")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A delivery of 48 train, 8 val and 8 test frames (64×64): a bright square on a dark road, boxes and masks."""
    root = tmp_path_factory.mktemp("delivery")
    rng = np.random.default_rng(7)
    for split, count, first_day in (("train", 48, 5), ("val", 8, 5), ("test", 8, 5)):
        rows = [_frame(root, f"{split}{number:03d}", number, first_day, rng) for number in range(count)]
        (root / f"golden_{split}.manifest").write_text("".join(json.dumps(row) + "\n" for row in rows))
    slices = {
        "labels": {"semantic": {"classes": ["road", "car"], "ignore_id": 255}, "boxes": ["car"]},
        "slices": [{"name": "night", "where": {"attributes.time_of_day": "night"}, "min_samples": 2}],
    }
    (root / "slices.yaml").write_text(yaml.safe_dump(slices))
    return root


def _frame(root: Path, name: str, number: int, first_day: int, rng: np.random.Generator) -> dict:
    image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    x, y, side = (int(v) for v in (rng.integers(4, 30), rng.integers(4, 30), rng.integers(14, 28)))
    image[y : y + side, x : x + side] = 220
    mask[y : y + side, x : x + side] = 1
    for folder, suffix, picture in (("images", "png", image), ("masks", "png", mask)):
        (root / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(root / folder / f"{name}.{suffix}"), picture)
    content = (root / "images" / f"{name}.png").read_bytes()
    return {
        "sample_id": name,
        "source-ref": f"images/{name}.png",
        "sha256": hashlib.sha256(content).hexdigest(),
        "captured_at": f"2026-01-{first_day + number % 14:02d}T12:00:00Z",
        "attributes": {"time_of_day": "night" if number % 4 == 0 else "day"},
        "boxes": [{"category": "car", "bbox": [x, y, side, side]}],
        "semantic-ref": f"masks/{name}.png",
        "licence": "CC0-1.0",
        "origin": "test",
    }


@pytest.fixture(scope="session")
def dark_delivery(delivery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``delivery`` with nights that are dark, half of its frames, and slices for day and night."""
    root = tmp_path_factory.mktemp("dark")
    (root / "images").mkdir()
    shutil.copytree(delivery / "masks", root / "masks")
    for manifest in delivery.glob("*.manifest"):
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        for number, row in enumerate(rows):
            image = cv2.imread(str(delivery / row["source-ref"]))
            row["attributes"]["time_of_day"] = "night" if number % 2 else "day"
            cv2.imwrite(str(root / row["source-ref"]), image // 4 if number % 2 else image)
            row["sha256"] = hashlib.sha256((root / row["source-ref"]).read_bytes()).hexdigest()
        (root / manifest.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    slices = yaml.safe_load((delivery / "slices.yaml").read_text())
    slices["slices"] = [
        {"name": time, "where": {"attributes.time_of_day": time}, "min_samples": 4, "allowed_regression": 0.02}
        for time in ("day", "night")
    ]
    (root / "slices.yaml").write_text(yaml.safe_dump(slices))
    return root


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny recipe with both tasks for ``delivery``."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    value = {
        "name": "tiny",
        "project": "tests",
        "window": {"count": 2, "min_samples": 4},
        "data": {"image_size": [64, 64], "batch_size": 8, "workers": 1, "augmentation": {"scale": [1.0, 1.2]}},
        "model": {"width": 8, "blocks": [1, 1, 1, 1], "neck_channels": 8},
        "tasks": {"detection": {"classes": ["car"]}, "segmentation": {"classes": ["road", "car"]}},
        "optim": {"lr": 0.01, "warmup_steps": 2},
        "training": {"epochs": 2, "checkpoint_every": 4, "monitor": "segmentation/mIoU"},
        "launch": {"accelerator": "cpu", "devices": 2},
    }
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server (moto) that lives as long as the tests."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty bucket; this process and those it starts reach it through the environment."""
    import boto3

    environment = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**environment, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that may take longest first, so that no process is left alone with one at the end."""
    for item in items:
        if item.get_closest_marker("gpu") and not has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    seconds: Counter[Path] = Counter()
    for item in items:
        if item.get_closest_marker("slow"):
            limit = item.get_closest_marker("timeout")
            seconds[item.path] += limit.args[0] if limit else ORDINARY_SECONDS
    items.sort(key=lambda item: -seconds[item.path])


@functools.cache
def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_finish() -> None:
    # What was imported stays: looking through it again and again was a quarter of the suite's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


def pytest_sessionfinish() -> None:
    # What plugins import after this is parsed, and CPython 3.11's parser gives up when a finalizer runs inside it.
    gc.collect()
