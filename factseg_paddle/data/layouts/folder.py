"""One's own images and masks, found by configuration alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from factseg_paddle.config.data_section import Data, Split
from factseg_paddle.data.layouts.pair_files import (
    DataError,
    PairFiles,
    files_with_suffix,
    named,
    read_names,
)


def find_folder(data: Data, split: str, root: Path) -> list[PairFiles]:
    """Find the pairs of a split, sorted by name; the masks need not exist.

    Args:
        data: the configuration, of kind "folder".
        split: "train" or "val".
        root: the folder that those of `data` are relative to.

    Raises:
        DataError: the split is not configured, a folder is absent, or a listed image is missing.
    """
    part: Split | None = getattr(data, split)
    if part is None:
        raise DataError(f"the configuration has no data.{split}; give its image_dir and mask_dir")
    folder = _folder(root, part.image_dir, f"data.{split}.image_dir")
    masks = _folder(root, part.mask_dir, f"data.{split}.mask_dir") if part.mask_dir else None
    images = {
        path.name[: -len(data.image_suffix)]: path
        for path in files_with_suffix(folder, data.image_suffix)
    }
    if not images:
        raise DataError(_no_images(folder, data.image_suffix))
    names = sorted(images)
    if part.names is not None:
        if not Path(part.names).is_file():
            raise DataError(
                f"the list {Path(part.names)} does not exist; data.{split}.names names it"
            )
        names = read_names(Path(part.names))
        missing = [name for name in names if name not in images]
        if missing:
            raise DataError(
                f"{Path(part.names)} lists {named(missing)}, but {folder} has no "
                f"{missing[0]}{data.image_suffix}; add it or take it off the list"
            )
    return [
        PairFiles(name, images[name], masks / f"{name}{data.mask_suffix}" if masks else None)
        for name in names
    ]


def _folder(root: Path, name: str, key: str) -> Path:
    folder = root / name
    if not folder.is_dir():
        raise DataError(
            f"the folder {folder} does not exist; {key} names it, relative to data.dataset_root"
        )
    return folder


def _no_images(folder: Path, suffix: str) -> str:
    others = Counter(path.suffix for path in folder.iterdir() if path.is_file())
    if not others:
        return f"{folder} holds no files; put the images there"
    there = ", ".join(f"{count} of {name or 'no suffix'}" for name, count in others.most_common(3))
    return f"{folder} holds no files ending in {suffix}, but {there}; set data.image_suffix"
