"""DenseASPP on DenseNet-121.

Yang et al., "DenseASPP for Semantic Segmentation in Street Scenes" (CVPR 2018). Source, whose
tensor names are kept, "deneseencoder" included: FactSeg's `module/baseline/denseaspp.py`. Its
branches activate after each convolution and drop single values; those of the authors' code
(DeepMotionAIResearch/DenseASPP) activate before and drop whole channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from torch_ref.models.backbones.densenet import DenseNet, densenet121
from torch_ref.models.layers import batch_norm, check_image_batch, conv, resize
from torch_ref.models.output import SegmentationOutput

RATES = (3, 6, 12, 18, 24)
DROPOUT = 0.1


class DenseASPP(nn.Module):
    """A backbone of output stride 8, dilated branches that read one another, a 1x1 head.

    Args:
        num_classes: classes including the background.
        densenet: the backbone, without its last BatchNorm: the branches read the last block raw.
    """

    def __init__(self, num_classes: int, densenet: DenseNet) -> None:
        super().__init__()
        self.deneseencoder = _Encoder(densenet)
        self.head = _Head(densenet.out_channels[-1], num_classes)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W], of at least 5x5 pixels, to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W] or smaller.
        """
        check_image_batch(x, smallest=5)  # the first transition pools 2x2
        logits = self.head(self.deneseencoder(x)[-1])
        return SegmentationOutput(resize(logits, x.shape[2:], align_corners=True))


class _Encoder(nn.Module):
    def __init__(self, densenet: DenseNet) -> None:
        super().__init__()
        self.densenet = densenet

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.densenet(x)


class _Head(nn.Module):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.dense_aspp_block = _DenseBranches(in_channels, 256, 64, RATES)
        all_channels = in_channels + 64 * len(RATES)
        self.block = nn.Sequential(
            nn.Dropout(DROPOUT), conv(all_channels, num_classes, 1, bias=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.dense_aspp_block(x))


class _DenseBranches(nn.Module):
    def __init__(
        self, in_channels: int, mid_channels: int, out_channels: int, rates: Sequence[int]
    ) -> None:
        super().__init__()
        for index, rate in enumerate(rates):
            read_channels = in_channels + index * out_channels
            branch = _Branch(read_channels, mid_channels, out_channels, rate)
            self.add_module(f"aspp_{rate}", branch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for branch in self.children():
            x = torch.cat([branch(x), x], dim=1)  # the newest first, as the weights have it
        return x


class _Branch(nn.Module):
    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, rate: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, mid_channels, 1, bias=True)
        self.bn1 = batch_norm(mid_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(mid_channels, out_channels, 3, dilation=rate, bias=True)
        self.bn2 = batch_norm(out_channels)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.dropout(self.relu2(self.bn2(self.conv2(x))))


def denseaspp_densenet121(num_classes: int) -> DenseASPP:
    """Build the one FactSeg is compared with."""
    return DenseASPP(num_classes, densenet121(output_stride=8, last_norm=False))
