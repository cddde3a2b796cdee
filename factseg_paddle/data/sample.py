"""A sample dataset that paints itself, so that a first run needs no download."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from factseg_paddle.config_schema import Sample
from factseg_paddle.data.pair_files import DataError
from factseg_paddle.data.synthetic import make_sample_dataset


def paint_sample(folder: Path, settings: Sample) -> None:
    """Paint the scenes where nothing lies yet: whole or not at all, and once by several processes.

    Raises:
        DataError: they can't be written.
    """
    if folder.exists():
        return
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        make_sample_dataset(
            temporary, images=settings.images, size=settings.size, seed=settings.seed
        )
        if not folder.exists():
            temporary.rename(folder)
    except OSError as error:
        if not folder.exists():  # or another process was faster
            raise DataError(f"sample data can't be painted into {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
