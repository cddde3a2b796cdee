"""The size and depth of an image file, read from its header without decoding pixels."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import rasterio

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type of the IHDR chunk


@dataclass(frozen=True)
class ImageHeader:
    """Size and depth of a file's pixels, as its header gives them.

    Attributes:
        height: number of rows.
        width: number of columns.
        channels: number of stored values per pixel; 1 for a palette.
        bits: bits of one channel.
        format: "PNG", or GDAL's name of another, such as "JPEG", "GTiff" and "BMP".
    """

    height: int
    width: int
    channels: int
    bits: int
    format: str = "PNG"


def read_header(path: Path) -> ImageHeader:
    """Read the header of a PNG, JPEG, TIFF or BMP file.

    Raises:
        ValueError: the file is truncated or not an image; the message names it.
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        start = file.read(26)
    if not start.startswith(PNG_SIGNATURE):
        return _read_other(path)
    if len(start) < 26 or start[12:16] != b"IHDR" or start[25] not in _PNG_CHANNELS:
        raise ValueError(f"{path} is truncated or damaged; copy or download it again")
    width, height = struct.unpack(">II", start[16:24])
    return ImageHeader(height, width, _PNG_CHANNELS[start[25]], start[24])


def bits_of(source: rasterio.DatasetReader) -> int:
    """Return the bits of one channel; GDAL unpacks fewer than 8, as TIFF may have, unscaled."""
    whole = str(np.dtype(source.dtypes[0]).itemsize * 8)
    return int(source.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", whole))


def _read_other(path: Path) -> ImageHeader:
    import rasterio  # here, since data that are PNG files alone do not need it
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as source:
                bits = bits_of(source)
                return ImageHeader(source.height, source.width, source.count, bits, source.driver)
        except RasterioIOError as error:
            raise ValueError(
                f"{path} is not an image or is damaged; give a PNG, JPEG, TIFF or BMP file"
            ) from error
