"""Label masks as runs of equal pixels, row after row: read several times as fast as PNG, and the same wherever made.

Little-endian: height, width and number of runs (uint32), the runs' lengths (uint16), then their values (uint8).
A general compressor would be smaller, but its bytes change with its version, and a shard's must not.
"""

import cv2
import numpy as np

LONGEST = 0xFFFF
WORTH_IT = 4
"""Runs are kept when they are at least this many times smaller than the pixels; noise has none to speak of."""


def encode_runs(mask: np.ndarray) -> bytes | None:
    """``mask`` (H×W uint8) as runs, or None when that is not worth it."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat)) + 1
    starts = np.unique(np.concatenate([[0], starts, np.arange(0, flat.size, LONGEST)])).astype(np.int64)
    if starts.size * 3 * WORTH_IT > flat.size:
        return None
    lengths = np.diff(np.append(starts, flat.size)).astype("<u2")
    header = np.array([*mask.shape, starts.size], "<u4")
    return header.tobytes() + lengths.tobytes() + flat[starts].tobytes()


def decode_runs(data: bytes) -> np.ndarray:
    """The mask (H×W uint8) of ``encode_runs``.

    Raises:
        ValueError: ``data`` is not one.
    """
    height, width, runs = (int(value) for value in np.frombuffer(data, "<u4", 3))
    lengths = np.frombuffer(data, "<u2", runs, 12)
    values = np.frombuffer(data, np.uint8, runs, 12 + 2 * runs)
    return np.repeat(values, lengths).reshape(height, width)


def decode_png(data: bytes) -> np.ndarray | None:
    """The mask (H×W uint8) in a one-channel 8-bit PNG, None where ``data`` is no such thing."""
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return mask if mask is not None and mask.ndim == 2 and mask.dtype == np.uint8 else None
