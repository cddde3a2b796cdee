"""Images and labels for a pair: painted scenes, or a window of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from factseg_paddle.data.images.files import read_pair
from factseg_paddle.data.synthetic.scenes import paint_scene
from factseg_paddle.transforms import crop, normalize, pad_to, to_chw

CROP = 128
IMAGES = 2
SMALLEST_SCENE = 64

Scene = tuple[np.ndarray, np.ndarray]


def read_scenes(seed: int, image: Path | None, mask: Path | None, crop_size: int) -> list[Scene]:
    """Read images [H, W, 3] uint8 with labels [H, W] uint8.

    Args:
        seed: of the painted scenes.
        image: an RGB image file; None paints IMAGES scenes.
        mask: its mask, colours or indices.
        crop_size: side of the square scenes, a multiple of 32. Of a file the window with the most
            foreground is taken, padded with ignored pixels where the image is smaller.

    Raises:
        ValueError: crop_size does not divide by 32, or only one of image and mask is given.
    """
    if crop_size < 32 or crop_size % 32:
        lower = max(crop_size // 32 * 32, 0)
        sizes = " or ".join(str(size) for size in (lower, lower + 32) if size > 0)
        raise ValueError(f"crop {crop_size} is not a positive multiple of 32; use {sizes}")
    if (image is None) != (mask is None):
        raise ValueError("give both image and mask, or neither")
    if image is None:
        return [_painted(crop_size, (seed, index)) for index in range(IMAGES)]
    return [_busiest_window(*read_pair(image, mask), crop_size)]


def as_batch(scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Return normalised images [N, 3, H, W] float32 and labels [N, H, W] int64."""
    pixels = np.stack([to_chw(normalize(pixels)) for pixels, _ in scenes])
    labels = np.stack([labels for _, labels in scenes]).astype(np.int64)
    return pixels, labels


def _painted(size: int, seed: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Paint a scene, its last rows and columns ignored as padding is."""
    scene = paint_scene(size=max(size, SMALLEST_SCENE), seed=seed)
    kept = size - size // 16
    image, labels = crop(scene.image, scene.labels, top=0, left=0, height=kept, width=kept)
    return pad_to(image, labels, height=size, width=size)


def _busiest_window(
    image: np.ndarray, labels: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the size x size window with the most foreground; the first where several have it."""
    height, width = labels.shape
    foreground = np.pad(((labels > 0) & (labels != 255)).astype(np.int64), ((1, 0), (1, 0)))
    sums = foreground.cumsum(0).cumsum(1)
    h, w = min(size, height), min(size, width)
    counts = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    top, left = np.unravel_index(np.argmax(counts), counts.shape)
    window = crop(image, labels, top=int(top), left=int(left), height=h, width=w)
    return pad_to(*window, height=size, width=size)
