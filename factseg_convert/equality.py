"""Whether two values of checkpoints are the same to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from alignment.weights.models import array_of_torch


def same(one: Any, other: Any) -> bool:
    """Return whether two values of checkpoints are alike in structure, types and bits."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and same(array_of_torch(one), array_of_torch(other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        is_alike = one.dtype == other.dtype and one.shape == other.shape
        return is_alike and one.tobytes() == other.tobytes()
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        # The order of a group's values means nothing; that of the parameters is in their numbers.
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))
