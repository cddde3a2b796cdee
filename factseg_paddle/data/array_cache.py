"""A cache of arrays that is bounded by their bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np


class ArrayCache:
    """The arrays that were used last, up to a number of bytes; pickling leaves them behind."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._arrays: OrderedDict[Path, np.ndarray] = OrderedDict()

    def get(self, key: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of a key, made where it is not held; read-only."""
        if key in self._arrays:
            self._arrays.move_to_end(key)
            return self._arrays[key]
        array = make()
        array.flags.writeable = False
        if array.nbytes <= self.limit:
            self._arrays[key] = array
            self.held += array.nbytes
            while self.held > self.limit:
                self.held -= self._arrays.popitem(last=False)[1].nbytes
        return array

    def __reduce__(self) -> tuple:
        return ArrayCache, (self.limit,)
