"""FCN-8s on VGG-16, and on ResNet-50.

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation" (arXiv
1411.4038). Sources, whose tensor names are kept: wkentaro/pytorch-fcn `torchfcn/models/fcn8s.py`,
which follows the authors' Caffe network (`FCN8s`), the article "FCN-8s" for MindSpore
(`BatchNormFCN8s`), FactSeg's `module/baseline/fcn8s.py` (`SmallPaddingFCN8s`) and the article
"classic segmentation models" (`ResNetFCN8s`).
"""

from __future__ import annotations

import torch
from torch import nn

from torch_ref.models.backbones import resnet50
from torch_ref.models.backbones.vgg import STAGES, vgg16_features, vgg_conv
from torch_ref.models.initializers import Initializer, bilinear, constant, normal, xavier_uniform
from torch_ref.models.layers import check_image_batch, conv, conv_bn_relu, deconv, dropout2d
from torch_ref.models.output import SegmentationOutput


class FCN8s(nn.Module):
    """The authors' network: VGG-16 over an image with 100 zeros on each side, cropped at the end.

    VGG's layers, `fc6` and `fc7` among them, start as torchvision's vgg16. The reference starts
    them at 0 and copies VGG's weights over them every time: zeros between ReLUs never learn.

    Args:
        num_classes: classes including the background.
        pool3_scale: factor of the features that `score_pool3` reads.
        pool4_scale: of those that `score_pool4` reads.
    """

    def __init__(
        self, num_classes: int, *, pool3_scale: float = 1.0, pool4_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.pool3_scale = pool3_scale
        self.pool4_scale = pool4_scale
        for stage in STAGES:
            for name, channels in stage.items():
                setattr(self, name, vgg_conv(*channels, padding=100 if name == "conv1_1" else 1))
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # as Caffe rounds
        self.fc6 = _fully_connected(512, 7)
        self.drop6 = dropout2d(0.5)
        self.fc7 = _fully_connected(4096, 1)
        self.drop7 = dropout2d(0.5)
        self.score_fr = _zero_score(4096, num_classes)
        self.score_pool3 = _zero_score(256, num_classes)
        self.score_pool4 = _zero_score(512, num_classes)
        self.upscore2 = _bilinear_upscore(num_classes, 2)
        self.upscore8 = _bilinear_upscore(num_classes, 8)
        self.upscore_pool4 = _bilinear_upscore(num_classes, 2)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W].
        """
        check_image_batch(x)
        feature, pooled = x, []
        for stage in STAGES:
            for name in stage:
                feature = self.relu(getattr(self, name)(feature))
            feature = self.pool(feature)
            pooled.append(feature)
        _, _, pool3, pool4, pool5 = pooled
        feature = self.drop6(self.relu(self.fc6(pool5)))
        feature = self.drop7(self.relu(self.fc7(feature)))
        # 100 zeros around the image, and none around the maps that fc6 and the upscores read, leave
        # pool4, pool3 and the logits with 5, 9 and 31 pixels too many at the top and at the left.
        upscore2 = self.upscore2(self.score_fr(feature))
        score_pool4 = self.score_pool4(self.pool4_scale * pool4)
        upscore_pool4 = self.upscore_pool4(upscore2 + _cropped(score_pool4, 5, upscore2))
        score_pool3 = self.score_pool3(self.pool3_scale * pool3)
        upscore8 = self.upscore8(upscore_pool4 + _cropped(score_pool3, 9, upscore_pool4))
        return SegmentationOutput(_cropped(upscore8, 31, x))


class BatchNormFCN8s(nn.Module):
    """VGG-16 with BatchNorm, also behind its two fully connected layers; no dropout, no bias."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = map(_normed_stage, STAGES)
        self.pool = nn.MaxPool2d(2)
        self.conv6 = conv_bn_relu(512, 4096, 7, weight_init=xavier_uniform())
        self.conv7 = conv_bn_relu(4096, 4096, 1, weight_init=xavier_uniform())
        self.score_fr = conv(4096, num_classes, 1, weight_init=xavier_uniform())
        self.upscore2 = _upscore(num_classes, 2, xavier_uniform())
        self.score_pool4 = conv(512, num_classes, 1, weight_init=xavier_uniform())
        self.upscore_pool4 = _upscore(num_classes, 2, xavier_uniform())
        self.score_pool3 = conv(256, num_classes, 1, weight_init=xavier_uniform())
        self.upscore8 = _upscore(num_classes, 8, xavier_uniform())

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        check_image_batch(x, divisor=32)
        pool2 = self.pool(self.conv2(self.pool(self.conv1(x))))
        pool3 = self.pool(self.conv3(pool2))
        pool4 = self.pool(self.conv4(pool3))
        pool5 = self.pool(self.conv5(pool4))
        upscore2 = self.upscore2(self.score_fr(self.conv7(self.conv6(pool5))))
        upscore_pool4 = self.upscore_pool4(self.score_pool4(pool4) + upscore2)
        return SegmentationOutput(self.upscore8(self.score_pool3(pool3) + upscore_pool4))


class SmallPaddingFCN8s(nn.Module):
    """VGG-16 with its own paddings of 1, and a first fully connected layer of 3x3 in place of 7x7.

    The original's comment says that it is the authors' network in all details; it is not.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        features = vgg16_features()
        self.features3 = nn.Sequential(*features[:17])
        self.features4 = nn.Sequential(*features[17:24])
        self.features5 = nn.Sequential(*features[24:])
        self.score_pool3 = conv(256, num_classes, 1, bias=True)
        self.score_pool4 = conv(512, num_classes, 1, bias=True)
        self.score_fr = nn.Sequential(
            conv(512, 4096, 3, bias=True),
            nn.ReLU(),
            nn.Dropout(0.5),
            conv(4096, 4096, 1, bias=True),
            nn.ReLU(),
            nn.Dropout(0.5),
            conv(4096, num_classes, 1, bias=True),
        )
        self.upscore2 = _upscore(num_classes, 2)
        self.upscore_pool4 = _upscore(num_classes, 2)
        self.upscore8 = _upscore(num_classes, 8)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        check_image_batch(x, divisor=32)
        pool3 = self.features3(x)
        pool4 = self.features4(pool3)
        upscore2 = self.upscore2(self.score_fr(self.features5(pool4)))
        upscore_pool4 = self.upscore_pool4(self.score_pool4(pool4) + upscore2)
        return SegmentationOutput(self.upscore8(self.score_pool3(pool3) + upscore_pool4))


class ResNetFCN8s(nn.Module):
    """ResNet-50's last three stages are scored, in place of VGG's poolings."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        resnet = resnet50()
        self.features1 = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1, resnet.layer2
        )
        self.features2 = resnet.layer3
        self.features3 = resnet.layer4
        _, *channels = resnet.out_channels
        self.score_pool1 = conv(channels[0], num_classes, 1, bias=True)
        self.score_pool2 = conv(channels[1], num_classes, 1, bias=True)
        self.score_pool3 = conv(channels[2], num_classes, 1, bias=True)
        self.upscore2 = _upscore(num_classes, 2)
        self.upscore2_ = _upscore(num_classes, 2)
        self.upscore8 = _upscore(num_classes, 8)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        check_image_batch(x, divisor=32)
        c3 = self.features1(x)
        c4 = self.features2(c3)
        upscore_pool3 = self.upscore2(self.score_pool3(self.features3(c4)))
        # The factors stand before the convolutions, whose biases they don't reach.
        upscore_pool2 = self.upscore2_(self.score_pool2(0.01 * c4) + upscore_pool3)
        return SegmentationOutput(self.upscore8(self.score_pool1(0.0001 * c3) + upscore_pool2))


def _normed_stage(stage: dict[str, tuple[int, int]]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for in_channels, out_channels in stage.values():
        layers += conv_bn_relu(in_channels, out_channels, 3, weight_init=xavier_uniform())
    return nn.Sequential(*layers)


def _fully_connected(in_channels: int, kernel_size: int) -> nn.Conv2d:
    """Build one of VGG's fully connected layers as a convolution."""
    return conv(
        in_channels,
        4096,
        kernel_size,
        padding=0,
        bias=True,
        weight_init=normal(0.01),
        bias_init=constant(0.0),
    )


def _zero_score(in_channels: int, num_classes: int) -> nn.Conv2d:
    zero = constant(0.0)
    return conv(in_channels, num_classes, 1, bias=True, weight_init=zero, bias_init=zero)


def _bilinear_upscore(num_classes: int, factor: int) -> nn.ConvTranspose2d:
    """Build an upsampling to factor * (size + 1) pixels, interpolated bilinearly at first."""
    kernel_size = 2 * factor
    start = bilinear(num_classes, kernel_size)
    return deconv(num_classes, num_classes, kernel_size, stride=factor, weight_init=start)


def _upscore(
    num_classes: int, factor: int, weight_init: Initializer | None = None
) -> nn.ConvTranspose2d:
    """Build an upsampling to factor * size pixels, as MindSpore's padding "same" does."""
    return deconv(
        num_classes,
        num_classes,
        2 * factor,
        stride=factor,
        padding=factor // 2,
        weight_init=weight_init,
    )


def _cropped(x: torch.Tensor, offset: int, like: torch.Tensor) -> torch.Tensor:
    """Return the part of x that starts at (offset, offset) and is of the size of `like`."""
    height, width = like.shape[2:]
    return x[:, :, offset : offset + height, offset : offset + width]


def fcn8s_vgg16(num_classes: int) -> FCN8s:
    """Build the authors' network, whose coarser scores FCN-32s and FCN-16s train first."""
    return FCN8s(num_classes)


def fcn8s_vgg16_atonce(num_classes: int) -> FCN8s:
    """Build the authors' network for training in one go, with small factors before finer scores."""
    return FCN8s(num_classes, pool3_scale=0.0001, pool4_scale=0.01)


def fcn8s_vgg16_bn(num_classes: int) -> BatchNormFCN8s:
    """Build the article's on VGG-16 with BatchNorm."""
    return BatchNormFCN8s(num_classes)


def fcn8s_vgg16_pad1(num_classes: int) -> SmallPaddingFCN8s:
    """Build the one FactSeg is compared with, whose paddings are 1."""
    return SmallPaddingFCN8s(num_classes)


def fcn8s_resnet50(num_classes: int) -> ResNetFCN8s:
    """Build the article's on ResNet-50."""
    return ResNetFCN8s(num_classes)
