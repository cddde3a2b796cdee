"""A torch model with the differences that Paddle can't avoid: how sensitive is it to them?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from alignment.structure import flatten

DECLARED = (F.interpolate, F.upsample, F.grid_sample)
"""Paddle 3.3 computes the positions between pixels in float32 whatever it is given."""

DISTURBANCE = 2.0**-40
"""Relative change of every module's output: Paddle's float64 agrees to 2e-12 over an encoder, since
BatchNorm keeps its epsilon in float32."""


@contextlib.contextmanager
def disturbed(model: torch.nn.Module) -> Iterator[None]:
    """While it is active, declared operators give float32, and every output is slightly moved."""
    generator = torch.Generator().manual_seed(0)

    def disturb(_module: torch.nn.Module, _inputs: tuple, output: Any) -> None:
        for _, tensor in flatten(output, torch.is_tensor, strict=False):
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float32)
                # Behind autograd's back, which would object: what it saved is moved alike.
                tensor.data.mul_((1 + DISTURBANCE * (2 * noise.double() - 1)).to(tensor.device))

    innermost = [module for module in model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(disturb) for module in innermost]
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
