"""U-Net with a ResNet as its encoder.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation" (arXiv
1505.04597). Source, whose tensor names are kept: FactSeg's `module/baseline/resunet.py` with
`configs/isaid/base/resunet_res50.py`, which leaves the ASPP of the class's defaults out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from torch_ref.models.backbones import ResNet, ResNetEncoder, resnet50
from torch_ref.models.layers import check_image_batch, conv, conv_bn_relu, upsample
from torch_ref.models.output import SegmentationOutput


class ResUNet(nn.Module):
    """Three steps back from stride 32 to stride 4, and a 1x1 head there.

    Args:
        num_classes: classes including the background.
        resnet: the encoder.
    """

    def __init__(self, num_classes: int, resnet: ResNet) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(resnet)
        self.decoder = _Decoder(resnet.out_channels)
        self.cls_pred_conv = conv(resnet.out_channels[0], num_classes, 1, bias=True)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        check_image_batch(x, divisor=32)
        logits = self.cls_pred_conv(self.decoder(self.encoder(x)))
        return SegmentationOutput(upsample(logits, 4, align_corners=True))


class _Decoder(nn.Module):
    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        c2, c3, c4, c5 = channels
        self.conv1x1_1 = conv(c5, c4, 1, bias=True)
        self.conv1x1_2 = conv(c4, c3, 1, bias=True)
        self.conv1x1_3 = conv(c3, c2, 1, bias=True)
        self.conv3x3_bn_relu_1 = conv_bn_relu(2 * c4, c4, 3, bias=True)
        self.conv3x3_bn_relu_2 = conv_bn_relu(2 * c3, c3, 3, bias=True)
        self.conv3x3_bn_relu_3 = conv_bn_relu(2 * c2, c2, 3, bias=True)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map (c2, c3, c4, c5) to a feature of c2's shape."""
        c2, c3, c4, c5 = features
        x = self.conv3x3_bn_relu_1(_enlarged_beside(self.conv1x1_1(c5), c4))
        x = self.conv3x3_bn_relu_2(_enlarged_beside(self.conv1x1_2(x), c3))
        return self.conv3x3_bn_relu_3(_enlarged_beside(self.conv1x1_3(x), c2))


def _enlarged_beside(x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    # Nearest, unlike the logits: the original names no mode, and that is torch's default.
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    return torch.cat([x, skip], dim=1)


def resunet_resnet50(num_classes: int) -> ResUNet:
    """Build the one in FactSeg's repository."""
    return ResUNet(num_classes, resnet50())
