"""The captioner in PaddlePaddle, as another author might have ported it: other names throughout."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn


class ImageNet(nn.Layer):
    """Image [N, 3, H, W] to features [N, width, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 8, kernel_size=3, stride=2, padding=1)
        self.group_norm = nn.GroupNorm(2, 8)
        self.deconv = nn.Conv2DTranspose(
            8, width, kernel_size=3, stride=2, padding=1, output_padding=1
        )

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Features of the image."""
        return self.deconv(F.relu(self.group_norm(self.conv(image))))


class TextNet(nn.Layer):
    """Word ids [N, T] and image tokens [N, S, width] to logits [N, T, words]."""

    def __init__(self, words: int, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.positions = self.create_parameter([length, width])
        self.rnn = nn.GRU(width, width)
        self.layer_norm = nn.LayerNorm(width)
        self.attend = nn.MultiHeadAttention(width, heads)
        self.head = nn.Linear(width, words)

    def forward(self, ids: paddle.Tensor, tokens: paddle.Tensor) -> dict[str, paddle.Tensor]:
        """Return the logits, and what was seen in the image."""
        states, _ = self.rnn(self.embed(ids) + self.positions)
        query = self.layer_norm(states)
        seen = self.attend(query, tokens, tokens)
        return {"logits": self.head(query + seen), "seen": seen}


class Captioner(nn.Layer):
    """Image [N, 3, H, W] float and word ids [N, T] int64 to logits and what was seen."""

    def __init__(self, words: int = 30, length: int = 5, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.image = ImageNet(width)
        self.text = TextNet(words, length, width, heads)

    def forward(self, image: paddle.Tensor, ids: paddle.Tensor) -> dict[str, paddle.Tensor]:
        """See the class."""
        tokens = self.image(image).flatten(2).transpose([0, 2, 1])  # [N, H * W, width]
        return self.text(ids, tokens)


def loss(output: dict[str, paddle.Tensor], targets: paddle.Tensor) -> paddle.Tensor:
    """Cross-entropy of the next words [N, T]; word 0 is padding and does not count."""
    return F.cross_entropy(output["logits"], targets, ignore_index=0)
