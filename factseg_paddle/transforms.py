"""Deterministic transforms of an RGB image and its labels, numpy only.

Every choice is an argument: what is drawn at random, and from which stream, belongs to the
caller. The order in training is the original's: flips, `rot90`, `pad_to` 896 with image 0, then
`normalize`, so that padding is black before and negative after. In evaluation the order is
`normalize`, then `pad_to_divisible` with 0, so that padding has the mean colour.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

ISAID_MEAN: tuple[float, float, float] = (123.675, 116.28, 103.53)
ISAID_STD: tuple[float, float, float] = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Normalization:
    """The step from an RGB image to a network's input; training and evaluation share one.

    Attributes:
        mean: the mean of each channel, on the scale 0 to 255, in the order of `channel_order`.
        std: the standard deviation of each channel, on the same scale and in the same order.
        channel_order: the order of the result's channels; "bgr" for a network whose recipe reads
            images with OpenCV.
    """

    mean: tuple[float, float, float] = ISAID_MEAN
    std: tuple[float, float, float] = ISAID_STD
    channel_order: Literal["rgb", "bgr"] = "rgb"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Normalise an RGB image; arguments, results and errors as `normalize`."""
        ordered = image[..., ::-1] if self.channel_order == "bgr" else image
        return normalize(ordered, self.mean, self.std)


ISAID_NORMALIZATION = Normalization()


def horizontal_flip(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left and right.

    Args:
        image: RGB, [H, W, 3] uint8, or float32 once it is normalised.
        labels: class indices, [H, W] of an integer type.

    Returns:
        New contiguous arrays of the same shapes and dtypes.

    Raises:
        ValueError: a shape or dtype is wrong, or the two differ in size.
    """
    _check_pair(image, labels)
    return np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(labels[:, ::-1])


def vertical_flip(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror top and bottom; arguments, results and errors as in `horizontal_flip`."""
    _check_pair(image, labels)
    return np.ascontiguousarray(image[::-1]), np.ascontiguousarray(labels[::-1])


def rot90(image: np.ndarray, labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn counter-clockwise by k quarter turns.

    Args:
        image: RGB, [H, W, 3] uint8, or float32 once it is normalised.
        labels: class indices, [H, W] of an integer type.
        k: number of quarter turns, 0 to 3.

    Returns:
        New contiguous arrays; height and width are exchanged where k is odd.

    Raises:
        ValueError: k is not 0 to 3, or the arrays are wrong as in `horizontal_flip`.
    """
    _check_pair(image, labels)
    if k not in (0, 1, 2, 3):
        raise ValueError(f"k = {k} quarter turns; use 0, 1, 2 or 3")
    return np.ascontiguousarray(np.rot90(image, k)), np.ascontiguousarray(np.rot90(labels, k))


def crop(
    image: np.ndarray, labels: np.ndarray, *, top: int, left: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut out a window that lies inside the image.

    Args:
        image: RGB, [H, W, 3] uint8, or float32 once it is normalised.
        labels: class indices, [H, W] of an integer type.
        top: first row.
        left: first column.
        height: rows of the window, at least 1.
        width: columns of the window, at least 1.

    Returns:
        New contiguous arrays, [height, width, 3] and [height, width].

    Raises:
        ValueError: the window leaves the image, or the arrays are wrong as in `horizontal_flip`.
    """
    _check_pair(image, labels)
    rows, columns = labels.shape
    inside = min(top, left) >= 0 and top + height <= rows and left + width <= columns
    if not inside or height < 1 or width < 1:
        raise ValueError(
            f"window of {height} rows from {top} and {width} columns from {left} "
            f"does not lie inside an image of {rows} x {columns}"
        )
    window = np.s_[top : top + height, left : left + width]
    # copy: a view would keep the whole image in memory
    return image[window].copy(), labels[window].copy()


def pad_to(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    height: int,
    width: int,
    image_fill: int = 0,
    ignore_index: int = 255,
) -> tuple[np.ndarray, np.ndarray]:
    """Pad at the right and at the bottom up to a size.

    Args:
        image: RGB, [H, W, 3] uint8, or float32 once it is normalised.
        labels: class indices, [H, W] of an integer type that can hold ignore_index.
        height: rows of the result, at least H.
        width: columns of the result, at least W.
        image_fill: value of the padding in the image.
        ignore_index: value of the padding in the labels.

    Returns:
        New arrays, [height, width, 3] and [height, width], of the same dtypes.

    Raises:
        ValueError: the image is larger than the result, the labels cannot hold ignore_index, or
            the arrays are wrong as in `horizontal_flip`.
    """
    _check_pair(image, labels)
    rows, columns = labels.shape
    for name, have, want in (("height", rows, height), ("width", columns, width)):
        if have > want:
            raise ValueError(f"{name} {have} is more than the {want} to pad to; crop first")
    limits = np.iinfo(labels.dtype)
    if not limits.min <= ignore_index <= limits.max:
        raise ValueError(
            f"labels of type {labels.dtype} cannot hold ignore_index {ignore_index}; "
            "convert them to uint8 or int64"
        )
    padded_image = np.full((height, width, 3), image_fill, dtype=image.dtype)
    padded_labels = np.full((height, width), ignore_index, dtype=labels.dtype)
    padded_image[:rows, :columns] = image
    padded_labels[:rows, :columns] = labels
    return padded_image, padded_labels


def normalize(
    image: np.ndarray,
    mean: tuple[float, float, float] = ISAID_MEAN,
    std: tuple[float, float, float] = ISAID_STD,
) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation, channel by channel.

    Args:
        image: on the scale 0 to 255, [H, W, 3] uint8 or float32.
        mean: the mean of each channel, on the scale 0 to 255.
        std: the standard deviation of each channel, on the scale 0 to 255, positive.

    Returns:
        New array, [H, W, 3] float32.

    Raises:
        ValueError: the image is of another shape or dtype, or a std is not positive.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32):
        raise ValueError(
            "an image to normalise is [H, W, 3] uint8 or float32 on the scale 0 to 255, "
            f"this one is {list(image.shape)} {image.dtype}"
        )
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"mean {mean} and std {std} need three values each, std positive")
    result = image.astype(np.float32)
    result -= np.asarray(mean, dtype=np.float32)
    result /= np.asarray(std, dtype=np.float32)
    return result


def pad_to_divisible(image: np.ndarray, divisor: int = 32) -> np.ndarray:
    """Pad a normalised image with 0 at the right and bottom until its sides divide.

    Args:
        image: normalised image, [H, W, 3] float32.
        divisor: the number that both sides become multiples of, at least 1.

    Returns:
        New array, [H', W', 3] float32 with the smallest H' >= H and W' >= W that divide.

    Raises:
        ValueError: the image is not normalised yet (uint8) or misshapen, or divisor is below 1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.float32:
        raise ValueError(
            f"an image to pad after normalising is [H, W, 3] float32, this one is "
            f"{list(image.shape)} {image.dtype}; normalise it first"
        )
    if divisor < 1:
        raise ValueError(f"divisor {divisor} is below 1")
    rows, columns = image.shape[:2]
    padded = np.zeros(
        (-(-rows // divisor) * divisor, -(-columns // divisor) * divisor, 3), np.float32
    )
    padded[:rows, :columns] = image
    return padded


def to_chw(image: np.ndarray) -> np.ndarray:
    """Bring the channels to the front.

    Args:
        image: [H, W, 3] of any dtype.

    Returns:
        New contiguous array, [3, H, W] of the same dtype.

    Raises:
        ValueError: the image is not [H, W, 3].
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is [H, W, 3], this one is {list(image.shape)}")
    return np.array(image.transpose(2, 0, 1), order="C")


def _check_pair(image: np.ndarray, labels: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32):
        raise ValueError(
            "an image is [H, W, 3] uint8, or float32 once it is normalised; "
            f"this one is {list(image.shape)} {image.dtype}"
        )
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels are [H, W] integers, these are {list(labels.shape)} {labels.dtype}"
        )
    if image.shape[:2] != labels.shape:
        raise ValueError(
            f"image {list(image.shape[:2])} and labels {list(labels.shape)} differ in size"
        )
