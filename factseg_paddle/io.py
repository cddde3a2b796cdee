"""Paddle's checkpoints, read without running their code and written whole or not at all.

`.pdparams` and `.pdopt` are pickles, and a pickle may call anything it names. The reader here
knows the handful of names that `paddle.save` writes and puts its own stand-ins behind them, so a
file can build arrays and plain containers and nothing else. No framework is imported.
"""

from __future__ import annotations

import os
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from factseg_paddle.files import atomic_write, shown


class CheckpointError(ValueError):
    """Raised for a damaged file or one that is not a checkpoint; one sentence that names it."""


class UnsafeFileError(CheckpointError):
    """Raised for a pickle that names something only code needs; nothing of it was run."""


def load_pdparams(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a `.pdparams` file: one flat dictionary of tensors, in the file's order.

    Shapes and dtypes stay as they are. bfloat16, which numpy lacks, arrives as uint16 holding the
    same bits: that is how Paddle writes it.

    Raises:
        CheckpointError: The file is truncated, not a checkpoint, or holds something else.
        UnsafeFileError: The file's pickle would run code.
        OSError: The file can't be opened.
    """
    content = load_plain(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__}, not a dictionary of tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            kind = type(value).__name__
            raise CheckpointError(f"{path} is no state dict: {name!r} is of type {kind}, no tensor")
    return content


def load_plain(path: str | os.PathLike[str]) -> object:
    """Read any file of `paddle.save`: arrays and numbers in dictionaries, lists and tuples.

    Paddle's own bookkeeping is undone: the table of parameter names is dropped, tensors that
    were cut into slices (protocol 2, past 1 GiB) are joined, a `(name, array)` pair is its array.

    Raises:
        CheckpointError, UnsafeFileError, OSError: As for `load_pdparams`.
    """
    with Path(path).open("rb") as file:
        _refuse_torch(path, file.read(32))
        file.seek(0)
        try:
            _refuse_wild_memo(file)
            file.seek(0)
            return _without_bookkeeping(_plain(_Unpickler(file, encoding="latin1").load(), {}))
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path} {error}; it was not loaded") from None
        except _BROKEN_PICKLE as error:
            reason = shown(str(error) or type(error).__name__)
            message = f"{path} is truncated or not a Paddle checkpoint ({reason})"
            raise CheckpointError(message) from error


def save_pdparams(path: str | os.PathLike[str], state: Mapping[str, object]) -> None:
    """Write arrays so that plain `paddle.load` gives them back as tensors; whole or not at all.

    Args:
        path: The file to write; its folder must exist.
        state: Arrays by name, in the order to keep; for a `.pdopt` also numbers, texts and
            nested dictionaries, lists and tuples of these. bfloat16 is given as uint16.

    Raises:
        TypeError: A value that `load_plain` would not give back.
        OSError: As for `atomic_write`.
    """
    with atomic_write(path) as temporary:
        write_pdparams(temporary, state)


def write_pdparams(path: Path, state: Mapping[str, object]) -> None:
    """Write the file in place, for callers that hold an `atomic_write` already."""
    content = {name: _writable(name, value) for name, value in state.items()}
    with path.open("wb") as file:
        # Paddle's own protocol; at 4 no tensor needs to be cut into slices.
        pickle.dump(content, file, protocol=4)


# Types that a file may hold ------------------------------------------------------------------

_DTYPES = frozenset(
    ["b1", "i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8", "c8", "c16"]
)
_REMEMBERING = frozenset(["PUT", "BINPUT", "LONG_BINPUT"])
_TORCH_MARK = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number, first in an old file
_SCALARS = (str, bytes, bool, int, float, type(None))

# Whatever a damaged pickle can set off in the unpickler or in the stand-ins below, by name.
_BROKEN_PICKLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Dtype:
    """Stand-in for `numpy.dtype`: a plain little-endian number type or an error."""

    def __init__(self, code: str, *_flags: object) -> None:
        if code not in _DTYPES:
            raise ValueError(f"arrays of dtype {code!r} are no tensors")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", "|", "="):
            raise ValueError(f"byte order {state[1]!r} is not that of a Paddle file")


class _Array:
    """Stand-in for `numpy.ndarray` and its `_reconstruct`: the array comes with the state."""

    array: np.ndarray

    def __init__(self, *_placeholder: object) -> None:
        pass

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, data = state
        if isinstance(data, str):  # a Python 2 string
            data = data.encode("latin1")
        order = "F" if is_fortran else "C"
        flat = np.frombuffer(data, dtype.dtype) if data else np.empty(0, dtype.dtype)
        if any(side < 0 for side in shape):
            raise ValueError(f"an array of shape {shape}")
        # The copy owns its memory and is writable; the bytes belong to the pickle.
        self.array = np.array(flat.reshape(shape, order=order), order="C")


class _Encoded:
    """Stand-in for `_codecs.encode` and `bytes()`, which carry an array's bytes in protocol 2."""

    def __new__(cls, text: str = "", encoding: str = "latin1") -> bytes:  # type: ignore[misc]
        """Return the bytes themselves."""
        if encoding != "latin1":
            raise ValueError(f"bytes encoded as {encoding!r}")
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        # Without it, a pickle could set attributes on this class and they would stay.
        raise ValueError("bytes with a state")


_ADMITTED = {
    ("builtins", "tuple"): tuple,
    ("__builtin__", "tuple"): tuple,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _Encoded,
    ("__builtin__", "bytes"): _Encoded,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ADMITTED:
            raise UnsafeFileError(f"asks for {shown(f'{module}.{name}')}, which could run code")
        return _ADMITTED[module, name]


def _refuse_wild_memo(file: BinaryIO) -> None:
    """Refuse a pickle that numbers a remembered value higher than it can have values.

    The unpickler makes room for all lower numbers: five damaged bytes would fill the memory.

    Raises:
        ValueError: it does so, or is no pickle.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in _REMEMBERING and argument > count:
            raise ValueError(f"value {argument} is remembered after {count} steps")


def _refuse_torch(path: str | os.PathLike[str], head: bytes) -> None:
    is_zip = head.startswith(b"PK\x03\x04")
    if is_zip or _TORCH_MARK in head:
        kind = "a zip archive as torch.save writes it" if is_zip else "in torch's old format"
        raise CheckpointError(f"{path} is {kind}, not a Paddle file; for convert_torch2paddle.py")


def _plain(value: object, known: dict[int, object]) -> object:
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _SCALARS):
        return value
    if id(value) in known:  # forty lists, each twice in the next, would be 2**40 walks
        return known[id(value)]
    if isinstance(value, dict):
        plain: object = {key: _plain(item, known) for key, item in value.items()}
    elif isinstance(value, tuple | list):
        items = [_plain(item, known) for item in value]
        # A name and an array: how paddle.save writes a tensor outside a flat state dict.
        is_named = [type(item) for item in items] == [str, np.ndarray]
        plain = items[1] if is_named else type(value)(items)
    else:
        raise ValueError(f"it holds {type(value).__name__}")
    known[id(value)] = plain
    return plain


def _without_bookkeeping(content: object) -> object:
    if not isinstance(content, dict):
        return content
    content.pop("StructuredToParameterName@@", None)
    for name, info in content.pop("UnpackBigParamInfor@@", {}).items():
        slices = [content.pop(part) for part in info["slices"]]
        content[name] = np.concatenate(slices).reshape(info["OriginShape"])
    return content


def _writable(name: str, value: object) -> object:
    if isinstance(value, np.ndarray):
        if value.dtype.str[1:] not in _DTYPES:
            raise TypeError(f"{name} has dtype {value.dtype}, which Paddle does not know")
        return np.array(value, value.dtype.newbyteorder("<"), order="C", copy=False)
    if isinstance(value, Mapping):
        return {key: _writable(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_writable(f"{name}.{i}", item) for i, item in enumerate(value))
    if type(value) in _SCALARS:
        return value
    raise TypeError(f"{name} is a {type(value).__name__}; give numpy arrays and plain values")
