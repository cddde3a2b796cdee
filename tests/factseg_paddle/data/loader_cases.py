"""Datasets whose samples say where and how they were read; workers import this."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np

from factseg_paddle.data.dataset import PatchSampler
from factseg_paddle.data.pairs import DataError

LOCK = threading.Lock()


class Samples:
    """Samples of 2 x 2 pixels whose labels are what `value` gives."""

    patch_size = (2, 2)

    def __getitem__(self, key):
        labels = np.full(self.patch_size, self.value(*key), np.int64)
        return np.zeros((3, *self.patch_size), np.float32), labels

    def value(self, _epoch, index):
        return index


class UnderALock(Samples):
    """Reads under a lock of the module, as GDAL does under its own."""

    def value(self, _epoch, index):
        with LOCK:
            return index


class ProcessNumbers(Samples):
    """The number of the process that reads."""

    def value(self, _epoch, _index):
        return os.getpid()


class LoadedPaddle(Samples):
    """Whether the process that reads has imported Paddle."""

    def value(self, _epoch, _index):
        return "paddle" in sys.modules


class Failing(Samples):
    """Every sample fails in its own way."""

    def __init__(self, error):
        self.error = error

    def value(self, _epoch, _index):
        raise self.error


class Misshapen(Samples):
    """Images of one row, which numpy would repeat without a word."""

    def __getitem__(self, key):
        image, labels = super().__getitem__(key)
        return image[:, :1], labels


class Large(Samples):
    """More bytes than a pipe holds."""

    def __init__(self):
        self.filling = b"." * (4 << 20)


class Unloadable(Samples):
    """Goes to another process, and can't be made there."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise DataError("made for this process only")


def sampler(start=0):
    """Batches of 2 of 8 samples."""
    return PatchSampler(8, batch_size=2, seed=3, start=start)
