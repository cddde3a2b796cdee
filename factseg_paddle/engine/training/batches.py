"""Batches for training, in an order that is a function of the seed and the iteration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle

from factseg_paddle.data.pairs import DataError
from factseg_paddle.data.workers import exit_with_parent

if TYPE_CHECKING:
    from factseg_paddle.data.dataset import PatchDataset, PatchSampler


def explain_system_error(error: SystemError) -> str:
    """What a SystemError of Paddle's means, which it raises when a reading process dies."""
    text = str(error)
    if "DataLoader" in text or "Blocking queue" in text:
        return (
            "a process that reads samples died; the system may have killed it for want of memory "
            "(lower train.num_workers or data.cache_mb)"
        )
    return text


class Batches:
    """Endless batches of images [N, 3, H, W] float32 and labels [N, H, W] int64.

    An error in one of Paddle's reading processes reaches the main one as "blocking queue is
    killed", so what a sample's file has wrong travels with the batch and is raised here.

    Args:
        dataset: what to read.
        sampler: in which order, from which batch on.
        num_workers: processes that read; 0 reads in this one.
    """

    def __init__(self, dataset: PatchDataset, sampler: PatchSampler, num_workers: int) -> None:
        self._loader = paddle.io.DataLoader(
            _Guarded(dataset),
            batch_sampler=sampler,
            collate_fn=_collated,
            num_workers=num_workers,
            worker_init_fn=_begin,
        )

    def __iter__(self) -> Iterator[tuple[paddle.Tensor, paddle.Tensor]]:
        """Raise a DataError that names the file where a sample can't be read.

        Where a reading process died, Paddle raises a SystemError, here or at any other place.
        """
        for images, labels, error in self._loader:
            if error.size > 1:
                raise DataError(bytes(error.numpy()[1:]).decode())
            yield images, labels


def _begin(_number: int) -> None:
    exit_with_parent()


class _Guarded(paddle.io.Dataset):
    """The dataset with the error's text in the place of a sample that can't be read."""

    def __init__(self, dataset: PatchDataset) -> None:
        super().__init__()
        self._dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Any:
        try:
            return self._dataset[key]
        except DataError as error:
            return str(error)
        except Exception as error:  # raised again in the main process, whatever it is
            return f"sample {key[1]}: {type(error).__name__}: {error}"

    def __len__(self) -> int:
        return len(self._dataset)


def _collated(samples: Sequence[Any]) -> list[np.ndarray]:
    # An array without elements can't be handed over (Paddle 3.3.1), so a 0 stands before the text.
    error = next((sample for sample in samples if isinstance(sample, str)), "")
    marked = np.frombuffer(b"\0" + error.encode(), np.uint8).copy()
    if error:
        return [np.zeros(1, np.float32), np.zeros(1, np.int64), marked]
    images, labels = zip(*samples, strict=True)
    return [np.stack(images), np.stack(labels), marked]
