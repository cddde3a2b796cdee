"""The files of a data set: which image belongs to which mask, and whether their headers fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from factseg_paddle.data.images.headers import ImageHeader, read_header
from factseg_paddle.files import refuse_other_names
from factseg_paddle.folders import advice

MAT_SUFFIX = ".mat"
"""Suffix of masks without a header that gives their size; see `images/sbd_masks.py`."""

CHECK_COMMAND = advice(
    script="python scripts/prepare_isaid.py --check", command="factseg prepare --check"
)


class DataError(ValueError):
    """Raised for data that are absent or can't be used; the message names the file and the cure."""


@dataclass(frozen=True)
class PairFiles:
    """An image and its mask.

    Attributes:
        name: the image's name without suffix.
        image: the image file; one that a list names may be missing.
        mask: the mask file, which may be missing; None where the data have no masks.
    """

    name: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Headers:
    """The headers of a split, and the problems that they show.

    Attributes:
        images: the header of each image; None where it can't be read.
        problems: sentences, each naming a file, in the order of the pairs.
    """

    images: tuple[ImageHeader | None, ...]
    problems: tuple[str, ...]

    def check(self) -> None:
        """Raise a DataError where there are problems."""
        if self.problems:
            rest = len(self.problems) - 1
            more = (
                f"; and {rest} more problems, {CHECK_COMMAND} lists them "
                "(give it the same --config or --dataset_root)"
            )
            raise DataError(self.problems[0] + (more if rest else ""))


def read_headers(pairs: Iterable[PairFiles]) -> Headers:
    """Read the headers of all files, to find the problems they show before any work begins.

    A mask that is missing is a problem, as are sizes that differ, 16 bits a channel, a TIFF with
    more than red, green and blue or with 2 to 7 bits, a mask in a lossy format and a file that is
    not an image. The size of SBD's masks is known once they are decoded.
    """
    images: list[ImageHeader | None] = []
    problems: list[str] = []
    for pair in pairs:
        image, faults = read_image_header(pair.image)
        images.append(image)
        problems += faults
        mask, faults = read_mask_header(pair.mask) if pair.mask is not None else (None, [])
        problems += faults
        if image and mask and (image.height, image.width) != (mask.height, mask.width):
            problems.append(
                sizes_differ(pair, (image.height, image.width), (mask.height, mask.width))
            )
    return Headers(tuple(images), tuple(problems))


def sizes_differ(pair: PairFiles, image: Sequence[int], mask: Sequence[int]) -> str:
    """Return the message about an image and a mask of different heights and widths."""
    return (
        f"image {pair.image} is {image[0]} x {image[1]} pixels (rows x columns) but "
        f"mask {pair.mask} is {mask[0]} x {mask[1]}; check that they are a pair"
    )


def read_names(path: Path) -> list[str]:
    """Read the names in a list, one a line, sorted; empty lines are ignored.

    Raises:
        DataError: it is not text, empty, or names an image twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows' editor begins with it
    except UnicodeDecodeError as error:
        raise DataError(f"the list {path} is not UTF-8 text; give one name a line") from error
    names = [line.strip() for line in lines if line.strip()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"the list {path} names {named(twice)} more than once; keep one")
    if not names:
        raise DataError(f"the list {path} is empty; give one name a line, without suffix")
    return sorted(names)


def files_with_suffix(folder: Path, suffix: str) -> list[Path]:
    """List the files directly in a folder, sorted by name, without hidden ones (macOS's `._*`).

    The order does not depend on the file system, so a seed fixes what is drawn.

    Raises:
        DataError: a name is not UTF-8.
    """
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.name.endswith(suffix) and not path.name.startswith(".") and path.is_file()
    )
    for path in paths:
        try:
            refuse_other_names(path)
        except ValueError as error:
            raise DataError(str(error)) from error
    return paths


def named(names: Sequence[str]) -> str:
    """Return the first three names and the number of the others, for a message."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def read_mask_header(path: Path) -> tuple[ImageHeader | None, list[str]]:
    """Read a mask's header as `read_image_header` does; SBD's have none, which is no problem."""
    if path.suffix == MAT_SUFFIX and path.is_file():
        return None, []
    header, problems = read_image_header(path, "mask")
    if header and header.format == "JPEG":
        problems.append(
            f"mask {path} is a JPEG, which changes colours and indices; save masks as PNG"
        )
    return header, problems


def read_image_header(path: Path, kind: str = "image") -> tuple[ImageHeader | None, list[str]]:
    """Read the header of an image, None where that fails, and list what is wrong with it."""
    try:
        header = read_header(path)
    except FileNotFoundError:
        return None, [f"{kind} {path} does not exist; add it, or remove its partner"]
    except ValueError as error:
        return None, [f"{kind} {error}"]
    except OSError as error:
        return None, [f"{kind} {path} can't be read: {error.strerror or error}"]
    problems, is_tiff = [], header.format == "GTiff"
    if header.bits > 8 or (is_tiff and header.bits not in (1, 8)):
        problems.append(f"{kind} {path} has {header.bits} bits a channel; convert it to 8 bits")
    elif is_tiff and header.channels not in (1, 3):
        problems.append(
            f"{kind} {path} is a TIFF of {header.channels} channels, not all of which are colours; "
            "save it as RGB or as PNG"
        )
    return header, problems


STORE_FILE = "store.json"
