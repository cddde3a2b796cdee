"""Linear resampling of images and probabilities, a part at a time.

Every value is a function of its own coordinate alone, so a part equals the same part of the whole.
Coordinates are those of OpenCV's INTER_LINEAR: pixel centres at half numbers, the border repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from factseg_paddle.data.patches import Window

Read = Callable[[Window], np.ndarray]
"""The image's pixels in a window: [height, width, 3], uint8 or float32 on the scale 0 to 255."""


class Taps(NamedTuple):
    """What each target coordinate is made of: (1 - weight) * x[lower] + weight * x[upper].

    `lower` and `upper` are [n] int64, `weight` is [n] float32.
    """

    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Return rows and columns of an image after scaling, at least 1 each."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def taps(source: int, target: int) -> Taps:
    """Return how an axis of `source` pixels becomes one of `target` pixels."""
    position = (np.arange(target, dtype=np.float64) + 0.5) * (source / target) - 0.5
    position = position.clip(0, source - 1)
    lower = np.floor(position).astype(np.int64)
    upper = np.minimum(lower + 1, source - 1)
    return Taps(lower, upper, (position - lower).astype(np.float32))


def scaled_reader(read: Read, source: tuple[int, int], target: tuple[int, int]) -> Read:
    """Return a reader of the image scaled from (rows, columns) to others, in float32 windows."""
    rows, columns = taps(source[0], target[0]), taps(source[1], target[1])

    def read_scaled(window: Window) -> np.ndarray:
        down = _part(rows, window.top, window.height)
        across = _part(columns, window.left, window.width)
        top, left = int(down.lower[0]), int(across.lower[0])
        needed = Window(top, left, int(down.upper[-1]) - top + 1, int(across.upper[-1]) - left + 1)
        pixels = read(needed).astype(np.float32)
        return _mix(_mix(pixels, _moved(down, top), 0), _moved(across, left), 1)

    return read_scaled


def resized_strips(
    strips: Iterator[np.ndarray], source: tuple[int, int], target: tuple[int, int], rows: int
) -> Iterator[np.ndarray]:
    """Resample a map that arrives as strips from the top to the bottom.

    Args:
        strips: [C, n, W] float32 each, n free; together the `source` map.
        source: rows and columns of the map.
        target: rows and columns wanted.
        rows: rows of each strip that is given, fewer in the last.

    Yields:
        [C, rows, W'] float32. Only the rows that are still needed are held.
    """
    down, across = taps(source[0], target[0]), taps(source[1], target[1])
    held, first = None, 0
    for top in range(0, target[0], rows):
        wanted = _part(down, top, min(rows, target[0] - top))
        start, end = int(wanted.lower[0]), int(wanted.upper[-1]) + 1
        parts = [] if held is None else [held[:, start - first :]]
        reached = first + (0 if held is None else held.shape[1])
        while reached < end:
            strip = _mix(next(strips), across, 2)
            # a strip that is passed over whole has no rows left to hold
            parts.append(strip[:, max(start - reached, 0) :])
            reached += strip.shape[1]
        held, first = np.concatenate(parts, axis=1), start
        yield _mix(held, _moved(wanted, start), 1)


def _part(axis: Taps, start: int, length: int) -> Taps:
    return Taps(*(values[start : start + length] for values in axis))


def _moved(axis: Taps, start: int) -> Taps:
    return Taps(axis.lower - start, axis.upper - start, axis.weight)


def _mix(array: np.ndarray, along: Taps, axis: int) -> np.ndarray:
    shape = [1] * array.ndim
    shape[axis] = -1
    weight = along.weight.reshape(shape)
    mixed = array.take(along.lower, axis)
    # a + w (b - a): exactly a where nothing is to be mixed
    mixed += weight * (array.take(along.upper, axis) - mixed)
    return mixed
