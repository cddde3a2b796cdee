"""Read images and masks, and write PNG files.

OpenCV reads images and masks other than PNG, Pillow masks that are PNG (`png.py`), SciPy SBD's
(`sbd_masks.py`). OpenCV alone is too kind: it fills the missing half of a JPEG with grey, lets EXIF
turn an image away from its mask, expands palettes to colours and scales 16 bits down. Here a file
is either what it claims to be or an error that names it.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from factseg_paddle.data.images import png
from factseg_paddle.data.images import sbd_masks as sbd
from factseg_paddle.data.images.headers import PNG_SIGNATURE
from factseg_paddle.data.images.palettes import IGNORE_INDEX, ISAID_PALETTE, color_to_index
from factseg_paddle.files import atomic_write

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*")
_JPEG_SIGNATURE = b"\xff\xd8"


@dataclass(frozen=True)
class MaskCoding:
    """The meaning of the values in masks.

    Attributes:
        num_classes: number of classes; indices below it are classes.
        palette: RGB colour of each class, [num_classes, 3] uint8; None where masks hold indices.
        ignore_index: the index of pixels that are ignored.
    """

    num_classes: int
    palette: np.ndarray | None
    ignore_index: int = IGNORE_INDEX


ISAID_CODING = MaskCoding(len(ISAID_PALETTE), ISAID_PALETTE)


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as RGB; grey is repeated, palettes are expanded, alpha is dropped.

    Args:
        path: a PNG, JPEG, TIFF or BMP file with 8 bits a channel.

    Returns:
        RGB, [H, W, 3] uint8. The orientation is that of the stored pixels, as masks have no EXIF.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged, not an image, or has not 8 bits a channel.
    """
    data = _read_file(Path(path), "image")
    try:
        return _as_rgb(_decode(data))
    except ValueError as error:
        raise ValueError(f"image {path} {error}") from error


def read_mask(path: str | Path, coding: MaskCoding = ISAID_CODING) -> np.ndarray:
    """Read a mask as class indices, whether it is stored as colours or as indices.

    One channel holds indices, unless each of its grey values is a colour of the palette. Three
    channels hold colours. A palette PNG holds colours where all colours that it uses are the given
    palette's (a colour mask saved with fewer bits), and indices where none contradicts its index
    (VOC). Without a palette there are indices only. A `.mat` file is SBD's and holds indices.

    Args:
        path: a lossless image file, 8 bits a channel or fewer, or one of SBD's `cls` folder.
        coding: the meaning of its values.

    Returns:
        Class indices, [H, W] uint8; indices below the number of classes, and `ignore_index`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged, lossy, has more than 8 bits a channel, or holds
            colours or indices that are not the coding's.
    """
    data = _read_file(Path(path), "mask")
    try:
        return _decode_mask(data, coding)
    except ValueError as error:
        raise ValueError(f"mask {path} {error}") from error


def read_pair(
    image_path: str | Path, mask_path: str | Path, coding: MaskCoding = ISAID_CODING
) -> tuple[np.ndarray, np.ndarray]:
    """Read an image and its mask, which must be of one size.

    Args:
        image_path: as in `read_image`.
        mask_path: as in `read_mask`.
        coding: as in `read_mask`.

    Returns:
        RGB [H, W, 3] uint8 and class indices [H, W] uint8.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: as in `read_image` and `read_mask`, or the two differ in size.
    """
    image, labels = read_image(image_path), read_mask(mask_path, coding)
    if image.shape[:2] != labels.shape:
        raise ValueError(
            f"image {image_path} is {image.shape[0]} x {image.shape[1]} pixels (rows x columns) "
            f"but mask {mask_path} is {labels.shape[0]} x {labels.shape[1]}; "
            "check that they are a pair"
        )
    return image, labels


def write_png(path: str | Path, pixels: np.ndarray) -> None:
    """Write a PNG file that is complete or absent.

    Args:
        path: the file; its folder must exist.
        pixels: RGB [H, W, 3] uint8, or one channel [H, W] uint8.

    Raises:
        ValueError: the pixels are of another shape or dtype.
        OSError: the file cannot be written.
    """
    color = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or pixels.size == 0 or not (color or pixels.ndim == 2):
        raise ValueError(
            f"pixels for {path} are [H, W, 3] or [H, W] uint8, "
            f"these are {list(pixels.shape)} {pixels.dtype}"
        )
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if color else pixels
    encoded = cv2.imencode(".png", stored)[1]
    with atomic_write(Path(path)) as temporary:
        Path(temporary).write_bytes(encoded.tobytes())


def _read_file(path: Path, kind: str) -> bytes:
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{kind} {path} {reason}; give the path of an image file")
    return path.read_bytes()


def _decode(data: bytes) -> np.ndarray:
    """Decode to [H, W] or [H, W, 3 or 4] uint8, channels in OpenCV's order BGR(A)."""
    if data.startswith(PNG_SIGNATURE):
        # before OpenCV does: libpng would print its complaint on stderr and name no file
        png.read_chunks(data)
    elif data.startswith(_JPEG_SIGNATURE) and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise ValueError("is truncated: its end marker is missing; copy or download it again")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # an empty file, or more pixels than OpenCV admits
        raise ValueError(f"cannot be decoded: {error.err}") from error
    if pixels is None:
        raise ValueError("cannot be decoded; give a PNG, JPEG, TIFF or BMP image")
    if pixels.dtype != np.uint8:
        bits = pixels.dtype.itemsize * 8
        raise ValueError(f"has {bits} bits a channel; convert it to 8 bits")
    if data.startswith(_TIFF_SIGNATURES) and pixels.ndim == 3 and pixels.shape[2] == 4:
        # OpenCV 4.5 gives the colours multiplied by alpha, from which they can't be told any more
        raise ValueError("is a TIFF with an alpha channel; save it as RGB or as PNG")
    return pixels


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] not in (3, 4):
        raise ValueError(f"has {pixels.shape[2]} channels; convert it to RGB")
    return cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2RGB)


def _decode_mask(data: bytes, coding: MaskCoding) -> np.ndarray:
    if data.startswith(sbd.SIGNATURE):
        return _check_indices(sbd.decode_segmentation(data), coding)
    if data.startswith(_JPEG_SIGNATURE):
        raise ValueError("is a JPEG, which changes colours and indices; save masks as PNG")
    if not data.startswith(PNG_SIGNATURE):
        pixels = _decode(data)
        return _grey(pixels, coding) if pixels.ndim == 2 else _colors(_as_rgb(pixels), coding)
    stored = png.read_stored(data)
    if stored.palette is not None:
        return _palette_entries(stored.values, stored.palette, coding)
    read = _grey if stored.values.ndim == 2 else _colors
    return read(stored.values, coding)


def _palette_entries(indices: np.ndarray, palette: np.ndarray, coding: MaskCoding) -> np.ndarray:
    """Take the entries of a palette for colours or for indices."""
    colors = [tuple(color) for color in palette.tolist()]
    used = np.unique(indices).tolist()
    if used[-1] >= len(colors):
        raise ValueError(f"uses entry {used[-1]} of a palette of {len(colors)}; save it again")
    if coding.palette is None:
        return _check_indices(indices, coding)
    class_of = {tuple(color): index for index, color in enumerate(coding.palette.tolist())}
    known = {entry: class_of[colors[entry]] for entry in used if colors[entry] in class_of}
    if len(known) == len(used):
        table = np.zeros(256, dtype=np.uint8)
        table[list(known)] = list(known.values())
        return table[indices]
    for entry, index in known.items():
        if entry != index:
            raise ValueError(
                f"has entry {entry} in the colour {colors[entry]} of class {index}, beside colours "
                "that are no class's; save it as RGB colours or as one channel of indices"
            )
    return _check_indices(indices, coding)


def _colors(pixels: np.ndarray, coding: MaskCoding) -> np.ndarray:
    """Look up RGB or RGBA colours."""
    if coding.palette is None:
        raise ValueError(
            f"has {pixels.shape[2]} channels where one of class indices is expected; save it as "
            "indices, or with kind folder give the palette of its colours (data.palette)"
        )
    try:
        return color_to_index(pixels[..., :3], coding.palette)
    except ValueError as error:
        raise ValueError(f"does not fit the palette: {error}") from error


def _grey(pixels: np.ndarray, coding: MaskCoding) -> np.ndarray:
    """Take grey values for colours where all are the palette's, such as 0 and 255 of two classes.

    Otherwise a white class would silently be the pixels to ignore.
    """
    if coding.palette is not None:
        greys = coding.palette[(coding.palette == coding.palette[:, :1]).all(axis=1), 0]
        used = np.flatnonzero(cv2.calcHist([pixels], [0], None, [256], [0, 256]))
        if np.isin(used, greys).all():
            return color_to_index(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), coding.palette)
    return _check_indices(pixels, coding)


def _check_indices(indices: np.ndarray, coding: MaskCoding) -> np.ndarray:
    outside = (indices >= coding.num_classes) & (indices != coding.ignore_index)
    if outside.any():
        values, counts = np.unique(indices[outside], return_counts=True)
        named = ", ".join(f"{v} in {n} pixels" for v, n in zip(values[:8], counts[:8], strict=True))
        raise ValueError(
            f"holds indices that are neither below {coding.num_classes} "
            f"nor {coding.ignore_index}: {named}"
        )
    return indices
