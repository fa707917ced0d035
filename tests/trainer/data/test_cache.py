import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from trainer.data.cache import ENTRY, PixelCache

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 30, 20, 3), dtype=np.uint8)
ROOM = 1 << 30


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def test_an_image_comes_back_as_it_was_and_others_not_at_all(folder):
    cache = PixelCache(["a"], 40, ROOM, folder)
    assert cache.get(3) is None
    cache.put(3, IMAGES[3])
    assert np.array_equal(cache.get(3), IMAGES[3])
    assert cache.get(2) is None
    assert cache.get(4) is None


def test_other_shards_have_another_cache(folder):
    PixelCache(["a"], 40, ROOM, folder).put(0, IMAGES[0])
    assert np.array_equal(PixelCache(["a"], 40, ROOM, folder).get(0), IMAGES[0])
    assert PixelCache(["b"], 40, ROOM, folder).get(0) is None


def test_the_budget_is_kept_and_what_is_in_stays(folder):
    cache = PixelCache(["a"], 40, 10 * IMAGES[0].nbytes, folder)
    for number, image in enumerate(IMAGES):
        cache.put(number, image)
    held = [number for number in range(40) if cache.get(number) is not None]
    assert held == list(range(10))
    assert next(folder.iterdir()).stat().st_size <= 40 * ENTRY.size + 10 * IMAGES[0].nbytes


def _fill(cache: PixelCache, numbers: range) -> None:
    for number in numbers:
        cache.put(number, IMAGES[number])
    os._exit(0)


def test_forked_workers_write_beside_each_other_and_all_read_all(folder):
    cache = PixelCache(["a"], 40, ROOM, folder)
    cache.get(0)  # the parent's descriptor must not become the workers'
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_fill, args=(cache, range(first, 40, 4))) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert all(np.array_equal(cache.get(number), IMAGES[number]) for number in range(40))


def _write_for_ever(cache: PixelCache) -> None:
    while True:
        for number, image in enumerate(IMAGES):
            cache.put(number, image)


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_no_wrong_pixels_and_no_lock(folder):
    fork = multiprocessing.get_context("fork")
    for moment in range(12):
        cache = PixelCache(["a"], 40, ROOM, folder)
        writer = fork.Process(target=_write_for_ever, args=(cache,))
        writer.start()
        time.sleep(0.01 + 0.003 * moment)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        found = [cache.get(number) for number in range(40)]
        assert all(image is None or np.array_equal(image, IMAGES[n]) for n, image in enumerate(found))
    cache.put(0, IMAGES[0])
    assert np.array_equal(cache.get(0), IMAGES[0])


def test_a_torn_entry_and_a_cut_file_are_misses(folder):
    cache = PixelCache(["a"], 40, ROOM, folder)
    for number in range(2):
        cache.put(number, IMAGES[number])
    file = next(folder.iterdir())
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
    assert cache.get(0) is None
    assert np.array_equal(cache.get(1), IMAGES[1])
    os.truncate(file, file.stat().st_size - 1)
    assert cache.get(1) is None


def test_files_that_no_process_holds_are_removed_and_held_ones_are_not(folder):
    folder.mkdir(mode=0o700)
    left, held = folder / "left.pixels", folder / "held.pixels"
    left.touch()
    with open(held, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        PixelCache(["a"], 40, ROOM, folder).get(0)
        assert not left.exists()
        assert held.exists()


def test_a_directory_that_others_may_write_into_is_not_used(folder):
    folder.mkdir()
    folder.chmod(0o777)
    cache = PixelCache(["a"], 40, ROOM, folder)
    cache.put(0, IMAGES[0])
    assert cache.get(0) is None
    assert list(folder.iterdir()) == []


def test_a_process_that_ends_takes_the_file_with_it(folder):
    script = f"""
        import numpy as np
        from pathlib import Path
        from trainer.data.cache import PixelCache
        cache = PixelCache(["a"], 1, 1 << 20, Path({str(folder)!r}))
        cache.put(0, np.zeros((4, 4, 3), np.uint8))
        assert list(Path({str(folder)!r}).iterdir())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    assert list(folder.iterdir()) == []
