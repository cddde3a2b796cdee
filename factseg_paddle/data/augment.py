"""The configured transforms of training, applied to an image and its labels together.

Sources: the original's `configs/isaid/factseg.py` (flips, quarter turns, padding, normalising), and
the FCN-8s recipe in MindSpore (random scale 0.5 to 2 with bicubic images and nearest labels,
padding, random crop, flip). Any order is allowed but colour jitter after normalising. All that is
random comes from the generator that is passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from factseg_paddle import transforms as steps
from factseg_paddle.config import transforms as schema

Pair = tuple[np.ndarray, np.ndarray]

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as torchvision's


def apply_transforms(
    image: np.ndarray,
    labels: np.ndarray,
    transforms: Sequence[schema.Transform],
    rng: np.random.Generator,
    ignore_index: int,
) -> Pair:
    """Apply transforms in their order.

    Args:
        image: RGB, [H, W, 3] uint8.
        labels: class indices, [H, W] uint8.
        transforms: the configured steps.
        rng: the generator of all random choices.
        ignore_index: label of padded pixels.

    Returns:
        New arrays, [h, w, 3] uint8, or float32 in the configured order of channels after
        `normalize`, and [h, w] uint8.

    Raises:
        ValueError: an array is misshapen, an image is larger than the size to pad to, or
            color_jitter comes after normalize.
    """
    for transform in transforms:
        image, labels = _APPLY[type(transform)](transform, image, labels, rng, ignore_index)
    return image, labels


def output_size(
    transforms: Sequence[schema.Transform], sizes: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Return the height and width that all patches have after the transforms.

    Args:
        transforms: the configured steps.
        sizes: heights and widths of the patches before the transforms.

    Raises:
        ValueError: the patches would differ in size, or a transform can't be applied to one.
    """
    low = min(height for height, _ in sizes), min(width for _, width in sizes)
    high = max(height for height, _ in sizes), max(width for _, width in sizes)
    normalized = False
    for transform in transforms:
        match transform:
            case schema.RandomScale(minimum=minimum, maximum=maximum):
                low = _scaled(low[0], minimum), _scaled(low[1], minimum)
                high = _scaled(high[0], maximum), _scaled(high[1], maximum)
            case schema.Rot90():
                low, high = (min(low),) * 2, (max(high),) * 2
            case schema.RandomCrop(size=size):
                low = high = size, size
            case schema.Pad(size=size):
                if max(high) > size:
                    raise ValueError(
                        f"pad to {size} is smaller than patches of up to {max(high)} pixels; "
                        f"pad to {max(high)}, or put random_crop before it"
                    )
                low = high = size, size
            case schema.Normalize():
                normalized = True
            case schema.ColorJitter() if normalized:
                raise ValueError(_JITTER_FIRST)
    if low != high:
        raise ValueError(
            f"the patches would be {_span(low[0], high[0])} x {_span(low[1], high[1])} pixels, and "
            "a batch needs one size; add pad or random_crop to data.transforms"
        )
    return high


_JITTER_FIRST = "color_jitter changes colours from 0 to 255; put it before normalize"


def _flip_horizontally(
    transform: schema.HorizontalFlip,
    image: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    _ignore_index: int,
) -> Pair:
    if rng.random() < transform.probability:
        return steps.horizontal_flip(image, labels)
    return image, labels


def _flip_vertically(
    transform: schema.VerticalFlip,
    image: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    _ignore_index: int,
) -> Pair:
    if rng.random() < transform.probability:
        return steps.vertical_flip(image, labels)
    return image, labels


def _turn(
    _transform: schema.Rot90,
    image: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    _ignore_index: int,
) -> Pair:
    return steps.rot90(image, labels, int(rng.integers(4)))


def _scale(
    transform: schema.RandomScale,
    image: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    _ignore_index: int,
) -> Pair:
    factor = rng.uniform(transform.minimum, transform.maximum)
    height, width = (_scaled(side, factor) for side in labels.shape)
    # INTER_NEAREST takes the pixel at the upper left of where bicubic looks, so labels would shift
    # by up to half a pixel against the image; INTER_NEAREST_EXACT does not.
    return (
        cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC),
        cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT),
    )


def _crop(
    transform: schema.RandomCrop,
    image: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    ignore_index: int,
) -> Pair:
    size = transform.size
    height, width = (max(side, size) for side in labels.shape)
    if (height, width) != labels.shape:
        image, labels = steps.pad_to(
            image, labels, height=height, width=width, ignore_index=ignore_index
        )
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    return steps.crop(image, labels, top=top, left=left, height=size, width=size)


def _pad(
    transform: schema.Pad,
    image: np.ndarray,
    labels: np.ndarray,
    _rng: np.random.Generator,
    ignore_index: int,
) -> Pair:
    side = transform.size
    return steps.pad_to(image, labels, height=side, width=side, ignore_index=ignore_index)


def _jitter(
    transform: schema.ColorJitter,
    image: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    _ignore_index: int,
) -> Pair:
    if image.dtype != np.uint8:
        raise ValueError(_JITTER_FIRST)
    brightness, contrast, saturation = (
        np.float32(rng.uniform(1 - reach, 1 + reach))
        for reach in (transform.brightness, transform.contrast, transform.saturation)
    )
    turns = rng.uniform(-transform.hue, transform.hue)
    colors = np.clip(image.astype(np.float32) * brightness, 0, 255)
    colors = _blend(colors, (colors @ _GREY).mean(), contrast)
    colors = _blend(colors, (colors @ _GREY)[..., None], saturation)
    if transform.hue:
        hsv = cv2.cvtColor(colors, cv2.COLOR_RGB2HSV)  # float32: hue in degrees
        hsv[..., 0] = (hsv[..., 0] + np.float32(360 * turns)) % 360
        colors = np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0, 255)
    return np.rint(colors).astype(np.uint8), labels


def _normalize(
    transform: schema.Normalize,
    image: np.ndarray,
    labels: np.ndarray,
    _rng: np.random.Generator,
    _ignore_index: int,
) -> Pair:
    return transform.function(image), labels


_APPLY: Mapping[type, Callable[[Any, np.ndarray, np.ndarray, np.random.Generator, int], Pair]] = {
    schema.HorizontalFlip: _flip_horizontally,
    schema.VerticalFlip: _flip_vertically,
    schema.Rot90: _turn,
    schema.RandomScale: _scale,
    schema.RandomCrop: _crop,
    schema.Pad: _pad,
    schema.ColorJitter: _jitter,
    schema.Normalize: _normalize,
}


def _scaled(side: int, factor: float) -> int:
    return max(int(side * factor), 1)


def _blend(colors: np.ndarray, other: np.ndarray, factor: np.float32) -> np.ndarray:
    return np.clip(factor * colors + (1 - factor) * other, 0, 255)


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
