"""The weights and the input from which the original computed `tests/golden`."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.paths import GOLDEN

ZOO = GOLDEN / "zoo"
# Buffers of CSAIL's synchronised BatchNorm, which evaluation doesn't read.
BOOKKEEPING = ("_tmp_running_mean", "_tmp_running_var", "_running_iter")

NAMES = [tuple(entry) for entry in json.loads((GOLDEN / "factseg_state_dict.json").read_text())]
VALUES = np.load(GOLDEN / "factseg_original_fp64.npz", allow_pickle=False)


def rng_of(name: str) -> np.random.RandomState:
    """The generator that a name stands for."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def weights() -> dict[str, np.ndarray]:
    """The original's weights by torch name, float32."""
    return {name: weight(name, shape) for name, shape in NAMES if not name.endswith("_tracked")}


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


@dataclass(frozen=True)
class GoldenNetwork:
    """What the reference implementation of a classic network computed, see `golden/zoo`.

    Attributes:
        name: the golden name.
        model: the network's name for `create_model`.
        options: its options.
        num_classes: of the golden logits.
        parameters: {number of classes: number of parameters}.
        tensors: names and shapes of the state dict in order, without what BatchNorm keeps beside
            its parameters and statistics.
        logits: what `pick` takes from the logits of `image()`.
        out_shape: their shape.
        largest: the largest absolute logit.
    """

    name: str
    model: str
    options: dict[str, Any]
    num_classes: int
    parameters: dict[int, int]
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    logits: np.ndarray
    out_shape: tuple[int, ...]
    largest: float

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by torch name, float32; scalars stay as they are built."""
        return {name: weight(name, list(shape)) for name, shape in self.tensors if shape}

    def pick(self, logits: np.ndarray) -> np.ndarray:
        """The elements of the logits that the file holds."""
        return logits.ravel()[picked_indices(logits.size)]


def image() -> np.ndarray:
    """The input [1, 3, 64, 64] of the classic networks, float64."""
    return np.random.RandomState(11).randn(1, 3, 64, 64)


def picked_indices(size: int) -> np.ndarray:
    """Which 64 elements of that many logits the files hold."""
    return rng_of("logits").randint(0, size, 64)


def golden_networks() -> list[GoldenNetwork]:
    """All of `tests/models/zoo.json`."""
    index = {net["name"]: net for net in json.loads((ZOO / "index.json").read_text())["nets"]}
    calls = json.loads(Path(__file__).with_name("zoo.json").read_text("utf-8"))
    return [_golden_network(name, call, index[name]) for name, call in calls.items()]


def _golden_network(name: str, call: dict[str, Any], entry: dict[str, Any]) -> GoldenNetwork:
    with np.load(ZOO / f"{name}.npz", allow_pickle=False) as values:
        return GoldenNetwork(
            name=name,
            model=call["name"],
            options=call["options"],
            num_classes=entry["num_classes"],
            parameters={16: entry["params16"], 21: entry["params21"]},
            tensors=tuple(
                (tensor, tuple(shape))
                for tensor, shape in json.loads(str(values["names_json"]))
                if not tensor.endswith(BOOKKEEPING)
            ),
            logits=values["logits"],
            out_shape=tuple(values["out_shape"]),
            largest=float(values["absmax"]),
        )


def weight(name: str, shape: list[int]) -> np.ndarray:
    """A tensor of the golden networks, which its torch name and shape decide; float32."""
    rng = rng_of(name)
    if name.endswith("running_mean"):
        values = rng.randn(*shape) * 0.1
    elif name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        values = rng.randn(*shape)
        values *= np.sqrt(2 / np.prod(shape[1:]))  # in place: VGG-16's largest takes 800 MB
    elif name.endswith("bias"):
        values = rng.randn(*shape) * 0.05
    elif len(shape) == 2:
        values = rng.randn(*shape) * np.sqrt(2 / shape[1])
    else:
        values = rng.uniform(0.2, 0.6, shape)
    return values.astype(np.float32)
