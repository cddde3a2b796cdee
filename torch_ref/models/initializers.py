"""Initial values that the classic networks give to some tensors, each a function that fills one."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

Initializer = Callable[[torch.Tensor], object]


def xavier_uniform() -> Initializer:
    """Give uniform values in +-sqrt(6 / (fan_in + fan_out))."""
    return nn.init.xavier_uniform_


def kaiming_uniform(fan_in: int, *, a: float) -> Initializer:
    """Give uniform values in +-sqrt(6 / ((1 + a^2) fan_in))."""
    bound = math.sqrt(6 / ((1 + a**2) * fan_in))
    return lambda tensor: nn.init.uniform_(tensor, -bound, bound)


def kaiming_normal(fan: int) -> Initializer:
    """Return a normal initializer of variance 2 / fan.

    Args:
        fan: of the convolution, in_channels * kernel_size^2 for torch's default mode "fan_in",
            out_channels * kernel_size^2 for "fan_out".
    """
    return lambda tensor: nn.init.normal_(tensor, 0.0, math.sqrt(2 / fan))


def normal(std: float) -> Initializer:
    """Return a normal initializer of mean 0."""
    return lambda tensor: nn.init.normal_(tensor, 0.0, std)


def bilinear(channels: int, kernel_size: int) -> Initializer:
    """Give bilinear interpolation, each channel's own, for a transposed convolution.

    Args:
        channels: in and out.
        kernel_size: twice the stride.
    """
    distances = (torch.arange(kernel_size, dtype=torch.float32) - (kernel_size - 1) / 2).abs()
    line = 1 - distances / (kernel_size / 2)
    weight = torch.eye(channels)[:, :, None, None] * torch.outer(line, line)
    return lambda tensor: tensor.data.copy_(weight)


def constant(value: float) -> Initializer:
    """Give one value throughout."""
    return lambda tensor: nn.init.constant_(tensor, value)
