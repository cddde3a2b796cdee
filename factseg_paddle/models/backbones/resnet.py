"""ResNet-18/34/50/101/152 and the four-level encoder that FactSeg reads.

Source: He et al., "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), in the layout
and with the names of torchvision's `resnet.py`: 7x7 stem, 3x3 max pooling, the stride of a
bottleneck on its 3x3 convolution. `ResNetEncoder` follows SimpleCV's `module/_resnet.py`, which
FactSeg uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn

from factseg_paddle.models.backbones.recompute import recompute_stage
from factseg_paddle.models.initializers import kaiming_normal
from factseg_paddle.models.layers import batch_norm, conv, linear


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions and a shortcut.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: stride of the first convolution and of the shortcut.
        dilation: dilation of what follows the (possibly removed) subsampling.
        first_dilation: dilation of the convolution that would subsample.
        downsample: the projection of the shortcut, None where the input is added as it is.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dilation: int,
        first_dilation: int,
        downsample: nn.Layer | None,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 3, stride, first_dilation)
        self.bn1 = batch_norm(channels)
        self.relu = nn.ReLU()
        self.conv2 = _conv(channels, channels, 3, 1, dilation)
        self.bn2 = batch_norm(channels)
        self.downsample = downsample

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [N, in_channels, H, W] to [N, channels, H/stride, W/stride]."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1 convolutions and a shortcut; the output has 4 * channels.

    Arguments as in `BasicBlock`; stride and first_dilation apply to the only 3x3 convolution, so
    `dilation` takes effect from the stage's second block on.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dilation: int,  # noqa: ARG002 - one signature for both blocks
        first_dilation: int,
        downsample: nn.Layer | None,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 1)
        self.bn1 = batch_norm(channels)
        self.conv2 = _conv(channels, channels, 3, stride, first_dilation)
        self.bn2 = batch_norm(channels)
        self.conv3 = _conv(channels, channels * self.expansion, 1)
        self.bn3 = batch_norm(channels * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [N, in_channels, H, W] to [N, 4 * channels, H/stride, W/stride]."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + identity)


class ResNet(nn.Layer):
    """The residual network; convolutions start kaiming-normal (fan_out), BatchNorm at 1 and 0.

    Args:
        block: BasicBlock or Bottleneck.
        depths: number of blocks in layer1..layer4.
        num_classes: classes of the `fc` head; None leaves the head out.
        output_stride: 8, 16 or 32; below 32 the last stages keep their resolution and dilate, so
            that every (32 / output_stride)-th position still holds what the strided network
            computes.
        deep_stem: channels of three 3x3 convolutions, the first of stride 2, in place of the 7x7
            one; as in Zhang et al., "Context Encoding for Semantic Segmentation" (arXiv
            1803.08904), whose code names them `conv1.0`, `conv1.3` and `conv1.6`.

    Raises:
        ValueError: another output_stride.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        num_classes: int | None = None,
        output_stride: int = 32,
        deep_stem: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride {output_stride} is not known; use 8, 16 or 32")
        stem_channels = 64 if deep_stem is None else deep_stem[-1]
        if deep_stem is None:
            self.conv1 = _conv(3, 64, 7, stride=2)
        else:
            self.conv1 = _deep_stem(*deep_stem)
        self.bn1 = batch_norm(stem_channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=1)

        self.out_channels = tuple(width * block.expansion for width in (64, 128, 256, 512))
        self.out_strides = tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
        in_channels, in_stride, dilation = stem_channels, 4, 1
        for index, (width, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True)):
            stride = self.out_strides[index] // in_stride
            first_dilation = dilation
            if index > 0 and stride == 1:
                dilation *= 2
            blocks = _make_stage(block, in_channels, width, depth, stride, dilation, first_dilation)
            setattr(self, f"layer{index + 1}", blocks)
            in_channels, in_stride = self.out_channels[index], self.out_strides[index]

        self.avgpool = None if num_classes is None else nn.AdaptiveAvgPool2D(1)
        self.fc = None if num_classes is None else linear(in_channels, num_classes)
        self.recomputed_stages: frozenset[int] = frozenset()

    def features(self, x: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        """Map [N, 3, H, W] to (c2, c3, c4, c5) at `out_strides` with `out_channels`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        c2 = self._stage(1, x)
        c3 = self._stage(2, c2)
        c4 = self._stage(3, c3)
        c5 = self._stage(4, c4)
        return c2, c3, c4, c5

    def backbone_layers(self) -> dict[str, nn.Layer]:
        """Return the pretrained layers by torchvision's names, without the head."""
        stages = self.layer1, self.layer2, self.layer3, self.layer4
        return named_backbone_layers(self.conv1, self.bn1, *stages)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [N, 3, H, W] to class logits [N, num_classes].

        Raises:
            ValueError: the network was built without a head.
        """
        if self.fc is None:
            raise ValueError("this ResNet has no head: give num_classes, or call features(x)")
        return self.fc(self.avgpool(self.features(x)[-1]).flatten(1))

    def _stage(self, number: int, x: paddle.Tensor) -> paddle.Tensor:
        stage = getattr(self, f"layer{number}")
        if number in self.recomputed_stages and self.training and paddle.is_grad_enabled():
            return recompute_stage(stage, x)
        return stage(x)


class ResNetEncoder(nn.Layer):
    """A ResNet without head under the name `resnet`, which the published checkpoints use.

    Args:
        resnet: the network.
        frozen_stages: 0 freezes nothing, 1 the stem, 2 also layer1, …, 5 everything: neither
            parameters nor BatchNorm statistics of a frozen stage change, whatever mode the network
            is in.
        frozen_batch_norm: freeze every BatchNorm likewise.
        gradient_checkpointing: for layer1..layer4 (or one value for all), whether to recompute the
            stage's activations in backward instead of keeping them.

    Raises:
        ValueError: frozen_stages outside 0..5, or not four values of gradient_checkpointing.
    """

    def __init__(
        self,
        resnet: ResNet,
        *,
        frozen_stages: int = 0,
        frozen_batch_norm: bool = False,
        gradient_checkpointing: bool | Sequence[bool] = False,
    ) -> None:
        super().__init__()
        self.resnet = resnet
        self.out_channels = resnet.out_channels
        self.out_strides = resnet.out_strides
        if frozen_stages not in range(6):
            raise ValueError(
                f"frozen_stages {frozen_stages} is not known; use 0 (none) to 5 (stem and layer1-4)"
            )
        resnet.recomputed_stages = _numbers_of_recomputed_stages(gradient_checkpointing)
        stages = [
            [resnet.conv1, resnet.bn1],
            [resnet.layer1],
            [resnet.layer2],
            [resnet.layer3],
            [resnet.layer4],
        ]
        for stage in stages[:frozen_stages]:
            for layer in stage:
                _freeze(layer)
        if frozen_batch_norm:
            for layer in resnet.sublayers():
                if isinstance(layer, nn.BatchNorm2D):
                    _freeze(layer)

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        """Map [N, 3, H, W] to (c2, c3, c4, c5)."""
        return self.resnet.features(x)


def resnet18(**options: Any) -> ResNet:
    """Build ResNet-18; options as in `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), **options)


def resnet34(**options: Any) -> ResNet:
    """Build ResNet-34; options as in `ResNet`."""
    return ResNet(BasicBlock, (3, 4, 6, 3), **options)


def resnet50(**options: Any) -> ResNet:
    """Build ResNet-50; options as in `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), **options)


def resnet101(**options: Any) -> ResNet:
    """Build ResNet-101; options as in `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 23, 3), **options)


def resnet152(**options: Any) -> ResNet:
    """Build ResNet-152; options as in `ResNet`."""
    return ResNet(Bottleneck, (3, 8, 36, 3), **options)


def named_backbone_layers(conv1: nn.Layer, bn1: nn.Layer, *stages: nn.Layer) -> dict[str, nn.Layer]:
    """Return a ResNet's layers by torchvision's names, for a network that names them otherwise."""
    layers = {f"layer{number}": stage for number, stage in enumerate(stages, start=1)}
    return {"conv1": conv1, "bn1": bn1} | layers


def _deep_stem(first: int, second: int, third: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(3, first, 3, 2),
        batch_norm(first),
        nn.ReLU(),
        _conv(first, second, 3, 1),
        batch_norm(second),
        nn.ReLU(),
        _conv(second, third, 3, 1),
    )


def _make_stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    width: int,
    depth: int,
    stride: int,
    dilation: int,
    first_dilation: int,
) -> nn.Sequential:
    out_channels = width * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            _conv(in_channels, out_channels, 1, stride), batch_norm(out_channels)
        )
    blocks = [block(in_channels, width, stride, dilation, first_dilation, downsample)]
    for _ in range(1, depth):
        blocks.append(block(out_channels, width, 1, dilation, dilation, None))
    return nn.Sequential(*blocks)


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1
) -> nn.Conv2D:
    return conv(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        dilation=dilation,
        weight_init=kaiming_normal(out_channels * kernel_size**2),
    )


def _freeze(layer: nn.Layer) -> None:
    for parameter in layer.parameters():
        parameter.stop_gradient = True
    for sublayer in layer.sublayers(include_self=True):
        if isinstance(sublayer, nn.BatchNorm2D):
            # What the constructor's `use_global_stats` sets. A mode set by train() would be lost:
            # Layer.train() of any parent writes `training` on all layers below without asking them.
            sublayer._use_global_stats = True


def _numbers_of_recomputed_stages(choice: bool | Sequence[bool]) -> frozenset[int]:
    choices = [choice] * 4 if isinstance(choice, bool) else list(choice)
    if len(choices) != 4:
        raise ValueError(
            f"gradient_checkpointing has {len(choices)} values; give one, or four (layer1..layer4)"
        )
    return frozenset(number for number, chosen in enumerate(choices, start=1) if chosen)
