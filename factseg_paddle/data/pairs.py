"""The images of one split and their labels, read whole or window by window.

Two kinds: files as they are, decoded whole and kept in a bounded cache, and the prepared store,
whose windows are read alone. Both give the same bits. Neither holds an open file, so an
`ImagePairs` may go to other processes by pickle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from factseg_paddle.data.array_cache import ArrayCache
from factseg_paddle.data.images.files import MaskCoding, read_image, read_mask
from factseg_paddle.data.layouts.pair_files import (
    MAT_SUFFIX,
    DataError,
    PairFiles,
    sizes_differ,
)
from factseg_paddle.data.patches import Window

SplitName = Literal["train", "val"]


class ImagePairs(ABC):
    """The images of one split in a fixed order.

    Attributes:
        class_names: the name of each class, the background first.
        palette: colour of each class, [C, 3] uint8.
        num_classes: number of classes C.
        ignore_index: label of pixels that are ignored.
        has_masks: whether every image has its labels.
    """

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        *,
        class_names: Sequence[str],
        palette: np.ndarray,
        ignore_index: int,
        has_masks: bool,
    ) -> None:
        self._names, self._sizes = tuple(names), tuple(sizes)
        self.class_names = tuple(class_names)
        self.palette = palette
        self.num_classes = len(class_names)
        self.ignore_index = ignore_index
        self.has_masks = has_masks

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Return the name of an image, without suffix."""
        return self._names[index]

    def size(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image in pixels; nothing is decoded."""
        return self._sizes[index]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a whole image and its labels, as `read_image` and `read_labels` do."""
        return self.read_image(index), self.read_labels(index)

    def read_image(self, index: int, window: Window | None = None) -> np.ndarray:
        """Read an image or a window of it, RGB, [h, w, 3] uint8; do not write to it.

        Raises:
            DataError: the file can't be read; the message names it.
            ValueError: the window does not lie inside the image.
        """
        self._check(index, window)
        return self._image(index, window)

    def read_labels(self, index: int, window: Window | None = None) -> np.ndarray | None:
        """Read the class indices of an image or a window, [h, w] uint8; None where it has no mask.

        Raises:
            DataError, ValueError: as in `read_image`.
        """
        self._check(index, window)
        return self._labels(index, window)

    @abstractmethod
    def _image(self, index: int, window: Window | None) -> np.ndarray:
        """Read an image or a checked window of it."""

    @abstractmethod
    def _labels(self, index: int, window: Window | None) -> np.ndarray | None:
        """Read the labels of an image or a checked window of it."""

    def _check(self, index: int, window: Window | None) -> None:
        height, width = self._sizes[index]
        if window is None:
            return
        top, left, rows, columns = window
        inside = min(top, left) >= 0 and top + rows <= height and left + columns <= width
        if not inside or min(rows, columns) < 1:
            raise ValueError(f"{window} does not lie inside {height} x {width} pixels")


class FilePairs(ImagePairs):
    """Images and masks as they are: PNG and the like, decoded whole.

    Args:
        files: the pairs, with masks that exist or are None.
        sizes: height and width of each image.
        coding: the meaning of the values in the masks.
        class_names: the name of each class.
        palette: colour of each class.
        cache_mb: memory for decoded images and masks, in 10**6 bytes, in each process.
    """

    def __init__(
        self,
        files: Sequence[PairFiles],
        sizes: Sequence[tuple[int, int]],
        *,
        coding: MaskCoding,
        class_names: Sequence[str],
        palette: np.ndarray,
        cache_mb: int,
    ) -> None:
        super().__init__(
            [pair.name for pair in files],
            sizes,
            class_names=class_names,
            palette=palette,
            ignore_index=coding.ignore_index,
            has_masks=all(pair.mask is not None for pair in files),
        )
        self._files, self._coding = tuple(files), coding
        self._cache = ArrayCache(cache_mb * 10**6)

    def __str__(self) -> str:
        return (
            f"{len(self)} images as files in {self._files[0].image.parent}, decoded whole; "
            f"a cache of {self._cache.limit // 10**6} MB in each process"
        )

    def _image(self, index: int, window: Window | None) -> np.ndarray:
        path = self._files[index].image
        return _cut(self._decoded(index, path, lambda: read_image(path)), window)

    def _labels(self, index: int, window: Window | None) -> np.ndarray | None:
        path = self._files[index].mask
        if path is None:
            return None
        return _cut(self._decoded(index, path, lambda: read_mask(path, self._coding)), window)

    def _decoded(self, index: int, path: Path, decode: Callable[[], np.ndarray]) -> np.ndarray:
        try:
            pixels = self._cache.get(path, decode)
        except (ValueError, OSError) as error:  # the decoder's sentences name the file
            raise DataError(str(error)) from error
        if pixels.shape[:2] != self._sizes[index]:
            if path.suffix == MAT_SUFFIX:
                sizes = self._sizes[index], pixels.shape
                raise DataError(sizes_differ(self._files[index], *sizes))
            raise DataError(f"{path} has changed its size since it was opened; start again")
        return pixels


def _cut(pixels: np.ndarray, window: Window | None) -> np.ndarray:
    if window is None:
        return pixels
    top, left, height, width = window
    # a copy: a view would keep the whole image in memory
    return pixels[top : top + height, left : left + width].copy()
