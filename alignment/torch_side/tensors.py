"""Torch's tensors, as recording uses them."""

from __future__ import annotations

from typing import Any

import torch

from alignment.recording.tensor_ops import TensorOps
from alignment.weights.models import array_of_torch

TORCH = TensorOps(
    is_tensor=torch.is_tensor,
    to_array=array_of_torch,
    clone=torch.clone,
    version=lambda tensor: tensor._version,
    write_over=lambda tensor, value: tensor.copy_(value),
)


def is_float(value: Any) -> bool:
    """Return whether a value is a tensor of floating-point or complex numbers."""
    return torch.is_tensor(value) and (value.is_floating_point() or value.is_complex())
