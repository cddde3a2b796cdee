"""The prepared store: lossless, compressed GeoTIFF whose windows are read alone.

    store.json                 its files, with sizes and hashes; `complete` when all are there
    {train,val}/images/P0000.tif     RGB, 3 x uint8
    {train,val}/masks/P0000.tif      class indices 0-15 and 255, uint8
    {train,val}/records/P0000.json   written last: the pair is whole

Tiles of 256 x 256 pixels, ZSTD, images with the horizontal predictor: any GIS opens them. A file is
opened for each window and closed again, so that a dataset can be pickled: 0.2 of about 6 ms
for a window of 896 x 896 of image and mask.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import rasterio
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rasterio.errors import RasterioIOError
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.windows import Window as RasterWindow

from factseg_paddle.data.layouts.pair_files import STORE_FILE, DataError
from factseg_paddle.data.patches import Window
from factseg_paddle.files import atomic_write, sha256_of_file
from factseg_paddle.folders import advice

TILE = 256
PREPARE_COMMAND = advice(script="scripts/prepare_isaid.py", command="factseg prepare")

# GDAL lists the whole folder at each opening otherwise, in search of files that belong together.
_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}

_Count = Annotated[int, Field(ge=0)]
_Side = Annotated[int, Field(ge=1)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StoredFile(_Record):
    """Size in bytes and SHA-256 of a file of the store."""

    bytes: _Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SourceStamp(_Record):
    """Size in bytes and time of the last change of a file that was prepared."""

    bytes: _Count
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> SourceStamp:
        """Return the stamp that a file has now."""
        stat = path.stat()
        return cls(bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)


class StoredPair(_Record):
    """An image and its mask in the store, and the stamps of their sources."""

    name: str
    height: _Side
    width: _Side
    images: StoredFile
    masks: StoredFile
    source_image: SourceStamp
    source_mask: SourceStamp


class Store(_Record):
    """The content of `store.json`; `pairs` is empty until it is complete."""

    format: Literal["factseg_prepared"] = "factseg_prepared"
    version: Literal[1] = 1
    complete: bool
    pairs: dict[Literal["train", "val"], list[StoredPair]]


def split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split."""
    return root / split


def stored_path(folder: Path, kind: str, name: str) -> Path:
    """Return the path of a file of a split; kind is "images", "masks" or "records"."""
    return folder / kind / f"{name}.{'json' if kind == 'records' else 'tif'}"


def encode_raster(pixels: np.ndarray) -> bytes:
    """Encode pixels as a GeoTIFF.

    Args:
        pixels: RGB [H, W, 3] uint8, or class indices [H, W] uint8.
    """
    bands = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    with rasterio.Env(**_OPTIONS), MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=bands.shape[0],
            height=bands.shape[1],
            width=bands.shape[2],
            dtype="uint8",
            # one unit a pixel, row 0 at the top; without it rasterio warns at each opening
            transform=Affine(1.0, 0.0, 0.0, 0.0, -1.0, bands.shape[1]),
            photometric="RGB" if pixels.ndim == 3 else "MINISBLACK",
            interleave="pixel",
            tiled=True,
            blockxsize=TILE,
            blockysize=TILE,
            compress="ZSTD",
            zstd_level=9,
            predictor=2 if pixels.ndim == 3 else 1,
        ) as raster:
            raster.write(bands)
        return bytes(memory.getbuffer())


def read_raster(path: Path, window: Window | None = None) -> np.ndarray:
    """Read a raster of the store, or a window that lies inside it.

    Returns:
        RGB [h, w, 3] uint8, or class indices [h, w] uint8.

    Raises:
        DataError: the file is missing or damaged.
    """
    part = None
    if window is not None:
        part = RasterWindow(window.left, window.top, window.width, window.height)
    try:
        with rasterio.Env(**_OPTIONS), rasterio.open(path) as raster:
            if raster.count == 1:
                return raster.read(1, window=part)
            return np.ascontiguousarray(raster.read(window=part).transpose(1, 2, 0))
    except RasterioIOError as error:
        what = "is damaged; delete it and" if path.exists() else "does not exist;"
        raise DataError(f"{path} {what} run {PREPARE_COMMAND} again") from error


def load_store(root: Path) -> Store:
    """Read `store.json`.

    Raises:
        DataError: it is absent, damaged, or of another program or version.
    """
    path = root / STORE_FILE
    if not path.is_file():
        raise DataError(f"{root} is not a prepared store: it has no {STORE_FILE}")
    try:
        return Store.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{path} is damaged or of another version of this program; "
            f"prepare into a new folder with {PREPARE_COMMAND}"
        ) from error


def save_store(root: Path, store: Store) -> None:
    """Write `store.json`, whole or not at all."""
    text = json.dumps(store.model_dump(), indent=1)
    with atomic_write(root / STORE_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def open_store(root: Path, split: str) -> list[StoredPair]:
    """Load the pairs of a split of a complete store, and check that files have their sizes.

    Raises:
        DataError: it is not complete, lacks the split, or a file is missing or of another size.
    """
    store = load_store(root)
    if not store.complete:
        raise DataError(
            f"the prepared store {root} is not complete; run {PREPARE_COMMAND} again, "
            "it goes on where it was"
        )
    pairs = store.pairs.get(split, [])
    if not pairs:
        raise DataError(f"the prepared store {root} has no {split} images; prepare them as well")
    for pair in pairs:
        problem = size_problem(split_folder(root, split), pair)
        if problem:
            raise DataError(f"{problem}; run {PREPARE_COMMAND} again, it makes it anew")
    return pairs


def size_problem(folder: Path, pair: StoredPair) -> str | None:
    """Return what is wrong with the sizes of a pair's files; None where nothing is."""
    for kind in ("images", "masks"):
        path, recorded = stored_path(folder, kind, pair.name), getattr(pair, kind)
        if not path.is_file():
            return f"{path} does not exist"
        size = path.stat().st_size
        if size != recorded.bytes:
            return f"{path} has {size} bytes, but had {recorded.bytes} when it was prepared"
    return None


def hash_problems(folder: Path, pair: StoredPair) -> list[str]:
    """Hash a pair's files and list what is wrong with them."""
    problem = size_problem(folder, pair)
    if problem:
        return [f"{problem}; run {PREPARE_COMMAND} again"]
    return [
        f"{path} has other bytes than when it was prepared; delete it and run {PREPARE_COMMAND}"
        for path, recorded in (
            (stored_path(folder, kind, pair.name), getattr(pair, kind))
            for kind in ("images", "masks")
        )
        if sha256_of_file(path) != recorded.sha256
    ]
