"""What recording a run asks of a framework's tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TensorOps:
    """Functions over the tensors of one framework, torch or Paddle.

    Attributes:
        is_tensor: whether a value is a tensor of the framework.
        to_array: copies a tensor into an array.
        clone: copies a tensor; the copy hands its gradient on.
        version: a tensor's count of in-place changes.
        write_over: (tensor, value): replaces the tensor's values in place; gradients go to `value`
            from then on.
    """

    is_tensor: Callable[[Any], bool]
    to_array: Callable[[Any], np.ndarray]
    clone: Callable[[Any], Any]
    version: Callable[[Any], int]
    write_over: Callable[[Any, Any], object]
