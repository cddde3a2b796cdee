"""The loader: batches read ahead by worker processes or by a thread, in the sampler's order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle, islice
from typing import TypeVar

import numpy as np

from factseg_paddle.data.dataset import PatchDataset, PatchSampler
from factseg_paddle.data.loader_worker import (
    PREFETCH,
    Key,
    LoaderWorker,
    batch_dtype,
    read_sample,
)

TIMEOUT = 60.0
"""Seconds without a sample after which a worker is given up."""

Tensor = TypeVar("Tensor")
Submit = Callable[[Sequence[Key]], Callable[[], np.void]]


def load_batches(
    dataset: PatchDataset,
    sampler: PatchSampler,
    *,
    num_workers: int,
    to_tensor: Callable[[np.ndarray], Tensor],
    timeout: float = TIMEOUT,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Load batches.

    Args:
        dataset: what to read.
        sampler: in which order, from which batch on.
        num_workers: processes that read; 0 reads ahead in a thread of this one.
        to_tensor: makes what is yielded of an array. It has to copy: the array is used again.
        timeout: seconds to wait for a sample of a worker.

    Yields:
        Images [N, 3, H, W] float32 and labels [N, H, W] int64, as `to_tensor` makes them. Close
        the generator where not all are needed: that ends the workers or the thread.

    Raises:
        DataError: a sample can't be read; the message names the file.
        LoaderError: a worker died, or a sample took longer than the timeout.
        OSError: a worker can't be started.
    """
    dtype = batch_dtype(sampler.batch_size, *dataset.patch_size)
    with ExitStack() as stack:
        if num_workers == 0:
            thread = ThreadPoolExecutor(1)
            stack.callback(thread.shutdown, cancel_futures=True)
            slots = cycle(np.empty(PREFETCH, dtype))
            submits = [lambda keys: thread.submit(_read, dataset, keys, next(slots)).result]
        else:
            submits = [
                stack.enter_context(LoaderWorker(dataset, dtype, timeout)).submit
                for _ in range(num_workers)
            ]
        yield from _in_order(sampler, submits, to_tensor)


def _in_order(
    sampler: Iterable[Sequence[Key]],
    submits: Sequence[Submit],
    to_tensor: Callable[[np.ndarray], Tensor],
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Submit batches to the workers in turn, as many as they may have in hand."""
    turns, batches = cycle(submits), iter(sampler)
    submitted = deque(next(turns)(keys) for keys in islice(batches, PREFETCH * len(submits)))
    while submitted:
        batch = submitted.popleft()()
        tensors = to_tensor(batch["images"]), to_tensor(batch["labels"])
        submitted.extend(next(turns)(keys) for keys in islice(batches, 1))
        yield tensors


def _read(dataset: PatchDataset, keys: Sequence[Key], batch: np.void) -> np.void:
    for position, key in enumerate(keys):
        read_sample(dataset, key, batch, position)
    return batch
