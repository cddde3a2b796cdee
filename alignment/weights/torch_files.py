"""Reading and writing torch's checkpoint files without running code from them.

`torch.load(weights_only=True)` builds tensors and plain containers only; numpy scalars, which
training loops like to store beside the weights, are admitted as well.
"""

from __future__ import annotations

import errno
import io
import pickle
import re
import struct
import warnings
from pathlib import Path

import numpy as np

from factseg_paddle.files import shown
from factseg_paddle.io import CheckpointError, UnsafeFileError

# What torch.load raises on damaged files, by name: seen by cutting zip and legacy files at
# every length and by giving it other files (torch 2.13).
_BROKEN_FILE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def load_torch_file(path: Path) -> object:
    """Read a file of `torch.save`, zip or legacy, onto the CPU.

    Raises:
        CheckpointError: The file is truncated or not of torch.
        UnsafeFileError: It holds a whole module, or anything else that only code can rebuild.
        OSError: The file can't be opened.
    """
    import torch

    # A file object, not the path: torch turns some errors of opening into its own.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old formats; what matters is raised
        try:
            with torch.serialization.safe_globals(_numpy_scalars()):
                return torch.load(file, map_location="cpu", weights_only=True)
        except _BROKEN_FILE as error:
            raise _refusal(path, error) from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # A cut zip archive sends torch to a place before the file's beginning.
            raise _refusal(path, error) from error


def write_torch_file(path: Path, content: object) -> None:
    """Write the file in place, as `torch.save` does, for callers that hold an `atomic_write`."""
    import torch

    # Through memory: on a full disk torch's own writer hides the OSError behind a RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with path.open("wb") as file:
        file.write(buffer.getbuffer())


def _refusal(path: Path, error: Exception) -> CheckpointError:
    # The name may hold anything, line breaks and spaces too; what follows it is torch's sentence.
    refused = re.search(r"GLOBAL (.+?) (?:was not an allowed|whose module)", str(error), re.DOTALL)
    if refused:
        return UnsafeFileError(
            f"{path} asks for {shown(refused[1])}, which could run code; it was not loaded"
        )
    hint = "; Paddle's are for convert_paddle2torch.py" if path.suffix == ".pdparams" else ""
    return CheckpointError(f"{path} is truncated or not a torch checkpoint{hint}")


def _numpy_scalars() -> list[object]:
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [np.dtype, *dtypes, *((scalar, name) for name in names)]
