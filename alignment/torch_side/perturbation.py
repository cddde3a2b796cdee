"""A torch model with the differences that Paddle can't avoid: how sensitive is it to them?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from alignment.recording.nested import flatten, replace_tensors

DECLARED = (F.interpolate, F.upsample, F.grid_sample)
"""Paddle 3.3 computes the positions between pixels in float32 whatever it is given."""

PERTURBATION = 2.0**-40
"""Relative change of the output of every module without parts: Paddle's float64 agrees to 2e-12
over an encoder, since BatchNorm keeps its epsilon in float32."""


@contextlib.contextmanager
def perturbed(model: torch.nn.Module) -> Iterator[None]:
    """Let declared operators give float32, and move every output slightly, while it is active."""
    generator = torch.Generator().manual_seed(0)

    def perturbed_tensor(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        noise = 2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float32) - 1
        # Not in place: the tensor may be a parameter, or an expanded one.
        return tensor + (tensor * (PERTURBATION * noise).to(tensor.device, tensor.dtype)).detach()

    def perturb(_module: torch.nn.Module, _inputs: tuple, output: Any) -> Any:
        tensors = (
            perturbed_tensor(tensor) for _, tensor in flatten(output, torch.is_tensor, strict=False)
        )
        return replace_tensors(output, torch.is_tensor, tensors, strict=False)

    innermost = [module for module in model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(perturb) for module in innermost]
    try:
        with _DeclaredRounded():
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _DeclaredRounded(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable,
        _types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in DECLARED:
            return result + (result.float().to(result.dtype) - result).detach()
        return result
