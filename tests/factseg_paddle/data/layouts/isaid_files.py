"""Small data sets in iSAID's layout and in folders."""

from __future__ import annotations

import functools

import numpy as np
from pydantic import TypeAdapter

from factseg_paddle.config.data_section import Data
from factseg_paddle.config.transforms import Transform
from factseg_paddle.data.images.files import write_png
from factseg_paddle.data.images.palettes import index_to_color
from factseg_paddle.data.synthetic.scenes import paint_scene

SIZES = {"train": [(128, 96), (64, 128), (100, 128)], "val": [(128, 128), (70, 64)]}
"""Height and width of the images; the names count through."""


def scene(index: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    painted = _painted(index)
    return painted.image[:height, :width].copy(), painted.labels[:height, :width].copy()


@functools.cache
def _painted(index):
    return paint_scene(128, (7, index), theme=index)


def write_isaid(root, folders=None, sizes=None):
    """Write pairs; {(split, name): (image, labels)}."""
    written, index = {}, 0
    for split, shapes in (sizes or SIZES).items():
        folder = root / (folders or {}).get(split, split)
        for kind in ("images", "masks"):
            (folder / kind / "images").mkdir(parents=True)
        for height, width in shapes:
            image, labels = scene(index, height, width)
            name = f"P{index:04d}"
            write_png(folder / "images" / "images" / f"{name}.png", image)
            write_png(mask_of(folder, name), index_to_color(labels))
            written[split, name] = image, labels
            index += 1
    return written


def transforms(*given):
    """The transforms of plain values, also those that a whole configuration would not allow."""
    return TypeAdapter(list[Transform]).validate_python(list(given))


def mask_of(folder, name):
    return folder / "masks" / "images" / f"{name}_instance_color_RGB.png"


def image_of(folder, name):
    return folder / "images" / "images" / f"{name}.png"


def isaid(root, **options) -> Data:
    return Data(dataset_root=str(root), **options)
