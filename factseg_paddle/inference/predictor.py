"""A FactSeg network as the function from numpy to numpy that the sliding window takes."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from factseg_paddle.inference.sliding_window import Predict
from factseg_paddle.losses import joint_probability


def network_predictor(model: nn.Layer) -> Predict:
    """The joint probability of a network, in evaluation mode and without gradients.

    Args:
        model: gives class logits [N, C, H, W] and binary logits [N, 1, H, W]. Every call leaves it
            and each of its layers in the mode in which they were.

    Returns:
        A function from images [N, 3, H, W] float32 to probabilities [N, C, H, W] float32.
    """

    def predict(images: np.ndarray) -> np.ndarray:
        modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
        model.eval()
        try:
            with paddle.no_grad():
                return joint_probability(*model(paddle.to_tensor(images))).numpy()
        finally:
            for layer, training in modes:
                layer.training = training

    return predict
