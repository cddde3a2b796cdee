"""DenseNet-121, whose layers each read all that came before them.

Source: Huang et al., "Densely Connected Convolutional Networks" (arXiv 1608.06993), in the layout
and with the names of torchvision's `densenet.py`. Removing poolings in favour of dilation follows
FactSeg's `module/baseline/base_models/densenet.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from torch_ref.models.initializers import kaiming_normal
from torch_ref.models.layers import batch_norm, conv


class DenseNet(nn.Module):
    """The densely connected network without its classifier; convolutions start kaiming-normal.

    Args:
        depths: number of layers in denseblock1..denseblock4.
        growth_rate: channels that every layer adds.
        output_stride: 8, 16 or 32; below 32 the last transitions don't pool, and the 3x3
            convolutions of what follows dilate instead.
        last_norm: whether the last feature is normalised, by `norm5`.

    Raises:
        ValueError: another output_stride.
    """

    def __init__(
        self,
        depths: Sequence[int],
        *,
        growth_rate: int = 32,
        output_stride: int = 32,
        last_norm: bool = True,
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride {output_stride} is not known; use 8, 16 or 32")
        channels, stride, dilation = 64, 4, 1
        self.features = nn.Sequential()
        self.features.add_module("conv0", _conv(3, channels, 7, stride=2))
        self.features.add_module("norm0", batch_norm(channels))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, stride=2, padding=1))
        out_channels, out_strides = [channels], [2]
        for number, depth in enumerate(depths, start=1):
            block = _DenseBlock(channels, depth, growth_rate, dilation)
            self.features.add_module(f"denseblock{number}", block)
            channels += depth * growth_rate
            out_channels.append(channels)
            out_strides.append(stride)
            if number == len(depths):
                break
            pooled = stride < output_stride
            transition = _Transition(channels, channels // 2, pooled=pooled)
            self.features.add_module(f"transition{number}", transition)
            channels //= 2
            stride, dilation = (2 * stride, dilation) if pooled else (stride, 2 * dilation)
        if last_norm:
            self.features.add_module("norm5", batch_norm(channels))
        self.out_channels = tuple(out_channels)
        self.out_strides = tuple(out_strides)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map [N, 3, H, W] to (c1, c2, c3, c4, c5) at `out_strides` with `out_channels`.

        c1 is the stem before its pooling; c2, c3 and c4 are what the transitions read, normalised
        and rectified by them; c5 is not rectified, and normalised with `last_norm` alone.
        """
        outputs = []
        for name, layer in self.features.named_children():
            if isinstance(layer, _Transition):
                feature, x = layer(x)
                outputs.append(feature)
            else:
                x = layer(x)
                if name == "relu0":
                    outputs.append(x)
        return (*outputs, x)


class _DenseBlock(nn.Module):
    def __init__(self, in_channels: int, depth: int, growth_rate: int, dilation: int) -> None:
        super().__init__()
        for index in range(depth):
            layer = _DenseLayer(in_channels + index * growth_rate, growth_rate, dilation)
            self.add_module(f"denselayer{index + 1}", layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class _DenseLayer(nn.Module):
    def __init__(self, in_channels: int, growth_rate: int, dilation: int) -> None:
        super().__init__()
        mid_channels = 4 * growth_rate
        self.norm1 = batch_norm(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = _conv(in_channels, mid_channels, 1)
        self.norm2 = batch_norm(mid_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = _conv(mid_channels, growth_rate, 3, dilation=dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(self.relu1(self.norm1(x)))
        return self.conv2(self.relu2(self.norm2(x)))


class _Transition(nn.Module):
    """Gives what its convolution reads, and what the next block reads."""

    def __init__(self, in_channels: int, out_channels: int, *, pooled: bool) -> None:
        super().__init__()
        self.norm = batch_norm(in_channels)
        self.relu = nn.ReLU()
        self.conv = _conv(in_channels, out_channels, 1)
        self.pool = nn.AvgPool2d(2) if pooled else nn.Identity()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        feature = self.relu(self.norm(x))
        return feature, self.pool(self.conv(feature))


def densenet121(*, output_stride: int = 32, last_norm: bool = True) -> DenseNet:
    """Build DenseNet-121; options as in `DenseNet`."""
    return DenseNet((6, 12, 24, 16), output_stride=output_stride, last_norm=last_norm)


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, dilation: int = 1
) -> nn.Conv2d:
    return conv(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        dilation=dilation,
        weight_init=kaiming_normal(in_channels * kernel_size**2),
    )
