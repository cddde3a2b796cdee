"""Images and masks of the prepared store, read window by window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from factseg_paddle.data.images.files import ISAID_CODING
from factseg_paddle.data.images.palettes import ISAID_CLASSES
from factseg_paddle.data.pairs import ImagePairs
from factseg_paddle.data.patches import Window

if TYPE_CHECKING:
    from factseg_paddle.data.store.files import StoredPair


class StoredPairs(ImagePairs):
    """Images and masks of the prepared store; see `factseg_paddle.data.store.files`.

    Args:
        folder: the folder of the split.
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
        from factseg_paddle.data.store.files import read_raster, stored_path

        return read_raster(stored_path(self._folder, kind, self._names[index]), window)
