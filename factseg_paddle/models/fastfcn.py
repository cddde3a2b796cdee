"""FastFCN: a ResNet-50 that need not be dilated, joint pyramid upsampling, and a head of choice.

Wu et al., "FastFCN: Rethinking Dilated Convolution in the Backbone for Semantic Segmentation"
(arXiv 1903.11816). Sources, whose tensor names are kept: wuhuikai/FastFCN `encoding/models/`
(`FastFCN` with its heads) and the article "classic segmentation models" (`DilatedFastFCN`).
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from factseg_paddle.models.aspp import CHANNELS, RATES, ImagePool, rate_branches
from factseg_paddle.models.backbones import named_backbone_layers, resnet50
from factseg_paddle.models.encoding import EncodingHead, PresenceOutput
from factseg_paddle.models.jpu import JPU, PlainJPU
from factseg_paddle.models.layers import (
    check_image_batch,
    check_pooled_batch,
    conv,
    conv_bn_relu,
    dropout2d,
    named,
    named_conv_bn_relu,
    resize,
)
from factseg_paddle.models.output import SegmentationOutput
from factseg_paddle.models.pspnet import BINS


class FastFCN(nn.Layer):
    """The authors': output stride 32 and a stem of three convolutions.

    Args:
        num_classes: classes including the background.
        head: maps the JPU's [N, 2048, H, W] to logits.
    """

    # Of the command that trains the published networks; the code's default is 0.4.
    aux_weight = 0.2

    def __init__(self, num_classes: int, head: nn.Layer) -> None:
        super().__init__()
        # Its classifier has no part in the network, but a place in the checkpoints.
        self.pretrained = resnet50(num_classes=1000, deep_stem=(64, 64, 128))
        channels = self.pretrained.out_channels
        self.jpu = JPU(channels[1:])
        self.head = head
        self.auxlayer = _FCNHead(channels[2], num_classes)

    def forward(self, x: paddle.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or one image in training mode where the head takes
                the mean over the image.
        """
        joined, aux_logits = self._joined_and_aux_logits(x)
        logits = resize(self.head(joined), x.shape[2:], align_corners=True)
        return SegmentationOutput(logits, aux_logits)

    def _joined_and_aux_logits(
        self, x: paddle.Tensor
    ) -> tuple[paddle.Tensor, tuple[paddle.Tensor, ...]]:
        check_image_batch(x)
        _, c3, c4, c5 = self.pretrained.features(x)
        aux_logits = ()
        if self.training:
            aux_logits = (resize(self.auxlayer(c4), x.shape[2:], align_corners=True),)
        return self.jpu(c3, c4, c5), aux_logits


class EncodingFastFCN(FastFCN):
    """`FastFCN` with EncNet's head, which also says which classes an image has."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, EncodingHead(JPU.out_channels, num_classes))

    def forward(self, x: paddle.Tensor) -> PresenceOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size, and those of presence.

        Raises:
            ValueError: x is not [N, 3, H, W].
        """
        joined, aux_logits = self._joined_and_aux_logits(x)
        logits, presence_logits = self.head(joined)
        logits = resize(logits, x.shape[2:], align_corners=True)
        return PresenceOutput(logits, aux_logits, presence_logits)


class _FCNHead(nn.Layer):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        channels = in_channels // 4
        self.conv5 = nn.Sequential(
            *conv_bn_relu(in_channels, channels, 3),
            dropout2d(0.1),
            conv(channels, num_classes, 1, bias=True),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.conv5(x)


class _PSPHead(nn.Layer):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        channels = in_channels // 4
        self.conv5 = nn.Sequential(
            _PyramidPooling(in_channels),
            *conv_bn_relu(2 * in_channels, channels, 3),
            dropout2d(0.1),
            conv(channels, num_classes, 1, bias=True),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.conv5(x)


class _PyramidPooling(nn.Layer):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        channels = in_channels // 4
        self.conv1 = conv_bn_relu(in_channels, channels, 1)
        self.conv2 = conv_bn_relu(in_channels, channels, 1)
        self.conv3 = conv_bn_relu(in_channels, channels, 1)
        self.conv4 = conv_bn_relu(in_channels, channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_pooled_batch(x, self.training)
        layers = (self.conv1, self.conv2, self.conv3, self.conv4)
        pooled = [layer(F.adaptive_avg_pool2d(x, n)) for n, layer in zip(BINS, layers, strict=True)]
        size = x.shape[2:]
        return paddle.concat([x, *(resize(p, size, align_corners=True) for p in pooled)], axis=1)


class _DeepLabHead(nn.Layer):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.aspp = _ASPP(in_channels)
        self.block = nn.Sequential(
            *conv_bn_relu(CHANNELS, CHANNELS, 3),
            dropout2d(0.1),
            conv(CHANNELS, num_classes, 1, bias=True),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.block(self.aspp(x))


class _ASPP(nn.Layer):
    """At stride 8 the rates are twice those of stride 16; whole channels are dropped."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.b0 = conv_bn_relu(in_channels, CHANNELS, 1)
        self.b1, self.b2, self.b3 = rate_branches(in_channels, [2 * rate for rate in RATES])
        self.b4 = named(gap=ImagePool(*conv_bn_relu(in_channels, CHANNELS, 1)))
        self.project = nn.Sequential(*conv_bn_relu(5 * CHANNELS, CHANNELS, 1), dropout2d(0.5))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        branches = (self.b0, self.b1, self.b2, self.b3, self.b4)
        return self.project(paddle.concat([branch(x) for branch in branches], axis=1))


class DilatedFastFCN(nn.Layer):
    """The article's: output stride 16, so that two of JPU's three features have one size already.

    Its head is that of DeepLabv3+.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        resnet = resnet50(output_stride=16)
        self.feature1 = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1
        )
        self.feature2 = resnet.layer2
        self.feature3 = resnet.layer3
        self.feature4 = resnet.layer4
        self.jpu = PlainJPU(resnet.out_channels[1:])
        self.head = _PlusHead(resnet.out_channels[0], self.jpu.out_channels, num_classes)

    def forward(self, x: paddle.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or one image in training mode.
        """
        check_image_batch(x)
        c2 = self.feature1(x)
        c3 = self.feature2(c2)
        c4 = self.feature3(c3)
        c5 = self.feature4(c4)
        logits = self.head(c2, self.jpu(c3, c4, c5))
        return SegmentationOutput(resize(logits, x.shape[2:], align_corners=True))

    def backbone_layers(self) -> dict[str, nn.Layer]:
        """Return the pretrained layers by torchvision's names."""
        conv1, bn1, _, _, layer1 = self.feature1
        stages = [layer1, self.feature2, self.feature3, self.feature4]
        return named_backbone_layers(conv1, bn1, *stages)


class _PlusHead(nn.Layer):
    def __init__(self, low_channels: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.ASPP = _NamedASPP(in_channels)
        self.reduce = named_conv_bn_relu(low_channels, 48, 1)
        self.fuse_conv = nn.Sequential(
            named_conv_bn_relu(CHANNELS + 48, CHANNELS, 3),
            named_conv_bn_relu(CHANNELS, CHANNELS, 3),
            dropout2d(0.1),
        )
        self.classifier = conv(CHANNELS, num_classes, 1, bias=True)

    def forward(self, c2: paddle.Tensor, joined: paddle.Tensor) -> paddle.Tensor:
        high = resize(self.ASPP(joined), c2.shape[2:], align_corners=True)
        return self.classifier(self.fuse_conv(paddle.concat([high, self.reduce(c2)], axis=1)))


class _NamedASPP(nn.Layer):
    """Rates of stride 16 on a map of stride 8, and no dropout."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.convs = nn.LayerList(
            [
                named_conv_bn_relu(in_channels, CHANNELS, 1),
                *(
                    named(conv=named_conv_bn_relu(in_channels, CHANNELS, 3, dilation=rate))
                    for rate in RATES
                ),
                ImagePool(named_conv_bn_relu(in_channels, CHANNELS, 1)),
            ]
        )
        self.project = named_conv_bn_relu(5 * CHANNELS, CHANNELS, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.project(paddle.concat([branch(x) for branch in self.convs], axis=1))


def fastfcn_resnet50_fcn(num_classes: int) -> FastFCN:
    """Build the authors' with the head of FCN."""
    return FastFCN(num_classes, _FCNHead(JPU.out_channels, num_classes))


def fastfcn_resnet50_psp(num_classes: int) -> FastFCN:
    """Build the authors' with the head of PSPNet."""
    return FastFCN(num_classes, _PSPHead(JPU.out_channels, num_classes))


def fastfcn_resnet50_deeplabv3(num_classes: int) -> FastFCN:
    """Build the authors' with the head of DeepLabv3."""
    return FastFCN(num_classes, _DeepLabHead(JPU.out_channels, num_classes))


def fastfcn_resnet50_encnet(num_classes: int) -> EncodingFastFCN:
    """Build the authors' with the head of EncNet."""
    return EncodingFastFCN(num_classes)


def fastfcn_resnet50_os16(num_classes: int) -> DilatedFastFCN:
    """Build the article's, whose backbone is dilated and whose JPU has plain convolutions."""
    return DilatedFastFCN(num_classes)
