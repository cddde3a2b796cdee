"""Class probabilities of an image of any size, window by window, in memory for one strip.

As the original evaluates: windows of 896 at a distance of 512 (`data.patches`), each normalised,
then padded with 0 at the right and bottom until its sides divide by 32; the prediction is cropped
back and averaged over all windows that cover a pixel. The original copies the whole image for each
window and keeps every window's prediction to the end (4000 x 13383: 208 windows, 13 GiB). Here the
image is read window by window, and rows that no later window covers are given away at once.

The memory held is C * patch_size * W * 4 bytes for an image W pixels wide, whatever its height,
plus one batch. With several scales all are predicted in step, and each holds its own strip: that is
`sum(scales)` times as much, and a window at a scale s is made of (patch_size / s)^2 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from factseg_paddle.config.schema import Evaluation
from factseg_paddle.data.patches import Window, sliding_windows
from factseg_paddle.inference.resampling import (
    Read,
    resized_strips,
    scaled_reader,
    scaled_size,
)
from factseg_paddle.transforms import (
    ISAID_NORMALIZATION,
    Normalization,
    pad_to_divisible,
    to_chw,
)

Predict = Callable[[np.ndarray], np.ndarray]
"""From normalised images [N, 3, h, w] float32 to probabilities [N, C, h, w] float32."""

STRIP_ROWS = 64
"""Rows of probabilities that are given at once."""

LABEL_ROWS = 512
"""Rows of labels that are given at once: masks are read as often."""

_AS_IT_IS, _LEFT_RIGHT, _TOP_BOTTOM = None, 1, 0  # axis of an image that is mirrored


@dataclass(frozen=True)
class SlidingWindow:
    """The windows, and what predicts each of them.

    Attributes:
        predict: any function of that form; it may be called with fewer windows than batch_size.
        patch_size: side of a window; a smaller image shrinks it.
        stride: distance of neighbouring windows, at most patch_size.
        batch_size: inputs that are predicted at once.
        flip: predict each window mirrored left-right and top-bottom too, and average the three.
        scales: factors of the image's size; the probabilities of all are averaged.
        normalization: from RGB windows to the network's input; the original's where none is given.
        num_classes: channels that the predictor shall give; None takes what it gives.

    Raises:
        ValueError: a number is out of its range.
    """

    predict: Predict
    patch_size: int = 896
    stride: int = 512
    batch_size: int = 1
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    normalization: Normalization = ISAID_NORMALIZATION
    num_classes: int | None = None

    def __post_init__(self) -> None:
        sliding_windows(1, 1, size=self.patch_size, stride=self.stride)
        if self.batch_size < 1:
            raise ValueError(f"batch_size {self.batch_size} is below 1")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales {list(self.scales)}: give at least one, each above 0")

    @classmethod
    def of_settings(
        cls,
        predict: Predict,
        settings: Evaluation,
        *,
        normalization: Normalization = ISAID_NORMALIZATION,
        num_classes: int | None = None,
    ) -> SlidingWindow:
        """Make one as a configuration's section `eval` says."""
        return cls(
            predict,
            settings.patch_size,
            settings.stride,
            settings.batch_size,
            settings.flip,
            tuple(settings.scales),
            normalization,
            num_classes,
        )

    def count(self, height: int, width: int) -> int:
        """Return how many inputs of `predict` an image takes."""
        sizes = (scaled_size(height, width, scale) for scale in self.scales)
        windows = sum(len(self._windows(*size)) for size in sizes)
        return windows * len(self._mirrors())

    def probabilities(
        self, read: Read, height: int, width: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Give the probabilities from the top to the bottom.

        Args:
            read: gives the pixels in a window, [h, w, 3] uint8.
            height: rows of the image.
            width: columns of the image.

        Yields:
            The first row, and the averages [C, rows, W] float32 of at most 64 rows from there.

        Raises:
            ValueError: the reader gives another shape, or `predict` gives another shape than
                [N, C, h, w], another C than expected or before, or values that are not finite.
        """
        streams = [self._at_scale(read, (height, width), scale) for scale in self.scales]
        top = 0
        for strips in zip(*streams, strict=True):
            average = strips[0]
            for strip in strips[1:]:
                average += strip
            if len(strips) > 1:
                average /= len(strips)
            yield top, average
            top += average.shape[1]

    def labels(self, read: Read, height: int, width: int) -> Iterator[tuple[int, np.ndarray]]:
        """Give the most probable classes from the top to the bottom; the lowest index of equals.

        Args: as in `probabilities`.

        Yields:
            The first row, and class indices [rows, W] uint8 of about 512 rows from there.

        Raises:
            ValueError: as in `probabilities`, or the classes are more than a byte can tell.
        """
        first, held = 0, []
        for top, probabilities in self.probabilities(read, height, width):
            if len(probabilities) > 256:
                raise ValueError(f"{len(probabilities)} classes don't fit into 8 bits")
            held.append(probabilities.argmax(axis=0).astype(np.uint8))
            end = top + held[-1].shape[0]
            if end - first >= LABEL_ROWS or end == height:
                yield first, np.concatenate(held)
                first, held = end, []

    def _at_scale(self, read: Read, size: tuple[int, int], scale: float) -> Iterator[np.ndarray]:
        """Yield strips of the image's own size, predicted at one scale."""
        scaled = scaled_size(*size, scale)
        if scaled == size and len(self.scales) == 1:
            return self._strips(read, *size)
        reader = read if scaled == size else scaled_reader(read, size, scaled)
        return resized_strips(self._strips(reader, *scaled), scaled, size, STRIP_ROWS)

    def _strips(self, read: Read, height: int, width: int) -> Iterator[np.ndarray]:
        windows = self._windows(height, width)
        mirrors = self._mirrors()
        down = _covering(height, {(w.top, w.height) for w in windows}) * len(mirrors)
        across = _covering(width, {(w.left, w.width) for w in windows})
        inputs = (
            (window, mirror, pixels)
            for window in windows
            for pixels in [_checked_pixels(read, window)]
            for mirror in mirrors
        )
        sums, top = None, 0
        while batch := list(islice(inputs, self.batch_size)):
            outputs = self._predicted(batch, self.num_classes if sums is None else len(sums))
            if sums is None:
                sums = np.zeros((outputs.shape[1], windows[0].height, width), np.float32)
            for (window, mirror, _), output in zip(batch, outputs, strict=True):
                finished = window.top - top
                if finished:
                    yield from _averages(sums[:, :finished], down[top : window.top], across)
                    _move_up(sums, finished)
                    top = window.top
                cropped = _mirrored(output[:, : window.height, : window.width], mirror, 1)
                sums[:, :, window.left : window.left + window.width] += cropped
            # or they would stay in memory beside the next ones
            del outputs, output, cropped, batch
        yield from _averages(sums, down[top:], across)

    def _predicted(
        self, batch: list[tuple[Window, int | None, np.ndarray]], num_classes: int | None
    ) -> np.ndarray:
        images = np.stack(
            [
                to_chw(pad_to_divisible(self.normalization(_mirrored(pixels, mirror, 0))))
                for _, mirror, pixels in batch
            ]
        )
        outputs = np.asarray(self.predict(images))
        window = batch[0][0]
        classes = num_classes or (outputs.shape[1] if outputs.ndim == 4 else "C")
        expected = (len(images), classes, *images.shape[2:])
        if outputs.shape != expected:
            shown = ", ".join(map(str, expected))
            raise ValueError(
                f"the predictor gave {list(outputs.shape)} for images {list(images.shape)}; "
                f"[{shown}] would fit"
            )
        if not np.isfinite(outputs).all():
            raise ValueError(
                f"the predictor gave values that are not finite in the window at row {window.top}, "
                f"column {window.left}; the weights are damaged or have diverged"
            )
        return outputs

    def _windows(self, height: int, width: int) -> list[Window]:
        return sliding_windows(height, width, size=self.patch_size, stride=self.stride)

    def _mirrors(self) -> tuple[int | None, ...]:
        return (_AS_IT_IS, _LEFT_RIGHT, _TOP_BOTTOM) if self.flip else (_AS_IT_IS,)


def _checked_pixels(read: Read, window: Window) -> np.ndarray:
    pixels = read(window)
    expected = (window.height, window.width, 3)
    if pixels.shape != expected:
        raise ValueError(f"{window} was read as {list(pixels.shape)}, not {list(expected)}")
    return pixels


def _covering(length: int, spans: set[tuple[int, int]]) -> np.ndarray:
    """Return how many of the (start, length) spans cover each place, [length] float32."""
    counts = np.zeros(length, np.float32)
    for start, extent in spans:
        counts[start : start + extent] += 1
    return counts


def _mirrored(array: np.ndarray, mirror: int | None, first: int) -> np.ndarray:
    """Mirror an image (rows are its axis `first`)."""
    return array if mirror is None else np.flip(array, first + mirror)


def _averages(sums: np.ndarray, down: np.ndarray, across: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, sums.shape[1], STRIP_ROWS):
        counts = down[start : start + STRIP_ROWS, None] * across
        yield sums[:, start : start + STRIP_ROWS] / counts


def _move_up(sums: np.ndarray, rows: int) -> None:
    for channel in sums:  # one at a time: numpy copies what overlaps
        channel[:-rows] = channel[rows:]
        channel[-rows:] = 0
