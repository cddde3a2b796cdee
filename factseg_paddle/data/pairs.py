"""The images of one split and their labels, read whole or window by window.

Two kinds: files as they are, decoded whole and kept in a bounded cache, and the prepared store,
whose windows are read alone. Both give the same bits. Neither holds an open file, so an
`ImagePairs` may go to other processes by fork or by pickle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from factseg_paddle.config_schema import Data
from factseg_paddle.data.array_cache import ArrayCache
from factseg_paddle.data.folder import find_folder
from factseg_paddle.data.image_files import ISAID_CODING, MaskCoding, read_image, read_mask
from factseg_paddle.data.isaid import find_isaid
from factseg_paddle.data.pair_files import (
    MAT_SUFFIX,
    DataError,
    PairFiles,
    read_headers,
    sizes_differ,
)
from factseg_paddle.data.palettes import ISAID_CLASSES, VOC_CLASSES, distinct_palette
from factseg_paddle.data.patches import Window
from factseg_paddle.data.sample import paint_sample
from factseg_paddle.data.voc import find_voc

if TYPE_CHECKING:
    from factseg_paddle.data.store import StoredPair

__all__ = ["DataError", "FilePairs", "ImagePairs", "StoredPairs", "find_pairs", "open_pairs"]

STORE_FILE = "store.json"
_SplitName = Literal["train", "val"]


class ImagePairs(ABC):
    """The images of one split in a fixed order.

    Attributes:
        class_names: of each class, the background first.
        palette: colour of each class, [C, 3] uint8.
        num_classes: C.
        ignore_index: label of pixels that count for nothing.
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
        """Of an image, without suffix."""
        return self._names[index]

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image in pixels; nothing is decoded."""
        return self._sizes[index]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """A whole image and its labels, as `read_image` and `read_labels`."""
        return self.read_image(index), self.read_labels(index)

    def read_image(self, index: int, window: Window | None = None) -> np.ndarray:
        """An image or a window of it, [h, w, 3] uint8, RGB; not to be written to.

        Raises:
            DataError: the file can't be read; the message names it.
            ValueError: the window does not lie inside the image.
        """
        self._check(index, window)
        return self._image(index, window)

    def read_labels(self, index: int, window: Window | None = None) -> np.ndarray | None:
        """Class indices of an image or of a window, [h, w] uint8; None where it has no mask.

        Raises:
            DataError, ValueError: as `read_image`.
        """
        self._check(index, window)
        return self._labels(index, window)

    @abstractmethod
    def _image(self, index: int, window: Window | None) -> np.ndarray:
        """`read_image` of a checked window."""

    @abstractmethod
    def _labels(self, index: int, window: Window | None) -> np.ndarray | None:
        """`read_labels` of a checked window."""

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
        files: with masks that exist or are None.
        sizes: height and width of each.
        coding: of the masks.
        class_names: of each class.
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


class StoredPairs(ImagePairs):
    """Images and masks of the prepared store; see `factseg_paddle.data.store`.

    Args:
        folder: of the split.
        pairs: the store's records.
    """

    def __init__(self, folder: Path, pairs: Sequence[StoredPair]) -> None:
        super().__init__(
            [pair.name for pair in pairs],
            [(pair.height, pair.width) for pair in pairs],
            class_names=ISAID_CLASSES,
            palette=ISAID_CODING.palette,
            ignore_index=ISAID_CODING.ignore_index,
            has_masks=True,
        )
        self._folder = folder

    def __str__(self) -> str:
        return f"{len(self)} images of the prepared store in {self._folder}, read window by window"

    def _image(self, index: int, window: Window | None) -> np.ndarray:
        return self._read("images", index, window)

    def _labels(self, index: int, window: Window | None) -> np.ndarray:
        return self._read("masks", index, window)

    def _read(self, kind: str, index: int, window: Window | None) -> np.ndarray:
        from factseg_paddle.data.store import read_raster, stored_path

        return read_raster(stored_path(self._folder, kind, self._names[index]), window)


def open_pairs(data: Data, split: _SplitName, *, require_masks: bool = True) -> ImagePairs:
    """Open a split of the data that a configuration names.

    Headers of all files are read and compared, or the sizes of the prepared store's files, so that
    what is missing or does not fit is found now.

    Args:
        data: where they lie; a sample that is asked for is painted where nothing is there yet.
        split: "train" or "val".
        require_masks: False where images alone will do; those without a mask have labels None.

    Raises:
        DataError: the data are absent, incomplete or do not fit. One sentence with the first file
            at fault; three lines where iSAID is not there.
    """
    root = Path(data.dataset_root)
    if data.sample is not None:
        paint_sample(root, data.sample)
    if data.kind == "isaid" and (root / STORE_FILE).is_file():
        from factseg_paddle.data.store import open_store, split_folder

        return StoredPairs(split_folder(root, split), open_store(root, split))
    files = find_pairs(data, split)
    if not require_masks:
        files = [
            pair if pair.mask and pair.mask.is_file() else PairFiles(pair.name, pair.image, None)
            for pair in files
        ]
    elif files[0].mask is None:
        raise DataError(f"data.{split} has no mask_dir, and labels are needed; give it")
    headers = read_headers(files)
    headers.check()
    return FilePairs(
        files,
        [(header.height, header.width) for header in headers.images if header],
        coding=coding_of(data),
        class_names=class_names_of(data),
        palette=_palette(data),
        cache_mb=data.cache_mb,
    )


def find_pairs(data: Data, split: str) -> list[PairFiles]:
    """The files of a split that is not prepared.

    Raises:
        DataError: there are none.
    """
    root = Path(data.dataset_root)
    if data.kind == "isaid":
        return find_isaid(root, split)
    return (find_voc if data.kind == "voc" else find_folder)(data, split, root)


def coding_of(data: Data) -> MaskCoding:
    """What the values of the configured masks mean."""
    if data.kind == "isaid":
        return ISAID_CODING
    palette = None if data.palette is None else np.array(data.palette, np.uint8)
    return MaskCoding(data.num_classes, palette, data.ignore_index)


def class_names_of(data: Data) -> tuple[str, ...]:
    """The names of the classes, `class_0` and so on where there are none."""
    if data.kind == "isaid":
        return ISAID_CLASSES
    if data.kind == "voc":
        return VOC_CLASSES
    if data.class_names is not None:
        return tuple(data.class_names)
    return tuple(f"class_{index}" for index in range(data.num_classes))


def _palette(data: Data) -> np.ndarray:
    palette = coding_of(data).palette
    return distinct_palette(data.num_classes) if palette is None else palette


def _cut(pixels: np.ndarray, window: Window | None) -> np.ndarray:
    if window is None:
        return pixels
    top, left, height, width = window
    # a copy: a view would keep the whole image in memory
    return pixels[top : top + height, left : left + width].copy()
