"""Paddle's tensors, as recording uses them."""

from __future__ import annotations

import numpy as np
import paddle

from alignment.recording.tensor_ops import TensorOps


def array_of_paddle(tensor: paddle.Tensor) -> np.ndarray:
    """Return a copy of the tensor's values."""
    return np.array(tensor.detach().numpy())


def _write_over(tensor: paddle.Tensor, value: paddle.Tensor) -> None:
    tensor[...] = value


PADDLE = TensorOps(
    is_tensor=paddle.is_tensor,
    to_array=array_of_paddle,
    clone=lambda tensor: tensor.clone(),
    version=lambda tensor: tensor.inplace_version,
    write_over=_write_over,
)
