"""FactSeg: foreground-activation driven segmentation of small objects.

Source: Ma et al., "FactSeg: Foreground Activation-Driven Small Object Semantic Segmentation in
Large-Scale Remote Sensing Imagery" (doi 10.1109/TGRS.2021.3097148); original file
`module/factseg.py` of Junjue-Wang/FactSeg. Attribute names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from torch_ref.models.backbones import BACKBONES, ResNetEncoder
from torch_ref.models.decoder import AsymmetricDecoder
from torch_ref.models.fpn import FPN
from torch_ref.models.layers import check_image_batch, conv, upsample

SIZE_DIVISOR = 32


class FactSegOutput(NamedTuple):
    """Logits at input size: classes [N, num_classes, H, W] and foreground [N, 1, H, W]."""

    class_logits: torch.Tensor
    binary_logits: torch.Tensor

    @property
    def logits(self) -> torch.Tensor:
        """Return logits [N, num_classes, H, W] whose softmax is the joint probability."""
        foreground = self.class_logits[:, 1:] + self.binary_logits
        return torch.cat([self.class_logits[:, :1], foreground], dim=1)

    @property
    def aux_logits(self) -> tuple[()]:
        """Return no tensors: FactSeg has no auxiliary heads."""
        return ()


class FactSeg(nn.Module):
    """A shared encoder, and for each of the two tasks an FPN, an asymmetric decoder and a 1x1 head.

    Args:
        num_classes: classes including the background, which is class 0.
        backbone: "resnet18", "resnet34", "resnet50", "resnet101" or "resnet152".
        output_stride: stride of the encoder's coarsest features: 8, 16 or 32.

    Raises:
        ValueError: unknown backbone or output stride, or fewer than two classes.
    """

    def __init__(
        self, num_classes: int = 16, backbone: str = "resnet50", *, output_stride: int = 32
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(
                f"num_classes {num_classes} is too few: background and one foreground class make 2"
            )
        if backbone not in BACKBONES:
            raise ValueError(
                f"backbone {backbone!r} is not known; use one of {', '.join(BACKBONES)}"
            )
        self.resencoder = ResNetEncoder(BACKBONES[backbone](output_stride=output_stride))
        channels, strides = self.resencoder.out_channels, self.resencoder.out_strides
        self.fgfpn = FPN(channels, strides)
        self.bifpn = FPN(channels, strides)
        self.fg_decoder = AsymmetricDecoder(256, 128, strides)
        self.bi_decoder = AsymmetricDecoder(256, 128, strides)
        self.fg_cls = conv(128, num_classes, 1, bias=True)
        self.bi_cls = conv(128, 1, 1, bias=True)

    def forward(self, x: torch.Tensor) -> FactSegOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        check_image_batch(x, divisor=SIZE_DIVISOR)
        features = self.resencoder(x)
        class_logits = self.fg_cls(self.fg_decoder(self.fgfpn(features)))
        binary_logits = self.bi_cls(self.bi_decoder(self.bifpn(features)))
        return FactSegOutput(
            upsample(class_logits, 4, align_corners=True),
            upsample(binary_logits, 4, align_corners=True),
        )


def _variant(backbone: str) -> Callable[..., FactSeg]:
    def build(num_classes: int, *, output_stride: int = 32) -> FactSeg:
        return FactSeg(num_classes, backbone, output_stride=output_stride)

    build.__name__ = f"factseg_{backbone}"
    return build


factseg_resnet18 = _variant("resnet18")
factseg_resnet34 = _variant("resnet34")
factseg_resnet50 = _variant("resnet50")
factseg_resnet101 = _variant("resnet101")
factseg_resnet152 = _variant("resnet152")
