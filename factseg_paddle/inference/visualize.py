"""What a prediction looks like: overlays and error maps, some rows at a time, and their colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SHARE = 0.45  # of a class's colour in the pixels that it covers
DIMMED = 0.6  # brightness of the photograph below an error map

# Okabe and Ito's colours ("Color Universal Design", 2008), told apart with any kind of sight.
RIGHT, MISSED, FALSE_ALARM, WRONG_CLASS = range(4)
ERROR_NAMES = ("found", "missed", "false alarm", "wrong class")
ERROR_COLORS = np.array([(0, 158, 115), (213, 94, 0), (86, 180, 233), (240, 228, 66)], np.uint8)
IGNORED_COLOR = np.array((128, 128, 128), np.uint8)

# Bright and far apart, also over vegetation, asphalt and water.
_DISTINCT = (
    (230, 25, 75),
    (255, 225, 25),
    (70, 240, 240),
    (245, 130, 48),
    (240, 50, 230),
    (190, 255, 60),
    (0, 130, 255),
    (160, 80, 255),
    (60, 200, 75),
    (255, 160, 190),
    (255, 250, 200),
    (0, 170, 150),
    (130, 130, 0),
    (190, 120, 60),
    (150, 200, 255),
    (255, 140, 120),
    (140, 255, 190),
    (190, 40, 140),
    (220, 180, 255),
    (255, 200, 140),
)
_DARKEST, _CLOSEST = 40.0, 25.0  # lightness, and distance of two colours, in CIE L*a*b*


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a network, for people.

    Attributes:
        names: of all, background first.
        palette: their colours in masks, [C, 3] uint8.
        ignore_index: label of pixels in a mask that count for nothing.
    """

    names: tuple[str, ...]
    palette: np.ndarray
    ignore_index: int = 255


def distinct_colors(count: int) -> np.ndarray:
    """Return colours for `count` classes, [count, 3] uint8: black, then bright ones far apart."""
    colors = [(0, 0, 0), *_DISTINCT]
    for index in range(len(colors), count):
        hue = index * 137.508 % 360  # the golden angle; then paler and darker turns of it
        shade = np.array([[[hue, 0.8 - index % 3 * 0.2, 1 - index % 4 * 0.12]]], np.float32)
        bright = cv2.cvtColor(shade, cv2.COLOR_HSV2RGB)[0, 0]
        colors.append(tuple((bright * 255).round().astype(int).tolist()))
    return np.array(colors[:count], np.uint8)


def overlay_colors(palette: np.ndarray) -> np.ndarray:
    """Return the palette where its classes can be told apart over a photograph, else other colours.

    iSAID's are mostly dark blue: (0, 0, 127) and (0, 0, 191) are two classes.

    Args:
        palette: [C, 3] uint8, background first.
    """
    lab = cv2.cvtColor(palette[None, 1:].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    apart[np.diag_indices(len(lab))] = np.inf
    if lab[:, 0].min() >= _DARKEST and apart.min() >= _CLOSEST:
        return palette
    return distinct_colors(len(palette))


def overlay_rows(
    image: np.ndarray, labels: np.ndarray, colors: np.ndarray, above: np.ndarray | None
) -> np.ndarray:
    """Tint each object in its class's colour, with an outline; the background stays as it is.

    Args:
        image: RGB, [n, W, 3] uint8.
        labels: class indices, [n, W] uint8.
        colors: of all classes, [C, 3] uint8.
        above: labels of the row above, [W]; None at the top.

    Returns:
        [n, W, 3] uint8.
    """
    first = labels[:1] if above is None else above[None]
    up = np.concatenate([first, labels[:-1]])
    left = np.concatenate([labels[:, :1], labels[:, :-1]], axis=1)
    shown = _tinted(image, colors[labels], labels > 0, SHARE)
    for other in (up, left):
        edge = labels != other
        shown[edge] = colors[np.where(labels[edge] > 0, labels[edge], other[edge])]
    return shown


def error_kinds(labels: np.ndarray, truth: np.ndarray, ignore_index: int) -> np.ndarray:
    """Return which kind of right or wrong each pixel is.

    Returns:
        Of the arguments' shape, int8: `RIGHT` for an object's pixel in the right class, `MISSED`
        for one called background, `WRONG_CLASS` for one called another object, `FALSE_ALARM` for
        background called an object, -1 for background that is right, -2 for ignored pixels.
    """
    is_object, is_found = truth > 0, labels > 0
    kinds = np.full(labels.shape, -1, np.int8)
    kinds[is_object & (labels == truth)] = RIGHT
    kinds[is_object & ~is_found] = MISSED
    kinds[~is_object & is_found] = FALSE_ALARM
    kinds[is_object & is_found & (labels != truth)] = WRONG_CLASS
    kinds[truth == ignore_index] = -2
    return kinds


def error_rows(image: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Colour each pixel by its kind of error, over the photograph in dark grey.

    Args:
        image: RGB, [n, W, 3] uint8.
        kinds: of `error_kinds`, [n, W] int8.

    Returns:
        [n, W, 3] uint8.
    """
    grey = (cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY) * DIMMED).astype(np.uint8)
    shown = np.repeat(grey[..., None], 3, axis=2)
    counted = kinds >= 0
    shown[counted] = ERROR_COLORS[kinds[counted]]
    shown[kinds == -2] = IGNORED_COLOR
    return shown


def _tinted(image: np.ndarray, colors: np.ndarray, where: np.ndarray, share: float) -> np.ndarray:
    shown = image.copy()
    mixed = image[where] * np.float32(1 - share) + colors[where] * np.float32(share)
    shown[where] = (mixed + 0.5).astype(np.uint8)
    return shown
