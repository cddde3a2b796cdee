"""Write files whole or not at all, and hash them."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_LEFTOVER = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]{8}\.tmp(?P<suffix>\.[^.]*|)", re.DOTALL)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path whose content becomes `path` when the block ends well.

    The temporary file lies in the same folder, is hidden and keeps the final suffix (`np.save`
    and others look at it). At the end it is synced and renamed over `path`; when the block raises
    it is removed and an older `path` stays as it was.

    Raises:
        FileNotFoundError: The folder does not exist. It is not made here, since a misspelt
            folder should be noticed and not created.
        IsADirectoryError: `path` is a folder.
        OSError: The disk is full or the folder can't be written.
    """
    with atomic_write_all(path) as (temporary,):
        yield temporary


@contextmanager
def atomic_write_all(*paths: str | os.PathLike[str]) -> Iterator[tuple[Path, ...]]:
    """Write several files that belong together, each as `atomic_write` does.

    All are synced before the first is renamed; they are renamed in the order given, so name the
    file whose presence means "complete" last.
    """
    targets = [Path(path).resolve() for path in paths]
    temporaries: list[Path] = []
    try:
        for target in targets:
            temporaries.append(_reserve_beside(target))
        yield tuple(temporaries)
        for temporary in temporaries:
            _sync(temporary, os.O_RDWR)
        for temporary, target in zip(temporaries, targets, strict=True):
            temporary.replace(target)
        for folder in {target.parent for target in targets}:
            _sync(folder, os.O_RDONLY)
    except BaseException:  # Ctrl-C leaves nothing behind either
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise


def remove_leftovers_of(targets: Iterable[Path]) -> None:
    """Remove the temporary files of these targets that killed processes left behind.

    No other process may be writing the targets.
    """
    targets = set(targets)
    for folder in {target.parent for target in targets}:
        for path in folder.iterdir():
            match = _LEFTOVER.fullmatch(path.name)
            if match and folder / f"{match['stem']}{match['suffix']}" in targets:
                path.unlink(missing_ok=True)


def refuse_other_names(path: str | os.PathLike[str]) -> None:
    """Refuse a file name that is not UTF-8, as in archives of another system.

    Raises:
        ValueError: the name is not UTF-8, so no text file can hold it.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the name {shown(str(path))} is not UTF-8; rename the file") from error


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_array(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes in C order, in hexadecimal.

    Arrays of another shape or dtype with the same bytes have the same hash.
    """
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).hexdigest()


def shown(name: str) -> str:
    """Return a text from a file as messages show it: escaped where it is not printable."""
    return name if name and name.isprintable() else repr(name)


def _reserve_beside(target: Path) -> Path:
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; give the name of a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; make it first")
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.tmp{target.suffix}")
    # Made here, not by the writer: a folder that can't be written is noticed before the work.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
