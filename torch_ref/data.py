"""The reference of `factseg_paddle.data`: plain, slow, literal, and by other means.

Files are decoded by Pillow (not OpenCV), colours looked up pixel by pixel in a dictionary,
flips and turns written as index arithmetic, and arithmetic done in float64.
"""

from pathlib import Path

import numpy as np
from PIL import Image

ISAID_MEAN = (123.675, 116.28, 103.53)
ISAID_STD = (58.395, 57.12, 57.375)

# RGB -> class index, in the original's order
ISAID_COLORS = {
    (0, 0, 0): 0,  # background
    (0, 0, 63): 1,  # ship
    (0, 191, 127): 2,  # roundabout
    (0, 63, 0): 3,  # baseball_diamond
    (0, 63, 127): 4,  # tennis_court
    (0, 63, 191): 5,  # basketball_court
    (0, 63, 255): 6,  # ground_track_field
    (0, 127, 63): 7,  # bridge
    (0, 127, 127): 8,  # large_vehicle
    (0, 0, 127): 9,  # small_vehicle
    (0, 0, 191): 10,  # helicopter
    (0, 0, 255): 11,  # swimming_pool
    (0, 63, 63): 12,  # storage_tank
    (0, 127, 191): 13,  # soccer_ball_field
    (0, 127, 255): 14,  # plane
    (0, 100, 155): 15,  # harbor
}


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file to RGB, [H, W, 3] uint8."""
    with Image.open(path) as file:
        return np.array(file.convert("RGB"))


def read_mask(path: str | Path) -> np.ndarray:
    """Decode an iSAID mask to class indices, [H, W] uint8: colours, or indices in one channel."""
    with Image.open(path) as file:
        if file.mode == "L":
            return np.array(file)
    return color_to_index(read_image(path))


def color_to_index(mask: np.ndarray) -> np.ndarray:
    """Look up each pixel of [H, W, 3] uint8; a foreign colour is a KeyError. [H, W] uint8."""
    rows = [[ISAID_COLORS[tuple(pixel)] for pixel in row] for row in mask.tolist()]
    return np.array(rows, dtype=np.uint8)


def index_to_color(labels: np.ndarray) -> np.ndarray:
    """Look up the colour of each label of [H, W] integers. [H, W, 3] uint8."""
    colors = {index: color for color, index in ISAID_COLORS.items()}
    rows = [[colors[label] for label in row] for row in labels.tolist()]
    return np.array(rows, dtype=np.uint8)


def horizontal_flip(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute out[i, j] = in[i, W - 1 - j] for [H, W, 3] and [H, W]."""
    return _flip_columns(image), _flip_columns(labels)


def vertical_flip(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute out[i, j] = in[H - 1 - i, j] for [H, W, 3] and [H, W]."""
    return _flip_rows(image), _flip_rows(labels)


def rot90(image: np.ndarray, labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn counter-clockwise k times, one quarter after another: out[i, j] = in[j, W - 1 - i]."""
    for _ in range(k):
        image, labels = _quarter_turn(image), _quarter_turn(labels)
    return image, labels


def crop(
    image: np.ndarray, labels: np.ndarray, *, top: int, left: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute out[i, j] = in[top + i, left + j] for [H, W, 3] and [H, W]."""
    rows = [top + i for i in range(height)]
    columns = [left + j for j in range(width)]
    return image[rows][:, columns], labels[rows][:, columns]


def pad_to(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    height: int,
    width: int,
    image_fill: int = 0,
    ignore_index: int = 255,
) -> tuple[np.ndarray, np.ndarray]:
    """Append columns at the right and rows at the bottom, one by one."""
    return _append(image, height, width, image_fill), _append(labels, height, width, ignore_index)


def normalize(
    image: np.ndarray,
    mean: tuple[float, float, float] = ISAID_MEAN,
    std: tuple[float, float, float] = ISAID_STD,
) -> np.ndarray:
    """Compute (x - mean) / std of each channel of [H, W, 3], in float64."""
    channels = [(image[:, :, c].astype(np.float64) - mean[c]) / std[c] for c in range(3)]
    return np.stack(channels, axis=2)


def pad_to_divisible(image: np.ndarray, divisor: int = 32) -> np.ndarray:
    """Append zeros at the right and bottom of [H, W, 3], one by one, until both sides divide."""
    height, width = image.shape[:2]
    while height % divisor != 0:
        height += 1
    while width % divisor != 0:
        width += 1
    return _append(image, height, width, 0)


def to_chw(image: np.ndarray) -> np.ndarray:
    """Compute out[c, i, j] = in[i, j, c]."""
    return np.stack([image[:, :, c] for c in range(image.shape[2])])


def _flip_columns(array: np.ndarray) -> np.ndarray:
    out = np.empty_like(array)
    width = array.shape[1]
    for j in range(width):
        out[:, j] = array[:, width - 1 - j]
    return out


def _flip_rows(array: np.ndarray) -> np.ndarray:
    out = np.empty_like(array)
    height = array.shape[0]
    for i in range(height):
        out[i] = array[height - 1 - i]
    return out


def _quarter_turn(array: np.ndarray) -> np.ndarray:
    height, width = array.shape[:2]
    out = np.empty((width, height, *array.shape[2:]), dtype=array.dtype)
    for i in range(width):
        out[i] = array[:, width - 1 - i]
    return out


def _append(array: np.ndarray, height: int, width: int, fill: int) -> np.ndarray:
    column = np.full_like(array[:, :1], fill)
    while array.shape[1] < width:
        array = np.concatenate([array, column], axis=1)
    row = np.full_like(array[:1], fill)
    while array.shape[0] < height:
        array = np.concatenate([array, row], axis=0)
    return array
