"""Model outputs: tensors in tuples, lists, dicts, named tuples and dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from alignment.pair import AlignmentError


class OpaqueValueError(AlignmentError):
    """A value that may hide tensors."""


def flatten(
    value: Any, is_tensor: Callable[[Any], bool], name: str = "", *, strict: bool = True
) -> Iterator[tuple]:
    """Yield (name, tensor) of all tensors: `.field`, `.key` or `[index]` is appended to the name.

    None and plain numbers and strings hold no tensor and are passed over.

    Args:
        value: tensors in some structure.
        is_tensor: whether a value is a tensor of the framework.
        name: of the whole.
        strict: False passes over values of unknown type too, as arguments of layers may be.

    Raises:
        OpaqueValueError: something else, which may hide tensors.
    """
    if is_tensor(value):
        yield name, value
        return
    for suffix, part in _parts(value, name, strict):
        yield from flatten(part, is_tensor, name + suffix, strict=strict)


def replace_tensors(
    value: Any, is_tensor: Callable[[Any], bool], tensors: Iterator[Any], *, strict: bool = True
) -> Any:
    """Return the same structure with other tensors, taken in the order of `flatten`."""
    if is_tensor(value):
        return next(tensors)

    def replaced(part: Any) -> Any:
        return replace_tensors(part, is_tensor, tensors, strict=strict)

    if isinstance(value, Mapping):
        return _copied_mapping(value, {key: replaced(part) for key, part in value.items()})
    parts = [replaced(part) for _, part in _parts(value, "", strict)]
    if hasattr(value, "_fields"):
        return type(value)(*parts)
    if isinstance(value, (list, tuple)):
        return type(value)(parts)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        copied = copy.copy(value)
        for name, part in zip(names, parts, strict=True):
            object.__setattr__(
                copied, name, part
            )  # a frozen one too, and fields that __init__ lacks
        return copied
    return value


def _copied_mapping(value: Mapping, replaced: dict) -> Mapping:
    if not isinstance(value, MutableMapping):
        return type(value)(replaced)
    copied = copy.copy(value)  # keeps what a defaultdict or a user's mapping was made with
    copied.update(replaced)
    return copied


def _parts(value: Any, name: str, strict: bool) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f".{key}", part) for key, part in value.items()]
    if hasattr(value, "_fields"):
        return [(f".{field}", getattr(value, field)) for field in value._fields]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if dataclasses.is_dataclass(value):
        return [(f".{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value)]
    plain = value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic))
    if plain or not strict:
        return []
    raise OpaqueValueError(
        f"{name or 'the output'} is a {type(value).__name__}; return tensors in tuples, lists, "
        "dicts, named tuples or dataclasses"
    )
