"""Torch models of shapes alone, for what asks of a network only which tensors it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def shapes_only() -> Iterator[None]:
    """Make torch models inside without memory or values: on the device "meta".

    Drawing normal values there has torch import its compiler, 0.8 s that every command which makes
    a network would spend on nothing: it is left out.
    """
    with torch.device("meta"), _WithoutNormalValues():
        yield


class _WithoutNormalValues(TorchFunctionMode):
    """Leaves a tensor as it is where normal values would be drawn for it."""

    def __torch_function__(
        self,
        func: Callable,
        _types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (torch.Tensor.normal_, torch.nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
