"""Training patches, and the order in which they come.

A sample's key is (epoch, index): what is random about it is a function of the seed, the epoch and
the index alone. So the stream is the same with any number of workers and after a resume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from factseg_paddle.config.transforms import Transform
from factseg_paddle.data.augment import apply_transforms, output_size
from factseg_paddle.data.pairs import DataError, ImagePairs
from factseg_paddle.data.patches import Window, sliding_windows
from factseg_paddle.transforms import to_chw

# Independent streams of one seed, by what they are for.
_ORDER, _SAMPLE = 0, 1


class PatchDataset:
    """The windows of all images of a split, image by image in their order.

    Args:
        pairs: images with masks.
        patch_size: side of a window; a smaller image shrinks it.
        stride: distance of neighbours.
        transforms: applied in their order.
        seed: of what is random in the transforms.

    Raises:
        DataError: an image has no mask, or the transforms do not give patches of one size.
    """

    def __init__(
        self,
        pairs: ImagePairs,
        *,
        patch_size: int,
        stride: int,
        transforms: Sequence[Transform],
        seed: int,
    ) -> None:
        if not pairs.has_masks or len(pairs) == 0:
            raise DataError("there are no images with masks to train on; give masks for all images")
        self._pairs, self._transforms, self._seed = pairs, tuple(transforms), seed
        self.windows: tuple[tuple[int, Window], ...] = tuple(
            (image, window)
            for image in range(len(pairs))
            for window in sliding_windows(*pairs.size(image), size=patch_size, stride=stride)
        )
        try:
            sizes = {(window.height, window.width) for _, window in self.windows}
            self.patch_size = output_size(self._transforms, sorted(sizes))
        except ValueError as error:
            raise DataError(str(error)) from error

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return a patch.

        Args:
            key: epoch and index of the window.

        Returns:
            Image [3, h, w] float32 and labels [h, w] int64.

        Raises:
            DataError: a file can't be read; the message names it.
        """
        epoch, index = key
        image_index, window = self.windows[index]
        rng = _generator(self._seed, _SAMPLE, epoch, index)
        image, labels = apply_transforms(
            self._pairs.read_image(image_index, window),
            self._pairs.read_labels(image_index, window),
            self._transforms,
            rng,
            self._pairs.ignore_index,
        )
        return to_chw(image).astype(np.float32, copy=False), labels.astype(np.int64)


class PatchSampler:
    """Endless batches of keys (epoch, index) for one of several processes.

    An epoch is a permutation of all samples, a function of the seed and the epoch. Its batches are
    cut from it one after the other, each shared out among the processes; what is left over in the
    end is dropped, as in the original.

    Args:
        length: number of samples.
        batch_size: samples of this process in a batch.
        seed: of the order.
        rank: which process this is, from 0.
        ranks: number of processes.
        start: batches to leave out, those of an earlier run.

    Raises:
        DataError: there are fewer samples than one batch of all processes needs.
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        start: int = 0,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < ranks or start < 0:
            raise ValueError(
                f"batch_size {batch_size} of rank {rank} of {ranks} from batch {start} on: "
                "batch_size is at least 1, rank 0 to ranks - 1, start at least 0"
            )
        if length < batch_size * ranks:
            raise DataError(
                f"there are {length} training patches, fewer than the {batch_size * ranks} of one "
                "batch; lower train.batch_size or add images"
            )
        self._length, self._seed = length, seed
        self._rank, self._ranks, self._start = rank, ranks, start
        self.batch_size = batch_size

    @property
    def batches_per_epoch(self) -> int:
        """Return whole batches of all processes in an epoch."""
        return self._length // (self.batch_size * self._ranks)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield the batches from number `start` on, without an end."""
        epoch, batch = divmod(self._start, self.batches_per_epoch)
        while True:
            order = _generator(self._seed, _ORDER, epoch).permutation(self._length)
            for number in range(batch, self.batches_per_epoch):
                first = (number * self._ranks + self._rank) * self.batch_size
                yield [(epoch, int(index)) for index in order[first : first + self.batch_size]]
            epoch, batch = epoch + 1, 0


def _generator(seed: int, *key: int) -> np.random.Generator:
    # a spawn key and not a longer seed: there (1, 2) and (1, 2, 0) would be one stream
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
