"""Initial values of tensors, where a network starts otherwise than Paddle's layers do.

Paddle's own defaults are not PyTorch's: a 3x3 convolution of 256 channels starts at a standard
deviation of .0295 where PyTorch's starts at .0120, and biases start at 0 instead of uniform.
"""

from __future__ import annotations

import math

import numpy as np
from paddle.nn import initializer
from paddle.nn.initializer import Initializer


def kaiming_normal(fan: int) -> Initializer:
    """Return a normal initializer of variance 2 / fan, as torch.nn.init.kaiming_normal_.

    Args:
        fan: of the convolution, in_channels * kernel_size^2 for torch's default mode "fan_in",
            out_channels * kernel_size^2 for "fan_out".
    """
    return initializer.KaimingNormal(fan_in=fan)


def kaiming_uniform(fan_in: int, *, a: float) -> Initializer:
    """Give uniform values in +-sqrt(6 / ((1 + a^2) fan_in)), as torch.nn.init.kaiming_uniform_."""
    return initializer.KaimingUniform(fan_in=fan_in, negative_slope=a, nonlinearity="leaky_relu")


def xavier_uniform() -> Initializer:
    """Give uniform values in +-sqrt(6 / (fan_in + fan_out)), as torch.nn.init.xavier_uniform_."""
    return initializer.XavierUniform()


def normal(std: float) -> Initializer:
    """Return a normal initializer of mean 0."""
    return initializer.Normal(0.0, std)


def bilinear(channels: int, kernel_size: int) -> Initializer:
    """Give bilinear interpolation, each channel's own, for a transposed convolution.

    Paddle's own `initializer.Bilinear` would mix the channels: it fills every pair of them.

    Args:
        channels: in and out.
        kernel_size: twice the stride.
    """
    distances = np.abs(np.arange(kernel_size, dtype=np.float32) - (kernel_size - 1) / 2)
    line = 1 - distances / (kernel_size / 2)
    weight = np.eye(channels, dtype=np.float32)[:, :, None, None] * np.outer(line, line)
    return initializer.Assign(weight)


def constant(value: float) -> Initializer:
    """Give one value throughout."""
    return initializer.Constant(value)


def torch_default_weight(fan_in: int) -> Initializer:
    """Return torch's initializer of Conv2d and Linear weights: uniform in +-1 / sqrt(fan_in)."""
    return kaiming_uniform(fan_in, a=math.sqrt(5))


def torch_default_bias(fan_in: int) -> Initializer:
    """Return torch's initializer of Conv2d and Linear biases: uniform in +-1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    return initializer.Uniform(-bound, bound)
