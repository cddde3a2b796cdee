"""DeepLabv3 and DeepLabv3+ on ResNet-50 at output stride 16.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (arXiv 1706.05587), and
"Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation" (arXiv
1802.02611). Sources, whose tensor names are kept: VainF/DeepLabV3Plus-Pytorch
`network/_deeplab.py` (`DeepLabV3`, `DeepLabV3Plus`), the article "classic segmentation models"
(`SerialDeepLabV3`, `TwoConvDeepLabV3Plus`), FactSeg's `module/baseline/deeplabv3.py` and
`deeplabv3p.py` (`HeadlessDeepLabV3`, `SeparableDeepLabV3Plus`).
"""

from __future__ import annotations

import torch
from torch import nn

from torch_ref.models.aspp import ASPP, CHANNELS, MergedASPP
from torch_ref.models.backbones import ResNetEncoder, resnet50
from torch_ref.models.initializers import normal
from torch_ref.models.layers import (
    check_image_batch,
    conv,
    conv_bn_relu,
    init_kaiming_normal_,
    resize,
    upsample,
)
from torch_ref.models.output import SegmentationOutput

OUTPUT_STRIDE = 16
# Channels to which v3+ reduces the fine feature map, section 4.1 of its paper.
LOW_CHANNELS = 48


class DeepLabV3(nn.Module):
    """The well-known one: ASPP and a 3x3 convolution."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = resnet50(output_stride=OUTPUT_STRIDE)
        self.classifier = _Head(self.backbone.out_channels[-1], num_classes)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or one image in training mode.
        """
        check_image_batch(x)
        logits = self.classifier(self.backbone.features(x)[-1])
        return SegmentationOutput(resize(logits, x.shape[2:], align_corners=False))


class _Head(nn.Module):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Sequential(
            ASPP(in_channels, dropout=0.1),
            *conv_bn_relu(CHANNELS, CHANNELS, 3),
            conv(CHANNELS, num_classes, 1, bias=True),
        )
        init_kaiming_normal_(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(x)


class DeepLabV3Plus(nn.Module):
    """The well-known one: ASPP, the fine feature map before it, and one 3x3 convolution."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = resnet50(output_stride=OUTPUT_STRIDE)
        self.classifier = _PlusHead(self.backbone.out_channels, num_classes)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or one image in training mode.
        """
        check_image_batch(x)
        c2, _, _, c5 = self.backbone.features(x)
        logits = self.classifier(c2, c5)
        return SegmentationOutput(resize(logits, x.shape[2:], align_corners=False))


class _PlusHead(nn.Module):
    def __init__(self, in_channels: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.project = conv_bn_relu(in_channels[0], LOW_CHANNELS, 1)
        self.aspp = ASPP(in_channels[-1], dropout=0.1)
        self.classifier = nn.Sequential(
            *conv_bn_relu(LOW_CHANNELS + CHANNELS, CHANNELS, 3),
            conv(CHANNELS, num_classes, 1, bias=True),
        )
        init_kaiming_normal_(self)

    def forward(self, c2: torch.Tensor, c5: torch.Tensor) -> torch.Tensor:
        low = self.project(c2)
        high = resize(self.aspp(c5), low.shape[2:], align_corners=False)
        # The fine map comes first here, and last in `TwoConvDeepLabV3Plus`.
        return self.classifier(torch.cat([low, high], dim=1))


class SerialDeepLabV3(nn.Module):
    """`DeepLabV3` with half of ASPP's output dropped, and PyTorch's initial values in the head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        resnet = resnet50(output_stride=OUTPUT_STRIDE)
        self.backbone = nn.Sequential(
            resnet.conv1,
            resnet.bn1,
            resnet.relu,
            resnet.maxpool,
            resnet.layer1,
            resnet.layer2,
            resnet.layer3,
            resnet.layer4,
        )
        self.ASPP = ASPP(resnet.out_channels[-1], dropout=0.5)
        self.classifier = nn.Sequential(
            *conv_bn_relu(CHANNELS, CHANNELS, 3),
            conv(CHANNELS, num_classes, 1, bias=True),
        )

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or one image in training mode.
        """
        check_image_batch(x)
        logits = self.classifier(self.ASPP(self.backbone(x)))
        return SegmentationOutput(resize(logits, x.shape[2:], align_corners=False))


class TwoConvDeepLabV3Plus(nn.Module):
    """Half of ASPP's output dropped, ASPP's output before the fine map, two 3x3 convolutions."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        resnet = resnet50(output_stride=OUTPUT_STRIDE)
        self.feature1 = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1
        )
        self.feature2 = nn.Sequential(resnet.layer2, resnet.layer3, resnet.layer4)
        self.head = _TwoConvHead(resnet.out_channels, num_classes)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], a side does not divide by 16, or one image in
                training mode.
        """
        # Enlarged by fixed factors: other sides end in maps that don't fit each other.
        check_image_batch(x, divisor=OUTPUT_STRIDE)
        c2 = self.feature1(x)
        logits = self.head(c2, self.feature2(c2))
        return SegmentationOutput(upsample(logits, 4, align_corners=False))


class _TwoConvHead(nn.Module):
    def __init__(self, in_channels: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.ASPP = ASPP(in_channels[-1], dropout=0.5)
        self.reduce = conv_bn_relu(in_channels[0], LOW_CHANNELS, 1)
        # Plain convolutions: the article's text speaks of depthwise ones, its code has none.
        self.fuse_conv = nn.Sequential(
            *conv_bn_relu(CHANNELS + LOW_CHANNELS, CHANNELS, 3),
            *conv_bn_relu(CHANNELS, CHANNELS, 3),
        )
        self.classifier = conv(CHANNELS, num_classes, 1, bias=True)

    def forward(self, c2: torch.Tensor, c5: torch.Tensor) -> torch.Tensor:
        high = upsample(self.ASPP(c5), 4, align_corners=False)
        fused = self.fuse_conv(torch.cat([high, self.reduce(c2)], dim=1))
        return self.classifier(fused)


class HeadlessDeepLabV3(nn.Module):
    """ASPP without dropout, classified at once: no 3x3 convolution between."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.en = ResNetEncoder(resnet50(output_stride=OUTPUT_STRIDE))
        self.aspp = MergedASPP(self.en.out_channels[-1])
        self.cls_pred_conv = conv(CHANNELS, num_classes, 1, bias=True)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], a side does not divide by 16, or one image in
                training mode.
        """
        # Enlarged by a fixed factor: of other sides the logits would be larger than the image.
        check_image_batch(x, divisor=OUTPUT_STRIDE)
        logits = self.cls_pred_conv(self.aspp(self.en(x)[-1]))
        return SegmentationOutput(upsample(logits, OUTPUT_STRIDE, align_corners=True))


class SeparableDeepLabV3Plus(nn.Module):
    """ASPP's output and the fine map, both of 48 channels, and two separable convolutions."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.en = ResNetEncoder(resnet50(output_stride=OUTPUT_STRIDE))
        self.de = _LightDecoder(self.en.out_channels[0])
        self.aspp = MergedASPP(self.en.out_channels[-1])
        self.cls_pred_conv = conv(CHANNELS, num_classes, 1, bias=True)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], a side does not divide by 16, or one image in
                training mode.
        """
        # Enlarged by fixed factors: other sides end in maps that don't fit each other.
        check_image_batch(x, divisor=OUTPUT_STRIDE)
        c2, _, _, c5 = self.en(x)
        logits = self.cls_pred_conv(self.de(c2, self.aspp(c5)))
        return SegmentationOutput(upsample(logits, 4, align_corners=True))


class _LightDecoder(nn.Module):
    def __init__(self, low_channels: int) -> None:
        super().__init__()
        self.conv1x1_os4 = conv_bn_relu(low_channels, LOW_CHANNELS, 1, bias=True)
        self.conv1x1_os16 = conv_bn_relu(CHANNELS, LOW_CHANNELS, 1, bias=True)
        self.stack_conv3x3 = nn.Sequential(
            _SeparableConv(2 * LOW_CHANNELS, CHANNELS), _SeparableConv(CHANNELS, CHANNELS)
        )

    def forward(self, c2: torch.Tensor, aspp: torch.Tensor) -> torch.Tensor:
        low = self.conv1x1_os4(c2)
        high = upsample(self.conv1x1_os16(aspp), 4, align_corners=True)
        return self.stack_conv3x3(torch.cat([low, high], dim=1))


class _SeparableConv(nn.Module):
    """ReLU stands between the two convolutions, and nothing behind them, not even BatchNorm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = conv(
            in_channels, in_channels, 3, groups=in_channels, weight_init=normal(0.33)
        )
        self.relu = nn.ReLU()
        self.pointwise = conv(in_channels, out_channels, 1, weight_init=normal(0.06))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.relu(self.depthwise(x)))


def deeplabv3_resnet50(num_classes: int) -> DeepLabV3:
    """Build the well-known DeepLabv3."""
    return DeepLabV3(num_classes)


def deeplabv3_resnet50_dropout50(num_classes: int) -> SerialDeepLabV3:
    """Build the article's DeepLabv3, which drops half of ASPP's output."""
    return SerialDeepLabV3(num_classes)


def deeplabv3_resnet50_aspp1x1(num_classes: int) -> HeadlessDeepLabV3:
    """Build the DeepLabv3 that FactSeg is compared with: a 1x1 convolution follows ASPP."""
    return HeadlessDeepLabV3(num_classes)


def deeplabv3plus_resnet50(num_classes: int) -> DeepLabV3Plus:
    """Build the well-known DeepLabv3+."""
    return DeepLabV3Plus(num_classes)


def deeplabv3plus_resnet50_two3x3(num_classes: int) -> TwoConvDeepLabV3Plus:
    """Build the article's DeepLabv3+, with two 3x3 convolutions in the decoder."""
    return TwoConvDeepLabV3Plus(num_classes)


def deeplabv3plus_resnet50_separable(num_classes: int) -> SeparableDeepLabV3Plus:
    """Build the DeepLabv3+ that FactSeg means to be compared with; its configuration builds v3."""
    return SeparableDeepLabV3Plus(num_classes)
