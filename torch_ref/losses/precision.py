"""The number format of every loss: half precision is widened, float64 stays float64."""

import functools
from collections.abc import Callable
from typing import Any

import torch

HALF_PRECISION = (torch.float16, torch.bfloat16)


def in_full_precision(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Run a loss with autocast off and its half-precision arguments as float32.

    A loss adds hundreds of thousands of pixels and takes exponentials and logarithms: in float16
    the sum overflows and a probability below 6e-8 is 0. The gradient comes back in the format of
    the argument.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> torch.Tensor:
        tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
        with torch.autocast(tensors[0].device.type, enabled=False):
            return function(
                *(_widened(value) for value in args),
                **{name: _widened(value) for name, value in kwargs.items()},
            )

    return wrapper


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype in HALF_PRECISION:
        return value.float()
    return value
