"""Prediction from files to files: what `scripts/predict.py` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from factseg_paddle.config.data_section import Data
from factseg_paddle.data.images.files import read_mask
from factseg_paddle.data.images.palettes import distinct_palette
from factseg_paddle.data.open import class_names_of, coding_of
from factseg_paddle.engine.restore import LoadedModel, restore
from factseg_paddle.inference.legend import share_text
from factseg_paddle.inference.predict_files import (
    MASK_SUFFIXES,
    FileResult,
    Masks,
    find_images,
    iter_predictions,
)
from factseg_paddle.inference.predictor import counted, network_predictor
from factseg_paddle.inference.sliding_window import SlidingWindow
from factseg_paddle.inference.visualize import Classes
from factseg_paddle.progress import NO_PROGRESS, Progress


@dataclass(frozen=True, eq=False)
class PredictionRun:
    """A prediction that can start.

    Attributes:
        files: the images.
        engine: the sliding window over the network.
        classes: names and colours.
        masks: for error maps, or None.
        restored: the network and its configuration.
    """

    files: tuple[Path, ...]
    engine: SlidingWindow
    classes: Classes
    masks: Masks | None
    restored: LoadedModel

    @classmethod
    def prepare(
        cls,
        weights: Path,
        images: Path,
        *,
        config: Path | None = None,
        opts: Sequence[str] = (),
        changes: Mapping[str, Any] | None = None,
        masks: Path | None = None,
    ) -> PredictionRun:
        """Find the images and load the network; other arguments and errors as `restore`.

        Raises:
            ValueError: weights, configuration or device can't be used.
            OSError: there are no images, or no such folder of masks.
        """
        files = tuple(find_images(images))
        if masks is not None and not masks.is_dir():
            raise FileNotFoundError(f"--masks {masks} is no folder; give the folder of the masks")
        restored = restore(weights, config=config, opts=opts, changes=changes)
        data = restored.config.data
        engine = SlidingWindow.of_settings(
            network_predictor(restored.network),
            restored.config.eval,
            normalization=data.normalization,
            num_classes=data.num_classes,
        )
        return cls(files, engine, classes_of(data), masks_of(data, masks), restored)

    def results(
        self,
        output: Path,
        progress: Progress = NO_PROGRESS,
    ) -> Iterator[FileResult]:
        """Yield what became of each file, which is predicted when its result is asked for.

        Args:
            output: folder of the pictures.
            progress: counts each file's windows.

        Raises:
            OSError: the folders under `output` can't be made.
        """
        return iter_predictions(
            self.files,
            output,
            replace(self.engine, predict=counted(self.engine.predict, progress)),
            self.classes,
            masks=self.masks,
            progress=progress,
        )

    def line(self, result: FileResult) -> str:
        """Describe one file for people: the classes found, most pixels first."""
        if not result:
            return f"failed: {result.problem}"
        order = np.argsort(-result.pixels[1:], kind="stable") + 1
        total = int(result.pixels.sum())
        classes = ", ".join(
            f"{self.classes.names[i]} {share_text(int(result.pixels[i]), total)}"
            for i in order
            if result.pixels[i]
        )
        return f"{result.path.name}: {classes or f'{self.classes.names[0]} only'}"


def classes_of(data: Data) -> Classes:
    """Return names and colours of the classes; numbers and made-up colours where data has none."""
    palette = coding_of(data).palette
    if palette is None:
        palette = distinct_palette(data.num_classes)
    return Classes(class_names_of(data), palette, data.ignore_index)


def masks_of(data: Data, folder: Path | None) -> Masks | None:
    """Return a folder of masks that are named and coded as those of the configured data."""
    if folder is None:
        return None
    read = partial(read_mask, coding=coding_of(data))
    if data.kind != "folder":
        return Masks(folder, read)
    return Masks(folder, read, (data.mask_suffix, *MASK_SUFFIXES), data.image_suffix)
