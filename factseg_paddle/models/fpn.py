"""Feature pyramid network.

Source: Lin et al., "Feature Pyramid Networks for Object Detection" (arXiv 1612.03144); names and
initialisation of SimpleCV's `module/fpn.py`: biased convolutions, neither normalisation nor
activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import paddle
import paddle.nn.functional as F
from paddle import nn

from factseg_paddle.models.initializers import constant, kaiming_uniform
from factseg_paddle.models.layers import conv


class FPN(nn.Layer):
    """Lateral 1x1 convolutions, nearest top-down pathway, 3x3 output convolutions.

    Args:
        in_channels: channels of the features, finest first.
        strides: their strides with respect to the image, finest first; neighbours of equal stride
            are added without upsampling.
        out_channels: channels of every output.
    """

    def __init__(
        self, in_channels: Sequence[int], strides: Sequence[int], out_channels: int = 256
    ) -> None:
        super().__init__()
        self.scales = [coarse // fine for fine, coarse in pairwise(strides)]
        for level, channels in enumerate(in_channels, start=1):
            setattr(self, f"fpn_inner{level}", _conv(channels, out_channels, 1))
            setattr(self, f"fpn_layer{level}", _conv(out_channels, out_channels, 3))

    def forward(self, features: Sequence[paddle.Tensor]) -> tuple[paddle.Tensor, ...]:
        """Map (c2, c3, c4, c5) to (p2, p3, p4, p5), each [N, out_channels, H/stride, W/stride]."""
        level = len(features)
        inner = getattr(self, f"fpn_inner{level}")(features[-1])
        outputs = [getattr(self, f"fpn_layer{level}")(inner)]
        while level > 1:
            level -= 1
            if self.scales[level - 1] > 1:
                inner = F.interpolate(inner, scale_factor=self.scales[level - 1], mode="nearest")
            inner = getattr(self, f"fpn_inner{level}")(features[level - 1]) + inner
            outputs.insert(0, getattr(self, f"fpn_layer{level}")(inner))
        return tuple(outputs)


def _conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2D:
    return conv(
        in_channels,
        out_channels,
        kernel_size,
        bias=True,
        weight_init=kaiming_uniform(in_channels * kernel_size**2, a=1),
        bias_init=constant(0.0),
    )
