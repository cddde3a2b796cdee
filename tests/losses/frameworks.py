"""One way to run a loss in either framework, so that a test is written once."""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import paddle
import torch

import factseg_paddle.losses
import torch_ref.losses


@dataclass(frozen=True)
class Run:
    """What a loss gave: its value, the gradients of its float arguments, and its dtype."""

    value: float
    gradients: list[np.ndarray]
    dtype: str
    gradient_dtypes: list[str]
    ndim: int


@dataclass(frozen=True)
class Framework:
    name: str
    library: ModuleType
    losses: ModuleType

    def tensor(self, array, dtype=None):
        """A leaf tensor; one of floats takes `dtype` and wants a gradient."""
        array = np.asarray(array)
        is_float = array.dtype.kind == "f"
        if self.library is paddle:
            tensor = paddle.to_tensor(array)
            if is_float and dtype is not None:
                tensor = tensor.astype(dtype).detach()
            tensor.stop_gradient = not is_float
            return tensor
        tensor = torch.from_numpy(array.copy())
        if is_float and dtype is not None:
            tensor = tensor.to(getattr(torch, dtype))
        return tensor.requires_grad_(is_float)

    def array(self, tensor):
        """The values as float64, whatever the dtype of the tensor."""
        if self.library is paddle:
            return tensor.detach().astype("float64").numpy()
        return tensor.detach().double().numpy()

    def run(self, loss, arrays, dtype="float64"):
        """Forward and backward of loss(*arrays)."""
        tensors = [self.tensor(array, dtype) for array in arrays]
        value = loss(*tensors)
        value.backward()
        gradients = [tensor.grad for tensor in tensors if tensor.is_floating_point()]
        assert all(gradient is not None for gradient in gradients)
        return Run(
            value=float(self.array(value)),
            gradients=[self.array(gradient) for gradient in gradients],
            dtype=_dtype_name(value),
            gradient_dtypes=[_dtype_name(gradient) for gradient in gradients],
            ndim=value.ndim,
        )


PADDLE = Framework("paddle", paddle, factseg_paddle.losses)
TORCH = Framework("torch", torch, torch_ref.losses)
FRAMEWORKS = (PADDLE, TORCH)


def relative_difference(ours, reference):
    """Largest difference over the largest reference value; 0 where both are all 0."""
    difference = np.max(np.abs(np.asarray(ours) - np.asarray(reference)))
    return difference / max(np.max(np.abs(reference)), np.finfo(np.float64).tiny)


def _dtype_name(tensor):
    return str(tensor.dtype).split(".")[-1]
