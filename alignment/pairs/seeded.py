"""Weights that hide nothing, from a seed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


# RefineNet sums dozens of convolutions that no BatchNorm evens out: of twice this scale, its logits
# would reach thousands, where the gradient of a loss magnifies the last digits.
UNNORMALISED, THEIR_SCALE = ("refinenet", "output_conv."), 0.5


def seeded_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A tensor that hides nothing: no statistic, scale or bias is 0 or 1.

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


def seed_weights(model: torch.nn.Module, seed: int) -> None:
    """Give every tensor of a torch network but the scalars its seeded values."""
    import torch

    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim:
                tensor.copy_(torch.from_numpy(seeded_weight(name, tuple(tensor.shape), seed)))
