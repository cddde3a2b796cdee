"""Context encoding: what an image holds as a whole weights the channels at every position.

Zhang et al., "Context Encoding for Semantic Segmentation" (arXiv 1803.08904). Source,
whose tensor names are kept: wuhuikai/FastFCN `encoding/models/encnet.py` and
`encoding/nn/encoding.py`.
"""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F
from paddle import nn

from factseg_paddle.models.layers import conv, conv_bn_relu, dropout2d, linear
from factseg_paddle.models.output import SegmentationOutput


class PresenceOutput(SegmentationOutput):
    """A `SegmentationOutput` with an attribute `presence_logits` [N, num_classes].

    They say which classes the image holds, for the paper's semantic encoding loss. Being no field,
    they leave the output the pair that a loss of (logits, aux_logits, labels) takes.
    """

    presence_logits: paddle.Tensor | None

    def __new__(
        cls,
        logits: paddle.Tensor,
        aux_logits: tuple[paddle.Tensor, ...] = (),
        presence_logits: paddle.Tensor | None = None,
    ) -> PresenceOutput:
        """Make the pair, and hang the presence logits on it; what copies pairs gives none."""
        output = super().__new__(cls, logits, aux_logits)
        output.presence_logits = presence_logits
        return output


class EncodingHead(nn.Layer):
    """EncNet's head, without the lateral connections that only its deeper networks have."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv5 = conv_bn_relu(in_channels, 512, 1)
        self.encmodule = _EncodingModule(512, num_classes, codes=32)
        self.conv6 = nn.Sequential(dropout2d(0.1), conv(512, num_classes, 1, bias=True))

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Map [N, in_channels, H, W] to logits at that size and presence logits [N, classes]."""
        x, presence = self.encmodule(self.conv5(x))
        return self.conv6(x), presence


class _EncodingModule(nn.Layer):
    def __init__(self, channels: int, num_classes: int, codes: int) -> None:
        super().__init__()
        # BatchNorm of [N, codes, channels]: each code is normalised over images and channels.
        self.encoding = nn.Sequential(
            *conv_bn_relu(channels, channels, 1),
            Encoding(channels, codes),
            nn.BatchNorm1D(codes),
            nn.ReLU(),
        )
        self.fc = nn.Sequential(linear(channels, channels), nn.Sigmoid())
        self.selayer = linear(channels, num_classes)
        self.relu = nn.ReLU()

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        code = self.encoding(x).mean(axis=1)  # [N, channels]
        weight = self.fc(code)[:, :, None, None]
        return self.relu(x + x * weight), self.selayer(code)


class Encoding(nn.Layer):
    """Residuals to learnt codewords, each position's shared out among them, summed over the map.

    Args:
        channels: of the input and of each codeword.
        codes: number of codewords.
    """

    def __init__(self, channels: int, codes: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(codes * channels)
        self.codewords = self.create_parameter(
            [codes, channels], default_initializer=nn.initializer.Uniform(-bound, bound)
        )
        self.scale = self.create_parameter(
            [codes], default_initializer=nn.initializer.Uniform(-1.0, 0.0)
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [N, channels, H, W] to [N, codes, channels]."""
        x = x.flatten(2).transpose([0, 2, 1])  # [N, H * W, channels]
        # |x - c|^2 and the sum of shares * (x - c) are expanded: written out, the differences of
        # every position to every codeword would be 32 times the feature map.
        products = x @ self.codewords.T  # [N, H * W, codes]
        squares = (x**2).sum(axis=2, keepdim=True) + (self.codewords**2).sum(axis=1)
        shares = F.softmax(self.scale * (squares - 2 * products), axis=2)
        totals = shares.sum(axis=1)[:, :, None]  # [N, codes, 1]
        return shares.transpose([0, 2, 1]) @ x - totals * self.codewords
