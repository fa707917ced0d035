"""DVC as the way onto the fast storage: pulled once, whole, and kept."""

import os
import threading
import time
from pathlib import Path

import pytest

from tests.training_assets.stores.fast_storage.conftest import Heard
from trainer.contract.errors import ContractError
from training_assets.stores.dvc import DvcStore, default_executable
from training_assets.stores.fast_storage.base import Amount
from training_assets.stores.fast_storage.brought import Brought
from training_assets.stores.fast_storage.pulled import PulledWithDvc

VERSION = "1a" * 32
pytestmark = pytest.mark.skipif(not default_executable().is_file(), reason="needs DVC: make setup")


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> DvcStore:
    root = tmp_path_factory.mktemp("pinned")
    source = root / "delivery"
    source.mkdir()
    for number in range(20):
        (source / f"{number}.png").write_bytes(os.urandom(1000))
    store = DvcStore(root / "store")
    store.pin(source, VERSION)
    return store


@pytest.fixture
def storage(pinned: DvcStore, tmp_path: Path) -> PulledWithDvc:
    return PulledWithDvc(pinned, tmp_path / "staged", tick=0.05)


@pytest.mark.slow
def test_a_version_is_pulled_once_and_kept(storage: PulledWithDvc, heard: Heard) -> None:
    assert storage.brings(f"dvc:{VERSION}")
    assert not storage.brings("s3://bucket/inbox/d1")
    threads = [threading.Thread(target=storage.bring, args=[f"dvc:{VERSION}", heard]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place = storage.bring("dvc:1a1a1a", heard)
    assert place == storage.into / VERSION
    assert len(list(place.iterdir())) == 20
    assert heard[-1] == Amount("pulled", 20, 20, 20_000, 20_000)
    pulling = [amount for amount in heard if amount.files < 20]
    assert pulling
    assert all(amount.of_files == 20 for amount in pulling)


@pytest.mark.slow
def test_what_a_killed_pull_left_is_taken_away_and_an_interrupt_leaves_nothing(storage: PulledWithDvc) -> None:
    left = storage.into / f".{VERSION}-killed"
    left.mkdir(parents=True)
    before = set(threading.enumerate())

    class Broken(DvcStore):
        def restore(self, version: str, out: Path) -> None:
            assert not left.exists()
            raise KeyboardInterrupt

    storage.dvc = Broken(storage.dvc.root)
    with pytest.raises(KeyboardInterrupt):
        storage.bring(f"dvc:{VERSION}")
    assert set(threading.enumerate()) <= before
    assert not (storage.into / VERSION).exists()


def test_a_release_takes_versions_that_nobody_asked_for(tmp_path: Path) -> None:
    storage = PulledWithDvc(DvcStore(tmp_path / "store"), tmp_path / "staged")
    place = storage.into / VERSION
    place.mkdir(parents=True)
    Brought(storage.into).note(place)
    (note,) = (storage.into / ".brought").iterdir()
    storage.release(unused_days=30)
    assert place.is_dir()
    old = time.time() - 31 * 86_400
    os.utime(note, (old, old))
    storage.release(unused_days=30)
    assert not place.exists()
    assert not list((storage.into / ".brought").iterdir())


@pytest.mark.slow
def test_a_version_that_was_never_pinned_is_refused(storage: PulledWithDvc) -> None:
    with pytest.raises(ContractError, match="no such dataset version"):
        storage.bring("dvc:9f9f")
