"""iSAID's files as the original lays them.

`{train,val}/images/images/P0000.png` with `{train,val}/masks/images/P0000_instance_color_RGB.png`;
AI Studio's copy has the validation images under `test/`.
"""

from __future__ import annotations

from pathlib import Path

from factseg_paddle.data.layouts.pair_files import DataError, PairFiles, files_with_suffix
from factseg_paddle.folders import advice

_TRY = advice(
    script="python scripts/train.py --config configs/quickstart.yml",
    command="factseg train --config quickstart",
)
MASK_SUFFIX = "_instance_color_RGB.png"
_FOLDERS = {"train": ("train",), "val": ("val", "test")}


def find_isaid(root: Path, split: str) -> list[PairFiles]:
    """Find the pairs of a split, sorted by name; the masks need not exist.

    Where there are both `val/` and `test/`, `test/` is iSAID's own and has no masks.

    Raises:
        DataError: there are no images; three lines say how to get them.
    """
    for folder in (root / name for name in _FOLDERS[split]):
        place = folder / "images" / "images"
        if place.is_dir() and (images := files_with_suffix(place, ".png")):
            break
    else:
        raise DataError(isaid_absent(root, split))
    masks = folder / "masks" / "images"
    return [PairFiles(path.stem, path, masks / f"{path.stem}{MASK_SUFFIX}") for path in images]


def masks_without_image(root: Path, split: str) -> list[Path]:
    """Find colour masks without their image, as an incomplete download leaves them.

    Raises:
        DataError: as in `find_isaid`.
    """
    pairs = find_isaid(root, split)
    folder = pairs[0].image.parents[2] / "masks" / "images"
    if not folder.is_dir():
        return []
    known = {pair.mask for pair in pairs}
    return [path for path in files_with_suffix(folder, MASK_SUFFIX) if path not in known]


def isaid_absent(root: Path, split: str) -> str:
    """Return three lines: what is missing, where to get it, what to type instead."""
    place = " or ".join(f"{name}/images/images" for name in _FOLDERS[split])
    return (
        f"iSAID is not complete at {root}: no PNG images in {place}\n"
        "Get the images of DOTA-v1.0 and the masks from https://captain-whu.github.io/iSAID; lay "
        "them as {train,val}/images/images/P0000.png and {train,val}/masks/images/P0000"
        f"{MASK_SUFFIX}; where they lie elsewhere, give --dataset_root DIR\n"
        f"To try it without iSAID: {_TRY}"
    )
