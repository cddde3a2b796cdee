"""The files of a data set: which image belongs to which mask, and whether their headers fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from factseg_paddle.data.image_headers import ImageHeader, read_header

CHECK_COMMAND = "python scripts/prepare_isaid.py --check"


class DataError(ValueError):
    """Data that are absent or can't be used; the message names the file and what to do."""


@dataclass(frozen=True)
class PairFiles:
    """An image and its mask.

    Attributes:
        name: of the image, without suffix.
        image: its file, which exists.
        mask: its file, which may be missing; None where the data have no masks.
    """

    name: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Headers:
    """What the headers of a split say.

    Attributes:
        images: of each pair; None where it can't be read.
        problems: sentences, each with a file's name, in the order of the pairs.
    """

    images: tuple[ImageHeader | None, ...]
    problems: tuple[str, ...]

    def check(self) -> None:
        """Raise a DataError where there are problems."""
        if self.problems:
            rest = len(self.problems) - 1
            more = f"; and {rest} more problems, {CHECK_COMMAND} lists them" if rest else ""
            raise DataError(self.problems[0] + more)


def read_headers(pairs: Iterable[PairFiles]) -> Headers:
    """Read the headers of all files; what can be seen there is found before any work begins.

    A mask that is missing is a problem, as are sizes that differ, 16 bits a channel, a mask in a
    lossy format and a file that is no image.
    """
    images: list[ImageHeader | None] = []
    problems: list[str] = []
    for pair in pairs:
        image = _header("image", pair.image, problems)
        images.append(image)
        mask = _header("mask", pair.mask, problems) if pair.mask is not None else None
        if image and mask and (image.height, image.width) != (mask.height, mask.width):
            problems.append(
                f"image {pair.image} is {image.height} x {image.width} pixels (rows x columns) but "
                f"mask {pair.mask} is {mask.height} x {mask.width}; check that they are a pair"
            )
    return Headers(tuple(images), tuple(problems))


def files_with_suffix(folder: Path, suffix: str) -> list[Path]:
    """Files directly in a folder, sorted by name; hidden ones, such as macOS's `._*`, are none.

    The order is that of the names and not of the file system, so a seed fixes what is drawn.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.endswith(suffix) and not path.name.startswith(".") and path.is_file()
    )


def named(names: Sequence[str]) -> str:
    """The first names of many, as messages show them."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _header(kind: str, path: Path, problems: list[str]) -> ImageHeader | None:
    try:
        header = read_header(path)
    except FileNotFoundError:
        problems.append(f"{kind} {path} does not exist; add it, or remove its partner")
        return None
    except ValueError as error:
        problems.append(f"{kind} {error}")
        return None
    except OSError as error:
        problems.append(f"{kind} {path} can't be read: {error.strerror or error}")
        return None
    if header.bits > 8:
        problems.append(f"{kind} {path} has {header.bits} bits a channel; convert it to 8 bits")
    if kind == "mask" and header.is_jpeg:
        problems.append(
            f"mask {path} is a JPEG, which changes colours and indices; save masks as PNG"
        )
    return header
