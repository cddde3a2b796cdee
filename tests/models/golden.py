"""The weights and the input from which the original computed `tests/golden`."""

from __future__ import annotations

import json
import zlib

import numpy as np

from tests.paths import GOLDEN

NAMES = [tuple(entry) for entry in json.loads((GOLDEN / "factseg_state_dict.json").read_text())]
VALUES = np.load(GOLDEN / "factseg_original_fp64.npz", allow_pickle=False)


def rng_of(name: str) -> np.random.RandomState:
    """The generator that a name stands for."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def weights() -> dict[str, np.ndarray]:
    """The original's weights by torch name, float32."""
    return {name: _weight(name, shape) for name, shape in NAMES if not name.endswith("_tracked")}


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Images [2, 3, 64, 64] float32 and labels [2, 64, 64] int64 with 5 % ignored."""
    rng = np.random.RandomState(11)
    images = rng.randn(2, 3, 64, 64).astype(np.float32)
    labels = rng.randint(0, 16, (2, 64, 64))
    labels[rng.rand(2, 64, 64) < 0.05] = 255
    return images, labels


def picked(name: str, array: np.ndarray) -> np.ndarray:
    """The eight elements of a tensor that the golden file holds."""
    return array.ravel()[rng_of(name).randint(0, array.size, 8)]


def _weight(name: str, shape: list[int]) -> np.ndarray:
    rng = rng_of(name)
    if name.endswith("running_mean"):
        values = rng.randn(*shape) * 0.1
    elif name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        values = rng.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("bias"):
        values = rng.randn(*shape) * 0.05
    else:
        values = rng.uniform(0.2, 0.6, shape)
    return values.astype(np.float32)
