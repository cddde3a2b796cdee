"""Semantic FPN: a feature pyramid whose levels are brought to one size and averaged.

Kirillov et al., "Panoptic Feature Pyramid Networks" (arXiv 1901.02446). Source, whose tensor names
are kept: FactSeg's `module/semantic_fpn.py`, with the channels of its configurations (its own
defaults do not fit ResNet-50).
"""

from __future__ import annotations

import paddle
from paddle import nn

from factseg_paddle.models.backbones import ResNet, ResNetEncoder, resnet50
from factseg_paddle.models.decoder import AsymmetricDecoder
from factseg_paddle.models.fpn import FPN
from factseg_paddle.models.layers import check_image_batch, conv, upsample
from factseg_paddle.models.output import SegmentationOutput


class SemanticFPN(nn.Layer):
    """Encoder, FPN, asymmetric decoder and a 1x1 head: one branch of FactSeg.

    Args:
        num_classes: classes including the background.
        resnet: the backbone.
    """

    def __init__(self, num_classes: int, resnet: ResNet) -> None:
        super().__init__()
        self.en = ResNetEncoder(resnet)
        self.fpn = FPN(resnet.out_channels, resnet.out_strides)
        self.decoder = AsymmetricDecoder(256, 128, resnet.out_strides)
        self.cls_pred_conv = conv(128, num_classes, 1, bias=True)

    def forward(self, x: paddle.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        check_image_batch(x, divisor=32)
        logits = self.cls_pred_conv(self.decoder(self.fpn(self.en(x))))
        return SegmentationOutput(upsample(logits, 4, align_corners=True))

    def backbone_layers(self) -> dict[str, nn.Layer]:
        """Return the pretrained layers by torchvision's names."""
        return self.en.resnet.backbone_layers()


def semanticfpn_resnet50(num_classes: int) -> SemanticFPN:
    """Build the one FactSeg is compared with."""
    return SemanticFPN(num_classes, resnet50())
