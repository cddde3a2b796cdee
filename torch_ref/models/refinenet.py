"""RefineNet: four features of a ResNet, refined from the coarsest to the finest.

Lin et al., "RefineNet: Multi-Path Refinement Networks for High-Resolution Semantic Segmentation"
(arXiv 1611.06612). Sources, whose tensor names are kept: thomasjpfan/pytorch_refinenet
`refinenet_4cascade.py` (`RefineNet`), FactSeg's `module/baseline/refinenet.py`
(`EncoderRefineNet`), the article "classic segmentation models" (`TwoPoolRefineNet`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from torch_ref.models.backbones import ResNet, ResNetEncoder, resnet50, resnet101
from torch_ref.models.layers import check_image_batch, conv, named, resize, upsample
from torch_ref.models.output import SegmentationOutput

# Channels of the finer three paths; the coarsest has twice as many.
WIDTH = 256


class _Stages(nn.Module):
    """A network that has a ResNet's stages as layer1 to layer4; layer1 begins with the stem."""

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1
        )
        self.layer2 = resnet.layer2
        self.layer3 = resnet.layer3
        self.layer4 = resnet.layer4

    def _features(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        c5 = self.layer4(c4)
        return c2, c3, c4, c5


class RefineNet(_Stages):
    """Three poolings in each chain.

    Args:
        num_classes: classes including the background.
        resnet: the backbone.
        upsample: whether the logits are brought from stride 4, where the source leaves them, to
            the size of the image.
    """

    def __init__(self, num_classes: int, resnet: ResNet, *, upsample: bool) -> None:
        super().__init__(resnet)
        self.upsample = upsample
        _add_cascade(self, resnet.out_channels, num_classes)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size, or at a quarter of it.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        # Each path is twice as large as the one before it: other sides end in maps that don't fit.
        check_image_batch(x, divisor=32)
        logits = _refined(self, self._features(x))
        if self.upsample:
            logits = upsample(logits, 4, align_corners=True)
        return SegmentationOutput(logits)


class EncoderRefineNet(nn.Module):
    """`RefineNet` with the ResNet under another name.

    Args:
        num_classes: classes including the background.
        resnet: the backbone.
    """

    def __init__(self, num_classes: int, resnet: ResNet) -> None:
        super().__init__()
        self.resnet_encoder = ResNetEncoder(resnet)
        _add_cascade(self, resnet.out_channels, num_classes)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        check_image_batch(x, divisor=32)  # as in `RefineNet`
        logits = _refined(self, self.resnet_encoder(x))
        return SegmentationOutput(upsample(logits, 4, align_corners=True))


def _add_cascade(network: nn.Module, channels: Sequence[int], num_classes: int) -> None:
    c2, c3, c4, c5 = channels
    network.layer1_rn = conv(c2, WIDTH, 3)
    network.layer2_rn = conv(c3, WIDTH, 3)
    network.layer3_rn = conv(c4, WIDTH, 3)
    network.layer4_rn = conv(c5, 2 * WIDTH, 3)
    network.refinenet4 = _Block((2 * WIDTH,), 2 * WIDTH)
    network.refinenet3 = _Block((2 * WIDTH, WIDTH), WIDTH)
    network.refinenet2 = _Block((WIDTH, WIDTH), WIDTH)
    network.refinenet1 = _Block((WIDTH, WIDTH), WIDTH)
    network.output_conv = nn.Sequential(
        _ResidualUnit(WIDTH), _ResidualUnit(WIDTH), conv(WIDTH, num_classes, 1, bias=True)
    )


def _refined(network: nn.Module, features: Sequence[torch.Tensor]) -> torch.Tensor:
    c2, c3, c4, c5 = features
    p2, p3 = network.layer1_rn(c2), network.layer2_rn(c3)
    p4, p5 = network.layer3_rn(c4), network.layer4_rn(c5)
    return _cascade(network, p2, p3, p4, p5)


class _Block(nn.Module):
    """Two residual units for each feature, their fusion, chained pooling, and one more unit."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        for index, width in enumerate(in_channels):
            setattr(self, f"rcu{index}", nn.Sequential(_ResidualUnit(width), _ResidualUnit(width)))
        self.mrf = _fusion(in_channels, channels)
        self.crp = _ChainedPooling(channels, 3)
        self.output_conv = _ResidualUnit(channels)

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        refined = [getattr(self, f"rcu{index}")(x) for index, x in enumerate(features)]
        return self.output_conv(self.crp(self.mrf(*refined)))


class _ResidualUnit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, 3, bias=True)
        self.conv2 = conv(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _residual(x, self.conv1, self.conv2)


class TwoPoolRefineNet(_Stages):
    """Two poolings in each chain, and features of any sizes."""

    def __init__(self, num_classes: int) -> None:
        resnet = resnet50()
        super().__init__(resnet)
        c2, c3, c4, c5 = resnet.out_channels
        self.layer1_reduce = conv(c2, WIDTH, 3)
        self.layer2_reduce = conv(c3, WIDTH, 3)
        self.layer3_reduce = conv(c4, WIDTH, 3)
        self.layer4_reduce = conv(c5, 2 * WIDTH, 3)
        self.refinenet4 = _ListedBlock((2 * WIDTH,), 2 * WIDTH)
        self.refinenet3 = _ListedBlock((2 * WIDTH, WIDTH), WIDTH)
        self.refinenet2 = _ListedBlock((WIDTH, WIDTH), WIDTH)
        self.refinenet1 = _ListedBlock((WIDTH, WIDTH), WIDTH)
        self.output_conv = nn.Sequential(
            nn.Sequential(_ListedResidualUnit(WIDTH), _ListedResidualUnit(WIDTH)),
            conv(WIDTH, num_classes, 1, bias=True),
        )

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W].
        """
        check_image_batch(x)
        c2, c3, c4, c5 = self._features(x)
        p2, p3 = self.layer1_reduce(c2), self.layer2_reduce(c3)
        p4, p5 = self.layer3_reduce(c4), self.layer4_reduce(c5)
        logits = _cascade(self, p2, p3, p4, p5)
        return SegmentationOutput(resize(logits, x.shape[2:], align_corners=True))


class _ListedBlock(nn.Module):
    """As `_Block`, of other names and with two poolings."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.rcu = nn.ModuleList(
            nn.Sequential(_ListedResidualUnit(width), _ListedResidualUnit(width))
            for width in in_channels
        )
        self.mrf = _fusion(in_channels, channels)
        self.crp = _ChainedPooling(channels, 2)
        self.output_conv = _ListedResidualUnit(channels)

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        refined = [units(x) for units, x in zip(self.rcu, features, strict=True)]
        return self.output_conv(self.crp(self.mrf(*refined)))


class _ListedResidualUnit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        # 0 and 2 are the ReLUs in the source.
        self.rcu = named(
            **{"1": conv(channels, channels, 3, bias=True), "3": conv(channels, channels, 3)}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _residual(x, *self.rcu)


def _cascade(
    network: nn.Module, p2: torch.Tensor, p3: torch.Tensor, p4: torch.Tensor, p5: torch.Tensor
) -> torch.Tensor:
    path = network.refinenet4(p5)
    path = network.refinenet3(path, p4)
    path = network.refinenet2(path, p3)
    path = network.refinenet1(path, p2)
    return network.output_conv(path)


def _residual(x: torch.Tensor, conv1: nn.Module, conv2: nn.Module) -> torch.Tensor:
    # The first ReLU of all three sources works in place, so that their shortcut adds relu(x), not
    # the paper's x. Published weights belong to that.
    x = F.relu(x)
    return x + conv2(F.relu(conv1(x)))


def _fusion(in_channels: Sequence[int], channels: int) -> nn.Module:
    return _Fusion(*in_channels, channels) if len(in_channels) == 2 else nn.Identity()


class _Fusion(nn.Module):
    def __init__(self, coarse_channels: int, fine_channels: int, channels: int) -> None:
        super().__init__()
        self.resolve0 = conv(coarse_channels, channels, 3)
        self.resolve1 = conv(fine_channels, channels, 3)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        coarse, fine = self.resolve0(coarse), self.resolve1(fine)
        # The article compares widths alone: of images less than 17 wide, it may shrink the map
        # that has more rows.
        if coarse.shape[3] < fine.shape[3]:
            coarse = resize(coarse, fine.shape[2:], align_corners=True)
        else:
            fine = resize(fine, coarse.shape[2:], align_corners=True)
        return coarse + fine


class _ChainedPooling(nn.Module):
    """Each link pools and convolves what the one before it gave; the sum of all is returned."""

    def __init__(self, channels: int, links: int) -> None:
        super().__init__()
        self.links = links
        for number in range(1, links + 1):
            link = nn.Sequential(nn.MaxPool2d(5, stride=1, padding=2), conv(channels, channels, 3))
            setattr(self, f"block{number}", link)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(x)
        total = x
        for number in range(1, self.links + 1):
            x = getattr(self, f"block{number}")(x)
            total = total + x
        return total


def refinenet_resnet101(num_classes: int, *, upsample: bool = True) -> RefineNet:
    """Build the well-known one; `upsample=False` leaves logits at a quarter of the image."""
    return RefineNet(num_classes, resnet101(), upsample=upsample)


def refinenet_resnet50(num_classes: int) -> EncoderRefineNet:
    """Build the one that FactSeg is compared with."""
    return EncoderRefineNet(num_classes, resnet50())


def refinenet_resnet50_crp2(num_classes: int) -> TwoPoolRefineNet:
    """Build the article's, whose chained residual pooling (CRP) has two links."""
    return TwoPoolRefineNet(num_classes)
