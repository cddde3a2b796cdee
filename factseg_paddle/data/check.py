"""Find all that is wrong with a data set, before it costs a training run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from factseg_paddle.config.data_section import Data
from factseg_paddle.data.images.files import MaskCoding, read_image, read_mask
from factseg_paddle.data.images.palettes import ISAID_CLASSES
from factseg_paddle.data.layouts.isaid import masks_without_image
from factseg_paddle.data.layouts.pair_files import (
    STORE_FILE,
    DataError,
    PairFiles,
    read_image_header,
    read_mask_header,
    sizes_differ,
)
from factseg_paddle.data.open import class_names_of, coding_of, find_pairs
from factseg_paddle.data.tasks import run_tasks
from factseg_paddle.progress import NO_PROGRESS, Progress


@dataclass(frozen=True)
class DataCheck:
    """The result of a check.

    Attributes:
        class_names: the name of each class.
        images: number of images in each split; a split that is absent is left out.
        pixels: number of pixels of each class over all masks, [num_classes] int64; None for a
            prepared store, of which only hashes are checked.
        problems: one sentence for each fault.
    """

    class_names: tuple[str, ...]
    images: dict[str, int]
    pixels: np.ndarray | None
    problems: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.problems and sum(self.images.values()) > 0

    def __str__(self) -> str:
        images = " and ".join(f"{count} {split}" for split, count in self.images.items())
        verdict = f"{len(self.problems)} problems" if self.problems else "all fine"
        if self.pixels is None:
            return f"{images} pairs of a prepared store: {verdict}"
        total = max(int(self.pixels.sum()), 1)
        classes = dict(zip(self.class_names, self.pixels.tolist(), strict=True))
        seen = ", ".join(f"{name} {count / total:.2%}" for name, count in classes.items() if count)
        absent = ", ".join(name for name, count in classes.items() if not count)
        nowhere = f"; nowhere: {absent}" if absent else ""
        return f"{images} images: {verdict}; pixels: {seen}{nowhere}"


def check_data(data: Data, *, num_workers: int, progress: Progress = NO_PROGRESS) -> DataCheck:
    """Read every file of all splits of the data, and list all problems.

    A missing mask, a file that is truncated, damaged or no image, 16 bits a channel, colours or
    indices that are no class's, image and mask of different size, a mask without its image; of a
    prepared store, files whose bytes have changed.

    Args:
        data: the configured data set.
        num_workers: processes; 0 works in this one.
        progress: counts the pairs.

    Raises:
        DataError: there is nothing to look at.
        concurrent.futures.process.BrokenProcessPool: a process was killed.
    """
    root = Path(data.dataset_root)
    if data.kind == "isaid" and (root / STORE_FILE).is_file():
        return _check_store(root, num_workers, progress)
    splits = _splits(data)
    coding = coding_of(data)
    tasks = [_Task(pair, coding) for pairs in splits.values() for pair in pairs]
    problems = [
        f"mask {mask} has no image; add the image or remove the mask"
        for split in (splits if data.kind == "isaid" else ())
        for mask in masks_without_image(root, split)
    ]
    pixels = np.zeros(data.num_classes, dtype=np.int64)
    progress.start(len(tasks))
    with closing(run_tasks(_check_pair, tasks, num_workers)) as results:
        for found in results:
            progress.advance()
            problems += found.problems
            pixels += found.pixels
    if not problems and np.count_nonzero(pixels) < 2:
        problems.append(
            f"all masks hold class {int(pixels.argmax())} and pixels to ignore alone; look at "
            "data.palette, data.num_classes and data.ignore_index"
        )
    images = {split: len(pairs) for split, pairs in splits.items()}
    return DataCheck(class_names_of(data), images, pixels, tuple(problems))


@dataclass(frozen=True)
class _Task:
    files: PairFiles
    coding: MaskCoding = field(compare=False)


@dataclass(frozen=True)
class _Found:
    problems: list[str]
    pixels: np.ndarray


def _splits(data: Data) -> dict[str, list[PairFiles]]:
    """Find the splits that exist; iSAID may lack one, other kinds must have all that are named."""
    splits, absent = {}, []
    for split in ("train", "val"):
        if data.kind == "folder" and getattr(data, split) is None:
            continue
        try:
            splits[split] = find_pairs(data, split)
        except DataError as error:
            absent.append(error)
    if absent and (data.kind != "isaid" or not splits):
        raise absent[0]
    return splits


def _check_pair(task: _Task) -> _Found:
    """List all that is wrong with a pair; a file whose header shows a problem is not decoded."""
    pair = task.files
    pixels = np.zeros(task.coding.num_classes, dtype=np.int64)
    header, problems = read_image_header(pair.image)
    size = (header.height, header.width) if header else None
    if not problems:
        image = _try(lambda: read_image(pair.image), problems)
        size = None if image is None else image.shape[:2]
    if pair.mask is None:
        problems.append(f"image {pair.image} has no mask: mask_dir is not configured")
        return _Found(problems, pixels)
    header, faults = read_mask_header(pair.mask)
    mask_size = (header.height, header.width) if header else None
    if not faults:
        labels = _try(lambda: read_mask(pair.mask, task.coding), faults)
        if labels is not None:
            mask_size = labels.shape
            pixels += np.bincount(labels.ravel(), minlength=256)[: len(pixels)]
    problems += faults
    if size and mask_size and size != mask_size:
        problems.append(sizes_differ(pair, size, mask_size))
    return _Found(problems, pixels)


def _try(read: Callable[[], np.ndarray], problems: list[str]) -> np.ndarray | None:
    try:
        return read()
    except (ValueError, OSError) as error:  # the decoder's sentences name the file
        problems.append(str(error))
        return None


@dataclass(frozen=True)
class _StoredTask:
    folder: Path
    record: object


def _check_store(root: Path, num_workers: int, progress: Progress) -> DataCheck:
    from factseg_paddle.data.store.files import load_store, split_folder

    store = load_store(root)
    if not store.complete:
        raise DataError(
            f"the prepared store {root} is not complete; run without --check, it goes on"
        )
    tasks = [
        _StoredTask(split_folder(root, split), pair)
        for split, pairs in store.pairs.items()
        for pair in pairs
    ]
    problems: list[str] = []
    progress.start(len(tasks))
    with closing(run_tasks(_check_stored, tasks, num_workers)) as results:
        for found in results:
            progress.advance()
            problems += found
    images = {split: len(pairs) for split, pairs in store.pairs.items()}
    return DataCheck(ISAID_CLASSES, images, None, tuple(problems))


def _check_stored(task: _StoredTask) -> list[str]:
    from factseg_paddle.data.store.files import hash_problems

    return hash_problems(task.folder, task.record)
