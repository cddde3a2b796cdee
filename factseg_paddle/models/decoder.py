"""The asymmetric decoder of FarSeg and FactSeg.

Source: FactSeg (doi 10.1109/TGRS.2021.3097148), SimpleCV's `AssymetricDecoder`, whose spelling the
checkpoints do not show and we mend.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import nn

from factseg_paddle.models.layers import conv_bn_relu


class AsymmetricDecoder(nn.Layer):
    """Bring every pyramid level to stride 4 and average the levels.

    A level of nominal stride 4, 8, 16, 32 has 1, 1, 2, 3 layers of [3x3 convolution, BatchNorm,
    ReLU, bilinear x2]. With an encoder of smaller output stride a level has the same layers, of
    which only the last ones upsample: the state dict does not depend on the output stride.

    Args:
        in_channels: channels of every level.
        out_channels: channels of the output.
        strides: strides of the levels, finest (4) first.
    """

    def __init__(
        self, in_channels: int, out_channels: int, strides: Sequence[int] = (4, 8, 16, 32)
    ) -> None:
        super().__init__()
        self.blocks = nn.LayerList()
        for level, stride in enumerate(strides):
            depth = max(level, 1)
            upsamplings = (stride // strides[0]).bit_length() - 1
            self.blocks.append(
                nn.Sequential(
                    *(
                        _layer(
                            in_channels if index == 0 else out_channels,
                            out_channels,
                            upsample=index >= depth - upsamplings,
                        )
                        for index in range(depth)
                    )
                )
            )

    def forward(self, features: Sequence[paddle.Tensor]) -> paddle.Tensor:
        """Map (p2, p3, p4, p5) to [N, out_channels, H/4, W/4]."""
        outputs = [block(feature) for block, feature in zip(self.blocks, features, strict=True)]
        return sum(outputs) / len(outputs)


def _layer(in_channels: int, out_channels: int, *, upsample: bool) -> nn.Sequential:
    return nn.Sequential(
        *conv_bn_relu(in_channels, out_channels, 3),
        nn.UpsamplingBilinear2D(scale_factor=2) if upsample else nn.Identity(),
    )
