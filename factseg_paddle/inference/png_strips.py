"""A PNG file written strip by strip, so that no picture need fit into memory.

Source: the PNG specification, third edition (w3.org/TR/png-3), sections 5 and 9.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from factseg_paddle.data.images.headers import PNG_SIGNATURE

_RGB, _PALETTE = 2, 3
_UNFILTERED, _UP = 0, 2
_COMPRESSION = 4  # photographs: twice as fast as zlib's usual 6, files 2 % larger


@contextmanager
def png_strips(
    path: Path, width: int, palette: np.ndarray | None = None
) -> Iterator[Callable[[np.ndarray], None]]:
    """Give a function that appends rows; the height is what has come when the block ends well.

    Args:
        path: the file, written in place: for callers that hold an `atomic_write`.
        width: columns.
        palette: RGB colour of each index, [C, 3] uint8, for a file of mode P; None for RGB.

    Yields:
        A function of rows, [n, width] uint8 indices with a palette, else [n, width, 3] uint8.

    Raises:
        ValueError: rows of another shape or dtype, or none at all.
        OSError: the file can't be written.
    """
    depth = () if palette is not None else (3,)
    compressor = zlib.compressobj(_COMPRESSION)
    above = np.zeros((1, width, *depth), np.uint8)
    height = 0

    with path.open("wb") as file:

        def write(rows: np.ndarray) -> None:
            nonlocal above, height
            if rows.dtype != np.uint8 or rows.shape[1:] != (width, *depth):
                expected = ", ".join(map(str, ("n", width, *depth)))
                raise ValueError(
                    f"rows for {path.name} are [{expected}] uint8, "
                    f"these are {list(rows.shape)} {rows.dtype}"
                )
            if not len(rows):
                return
            if palette is None:
                # differences to the row above pack better in photographs, indices as they are
                content = rows - np.concatenate([above, rows[:-1]])
                above = rows[-1:].copy()
            else:
                content = rows
            lines = np.empty((len(rows), 1 + content[0].size), np.uint8)
            lines[:, 0] = _UP if palette is None else _UNFILTERED
            lines[:, 1:] = content.reshape(len(rows), -1)
            height += len(rows)
            _chunk(file, b"IDAT", compressor.compress(lines.tobytes()))

        file.write(PNG_SIGNATURE)
        _header(file, width, 0, palette is not None)
        if palette is not None:
            _chunk(file, b"PLTE", np.ascontiguousarray(palette, np.uint8).tobytes())
        yield write
        if not height:
            raise ValueError(f"no rows were written to {path.name}")
        _chunk(file, b"IDAT", compressor.flush())
        _chunk(file, b"IEND", b"")
        file.seek(len(PNG_SIGNATURE))
        _header(file, width, height, palette is not None)


def _header(file: BinaryIO, width: int, height: int, is_indexed: bool) -> None:
    kind = _PALETTE if is_indexed else _RGB
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0), keep=True)


def _chunk(file: BinaryIO, kind: bytes, content: bytes, *, keep: bool = False) -> None:
    if content or keep or kind == b"IEND":
        crc = zlib.crc32(content, zlib.crc32(kind))
        file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc))
