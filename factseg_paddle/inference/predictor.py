"""A network as the function from numpy to numpy that the sliding window takes."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from factseg_paddle.inference.sliding_window import Predict
from factseg_paddle.losses import joint_probability
from factseg_paddle.models import FactSegOutput, SegmentationOutput
from factseg_paddle.progress import Progress


def network_predictor(model: nn.Layer) -> Predict:
    """Return a predictor of every class's probability, in evaluation mode and without gradients.

    Args:
        model: gives class logits [N, C, H, W] and binary logits [N, 1, H, W], or a
            `SegmentationOutput`. Every call leaves it and each of its layers in the mode in which
            they were.

    Returns:
        A function from images [N, 3, H, W] float32 to probabilities [N, C, H, W] float32.
    """

    def predict(images: np.ndarray) -> np.ndarray:
        modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
        model.eval()
        try:
            with paddle.no_grad():
                return _probability(model(paddle.to_tensor(images))).numpy()
        finally:
            for layer, training in modes:
                layer.training = training

    return predict


def counted(predict: Predict, progress: Progress) -> Predict:
    """Return the same predictor, which tells after each call how many images it was given."""

    def predict_and_count(images: np.ndarray) -> np.ndarray:
        probabilities = predict(images)
        progress.advance(len(images))
        return probabilities

    return predict_and_count


def _probability(output: FactSegOutput | SegmentationOutput) -> paddle.Tensor:
    if isinstance(output, SegmentationOutput):
        return F.softmax(output.logits.astype("float32"), axis=1)
    return joint_probability(*output)
