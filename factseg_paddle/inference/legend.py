"""The legend below a picture: a colour, a name and a number for each entry, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SMALLEST, _LARGEST = 14, 120  # size of the letters, in pixels
_PAPER, _INK, _FRAME = (255, 255, 255), (20, 20, 20), (120, 120, 120)


class Entry(NamedTuple):
    """One line of a legend."""

    color: tuple[int, int, int]
    name: str
    note: str = ""


def share_text(part: int, whole: int) -> str:
    """Return a share of pixels for a legend, such as "0.31 %"."""
    percent = 100 * part / whole if whole else 0.0
    return "< 0.01 %" if 0 < percent < 0.01 else f"{percent:.2f} %"


def picture_width(names: Sequence[str], image_width: int) -> int:
    """Return columns of a picture with a legend: the image's, or more for the longest name."""
    return max(image_width, _item_width(names, _letters(image_width)))


def legend(entries: Sequence[Entry], names: Sequence[str], image_width: int) -> np.ndarray:
    """Draw the panel.

    Args:
        entries: what it says, in this order.
        names: all names that could stand there, which set the width.
        image_width: columns of the image above.

    Returns:
        RGB, [h, picture_width(names, image_width), 3] uint8.
    """
    letters = _letters(image_width)
    width, item = picture_width(names, image_width), _item_width(names, letters)
    columns = max(1, min(width // item, len(entries)))
    rows = -(-len(entries) // columns)
    line, margin = letters * 3 // 2, letters // 2
    panel = Image.new("RGB", (width, rows * line + 2 * margin), _PAPER)
    draw = ImageDraw.Draw(panel)
    for index, entry in enumerate(entries):
        left = margin + index // rows * item
        top = margin + index % rows * line
        swatch = (left, top + (line - letters) // 2, left + letters, top + (line + letters) // 2)
        draw.rectangle(swatch, fill=entry.color, outline=_FRAME)
        text = f"{entry.name}  {entry.note}".rstrip()
        middle = (left + letters * 3 // 2, top + line // 2)
        draw.text(middle, text, fill=_INK, font=_font(letters), anchor="lm")
    return np.asarray(panel)


def _letters(image_width: int) -> int:
    """Scale letters with the picture, which is looked at as a whole."""
    return int(np.clip(image_width // 50, _SMALLEST, _LARGEST))


def _item_width(names: Sequence[str], letters: int) -> int:
    longest = max(_font(letters).getlength(f"{name}  100.00 %") for name in names)
    return int(longest) + 3 * letters


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # the one font that is always there; it has Latin, Greek and Cyrillic letters
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)
