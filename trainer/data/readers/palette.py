"""Palette PNGs as label maps: OpenCV expands them to colours, which loses the indices that the labels are.

Chunks and colour types: PNG specification (third edition), sections 5 and 11.
"""

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3


def grey_of_palette(content: bytes) -> bytes | None:
    """The palette PNG ``content`` as a PNG of one 8-bit channel that holds its indices; None for any other file."""
    if content[:8] != SIGNATURE or content[12:16] != b"IHDR" or content[25] != PALETTE:
        return None
    depth = content[24]
    # The pixel data of both colour types is the same: relabelled as grey, the indices come out as brightness.
    grey = cv2.imdecode(np.frombuffer(_relabelled(content), np.uint8), cv2.IMREAD_UNCHANGED)
    if grey is None:
        return None
    scale = 255 // (2**depth - 1)  # decoders stretch grey of 1, 2 or 4 bits to the full range
    return cv2.imencode(".png", grey // scale)[1].tobytes()


def _relabelled(content: bytes) -> bytes:
    kept = (
        (kind, data[:9] + bytes([GREY]) + data[10:] if kind == b"IHDR" else data)
        for kind, data in _chunks(content)
        if kind in (b"IHDR", b"IDAT", b"IEND")
    )
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in kept
    )


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and data of each chunk."""
    position = len(SIGNATURE)
    while position + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        yield content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        position += length + 12
