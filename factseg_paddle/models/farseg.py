"""FarSeg: foreground-aware relation network.

Zheng et al., "Foreground-Aware Relation Network for Geospatial Object Segmentation in High Spatial
Resolution Remote Sensing Imagery" (arXiv 2011.09766). Source, whose tensor names are kept:
Z-Zheng/FarSeg `module/farseg.py` with `configs/isaid/farseg50.py`. Its loss is
`factseg_paddle.losses.AnnealedFocalLoss`.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from factseg_paddle.models.backbones import ResNet, ResNetEncoder, resnet50
from factseg_paddle.models.decoder import AsymmetricDecoder
from factseg_paddle.models.fpn import FPN
from factseg_paddle.models.layers import check_image_batch, conv, conv_bn_relu, upsample
from factseg_paddle.models.output import SegmentationOutput


class FarSeg(nn.Layer):
    """Semantic FPN whose levels are weighted, pixel by pixel, by their relation to the scene.

    Args:
        num_classes: classes including the background.
        resnet: the backbone.
    """

    def __init__(self, num_classes: int, resnet: ResNet) -> None:
        super().__init__()
        # The original counts its training steps here for the loss. Ours gets the step from the
        # training loop, which knows it; the buffer carries the count of the checkpoints along.
        self.register_buffer("buffer_step", paddle.zeros([], dtype="float32"))
        self.en = ResNetEncoder(resnet)
        self.fpn = FPN(resnet.out_channels, resnet.out_strides)
        self.decoder = AsymmetricDecoder(256, 128, resnet.out_strides)
        self.cls_pred_conv = conv(128, num_classes, 1, bias=True)
        self.gap = nn.AdaptiveAvgPool2D(1)
        self.sr = _SceneRelation(resnet.out_channels[-1], (256, 256, 256, 256), 256)

    def forward(self, x: paddle.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        check_image_batch(x, divisor=32)
        features = self.en(x)
        refined = self.sr(self.gap(features[-1]), self.fpn(features))
        logits = self.cls_pred_conv(self.decoder(refined))
        return SegmentationOutput(upsample(logits, 4, align_corners=True))

    def backbone_layers(self) -> dict[str, nn.Layer]:
        """Return the pretrained layers by torchvision's names."""
        return self.en.resnet.backbone_layers()


class _SceneRelation(nn.Layer):
    """The scene has an encoder for each level, as in FarSeg's configuration for iSAID."""

    def __init__(self, in_channels: int, level_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.scene_encoder = nn.LayerList(
            nn.Sequential(
                conv(in_channels, channels, 1, bias=True),
                nn.ReLU(),
                conv(channels, channels, 1, bias=True),
            )
            for _ in level_channels
        )
        self.content_encoders = nn.LayerList(
            conv_bn_relu(width, channels, 1, bias=True) for width in level_channels
        )
        self.feature_reencoders = nn.LayerList(
            conv_bn_relu(width, channels, 1, bias=True) for width in level_channels
        )

    def forward(
        self, scene: paddle.Tensor, levels: Sequence[paddle.Tensor]
    ) -> tuple[paddle.Tensor, ...]:
        """Map the scene [N, in_channels, 1, 1] and the pyramid to the refined pyramid."""
        refined = []
        for index, level in enumerate(levels):
            wanted = self.scene_encoder[index](scene)  # [N, channels, 1, 1]
            content = self.content_encoders[index](level)
            relation = F.sigmoid((wanted * content).sum(axis=1, keepdim=True))  # [N, 1, H, W]
            refined.append(relation * self.feature_reencoders[index](level))
        return tuple(refined)


def farseg_resnet50(num_classes: int) -> FarSeg:
    """Build the authors' network for iSAID."""
    return FarSeg(num_classes, resnet50())
