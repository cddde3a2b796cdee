"""Open a split of the data that a configuration names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from factseg_paddle.config.data_section import Data
from factseg_paddle.data.images.files import ISAID_CODING, MaskCoding
from factseg_paddle.data.images.palettes import ISAID_CLASSES, VOC_CLASSES, distinct_palette
from factseg_paddle.data.layouts.folder import find_folder
from factseg_paddle.data.layouts.isaid import find_isaid
from factseg_paddle.data.layouts.pair_files import STORE_FILE, DataError, PairFiles, read_headers
from factseg_paddle.data.layouts.voc import find_voc
from factseg_paddle.data.pairs import FilePairs, ImagePairs, SplitName
from factseg_paddle.data.store.pairs import StoredPairs


def open_pairs(data: Data, split: SplitName, *, require_masks: bool = True) -> ImagePairs:
    """Open a split of the data that a configuration names.

    Headers of all files are read and compared, or the sizes of the prepared store's files, so that
    what is missing or does not fit is found now.

    Args:
        data: the configuration; see `paint_configured_sample` for a sample.
        split: "train" or "val".
        require_masks: False where images alone will do; those without a mask have labels None.

    Raises:
        DataError: the data are absent, incomplete or do not fit. One sentence with the first file
            at fault; three lines where iSAID is not there.
    """
    root = Path(data.dataset_root)
    if data.kind == "isaid" and (root / STORE_FILE).is_file():
        from factseg_paddle.data.store.files import open_store, split_folder

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
    """Find the files of a split that is not prepared.

    Raises:
        DataError: there are none.
    """
    root = Path(data.dataset_root)
    if data.kind == "isaid":
        return find_isaid(root, split)
    return (find_voc if data.kind == "voc" else find_folder)(data, split, root)


def coding_of(data: Data) -> MaskCoding:
    """Return the meaning of the values in the configured masks."""
    if data.kind == "isaid":
        return ISAID_CODING
    palette = None if data.palette is None else np.array(data.palette, np.uint8)
    return MaskCoding(data.num_classes, palette, data.ignore_index)


def class_names_of(data: Data) -> tuple[str, ...]:
    """Return the names of the classes, `class_0` and so on where none are configured."""
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
