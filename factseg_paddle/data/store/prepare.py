"""Make the prepared store of iSAID; see `factseg_paddle.data.store.files`.

A pair is complete or absent: its record is renamed into place last. So a run that was killed goes
on where it was.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from factseg_paddle.data.images.files import read_pair
from factseg_paddle.data.images.headers import ImageHeader
from factseg_paddle.data.layouts.isaid import find_isaid
from factseg_paddle.data.layouts.pair_files import STORE_FILE, DataError, PairFiles, read_headers
from factseg_paddle.data.store.files import (
    TILE,
    SourceStamp,
    Store,
    StoredFile,
    StoredPair,
    encode_raster,
    load_store,
    read_raster,
    save_store,
    size_problem,
    stored_path,
)
from factseg_paddle.data.tasks import run_tasks
from factseg_paddle.files import atomic_write_all, sha256_of_file
from factseg_paddle.progress import NO_PROGRESS, Progress

SPLITS = ("train", "val")
KINDS = ("images", "masks", "records")

# A stored file against its PNG, measured: real images 0.67 to 0.91, painted ones 1.00 to 1.05,
# masks 0.46 to 0.93.
_OF_SOURCE = 1.25
_OF_TILE = 64  # bytes of a tile that holds one value, with its entries in the index


class PrepareError(RuntimeError):
    """Raised where the preparation stopped or skipped pairs; every pair that is done is whole."""


@dataclass(frozen=True)
class PreparedStore:
    """The result of a run.

    Attributes:
        pairs: number of pairs in the whole store.
        made: number of pairs made by this run.
        size: bytes of the whole store.
    """

    pairs: int
    made: int
    size: int

    def __str__(self) -> str:
        return f"{self.pairs} pairs prepared, {self.made} now and verified; {_gigabytes(self.size)}"


@dataclass(frozen=True)
class _Task:
    files: PairFiles
    folder: Path


def prepare_isaid(
    dataset_root: Path,
    output: Path,
    *,
    num_workers: int,
    progress: Progress = NO_PROGRESS,
) -> PreparedStore:
    """Make the store, or continue one.

    Args:
        dataset_root: iSAID as the original lays it; a split without images is left out.
        output: folder of the store, new, empty or a store.
        num_workers: processes; 0 works in this one.
        progress: takes a line on the space that is needed, and counts the pairs.

    Raises:
        DataError: the data are absent or their headers do not fit; nothing was written.
        PrepareError: the space is not free, a file can't be written or read back, a process died,
            or pairs could not be read: these are named, all others are prepared.
        OSError: the folder can't be made.
    """
    splits = _find_splits(dataset_root)
    _refuse_foreign(output)
    headers = read_headers(pair for pairs in splits.values() for pair in pairs)
    headers.check()
    tasks = [_Task(pair, output / split) for split, pairs in splits.items() for pair in pairs]
    done = {task: record for task in tasks if (record := _record_of(task)) is not None}
    todo = [task for task in tasks if task not in done]
    need = sum(
        space_needed(task.files, header)
        for task, header in zip(tasks, headers.images, strict=True)
        if task not in done and header is not None
    )
    _check_space(output, need, f"{len(todo)} of {len(tasks)} pairs to prepare", progress)
    with _only_one(output):
        if todo:
            # before the folders: by it the next run knows them as its own
            save_store(output, Store(complete=False, pairs={}))
            for task, kind in product(todo, KINDS):
                (task.folder / kind).mkdir(parents=True, exist_ok=True)
        problems = _run(todo, done, num_workers, progress) if todo else []
        if problems:
            raise PrepareError(
                f"{len(problems)} of {len(tasks)} pairs are not prepared, mend them and run this "
                "again:\n" + "\n".join(problems)
            )
        records = {
            split: [done[_Task(pair, output / split)] for pair in splits[split]] for split in splits
        }
        save_store(output, Store(complete=True, pairs=records))
    size = sum(record.images.bytes + record.masks.bytes for record in done.values())
    return PreparedStore(len(tasks), len(todo), size)


def space_needed(files: PairFiles, header: ImageHeader) -> int:
    """Estimate the bytes that a pair takes in the store.

    At most the pixels as they are, which compression can't exceed by more than the index; less in
    proportion to the compressed size of the sources.
    """
    tiles = -(-header.height // TILE) * -(-header.width // TILE)
    repeated = 3 if header.channels < 3 else 1  # grey and palette images become RGB
    image = min(files.image.stat().st_size * repeated * _OF_SOURCE, 3 * tiles * TILE**2)
    mask = min(files.mask.stat().st_size * _OF_SOURCE, tiles * TILE**2) if files.mask else 0
    return int(image + mask) + 2 * (tiles * _OF_TILE + 1024)


def _find_splits(root: Path) -> dict[str, list[PairFiles]]:
    splits, absent = {}, []
    for split in SPLITS:
        try:
            splits[split] = find_isaid(root, split)
        except DataError as error:
            absent.append(error)
    if not splits:
        raise absent[0]
    return splits


def _refuse_foreign(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise DataError(f"output {output} is a file; give a folder")
    # hidden ones may be a killed run's
    if output.is_dir() and any(not path.name.startswith(".") for path in output.iterdir()):
        if not (output / STORE_FILE).is_file():
            raise DataError(
                f"output {output} already holds other files; give a new or empty folder"
            )
        load_store(output)


@contextmanager
def _only_one(output: Path) -> Iterator[None]:
    """Make the folder and lock it; the system unlocks it when the process ends."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another process is preparing {output}; wait for its end") from error
        for folder in (output, *(output / split / kind for split, kind in product(SPLITS, KINDS))):
            for leftover in folder.glob(".*.tmp.*"):  # of a run that was killed
                leftover.unlink()
        yield


def _record_of(task: _Task) -> StoredPair | None:
    """Load the record of a pair that is done; None where it or its sources have changed since."""
    path = stored_path(task.folder, "records", task.files.name)
    if not path.is_file():
        return None
    try:
        record = StoredPair.model_validate_json(path.read_bytes())
    except ValidationError:  # of another version, or damaged: the pair is made anew
        return None
    unchanged = (
        record.name == task.files.name
        and record.source_image == SourceStamp.of(task.files.image)
        and task.files.mask is not None
        and record.source_mask == SourceStamp.of(task.files.mask)
    )
    return record if unchanged and size_problem(task.folder, record) is None else None


def _check_space(output: Path, need: int, what: str, progress: Progress) -> None:
    place = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    progress.log(
        f"{what}: about {_gigabytes(need)} are needed, {_gigabytes(free)} are free at {place}"
    )
    if need > free:
        raise DataError(
            f"{output} needs {_gigabytes(need)} and {_gigabytes(free)} are free; make room or give "
            "another --output"
        )


def _run(
    todo: list[_Task],
    done: dict[_Task, StoredPair],
    num_workers: int,
    progress: Progress,
) -> list[str]:
    """Prepare pairs, add them to `done`, and return the problems of those that can't be read."""
    problems = []
    progress.start(len(todo))
    try:
        with closing(run_tasks(_prepare_pair, todo, num_workers)) as results:
            for task, result in zip(todo, results, strict=True):
                progress.advance()
                if isinstance(result, str):
                    problems.append(result)
                else:
                    done[task] = result
    except BrokenProcessPool as error:
        raise PrepareError(
            "a worker process died, possibly killed by the system because memory ran out; run this "
            "again with fewer --num_workers, it continues where it stopped"
        ) from error
    except OSError as error:
        raise PrepareError(
            f"cannot write {error.filename or todo[0].folder}: {error.strerror or error}; "
            "make room and run this again, it goes on where it was"
        ) from error
    return problems


def _prepare_pair(task: _Task) -> StoredPair | str:
    """Store a pair and read it back; return a sentence where its files can't be used."""
    files = task.files
    try:
        stamps = SourceStamp.of(files.image), SourceStamp.of(files.mask)
        image, labels = read_pair(files.image, files.mask)
    except (ValueError, OSError) as error:
        return str(error)
    paths = [stored_path(task.folder, kind, files.name) for kind in KINDS]
    with atomic_write_all(*paths) as temporaries:
        stored = [
            _write_verified(temporary, path, pixels)
            for temporary, path, pixels in zip(
                temporaries[:2], paths[:2], (image, labels), strict=True
            )
        ]
        record = StoredPair(
            name=files.name,
            height=labels.shape[0],
            width=labels.shape[1],
            images=stored[0],
            masks=stored[1],
            source_image=stamps[0],
            source_mask=stamps[1],
        )
        temporaries[2].write_text(record.model_dump_json(), encoding="utf-8")
    return record


def _write_verified(temporary: Path, path: Path, pixels: np.ndarray) -> StoredFile:
    # Encoded in memory and written by Python: GDAL does not report a disk that is full.
    encoded = encode_raster(pixels)
    temporary.write_bytes(encoded)
    try:
        equal = np.array_equal(read_raster(temporary), pixels)
    except DataError:
        equal = False
    if not equal:
        raise OSError(5, "what was written does not read back bit by bit", str(path))
    return StoredFile(bytes=len(encoded), sha256=sha256_of_file(temporary))


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
