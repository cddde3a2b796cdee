"""Where a network's tensors start, by their distributions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats


def assert_starts(
    state: dict[str, np.ndarray], convolution: Callable[[str, int, int], object]
) -> None:
    """Hold every tensor to its initial distribution; BatchNorm's start at 1 and 0.

    Args:
        state: tensors by torch's names.
        convolution: function (tensor's name, fan_in, fan_out) that gives what a convolution's
            weight or bias starts from: a scipy distribution, or a constant.
    """
    for name, array in state.items():
        owner, _, kind = name.rpartition(".")
        if array.ndim == 0:
            expected = 0.0
        elif f"{owner}.running_mean" in state:
            expected = 1.0 if kind in ("weight", "running_var") else 0.0
        else:
            weight = state[f"{owner}.weight"]
            area = math.prod(weight.shape[2:])
            expected = convolution(name, weight.shape[1] * area, weight.shape[0] * area)
        if isinstance(expected, float):
            assert np.all(array == expected), name
        else:
            assert stats.kstest(array.ravel()[:20_000], expected.cdf).pvalue > 1e-6, name


def torch_default(fan_in: int):
    """What torch gives the weight and the bias of a convolution."""
    return uniform(1 / math.sqrt(fan_in))


def kaiming_normal(fan: int):
    return stats.norm(0, math.sqrt(2 / fan))


def uniform(bound: float):
    return stats.uniform(-bound, 2 * bound)
