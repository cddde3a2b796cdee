"""A worker process of the loader: it reads samples into memory that it shares with its parent.

A worker is a new interpreter. A fork would inherit locks that other threads hold at that moment,
GDAL's or a logger's, and wait for them forever. multiprocessing's spawn would import the user's
script, which starts the same again unless it is guarded by `if __name__ == "__main__"`.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import ceil
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO

import numpy as np

from factseg_paddle.data.dataset import PatchDataset
from factseg_paddle.data.pairs import DataError

Key = tuple[int, int]

PREFETCH = 2
"""Batches that a worker has in hand: one is taken while it reads the next."""

_KILL_TIMEOUT = 5.0  # seconds; only a worker that waits for a disk outlives SIGKILL for longer


class LoaderError(RuntimeError):
    """A worker died or does not answer."""


def batch_dtype(batch_size: int, height: int, width: int) -> np.dtype:
    """Return the dtype of a batch: `images` [N, 3, H, W] float32, `labels` [N, H, W] int64."""
    images = ("images", np.float32, (batch_size, 3, height, width))
    return np.dtype([images, ("labels", np.int64, (batch_size, height, width))], align=True)


def read_sample(dataset: PatchDataset, key: Key, batch: np.void, position: int) -> None:
    """Read a sample into a batch.

    Args:
        dataset: what to read.
        key: epoch and index.
        batch: of `batch_dtype`.
        position: number of the sample in the batch.

    Raises:
        DataError: whatever went wrong; the message names the file or the sample.
    """
    try:
        for name, array in zip(("images", "labels"), dataset[key], strict=True):
            target = batch[name][position]
            if (array.shape, array.dtype) != (target.shape, target.dtype):
                raise ValueError(
                    f"{name} are {list(array.shape)} {array.dtype}, "
                    f"and the batch has {list(target.shape)} {target.dtype}"
                )
            target[...] = array
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"sample {key[1]}: {type(error).__name__}: {error}") from error


class LoaderWorker:
    """A process that reads batches, one after the other, while its parent goes on.

    It ends with its parent, however that ends, and leaves Ctrl-C and SIGTERM to it: both may go to
    all processes, and the parent may have a checkpoint to write.

    Args:
        dataset: what to read; it is pickled.
        dtype: of a batch, a `batch_dtype`.
        timeout: see below.

    Attributes:
        timeout: seconds to wait for a sample, the worker's start included. Time in which the
            parent itself was stopped does not count.

    Raises:
        OSError: no process can be started, or there is no memory.
    """

    def __init__(self, dataset: PatchDataset, dtype: np.dtype, timeout: float) -> None:
        self.timeout, self._slot = timeout, 0
        size = PREFETCH * dtype.itemsize
        with _memory_file() as file:
            # Not through the pipe: a worker that is stopped would not read it, and writing hangs.
            file.seek(size)
            file.write(pickle.dumps((dataset, dtype)))
            file.flush()
            self._batches = np.frombuffer(mmap.mmap(file.fileno(), size), dtype)
            self._connection, theirs = Pipe()
            with theirs:
                self._process = _start(theirs.fileno(), file.fileno(), size)

    def __enter__(self) -> LoaderWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, keys: Sequence[Key]) -> Callable[[], np.void]:
        """Let the worker read a batch.

        At most `PREFETCH` batches may be submitted and not received yet.

        Returns:
            A function that waits for the batch and returns it, or raises DataError or LoaderError.
            Call these in the order of submission; a batch is valid until `PREFETCH` more are
            submitted.
        """
        slot, self._slot = self._slot, (self._slot + 1) % PREFETCH
        with suppress(ConnectionError):  # it died; found when the batch is received
            self._connection.send((slot, keys))
        return partial(self._batch, slot, len(keys))

    def close(self) -> None:
        """End the worker at once, whatever it does: it only reads."""
        self._connection.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # it ends when its disk answers
            self._process.wait(_KILL_TIMEOUT)

    def _batch(self, slot: int, samples: int) -> np.void:
        """Wait for a batch.

        Raises:
            DataError: a sample can't be read; the message names the file.
            LoaderError: the worker died, or a sample took longer than the timeout.
        """
        for _ in range(samples):
            error = self._receive()
            if error:
                raise DataError(error)
        return self._batches[slot]

    def _receive(self) -> str:
        """Wait for a sample; return its error, empty where it was read."""
        # In short waits: time in which this process is stopped ends one of them and not all.
        waits = ceil(self.timeout)
        for _ in range(waits):
            if self._connection.poll(self.timeout / waits):
                break
        else:
            raise LoaderError(
                f"a process that reads samples gave none for {self.timeout:g} seconds: it was "
                "stopped, or the disk with the data does not answer"
            )
        try:
            return self._connection.recv_bytes().decode()
        except (EOFError, ConnectionError) as error:
            self.close()
            raise LoaderError(_describe_exit(self._process.returncode)) from error


def serve(connection: int, file: int, start: int) -> None:
    """Read batches for the parent, until it ends or kills this process.

    Args:
        connection: descriptor of the pipe. It brings the slot and the keys of a batch, and takes a
            message for each sample: empty, or its error.
        file: descriptor of the shared memory: batches, then the pickled dataset and dtype.
        start: where in `file` the pickle begins.
    """
    memory = mmap.mmap(file, 0)
    os.close(file)
    with Connection(connection) as pipe, suppress(EOFError, ConnectionError):  # the parent ended
        try:
            dataset, dtype = pickle.loads(memory[start:])  # noqa: S301 - the parent's
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            pipe.send_bytes(f"the dataset can't be loaded in a worker process: {reason}".encode())
            return
        batches = np.frombuffer(memory, dtype, start // dtype.itemsize)
        while True:
            slot, keys = pipe.recv()
            for position, key in enumerate(keys):
                message = ""
                try:
                    read_sample(dataset, key, batches[slot], position)
                except DataError as error:
                    message = str(error)
                pipe.send_bytes(message.encode())


def _start(connection: int, file: int, size: int) -> subprocess.Popen:
    code = (
        f"import sys; sys.path[:] = {[str(folder) for folder in sys.path]}; "
        f"from {__name__} import serve; serve({connection}, {file}, {size})"
    )
    # What is blocked here stays blocked in the new process, from its first moment on.
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        return subprocess.Popen([sys.executable, "-c", code], pass_fds=(connection, file))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _memory_file() -> IO[bytes]:
    """Open a file in memory without a name: nothing is left behind, whatever is killed."""
    # Not in /dev/shm, which has 64 MB in a container.
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("batches"), "w+b")  # noqa: PTH123 - a descriptor
    return tempfile.TemporaryFile()


def _describe_exit(status: int | None) -> str:
    if status is not None and status < 0:
        return (
            f"a process that reads samples died ({signal.Signals(-status).name}); the system may "
            "have killed it because memory ran out (lower train.num_workers or data.cache_mb)"
        )
    return f"a process that reads samples died (status {status}); see its message on stderr"
