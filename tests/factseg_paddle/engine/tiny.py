"""A network small enough for any test, with FactSeg's two outputs."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from factseg_paddle.models.factseg import FactSegOutput


class TinyNet(nn.Layer):
    """Two heads over one convolution and a BatchNorm."""

    def __init__(self, num_classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.body = nn.Sequential(nn.Conv2D(3, width, 3, padding=1), nn.BatchNorm2D(width))
        self.fg_cls = nn.Conv2D(width, num_classes, 1)
        self.bi_cls = nn.Conv2D(width, 1, 1)

    def forward(self, x):
        features = nn.functional.relu(self.body(x))
        return FactSegOutput(self.fg_cls(features), self.bi_cls(features))


def batch(seed: int = 0, num_classes: int = 3):
    """Images [2, 3, 8, 8] and labels [2, 8, 8]."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    return paddle.to_tensor(images), paddle.to_tensor(rng.integers(0, num_classes, (2, 8, 8)))


def seeded(seed: int = 0, **options) -> TinyNet:
    paddle.seed(seed)
    return TinyNet(**options)
