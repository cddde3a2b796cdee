"""The picture files of one prediction, written together and strip by strip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from factseg_paddle.inference.legend import Entry, legend, picture_width, share_text
from factseg_paddle.inference.png_strips import png_strips
from factseg_paddle.inference.visualize import (
    ERROR_COLORS,
    ERROR_NAMES,
    IGNORED_COLOR,
    Classes,
    error_kinds,
    error_rows,
    overlay_colors,
    overlay_rows,
)

_IGNORED = "ignored"


@contextmanager
def overlay_picture(
    path: Path, width: int, classes: Classes
) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """Open an overlay with a legend of the classes found; give it rows of image and labels."""
    colors = overlay_colors(classes.palette)
    counts = np.zeros(len(classes.names), np.int64)
    above = None
    with _picture(path, classes.names, width) as (write, finish):

        def add(image: np.ndarray, labels: np.ndarray) -> None:
            nonlocal above
            write(overlay_rows(image, labels, colors, above))
            counts[:] += np.bincount(labels.reshape(-1), minlength=len(counts))
            above = labels[-1]

        yield add
        entries = [
            Entry(tuple(colors[i].tolist()), classes.names[i], share_text(counts[i], counts.sum()))
            for i in np.flatnonzero(counts[1:]) + 1
        ]
        finish(entries or [Entry((255, 255, 255), f"{classes.names[0]} only")])


@contextmanager
def error_picture(
    path: Path, width: int, classes: Classes
) -> Iterator[Callable[[np.ndarray, np.ndarray, np.ndarray], None]]:
    """Open an error map with its legend; give it rows of image, labels and truth."""
    counts = np.zeros(len(ERROR_NAMES), np.int64)
    ignored = total = 0
    with _picture(path, (*ERROR_NAMES, _IGNORED), width) as (write, finish):

        def add(image: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> None:
            nonlocal ignored, total
            kinds = error_kinds(labels, truth, classes.ignore_index)
            write(error_rows(image, kinds))
            counts[:] += np.bincount(kinds[kinds >= 0], minlength=len(counts))
            ignored += int((kinds == -2).sum())
            total += kinds.size

        yield add
        entries = [
            Entry(tuple(color), name, share_text(count, total))
            for color, name, count in zip(
                ERROR_COLORS.tolist(), ERROR_NAMES, counts.tolist(), strict=True
            )
        ]
        if ignored:
            color = tuple(IGNORED_COLOR.tolist())
            entries.append(Entry(color, _IGNORED, share_text(ignored, total)))
        finish(entries)


@contextmanager
def _picture(path: Path, names: tuple[str, ...], width: int) -> Iterator[tuple[Callable, Callable]]:
    """Return functions that add rows of an image, and the legend's entries below."""
    full = picture_width(names, width)
    with png_strips(path, full) as write:

        def add(rows: np.ndarray) -> None:
            paper = np.full((len(rows), full - width, 3), 255, np.uint8)
            write(np.concatenate([rows, paper], axis=1))

        yield add, lambda entries: write(legend(entries, names, width))
