"""A PNG encoder written from the specification: every colour type, depth, filter and interlace."""

import struct
import zlib

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    RGB: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    RGB_ALPHA: (8, 16),
}
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
FORMS = [
    (color_type, bits, interlaced)
    for color_type, depths in DEPTHS.items()
    for bits in depths
    for interlaced in (False, True)
]

# top, left, row step and column step of Adam7's seven passes
_PASSES = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def assemble(chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in chunks)


def take_apart(data):
    """The chunks of a PNG as (kind, content)."""
    chunks, position = [], 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        chunks.append((kind, data[position + 8 : position + 8 + length]))
        position += length + 12
    return chunks


def encode(values, color_type, bits, *, palette=None, interlaced=False, extra=(), filters=(0,)):
    """Write [H, W] or [H, W, C] values below 2**bits; `extra` chunks go before the pixels.

    Rows take the filters (0 None, 1 Sub, 2 Up, 3 Average, 4 Paeth) in turn.
    """
    values = np.asarray(values).reshape(*np.shape(values)[:2], CHANNELS[color_type])
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, interlaced)
    parts = [values[t::dy, left::dx] for t, left, dy, dx in _PASSES] if interlaced else [values]
    raw = b"".join(_rows(part, bits, filters) for part in parts if part.size)
    half = len(packed := zlib.compress(raw)) // 2
    chunks = [(b"IHDR", header)]
    if palette is not None:
        chunks.append((b"PLTE", np.asarray(palette, np.uint8).tobytes()))
    chunks += [*extra, (b"IDAT", packed[:half]), (b"IDAT", packed[half:]), (b"IEND", b"")]
    return assemble(chunks)


def _rows(part, bits, filters):
    distance = max(part.shape[2] * bits // 8, 1)  # of the bytes that a filter compares
    rows = [_pack(row.ravel(), bits) for row in part]
    out, above = [], bytes(len(rows[0]))
    for index, row in enumerate(rows):
        kind = filters[index % len(filters)]
        left = bytes(distance) + row[:-distance]
        corner = bytes(distance) + above[:-distance]
        guess = [_predict(kind, *near) for near in zip(left, above, corner, strict=False)]
        out.append(bytes([kind, *((r - g) % 256 for r, g in zip(row, guess, strict=False))]))
        above = row
    return b"".join(out)


def _pack(row, bits):
    if bits == 16:
        return row.astype(">u2").tobytes()
    digits = (row[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.astype(np.uint8)).tobytes()


def _predict(kind, left, above, corner):
    if kind == 4:
        guess = left + above - corner
        return min((left, above, corner), key=lambda value: abs(guess - value))
    return (0, left, above, (left + above) // 2)[kind]
