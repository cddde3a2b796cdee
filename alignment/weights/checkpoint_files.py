"""Reading a checkpoint of either framework: its tensors by bare name, and what stands around them.

Published files come as bare state dicts or inside `{'model': …}` beside optimizer state and
counters, with or without DataParallel's `module.` before each name. The key is that of FactSeg
here; VainF and pytorch-semseg write `model_state`, wkentaro `model_state_dict`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from alignment.weights.models import array_of_torch
from alignment.weights.torch_files import load_torch_file
from factseg_paddle.files import shown
from factseg_paddle.io import CheckpointError, load_plain

Side = Literal["torch", "paddle"]

PREFIX = "module."  # what torch's DataParallel puts before each name

# The keys under which training loops store a state dict.
WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict")

_TORCH_DTYPES = ("float16", "bfloat16", "float32", "float64", "int64")


@dataclass(frozen=True)
class Envelope:
    """What stands around the tensors: `{wrapper: {prefix + name: tensor}, **others}`.

    Attributes:
        wrapper: The key that holds the state dict; None for a bare one.
        prefix: "module." or "".
        others: Plain values beside the state dict, such as `global_step`.
        dropped: Names of entries beside the state dict, or beside the tensors in it, that are not
            carried over.
        optimizer: The key of the optimizer's state, where that is carried over.
        scheduler: The key of the scheduler's, where it has one.
    """

    wrapper: str | None = None
    prefix: str = ""
    others: Mapping[str, object] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    optimizer: str | None = None
    scheduler: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors as arrays by bare name, in the file's order; bfloat16 as uint16 bits.

    `extras` has the dictionaries beside the state dict, as they are in the file.
    """

    path: Path
    side: Side
    state: Mapping[str, np.ndarray]
    form: Envelope
    extras: Mapping[str, dict] = field(default_factory=dict)


def read_checkpoint(path: Path, side: Side) -> Checkpoint:
    """Read a `.pth` ("torch") or `.pdparams` ("paddle") file without running code from it.

    Raises:
        CheckpointError: The file is damaged or holds no state dict; the message is one sentence.
        OSError: It can't be opened.
    """
    content = load_torch_file(path) if side == "torch" else load_plain(path)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise CheckpointError(f"{path} holds {kind}, not a dictionary of tensors")
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
    entries = content[wrapper] if wrapper else content
    left_out = _simple_values(entries)
    arrays = {n: _array(path, n, value) for n, value in entries.items() if n not in left_out}
    prefix = _prefix(path, arrays)
    state = {name.removeprefix(prefix): array for name, array in arrays.items()}
    extras = {key: value for key, value in content.items() if wrapper and key != wrapper}
    others = {
        key: _plain_value(value)
        for key, value in extras.items()
        if isinstance(key, str) and is_plain(_plain_value(value))
    }
    dropped = (*(str(key) for key in extras if key not in others), *left_out)
    dictionaries = {key: value for key, value in extras.items() if isinstance(value, dict)}
    return Checkpoint(path, side, state, Envelope(wrapper, prefix, others, dropped), dictionaries)


def dtype_name(array: np.ndarray) -> str:
    """Return the dtype that an array stands for: uint16 carries bfloat16."""
    return "bfloat16" if array.dtype == np.uint16 else str(array.dtype)


def is_plain(value: object) -> bool:
    """Return whether a manifest can hold it: a text, a truth value, None or a 64-bit number."""
    if isinstance(value, int):
        return value.bit_length() < 64
    return isinstance(value, float | str | None)


def _simple_values(entries: Mapping) -> list[str]:
    """Return names of plain values among the tensors: milesial saves `mask_values` there.

    Where there is no tensor they are not beside any, and the reader refuses them.
    """
    simple = [name for name, value in entries.items() if isinstance(name, str) and _simple(value)]
    return simple if len(simple) < len(entries) else []


def _simple(value: object, depth: int = 2) -> bool:
    # A list of colours is two deep, and short: lists may share others, and a small file then stands
    # for walks without end.
    if isinstance(value, list | tuple):
        return depth > 0 and len(value) < 1000 and all(_simple(item, depth - 1) for item in value)
    return is_plain(_plain_value(value))


def _prefix(path: Path, names: Collection[str]) -> str:
    bare = [name for name in names if not name.startswith(PREFIX)]
    if len(bare) >= len(names) / 2:
        return ""
    if bare:
        raise CheckpointError(
            f"{path} has {PREFIX} before {len(names) - len(bare)} of its names, but not before "
            f"{', '.join(map(shown, bare))}"
        )
    return PREFIX


def _array(path: Path, name: object, value: object) -> np.ndarray:
    import torch

    if isinstance(name, str) and isinstance(value, np.ndarray):
        return value
    if not isinstance(name, str):
        raise CheckpointError(f"{path} is no state dict: entry {name!r} is not named by a text")
    if not isinstance(value, torch.Tensor):
        kind = type(value).__name__
        raise CheckpointError(f"{path} is no state dict: {name!r} is of type {kind}, no tensor")
    kind = str(value.dtype).removeprefix("torch.")
    if value.layout != torch.strided or value.is_meta or kind not in _TORCH_DTYPES:
        raise CheckpointError(
            f"{path}: {shown(name)} is of dtype {kind} ({value.layout}, {value.device}); "
            f"weights are dense and of {', '.join(_TORCH_DTYPES)}"
        )
    return array_of_torch(value)


def _plain_value(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
