"""A sample dataset that paints itself, so that a first run needs no download."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from factseg_paddle.config.data_section import Data, Sample
from factseg_paddle.data.layouts.pair_files import DataError
from factseg_paddle.data.synthetic.scenes import make_sample_dataset


def paint_configured_sample(data: Data) -> None:
    """Paint the sample data that a configuration asks for, if any.

    Raises:
        DataError: it can't be written.
    """
    if data.sample is not None:
        paint_sample(Path(data.dataset_root), data.sample)


def paint_sample(folder: Path, settings: Sample) -> None:
    """Paint the scenes into an empty or new folder: whole or not at all, and once by all processes.

    Raises:
        DataError: they can't be written.
    """
    if not _is_free(folder):
        return
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        make_sample_dataset(
            temporary, images=settings.images, size=settings.size, seed=settings.seed
        )
        temporary.rename(folder)
    except OSError as error:
        if _is_free(folder):  # or another process was faster
            raise DataError(f"sample data can't be painted into {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_free(folder: Path) -> bool:
    """Return whether a folder can be renamed to this path: nothing is there, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
