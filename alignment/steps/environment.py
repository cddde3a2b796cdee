"""What a reader needs to know about the machine, and random states left as they were."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import random
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np


def environment_of(framework: str) -> dict[str, str]:
    """Return versions of Python, the system, a framework ("torch" or "paddle") and numpy."""
    names = {"torch": ("torch",), "paddle": ("paddlepaddle", "paddlepaddle-gpu", "paddleseg")}
    environment = {"python": platform.python_version(), "platform": platform.platform()}
    for name in (*names[framework], "numpy", "reprod_log"):
        try:
            environment[name] = version(name)
        except PackageNotFoundError:
            continue
    return environment


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Leave the random states of Python and numpy as they were; each side sees to its framework."""
    python, arrays = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)


def give_back_free_memory() -> None:
    """Let glibc give freed memory back to the system; elsewhere nothing happens.

    Thousands of arrays of some MB come and go; kept for reuse they raise the peak by 0.5 GB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
