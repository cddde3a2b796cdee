"""Evaluation: the sliding window over each image, and one exact confusion matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from factseg_paddle.config.schema import Evaluation
from factseg_paddle.data.patches import Window
from factseg_paddle.inference.sliding_window import Predict, SlidingWindow
from factseg_paddle.metrics import ConfusionMatrix, Metrics, compute_metrics
from factseg_paddle.transforms import ISAID_NORMALIZATION, Normalization


class Pairs(Protocol):
    """What evaluation asks of a dataset; `data.pairs.ImagePairs` is one."""

    class_names: tuple[str, ...]
    num_classes: int
    ignore_index: int
    has_masks: bool

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return the image's name."""

    def size(self, index: int) -> tuple[int, int]:
        """Return rows and columns."""

    def read_image(self, index: int, window: Window | None = None) -> np.ndarray:
        """Return the image, [h, w, 3] uint8."""

    def read_labels(self, index: int, window: Window | None = None) -> np.ndarray:
        """Return the labels, [h, w] integers."""


@dataclass(frozen=True, eq=False)
class ImageResult:
    """The confusion matrix of one image.

    Attributes:
        index: number of the image in its dataset.
        name: of the image.
        height: rows.
        width: columns.
        matrix: [C, C] int64, rows truth, columns prediction.
    """

    index: int
    name: str
    height: int
    width: int
    matrix: np.ndarray

    @property
    def metrics(self) -> Metrics:
        """Return the IoU of this image alone; classes that it lacks are NaN."""
        return compute_metrics(self.matrix)


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        confusion: over all images.
        images: each by itself, in the order of evaluation.
        class_names: of all classes.
    """

    confusion: ConfusionMatrix
    images: tuple[ImageResult, ...]
    class_names: tuple[str, ...]

    @property
    def metrics(self) -> Metrics:
        """Return the metrics over all images."""
        return self.confusion.compute(self.class_names)

    def __bool__(self) -> bool:
        return bool(self.confusion.matrix.any())


class Store(Protocol):
    """Where results are kept image by image; `engine.evaluation_store.EvaluationStore` is one."""

    def result(self, index: int) -> ImageResult | None:
        """Return what is known of an image already."""

    def recording(self, index: int) -> AbstractContextManager[Callable[[np.ndarray], None]]:
        """Give a function that takes the predicted labels, [n, W] uint8, from the top."""

    def keep(self, result: ImageResult) -> None:
        """Keep the result of an image whose labels were recorded."""


def evaluate(
    pairs: Pairs,
    predict: Predict,
    settings: Evaluation,
    *,
    indices: Iterable[int] | None = None,
    normalization: Normalization = ISAID_NORMALIZATION,
    store: Store | None = None,
) -> EvaluationResult:
    """Evaluate images.

    Args:
        pairs: the images and their masks.
        predict: from normalised windows to probabilities, such as `network_predictor(model)`.
        settings: the sliding window.
        indices: the images to evaluate; None for all. Shards merge exactly: add their matrices.
        normalization: from RGB windows to the network's input.
        store: knows images that are done and keeps each one as it is finished.

    Raises:
        ValueError: there are no masks, an image or mask can't be read, a mask has another size,
            or the predictor gives another number of classes or values that are not finite.
    """
    if not pairs.has_masks:
        raise ValueError("evaluation needs masks, and these images have none; use predict.py")
    engine = SlidingWindow.of_settings(
        predict, settings, normalization=normalization, num_classes=pairs.num_classes
    )
    confusion = ConfusionMatrix(pairs.num_classes, pairs.ignore_index)
    results = []
    for index in range(len(pairs)) if indices is None else indices:
        result = store.result(index) if store else None
        if result is None:
            with store.recording(index) if store else nullcontext() as record:
                result = _evaluate_image(pairs, engine, index, record)
            if store:
                store.keep(result)
        confusion.add(result.matrix)
        results.append(result)
    return EvaluationResult(confusion, tuple(results), tuple(pairs.class_names))


def _evaluate_image(
    pairs: Pairs,
    engine: SlidingWindow,
    index: int,
    record: Callable[[np.ndarray], None] | None,
) -> ImageResult:
    name, (height, width) = pairs.name(index), pairs.size(index)
    confusion = ConfusionMatrix(pairs.num_classes, pairs.ignore_index)
    for top, labels in engine.labels(lambda w: pairs.read_image(index, w), height, width):
        truth = pairs.read_labels(index, Window(top, 0, *labels.shape))
        try:
            confusion.update(truth, labels)
        except ValueError as error:
            raise ValueError(f"{name}, rows from {top}: {error}") from error
        if record:
            record(labels)
    return ImageResult(index, name, height, width, confusion.matrix)
