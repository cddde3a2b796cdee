"""Which values a tensor was made of, followed through every call of torch's functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from alignment.recording.value_key import ValueKey


class Origins(TorchFunctionMode):
    """While it is active, what a function gives has the origins of all that it was given.

    Not read off autograd's graph, which ends at `detach()`, under `no_grad` and at integers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._keys = WeakTensorKeyDictionary()

    def of(self, tensor: torch.Tensor) -> list[ValueKey]:
        """Return the keys of the values that a tensor was made of, in the order they came in."""
        return list(self._keys.get(tensor, ()))

    def set(self, tensor: torch.Tensor, key: ValueKey) -> None:
        """Let a tensor be a value of its own."""
        self._keys[tensor] = (key,)

    def __torch_function__(
        self,
        func: Callable,
        _types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, and note what its tensors were made of."""
        arguments = _tensors((args, dict(kwargs or {})))
        keys = dict.fromkeys(key for tensor in arguments for key in self._keys.get(tensor, ()))
        result = func(*args, **(kwargs or {}))
        if keys:
            for tensor in [*_tensors(result), *_written_to(func, args, kwargs or {})]:
                self._keys[tensor] = tuple(keys)
        return result


def _written_to(
    func: Callable, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[torch.Tensor]:
    """Yield the tensors that a function changes in place, and what they are views of."""
    name = getattr(func, "__name__", "")
    in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    for tensor in _tensors([args[:1] if in_place else (), kwargs.get("out")]):
        yield tensor
        if tensor._base is not None:
            yield tensor._base


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
