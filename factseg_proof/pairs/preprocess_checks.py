"""Step 02: decoding, colours and every transform of `factseg_paddle.data` against `torch_ref`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

import factseg_paddle.transforms as ours
import torch_ref.data as theirs
from factseg_paddle.data.images import files, palettes

Decode = Callable[[Callable[[Path], np.ndarray]], np.ndarray]
Check = tuple[str, Callable[[], np.ndarray], Callable[[], np.ndarray]]


def values(
    image: np.ndarray, labels: np.ndarray, image_file: Path | None, mask_file: Path | None
) -> Iterator[Check]:
    """Yield (name, reference, ours) for one scene.

    Args:
        image: uint8 [H, W, 3] RGB.
        labels: uint8 [H, W], 255 where ignored.
        image_file: the file it comes from, decoded on both sides; None writes the scene first.
        mask_file: its mask.
    """
    known = np.where(labels == 255, 0, labels).astype(np.uint8)
    image_of, mask_of = _from_files(image_file, mask_file) or _through_files(image, known)
    yield "decode image", partial(image_of, theirs.read_image), partial(image_of, files.read_image)
    yield "decode mask", partial(mask_of, theirs.read_mask), partial(mask_of, files.read_mask)
    yield (
        "index to colour",
        lambda: theirs.index_to_color(known),
        lambda: palettes.index_to_color(known),
    )
    yield (
        "colour to index",
        lambda: theirs.color_to_index(theirs.index_to_color(known)),
        lambda: palettes.color_to_index(palettes.index_to_color(known)),
    )
    every = np.arange(16, dtype=np.uint8).reshape(4, 4)  # a scene has but some of the classes
    yield (
        "every colour to index",
        lambda: theirs.color_to_index(theirs.index_to_color(every)),
        lambda: palettes.color_to_index(palettes.index_to_color(every)),
    )
    yield from _of_both("horizontal flip", "horizontal_flip", image, labels)
    yield from _of_both("vertical flip", "vertical_flip", image, labels)
    for k in range(4):
        yield from _of_both(f"rot90 k={k}", "rot90", image, labels, k)
    size = {"height": image.shape[0] + 24, "width": image.shape[1] + 8}
    yield from _of_both("pad before normalising", "pad_to", image, labels, **size)
    window = {"top": 5, "left": 3, "height": image.shape[0] // 2, "width": image.shape[1] // 3}
    yield from _of_both("crop", "crop", image, labels, **window)
    yield "normalise", lambda: _rounded(theirs.normalize(image)), lambda: ours.normalize(image)
    odd = ours.normalize(image)[:-7, :-3]
    yield (
        "pad after normalising",
        lambda: theirs.pad_to_divisible(odd),
        lambda: ours.pad_to_divisible(odd),
    )
    yield "to [C, H, W]", lambda: theirs.to_chw(odd), lambda: ours.to_chw(odd)


def _of_both(
    name: str, function: str, image: np.ndarray, labels: np.ndarray, *args: int, **kwargs: int
) -> Iterator[Check]:
    for index, part in enumerate(("image", "labels")):
        yield (
            f"{name}, {part}",
            lambda i=index: getattr(theirs, function)(image, labels, *args, **kwargs)[i],
            lambda i=index: getattr(ours, function)(image, labels, *args, **kwargs)[i],
        )


def _from_files(image_file: Path | None, mask_file: Path | None) -> tuple[Decode, Decode] | None:
    """Return functions (reader) -> pixels of the files that are there already."""
    if image_file is None or mask_file is None:
        return None
    return (lambda read: read(image_file)), (lambda read: read(mask_file))


def _through_files(image: np.ndarray, labels: np.ndarray) -> tuple[Decode, Decode]:
    """Do the same for a scene that has no files: written as PNG, read, and removed."""

    def decode(pixels: np.ndarray, read: Callable[[Path], np.ndarray]) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scene.png"
            files.write_png(path, pixels)
            return read(path)

    return partial(decode, image), partial(decode, theirs.index_to_color(labels))


def _rounded(values: np.ndarray) -> np.ndarray:
    """Round to float32, which the network is fed; the reference computes in float64."""
    return values.astype(np.float32)
