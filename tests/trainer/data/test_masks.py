import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.masks import decode_png, decode_runs, encode_runs


@settings(deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), blocks=st.integers(0, 5), seed=st.integers(0, 999))
def test_runs_give_back_every_pixel_or_are_not_kept(height, width, blocks, seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(blocks):
        y, x = rng.integers(height), rng.integers(width)
        mask[y : y + 9, x : x + 9] = rng.integers(256)
    runs = encode_runs(mask)
    assert runs is None or np.array_equal(decode_runs(runs), mask)


def test_a_run_longer_than_sixteen_bits_is_whole():
    mask = np.full((400, 500), 7, np.uint8)
    runs = encode_runs(mask)
    assert runs is not None
    assert len(runs) < 40
    assert np.array_equal(decode_runs(runs), mask)


def test_noise_is_left_to_png():
    assert encode_runs(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)) is None


def test_the_masks_of_camvid_are_the_same_in_both_forms(real_data):
    for path in sorted((real_data / "camvid" / "trainannot").iterdir())[::40]:
        png = path.read_bytes()
        mask = decode_png(png)
        assert mask is not None
        assert np.array_equal(decode_runs(encode_runs(mask)), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


def test_a_truncated_mask_is_an_error():
    runs = encode_runs(np.zeros((64, 64), np.uint8))
    with pytest.raises(ValueError):
        decode_runs(runs[:-1])
