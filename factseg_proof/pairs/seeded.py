"""The networks of our own pairs, made fast and often; torch's have weights from a seed."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import paddle
    import torch


# RefineNet sums dozens of convolutions that no BatchNorm evens out: of twice this scale, its logits
# would reach thousands, where the gradient of a loss magnifies the last digits.
UNNORMALISED, THEIR_SCALE = ("refinenet", "output_conv."), 0.5


def seeded_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Make a tensor that hides nothing: no statistic, scale or bias is 0 or 1.

    Args:
        name: torch's name, which with the seed decides the values.
        shape: the tensor's shape.
        seed: the pair's seed.

    Returns:
        float32 values that keep activations near unit scale.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("running_mean"):
        values = rng.normal(0, 0.1, shape)
    elif name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        scale = THEIR_SCALE if name.startswith(UNNORMALISED) else 1.0
        values = rng.normal(0, scale * np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith("bias"):
        values = rng.normal(0, 0.1, shape)
    else:
        values = rng.uniform(0.4, 0.8, shape)
    return values.astype(np.float32)


class SeededModel:
    """Makes a torch network with seeded weights, as often as it is asked to.

    The values are drawn once, and the network's own initial ones not at all: most of the time that
    making one takes.

    Args:
        make: gives the network; what it holds has to be in its state dict.
        seed: the pair's seed.
    """

    def __init__(self, make: Callable[[], torch.nn.Module], seed: int) -> None:
        self._make, self._seed = make, seed
        self._values: dict[str, np.ndarray] | None = None

    def __call__(self) -> torch.nn.Module:
        """Make one; its scalars are 0."""
        import torch

        from alignment.torch_side.shapes import shapes_only

        with shapes_only():
            model = self._make()
        if self._values is None:
            self._values = {
                name: seeded_weight(name, tuple(tensor.shape), self._seed)
                for name, tensor in model.state_dict().items()
                if tensor.ndim
            }
        state = {
            name: torch.from_numpy(self._values[name].copy())
            if tensor.ndim
            else torch.zeros((), dtype=tensor.dtype)
            for name, tensor in model.state_dict().items()
        }
        model.load_state_dict(state, assign=True)
        return model


class CopiedModel:
    """Makes a Paddle network, whose weights will be torch's, as often as it is asked to.

    All are copies of the first: drawing initial values that are then replaced is most of the time
    that making one takes.

    Args:
        make: gives the network; a copy of it has to run its own layers, so no layer's `forward` may
            be replaced in it.
    """

    def __init__(self, make: Callable[[], paddle.nn.Layer]) -> None:
        self._make = make
        self._first: paddle.nn.Layer | None = None

    def __call__(self) -> paddle.nn.Layer:
        """Make one."""
        if self._first is None:
            self._first = self._make()
        return copy.deepcopy(self._first)
