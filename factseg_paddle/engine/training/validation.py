"""Evaluation during training, over all processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import paddle

from factseg_paddle.config.schema import Config
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.pairs import ImagePairs
from factseg_paddle.data.patches import Window
from factseg_paddle.engine.evaluation.evaluator import EvaluationResult, evaluate
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.signals import StopSignals
from factseg_paddle.inference.predictor import network_predictor
from factseg_paddle.inference.sliding_window import SlidingWindow
from factseg_paddle.inference.visualize import overlay_colors, overlay_rows
from factseg_paddle.metrics import ConfusionMatrix, Metrics


class InterruptedEvaluationError(Exception):
    """Told to stop between two images; what was counted so far is lost."""


class Validation:
    """Evaluates the network that is being trained.

    Args:
        config: `train.eval_images` and `eval` say what is evaluated and how.
        network: left in the mode in which it is.
        processes: each evaluates its share of the images, and the counts are added.
        level: of mixed precision, or None.

    Raises:
        DataError: there are no validation images with masks.
    """

    def __init__(
        self, config: Config, network: paddle.nn.Layer, processes: Processes, level: str | None
    ) -> None:
        self._settings, self._processes = config.eval, processes
        self._pairs: ImagePairs = open_pairs(config.data, "val")
        self._normalization = config.data.normalization
        self._count = min(config.train.eval_images or len(self._pairs), len(self._pairs))
        self._network, self._level = network, level

    def rehearse(self, stop: StopSignals) -> str:
        """Evaluate the smallest image, so that what fails does so before the first iteration."""
        sizes = [np.prod(self._pairs.size(index)) for index in range(self._count)]
        smallest = int(np.argmin(sizes))
        metrics = self._metrics([smallest] if self._processes.is_first else [], stop)
        return f"rehearsal on {self._pairs.name(smallest)}: mIoU {metrics.mean_iou:.4f}"

    def evaluate(self, stop: StopSignals) -> Metrics:
        """Return the metrics over all images, or the first `train.eval_images` of them.

        Raises:
            InterruptedEvaluationError: told to stop.
        """
        self._processes.share_buffers(self._network)
        mine = range(self._processes.rank, self._count, self._processes.count)
        return self._metrics(mine, stop)

    def _metrics(self, indices: Sequence[int], stop: StopSignals) -> Metrics:
        counts = self._evaluated(indices, stop).confusion.matrix
        merged = ConfusionMatrix(self._pairs.num_classes, self._pairs.ignore_index)
        merged.add(self._processes.total(counts))
        return merged.compute(self._pairs.class_names)

    def picture(self) -> np.ndarray:
        """Return the first image's middle, its labels and the prediction, [h, 3 w, 3] uint8."""
        height, width = self._pairs.size(0)
        side = min(height, width, self._settings.patch_size)
        window = Window((height - side) // 2, (width - side) // 2, side, side)
        image, truth = self._pairs.read_image(0, window), self._pairs.read_labels(0, window)
        engine = SlidingWindow.of_settings(
            network_predictor(self._network), self._settings, normalization=self._normalization
        )

        def read(w: Window) -> np.ndarray:
            return image[w.top : w.top + w.height, w.left : w.left + w.width]

        with self._precision():
            predicted = np.concatenate([rows for _, rows in engine.labels(read, side, side)])
        colors = overlay_colors(self._pairs.palette)
        known = np.where(truth == self._pairs.ignore_index, 0, truth)
        shown = [overlay_rows(image, labels, colors, None) for labels in (known, predicted)]
        return np.concatenate([image, *shown], axis=1)

    def _precision(self) -> AbstractContextManager:
        return paddle.amp.auto_cast(enable=self._level is not None, level=self._level or "O1")

    def _evaluated(self, indices: Sequence[int], stop: StopSignals) -> EvaluationResult:
        def until_stopped() -> Iterator[int]:
            for index in indices:
                if stop.received:
                    raise InterruptedEvaluationError
                yield index

        with self._precision():
            return evaluate(
                self._pairs,
                network_predictor(self._network),
                self._settings,
                indices=until_stopped(),
                normalization=self._normalization,
            )
