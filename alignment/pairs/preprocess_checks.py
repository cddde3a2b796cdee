"""Step 02: decoding, colours and every transform of `factseg_paddle.data` against `torch_ref`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import factseg_paddle.data.image_files as our_files
import factseg_paddle.data.palettes as our_palettes
import factseg_paddle.data.transforms as ours

Check = tuple[str, Callable[[], np.ndarray], Callable[[], np.ndarray]]


def values(
    image: np.ndarray, labels: np.ndarray, image_file: Path | None, mask_file: Path | None
) -> Iterator[Check]:
    """Yield (name, reference, ours) for one scene.

    Args:
        image: uint8 [H, W, 3] RGB.
        labels: uint8 [H, W], 255 where ignored.
        image_file: the file it comes from, decoded on both sides; None leaves decoding to the
            sample files that a painted scene has none of.
        mask_file: its mask.
    """
    if image_file and mask_file:
        yield (
            "decode image",
            lambda: _theirs("read_image", image_file),
            lambda: our_files.read_image(image_file),
        )
        yield (
            "decode mask",
            lambda: _theirs("read_mask", mask_file),
            lambda: our_files.read_mask(mask_file),
        )
    known = np.where(labels == 255, 0, labels).astype(np.uint8)
    yield (
        "index to colour",
        lambda: _theirs("index_to_color", known),
        lambda: our_palettes.index_to_color(known),
    )
    yield (
        "colour to index",
        lambda: _theirs("color_to_index", _theirs("index_to_color", known)),
        lambda: our_palettes.color_to_index(our_palettes.index_to_color(known)),
    )
    yield from _of_both("horizontal flip", "horizontal_flip", image, labels)
    yield from _of_both("vertical flip", "vertical_flip", image, labels)
    for k in range(4):
        yield from _of_both(f"rot90 k={k}", "rot90", image, labels, k)
    size = {"height": image.shape[0] + 24, "width": image.shape[1] + 8}
    yield from _of_both("pad before normalising", "pad_to", image, labels, **size)
    window = {"top": 5, "left": 3, "height": image.shape[0] // 2, "width": image.shape[1] // 3}
    yield from _of_both("crop", "crop", image, labels, **window)
    yield "normalise", lambda: _rounded(_theirs("normalize", image)), lambda: ours.normalize(image)
    odd = ours.normalize(image)[:-7, :-3]
    yield (
        "pad after normalising",
        lambda: _theirs("pad_to_divisible", odd),
        lambda: ours.pad_to_divisible(odd),
    )
    yield "to [C, H, W]", lambda: _theirs("to_chw", odd), lambda: ours.to_chw(odd)


def _of_both(
    name: str, function: str, image: np.ndarray, labels: np.ndarray, *args: int, **kwargs: int
) -> Iterator[Check]:
    for index, part in enumerate(("image", "labels")):
        yield (
            f"{name}, {part}",
            lambda i=index: _theirs(function, image, labels, *args, **kwargs)[i],
            lambda i=index: getattr(ours, function)(image, labels, *args, **kwargs)[i],
        )


def _theirs(function: str, *args: Any, **kwargs: int) -> Any:
    """The reference's value; imported here, since torch need not be installed beside Paddle."""
    import torch_ref.data

    return getattr(torch_ref.data, function)(*args, **kwargs)


def _rounded(values: np.ndarray) -> np.ndarray:
    """The reference computes in float64; the network is fed float32."""
    return values.astype(np.float32)
