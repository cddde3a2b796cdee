"""Faults in reading images, in transforms and in the metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from factseg_paddle import transforms
from factseg_paddle.data.images import files as image_files
from factseg_paddle.data.images import palettes
from factseg_paddle.metrics import ConfusionMatrix
from factseg_proof.faults.fault import Plant

# The right functions: while a wrong one is planted, their names are taken.
_READ_IMAGE, _NORMALIZE = image_files.read_image, transforms.normalize
_PAD_TO_DIVISIBLE, _ROT90 = transforms.pad_to_divisible, transforms.rot90
_COLOR_TO_INDEX, _HORIZONTAL_FLIP = palettes.color_to_index, transforms.horizontal_flip
_UPDATE = ConfusionMatrix.update


def in_checks(step: str, owner: Any, name: str, wrong: Callable) -> Plant:
    """Put a wrong function in the place of one that the pair's checks call."""

    def values(right: Callable[[], Iterator[tuple]]) -> Iterator[tuple]:
        with mock.patch.object(owner, name, wrong):
            checks = list(right())  # some look the function up here, others when they run
        for check, reference, ours in checks:
            yield check, reference, partial(_patched, owner, name, wrong, ours)

    return lambda pair, _seed: replace(
        pair, checks={**pair.checks, step: partial(values, pair.checks[step])}
    )


def _patched(owner: Any, name: str, wrong: Callable, ours: Callable[[], np.ndarray]) -> np.ndarray:
    with mock.patch.object(owner, name, wrong):
        return ours()


def bgr(path: Any) -> np.ndarray:
    """Read an image as OpenCV gives it."""
    return np.ascontiguousarray(_READ_IMAGE(path)[..., ::-1])


def unit_scale(image: np.ndarray) -> np.ndarray:
    """Normalise 0-255 by the mean and std of 0-1."""
    return _NORMALIZE(image, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def padded_black(image: np.ndarray) -> np.ndarray:
    """Pad a normalised image with what black is normalised to."""
    padded = _PAD_TO_DIVISIBLE(image)
    black = _NORMALIZE(np.zeros((1, 1, 3), np.uint8))
    padded[image.shape[0] :] = black
    padded[:, image.shape[1] :] = black
    return padded


def clockwise(image: np.ndarray, labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn the other way."""
    return _ROT90(image, labels, -k % 4)


def swapped_classes(mask: np.ndarray) -> np.ndarray:
    """Exchange two classes' indices."""
    labels = _COLOR_TO_INDEX(mask)
    return np.array([0, 2, 1, *range(3, 16)], labels.dtype)[labels]


def flip_image_alone(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave the mask as it is."""
    return _HORIZONTAL_FLIP(image, labels)[0], labels


def update_transposed(matrix: ConfusionMatrix, truth: np.ndarray, predictions: np.ndarray) -> None:
    """Count with truth and prediction exchanged."""
    valid = truth != 255
    _UPDATE(matrix, np.where(valid, predictions, 255), np.where(valid, truth, 0))
