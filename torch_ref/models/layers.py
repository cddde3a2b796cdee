"""The layers that the classic networks are made of.

`factseg_paddle.models.layers` has the same functions, so that a network reads the same in both.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from torch_ref.models.initializers import Initializer, kaiming_normal


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> nn.Conv2d:
    """Build a convolution whose padding keeps the size unless it is given.

    Where `weight_init` or `bias_init` is None, the tensor starts as in torch.nn.Conv2d.
    """
    layer = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2 * dilation if padding is None else padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    _fill(layer, weight_init, bias_init)
    return layer


def deconv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int,
    padding: int = 0,
    bias: bool = False,
    weight_init: Initializer | None = None,
) -> nn.ConvTranspose2d:
    """Build a transposed convolution to (size - 1) * stride - 2 * padding + kernel_size.

    Where `weight_init` is None, the weight starts as in torch.nn.ConvTranspose2d.
    """
    layer = nn.ConvTranspose2d(
        in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias
    )
    _fill(layer, weight_init, None)
    return layer


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Build a BatchNorm with epsilon 1e-5, whose statistics move by a tenth."""
    return nn.BatchNorm2d(channels, momentum=0.1, eps=1e-5)


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Build a linear layer that starts as torch.nn.Linear."""
    return nn.Linear(in_features, out_features)


def dropout2d(p: float) -> nn.Dropout2d:
    """Build a dropout of whole channels, what is kept divided by 1 - p."""
    return nn.Dropout2d(p)


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    bias: bool = False,
    weight_init: Initializer | None = None,
) -> nn.Sequential:
    """Build a convolution (0), BatchNorm (1) and ReLU (2)."""
    return nn.Sequential(
        conv(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            dilation=dilation,
            bias=bias,
            weight_init=weight_init,
        ),
        batch_norm(out_channels),
        nn.ReLU(),
    )


def named(**layers: nn.Module) -> nn.Sequential:
    """Build layers one after another under the names of the arguments."""
    return nn.Sequential(OrderedDict(layers))


def named_conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, dilation: int = 1
) -> nn.Sequential:
    """Build `conv_bn_relu` with the names conv, bn and relu in place of 0, 1 and 2."""
    layers = conv_bn_relu(in_channels, out_channels, kernel_size, dilation=dilation)
    return named(**dict(zip(("conv", "bn", "relu"), layers, strict=True)))


def init_kaiming_normal_(network: nn.Module) -> None:
    """Let every convolution's weight start normal with variance 2 / fan_in."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            kaiming_normal(layer.weight[0].numel())(layer.weight)


def resize(x: torch.Tensor, size: Sequence[int], *, align_corners: bool) -> torch.Tensor:
    """Interpolate [N, C, H, W] bilinearly to `size` (height, width)."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def upsample(x: torch.Tensor, factor: int, *, align_corners: bool) -> torch.Tensor:
    """Interpolate [N, C, H, W] bilinearly to [N, C, factor * H, factor * W]."""
    size = [factor * side for side in x.shape[2:]]
    return resize(x, size, align_corners=align_corners)


def pool_with_indices(x: torch.Tensor, *, ceil_mode: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest of each 2x2 pixels of [N, C, H, W], and its index in H * W for `unpool`.

    Args:
        x: the maps.
        ceil_mode: whether an odd side's last pixels are pooled too, by themselves.
    """
    return F.max_pool2d(x, 2, ceil_mode=ceil_mode, return_indices=True)


def unpool(x: torch.Tensor, indices: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Put each value of x back at its index in maps of `size` (height, width), and 0 elsewhere."""
    return F.max_unpool2d(x, indices, 2, output_size=list(size))


def check_image_batch(x: torch.Tensor, divisor: int = 1, smallest: int = 1) -> None:
    """Refuse what a network can't take, naming sizes that it can.

    Args:
        x: should be [N, 3, H, W].
        divisor: H and W must divide by it.
        smallest: H and W must be at least this.

    Raises:
        ValueError: it is something else.
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"input of shape {list(x.shape)} is not a batch of images [N, 3, H, W]")
    least = -(-smallest // divisor) * divisor
    for side, size in zip(("height", "width"), x.shape[2:], strict=True):
        if size % divisor:
            lower = size // divisor * divisor
            sizes = sorted({max(least, near) for near in (lower, lower + divisor)})
            use = " or ".join(map(str, sizes))
            raise ValueError(f"{side} {size} is not divisible by {divisor}; use {use}")
        if size < least:
            raise ValueError(f"{side} {size} is too small; use {least} or more")


def check_pooled_batch(x: torch.Tensor, training: bool) -> None:
    """Refuse a lone image where BatchNorm in training mode is to follow a mean over the image.

    PyTorch's BatchNorm raises for one value a channel; Paddle's lets it pass unnormalised.

    Raises:
        ValueError: x, [N, C, H, W], is a batch of one image and `training` is true.
    """
    if training and x.shape[0] == 1:
        raise ValueError(
            "a batch of one image leaves BatchNorm one value a channel behind the mean over the "
            "image; train with two images or more"
        )


def _fill(layer: nn.Module, weight_init: Initializer | None, bias_init: Initializer | None) -> None:
    for tensor, init in ((layer.weight, weight_init), (layer.bias, bias_init)):
        if init is not None and tensor is not None:
            init(tensor)
