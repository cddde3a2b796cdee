"""Images read window by window, whatever their format."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from factseg_paddle.data.images.files import read_image
from factseg_paddle.data.images.headers import bits_of
from factseg_paddle.data.patches import Window
from factseg_paddle.inference.resampling import Read

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_GDAL_CACHE_MB = 128  # its own choice is a twentieth of the machine's memory


@dataclass(frozen=True)
class ImageSource:
    """An open image.

    Attributes:
        height: rows.
        width: columns.
        read: gives the pixels in a window, RGB [h, w, 3] uint8; a ValueError names the file where
            it is damaged there.
    """

    height: int
    width: int
    read: Read


@contextmanager
def open_image(path: str | Path) -> Iterator[ImageSource]:
    """Open an image of 8 bits a channel: grey is repeated, palettes are expanded, alpha is dropped.

    A TIFF is read window by window. PNG, JPEG and BMP are decoded once and held, 3 bytes a pixel,
    since their windows can't be read alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, no image, or has not 8 bits a channel.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"image {path} {reason}; give the path of an image file")
    with path.open("rb") as file:
        is_tiff = file.read(4) in _TIFF_SIGNATURES
    if is_tiff:
        with _open_tiff(path) as source:
            yield source
    else:
        pixels = read_image(path)
        yield ImageSource(*pixels.shape[:2], lambda w: pixels[_slices(w)])


@contextmanager
def _open_tiff(path: Path) -> Iterator[ImageSource]:
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_MB):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path)
        except RasterioIOError as error:
            raise ValueError(f"image {path} cannot be decoded: {error}") from error
        with dataset:
            bands, table = _bands(dataset, path)

            def read(window: Window) -> np.ndarray:
                rows = (window.top, window.top + window.height)
                columns = (window.left, window.left + window.width)
                try:
                    pixels = dataset.read(bands, window=(rows, columns))
                except RasterioIOError as error:
                    raise ValueError(
                        f"image {path} is damaged or truncated in rows {rows[0]} to {rows[1]}: "
                        f"{error.__cause__ or error}; copy it again"
                    ) from error
                if table is not None:
                    return table[pixels[0]]
                if len(bands) == 1:
                    return np.repeat(pixels[0][..., None], 3, axis=2)
                return np.ascontiguousarray(pixels.transpose(1, 2, 0))

            yield ImageSource(dataset.height, dataset.width, read)


def _bands(dataset: rasterio.DatasetReader, path: Path) -> tuple[list[int], np.ndarray | None]:
    """Return the bands to read, and the colours [256, 3] uint8 of a palette."""
    kinds = set(dataset.dtypes)
    if kinds != {"uint8"}:
        raise ValueError(f"image {path} has {', '.join(kinds)} values; convert it to 8 bits")
    bits = bits_of(dataset)
    if bits == 1 and dataset.colorinterp[0] == ColorInterp.gray:
        table = np.zeros((256, 3), np.uint8)
        table[1] = 255
        return [1], table
    if bits != 8 and dataset.colorinterp[0] != ColorInterp.palette:
        raise ValueError(f"image {path} has {bits} bits a channel; convert it to 8 bits")
    if dataset.count > 4:
        raise ValueError(f"image {path} has {dataset.count} channels; convert it to RGB")
    if dataset.colorinterp[0] == ColorInterp.palette:
        table = np.zeros((256, 3), np.uint8)
        for index, color in dataset.colormap(1).items():
            table[index] = color[:3]
        return [1], table
    return ([1] if dataset.count < 3 else [1, 2, 3]), None


def _slices(window: Window) -> tuple[slice, slice]:
    return (
        slice(window.top, window.top + window.height),
        slice(window.left, window.left + window.width),
    )
