"""PNG files: their checksums, and their values as stored, with Pillow.

OpenCV, which reads images, expands palettes to colours and stretches 1, 2 and 4 bits. Pillow gives
the stored values, but ignores the checksums of pixel data, leaves rows black that the data lack,
drops the lower 8 of 16 bits and limits the size of images by a global variable. Each has a rule
here.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL.PngImagePlugin import ChunkStream, PngImageFile, putchunk

from factseg_paddle.data.images.headers import PNG_SIGNATURE

MAX_PIXELS = 1 << 30
"""Limit for one file, the same as OpenCV's for images, so the mask of any image is read."""

Chunks = list[tuple[bytes, bytes]]
"""The type and the content of each chunk of a file."""

_ESSENTIAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PIECE = 1 << 20  # bytes inflated at a time, so that no file fills the memory
_HEADER = struct.Struct(">IIBBBBB")  # width, height, bits, colour type, methods; interlacing last
_CHANNELS = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4}  # by Pillow's modes
_STRETCHED = {2: 85, 4: 17}  # by the bits of grey values: Pillow multiplies them up to 255
# Top, left, row step and column step of the passes over an image
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


@dataclass(frozen=True)
class StoredPixels:
    """The values of a file as they are stored.

    Attributes:
        values: grey values or entries of the palette, [H, W] uint8; or RGB or RGBA,
            [H, W, 3 or 4] uint8.
        palette: RGB of each entry, [K, 3] uint8; None where there is no palette.
    """

    values: np.ndarray
    palette: np.ndarray | None = None


def read_chunks(data: bytes) -> Chunks:
    """Read the type and content of each chunk up to IEND, and check its checksum.

    Args:
        data: the content of a file that begins with PNG_SIGNATURE.

    Raises:
        ValueError: a chunk is cut off or changed; the sentence goes on after the file's name.
    """
    stream = io.BytesIO(data)
    stream.seek(len(PNG_SIGNATURE))
    chunks, reader = [], ChunkStream(stream)
    try:
        while not chunks or chunks[-1][0] != b"IEND":
            kind, _, length = reader.read()
            content = stream.read(length)
            reader.crc(kind, content)
            chunks.append((kind, content))
    except (SyntaxError, struct.error) as error:
        what = "the PNG ends too early" if stream.tell() == len(data) else error
        raise ValueError(f"is truncated or damaged: {what}; copy it again") from error
    return chunks


def read_stored(data: bytes) -> StoredPixels:
    """Read the pixels of a PNG as they are stored: 0 to 2**bits - 1, palettes not applied.

    Transparency, gamma, colour profiles and orientation change nothing. The alpha channel of a
    grey image is dropped. Of an animation, the image is read that viewers without animation show.

    Args:
        data: the content of a file that begins with PNG_SIGNATURE.

    Raises:
        ValueError: the file is truncated, damaged or incomplete, or has 16 bits a channel; the
            sentence goes on after the file's name.
    """
    chunks = read_chunks(data)
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != _HEADER.size:
        raise ValueError("does not begin with the header (IHDR) of a PNG; save it again")
    width, height, bits, *_, interlaced = _HEADER.unpack(chunks[0][1])
    if bits > 8:
        raise ValueError(f"has {bits} bits a channel; convert it to 8 bits")
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"has {height} x {width} pixels (rows x columns), more than {MAX_PIXELS}; cut it up"
        )
    try:
        # Not Image.open: that refuses sizes by a limit which belongs to the whole process.
        with PngImageFile(_essential(chunks)) as image:
            needed = _needed_bytes(height, width, bits * _CHANNELS[image.mode], bool(interlaced))
            if _inflated_bytes(chunks) < needed:
                raise OSError("not all of its pixels are there")
            if image.mode == "P" and image.palette is None:
                raise OSError("it has no palette (PLTE), which its header announces")
            values = np.array(image).astype(np.uint8, copy=False)  # 1 bit comes as bool
            palette = image.getpalette("RGB") if image.mode == "P" else None
    except (SyntaxError, OSError, ValueError, zlib.error) as error:
        raise ValueError(f"cannot be decoded: {error}; save it again") from error
    if palette is not None:
        return StoredPixels(values, np.array(palette, np.uint8).reshape(-1, 3))
    if image.mode == "LA":
        return StoredPixels(np.ascontiguousarray(values[..., 0]))
    return StoredPixels(values // _STRETCHED[bits] if bits in _STRETCHED else values)


def _essential(chunks: Chunks) -> io.BytesIO:
    """Return a PNG of the chunks that define the pixels, without those that Pillow would apply.

    Raises:
        SyntaxError: a chunk is marked as essential but is not in the standard.
    """
    stream = io.BytesIO()
    stream.write(PNG_SIGNATURE)
    for kind, content in chunks:
        if kind in _ESSENTIAL:
            putchunk(stream, kind, content)
        elif kind[:1].isupper():
            raise SyntaxError(f"its chunk {kind.decode('ascii')} is not of the PNG standard")
    stream.seek(0)
    return stream


def _inflated_bytes(chunks: Chunks) -> int:
    """Return the length of the pixel data when inflated; 0 where they end too early.

    Raises:
        zlib.error: they are damaged, which their own checksum tells.
    """
    inflate, total = zlib.decompressobj(), 0
    for part in (content for kind, content in chunks if kind == b"IDAT"):
        piece = inflate.decompress(part, _PIECE)
        while piece:
            total += len(piece)
            piece = inflate.decompress(inflate.unconsumed_tail, _PIECE)
    return total if inflate.eof else 0


def _needed_bytes(height: int, width: int, pixel_bits: int, interlaced: bool) -> int:
    """Return the length of all rows, each beginning with the number of its filter."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    return sum(
        rows * (1 + -(-columns * pixel_bits // 8))
        for top, left, down, right in passes
        if (rows := -(-(height - top) // down)) and (columns := -(-(width - left) // right))
    )
