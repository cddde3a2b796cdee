"""Windows over an image, as the original cuts training patches and slides in evaluation.

Original: `sliding_window` of SimpleCV. Per axis of length L a window of side k, shrunk to L where
L < k, stands at 0, s, 2s, …; ceil((L - k) / s) + 1 of them, the last one snapped back to the end.
"""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """A part of an image, in pixels: rows top to top + height, columns left to left + width."""

    top: int
    left: int
    height: int
    width: int


def sliding_windows(height: int, width: int, *, size: int, stride: int) -> list[Window]:
    """Return the windows over an image, row by row.

    Args:
        height: rows of the image, at least 1.
        width: columns of the image, at least 1.
        size: side of a window, at least 1; a shorter image shrinks it along that axis.
        stride: distance of neighbours, 1 to `size`: more would leave gaps.

    Raises:
        ValueError: a number is out of its range.
    """
    for name, value in (("height", height), ("width", width), ("size", size), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{name} {value} is below 1")
    if stride > size:
        raise ValueError(f"stride {stride} leaves gaps between windows of {size}; use at most that")
    rows, columns = _starts(height, size, stride), _starts(width, size, stride)
    inside = min(size, height), min(size, width)
    return [Window(top, left, *inside) for top in rows for left in columns]


def _starts(length: int, size: int, stride: int) -> list[int]:
    last = max(length - size, 0)
    count = -(-last // stride) + 1
    return [min(index * stride, last) for index in range(count)]
