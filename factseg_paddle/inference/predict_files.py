"""Prediction of image files: an index mask, a colour mask, an overlay and an error map each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factseg_paddle.data.patches import Window
from factseg_paddle.files import atomic_write_all, refuse_other_names, remove_leftovers_of, shown
from factseg_paddle.inference.image_source import SUFFIXES, ImageSource, open_image
from factseg_paddle.inference.pictures import error_picture, overlay_picture
from factseg_paddle.inference.png_strips import png_strips
from factseg_paddle.inference.sliding_window import SlidingWindow
from factseg_paddle.inference.visualize import Classes
from factseg_paddle.progress import NO_PROGRESS, Progress

KINDS = ("index", "color", "overlay", "error")
"""Folders of the pictures."""

MASK_SUFFIXES = (".png", "_instance_color_RGB.png", ".tif", ".bmp")
"""Of masks: the image's own name, or iSAID's form."""


@dataclass(frozen=True)
class Masks:
    """A folder of masks.

    Attributes:
        folder: where they lie.
        read: gives the class indices of a file, [H, W] integers.
        suffixes: what may follow an image's name in the name of its mask, the first found counts.
        image_suffix: what ends the name of an image besides its own suffix, such as "_rgb.png".
    """

    folder: Path
    read: Callable[[Path], np.ndarray]
    suffixes: tuple[str, ...] = MASK_SUFFIXES
    image_suffix: str = ".png"

    def of_image(self, image: Path) -> Path | None:
        """Return the mask of an image; None where there is none."""
        names = dict.fromkeys((image.name.removesuffix(self.image_suffix), image.stem))
        candidates = (self.folder / f"{name}{suffix}" for name in names for suffix in self.suffixes)
        return next((mask for mask in candidates if mask.is_file()), None)


@dataclass(frozen=True, eq=False)
class FileResult:
    """What became of one file; true where it was predicted.

    Attributes:
        path: the image.
        pictures: what was written; empty where it failed.
        pixels: predicted pixels of each class, [C] int64.
        problem: why it failed, one sentence; empty where it did not.
    """

    path: Path
    pictures: tuple[Path, ...]
    pixels: np.ndarray
    problem: str = ""

    def __bool__(self) -> bool:
        return not self.problem


def find_images(path: Path) -> list[Path]:
    """Return the image files of a folder in the order of their names, or the one file given.

    Raises:
        FileNotFoundError: there is no such file or folder, or it holds no image.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist; give an image or a folder of images")
    paths = sorted(
        file
        for file in path.iterdir()
        # hidden ones, such as macOS's ._*, are none
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not paths:
        raise FileNotFoundError(f"{path} holds no image ({', '.join(SUFFIXES)})")
    return paths


def output_names(files: Sequence[Path]) -> list[str]:
    """Return the pictures' names without suffix: stems, or whole names where stems collide."""
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(stems) else [file.name for file in files]


def iter_predictions(
    files: Sequence[Path],
    output: Path,
    engine: SlidingWindow,
    classes: Classes,
    *,
    masks: Masks | None = None,
    progress: Progress = NO_PROGRESS,
) -> Iterator[FileResult]:
    """Yield what became of each file, which is predicted when its result is asked for.

    One that fails is reported and the rest go on. What is wrong with the arguments is raised at
    once, before the first file.

    A file's pictures appear together when all are complete: `output/index/NAME.png` (indices, with
    the palette), `color/NAME.png`, `overlay/NAME.png`, and `error/NAME.png` where there is a mask.

    Args:
        files: the images.
        output: folder of the results; it is made.
        engine: the window and the network.
        classes: names and colours.
        masks: where masks lie and what reads them; None draws no error maps.
        progress: begins to count when a file is open, to the number of the network's inputs that
            it takes; a predictor that is `counted` advances it.

    Returns:
        What became of each file.

    Raises:
        ValueError: a picture would be written over an image or a mask.
        OSError: the folders can't be made.
    """
    kinds, names = KINDS if masks else KINDS[:-1], output_names(files)
    mask_paths = [masks.of_image(path) if masks else None for path in files]
    read = [*files, *filter(None, mask_paths)]
    _refuse_to_overwrite(read, [output / kind / f"{name}.png" for kind in kinds for name in names])
    for kind in kinds:
        (output / kind).mkdir(parents=True, exist_ok=True)
        remove_leftovers_of(output / kind / f"{name}.png" for name in names)
    jobs = list(zip(files, names, mask_paths, strict=True))
    return _predict_each(jobs, output, engine, classes, masks, progress)


def _predict_each(
    jobs: Sequence[tuple[Path, str, Path | None]],
    output: Path,
    engine: SlidingWindow,
    classes: Classes,
    masks: Masks | None,
    progress: Progress,
) -> Iterator[FileResult]:
    for path, name, mask in jobs:
        nothing = np.zeros(len(classes.names), np.int64)
        try:
            refuse_other_names(path)
            with open_image(path) as source:
                progress.start(engine.count(source.height, source.width), path.name)
                truth = _read_truth(masks, mask, path, source) if mask else None
                result = _predict_image(path, source, truth, output, name, engine, classes)
        # a damaged file, one too large, a full disk: what the next file may not suffer from
        except (ValueError, OSError) as error:
            name_shown = shown(str(path))
            problem = str(error) if name_shown in str(error) else f"{name_shown}: {error}"
            result = FileResult(path, (), nothing, problem)
        except MemoryError:
            result = FileResult(path, (), nothing, f"{shown(str(path))} does not fit into memory")
        yield result


def _refuse_to_overwrite(read: Sequence[Path], targets: Sequence[Path]) -> None:
    sources = {file.resolve() for file in read}
    over = next((target for target in targets if target.resolve() in sources), None)
    if over is not None:
        raise ValueError(f"{over} is read, and a result would replace it; give another output")


def _predict_image(
    path: Path,
    source: ImageSource,
    truth: np.ndarray | None,
    output: Path,
    name: str,
    engine: SlidingWindow,
    classes: Classes,
) -> FileResult:
    kinds = KINDS[:-1] if truth is None else KINDS
    targets = tuple(output / kind / f"{name}.png" for kind in kinds)
    pixels = np.zeros(len(classes.names), np.int64)
    width = source.width
    with atomic_write_all(*targets) as temporaries, ExitStack() as stack:
        opened = stack.enter_context
        add_index = opened(png_strips(temporaries[0], width, classes.palette))
        add_color = opened(png_strips(temporaries[1], width))
        add_overlay = opened(overlay_picture(temporaries[2], width, classes))
        if truth is not None:
            add_error = opened(error_picture(temporaries[3], width, classes))
        for top, labels in engine.labels(source.read, source.height, width):
            image = source.read(Window(top, 0, *labels.shape))
            add_index(labels)
            add_color(classes.palette[labels])
            add_overlay(image, labels)
            if truth is not None:
                add_error(image, labels, truth[top : top + len(labels)])
            pixels += np.bincount(labels.reshape(-1), minlength=len(pixels))
    return FileResult(path, targets, pixels)


def _read_truth(masks: Masks, mask: Path, path: Path, source: ImageSource) -> np.ndarray:
    truth = masks.read(mask)
    if truth.shape != (source.height, source.width):
        raise ValueError(
            f"image {path} is {source.height} x {source.width} pixels (rows x columns) but mask "
            f"{mask} is {truth.shape[0]} x {truth.shape[1]}; check that they are a pair"
        )
    return truth
