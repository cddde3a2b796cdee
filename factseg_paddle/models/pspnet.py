"""PSPNet: pyramid pooling behind a dilated ResNet-50.

Zhao et al., "Pyramid Scene Parsing Network" (arXiv 1612.01105). Sources, whose tensor names are
kept: CSAILVision/semantic-segmentation-pytorch `mit_semseg/models/models.py` (`PSPNet`), the
article "classic segmentation models" (`SerialPSPNet`), FactSeg's `module/baseline/pspnet.py`
(`UpsamplingPSPNet`).
"""

from __future__ import annotations

from collections.abc import Iterable

import paddle
import paddle.nn.functional as F
from paddle import nn

from factseg_paddle.models.backbones import ResNet, ResNetEncoder, named_backbone_layers, resnet50
from factseg_paddle.models.initializers import constant
from factseg_paddle.models.layers import (
    batch_norm,
    check_image_batch,
    check_pooled_batch,
    conv,
    conv_bn_relu,
    dropout2d,
    init_kaiming_normal_,
    named_conv_bn_relu,
    resize,
    upsample,
)
from factseg_paddle.models.output import SegmentationOutput

# Sides of the pooled maps, section 3.2 of the paper.
BINS = (1, 2, 3, 6)
# Channels of each pooled map, and of the heads.
CHANNELS = 512


class PSPNet(nn.Layer):
    """The well-known one: output stride 8, a stem of three convolutions, an auxiliary head.

    The source's decoder ends in log_softmax for its loss; this one gives logits. The source's
    BatchNorm is its own and has three more buffers, `_tmp_running_mean`, `_tmp_running_var` and
    `_running_iter`, which evaluation doesn't read; this one is the usual.

    Args:
        num_classes: classes including the background.
        upsample: whether the logits, the auxiliary ones too, are brought from stride 8, where the
            source has them in training, to the size of the image.
    """

    # Of the published networks' configurations, and of the paper.
    aux_weight = 0.4

    def __init__(self, num_classes: int, *, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        resnet = resnet50(output_stride=8, deep_stem=(64, 64, 128))
        self.encoder = _Encoder(resnet)
        self.decoder = _Decoder(*resnet.out_channels[2:], num_classes)

    def forward(self, x: paddle.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size, or at an eighth of it.

        Raises:
            ValueError: x is not [N, 3, H, W], or one image in training mode.
        """
        check_image_batch(x)
        c4, c5 = self.encoder(x)
        all_logits = [self.decoder(c5)]
        if self.training:
            all_logits.append(self.decoder.auxiliary(c4))
        if self.upsample:
            all_logits = [resize(z, x.shape[2:], align_corners=False) for z in all_logits]
        logits, *aux_logits = all_logits
        return SegmentationOutput(logits, tuple(aux_logits))


class _Encoder(nn.Layer):
    """A ResNet with the layers of its deep stem one by one."""

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu1, self.conv2, self.bn2, self.relu2, self.conv3 = (
            resnet.conv1
        )
        self.bn3 = resnet.bn1
        self.relu3 = resnet.relu
        self.maxpool = resnet.maxpool
        self.layer1 = resnet.layer1
        self.layer2 = resnet.layer2
        self.layer3 = resnet.layer3
        self.layer4 = resnet.layer4

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Map [N, 3, H, W] to (c4, c5)."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.relu3(self.bn3(self.conv3(x)))
        c4 = self.layer3(self.layer2(self.layer1(self.maxpool(x))))
        return c4, self.layer4(c4)


class _Decoder(nn.Layer):
    def __init__(self, aux_channels: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.ppm = nn.LayerList(
            nn.Sequential(nn.AdaptiveAvgPool2D(bins), *conv_bn_relu(in_channels, CHANNELS, 1))
            for bins in BINS
        )
        self.cbr_deepsup = conv_bn_relu(aux_channels, CHANNELS, 3)
        self.conv_last = nn.Sequential(
            *conv_bn_relu(in_channels + len(BINS) * CHANNELS, CHANNELS, 3),
            dropout2d(0.1),
            conv(CHANNELS, num_classes, 1, bias=True),
        )
        self.conv_last_deepsup = conv(CHANNELS, num_classes, 1, bias=True)
        self.dropout_deepsup = dropout2d(0.1)
        init_kaiming_normal_(self)
        for layer in self.sublayers():
            if isinstance(layer, nn.BatchNorm2D):
                constant(1e-4)(layer.bias)

    def forward(self, c5: paddle.Tensor) -> paddle.Tensor:
        check_pooled_batch(c5, self.training)
        # The article aligns corners here, this source does not.
        pooled = _pooled(c5, self.ppm, align_corners=False)
        return self.conv_last(paddle.concat([c5, *pooled], axis=1))

    def auxiliary(self, c4: paddle.Tensor) -> paddle.Tensor:
        """Compute the logits of the auxiliary head."""
        return self.conv_last_deepsup(self.dropout_deepsup(self.cbr_deepsup(c4)))


class SerialPSPNet(nn.Layer):
    """Output stride 16, and no auxiliary head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        resnet = resnet50(output_stride=16)
        stages = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        self.backbone = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, *stages
        )
        self.psp_layer = _PyramidPooling(resnet.out_channels[-1], num_classes)

    def forward(self, x: paddle.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or one image in training mode.
        """
        check_image_batch(x)
        logits = self.psp_layer(self.backbone(x))
        return SegmentationOutput(resize(logits, x.shape[2:], align_corners=True))

    def backbone_layers(self) -> dict[str, nn.Layer]:
        """Return the pretrained layers by torchvision's names."""
        conv1, bn1, _, _, *stages = self.backbone
        return named_backbone_layers(conv1, bn1, *stages)


class _PyramidPooling(nn.Layer):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.ppm = nn.LayerList(
            [
                nn.Identity(),
                *(
                    nn.Sequential(
                        nn.AdaptiveAvgPool2D(bins), named_conv_bn_relu(in_channels, CHANNELS, 1)
                    )
                    for bins in BINS
                ),
            ]
        )
        self.conv = nn.Sequential(
            named_conv_bn_relu(in_channels + len(BINS) * CHANNELS, CHANNELS, 3),
            dropout2d(0.1),
            conv(CHANNELS, num_classes, 1, bias=True),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_pooled_batch(x, self.training)
        return self.conv(paddle.concat(_pooled(x, self.ppm, align_corners=True), axis=1))


class UpsamplingPSPNet(nn.Layer):
    """Output stride 8, and three steps back from there to the size of the image.

    FactSeg's configuration gives the pyramid 512 channels, with which it doesn't run behind a
    ResNet-50; it has the 2048 of the ResNet here.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        resnet = resnet50(output_stride=8)
        self.encoder = ResNetEncoder(resnet)
        self.psp = _PlainPyramidPooling(resnet.out_channels[-1], 1024)
        self.drop_1 = dropout2d(0.3)
        self.up_1 = _Up(1024, 256)
        self.up_2 = _Up(256, 64)
        self.up_3 = _Up(64, 64)
        self.drop_2 = dropout2d(0.15)
        self.cls_pred_conv = conv(64, num_classes, 1, bias=True)

    def forward(self, x: paddle.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 8.
        """
        # Enlarged by a fixed factor: of other sides the logits would be larger than the image.
        check_image_batch(x, divisor=8)
        x = self.drop_1(self.psp(self.encoder(x)[-1]))
        for up in (self.up_1, self.up_2, self.up_3):
            x = self.drop_2(up(x))
        return SegmentationOutput(self.cls_pred_conv(x))

    def backbone_layers(self) -> dict[str, nn.Layer]:
        """Return the pretrained layers by torchvision's names."""
        return self.encoder.resnet.backbone_layers()


class _PlainPyramidPooling(nn.Layer):
    """Neither BatchNorm nor ReLU follows the pooled maps' convolutions, nor are they narrower."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.stages = nn.LayerList(
            nn.Sequential(nn.AdaptiveAvgPool2D(bins), conv(in_channels, in_channels, 1))
            for bins in BINS
        )
        self.bottleneck = conv((len(BINS) + 1) * in_channels, out_channels, 1, bias=True)
        self.relu = nn.ReLU()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        pooled = _pooled(x, self.stages, align_corners=True)
        # The pooled maps come first here, and last in the other two networks.
        return self.relu(self.bottleneck(paddle.concat([*pooled, x], axis=1)))


class _Up(nn.Layer):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(in_channels, out_channels, 3, bias=True), batch_norm(out_channels), _PReLU()
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.conv(upsample(x, 2, align_corners=True))


class _PReLU(nn.Layer):
    """As paddle.nn.PReLU, whose parameter is named _weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = self.create_parameter([1], default_initializer=constant(0.25))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.prelu(x, self.weight)


def _pooled(
    x: paddle.Tensor, stages: Iterable[nn.Layer], *, align_corners: bool
) -> list[paddle.Tensor]:
    return [resize(stage(x), x.shape[2:], align_corners=align_corners) for stage in stages]


def pspnet_resnet50_deepstem_os8(num_classes: int, *, upsample: bool = True) -> PSPNet:
    """Build the well-known one; `upsample=False` leaves logits at an eighth of the image."""
    return PSPNet(num_classes, upsample=upsample)


def pspnet_resnet50_os16(num_classes: int) -> SerialPSPNet:
    """Build the article's, of output stride 16."""
    return SerialPSPNet(num_classes)


def pspnet_resnet50_os8(num_classes: int) -> UpsamplingPSPNet:
    """Build the one that FactSeg is compared with."""
    return UpsamplingPSPNet(num_classes)
