"""A small captioner in PyTorch: from an image and the words so far to the next word."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ImageEncoder(nn.Module):
    """Image [N, 3, H, W] to features [N, width, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.upsample = nn.ConvTranspose2d(
            8, width, kernel_size=3, stride=2, padding=1, output_padding=1
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Features of the image."""
        return self.upsample(F.relu(self.norm(self.stem(image))))


class WordDecoder(nn.Module):
    """Word ids [N, T] and image tokens [N, S, width] to logits [N, T, words]."""

    def __init__(self, words: int, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.zeros(1, length, width))
        self.gru = nn.GRU(width, width, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.classifier = nn.Linear(width, words)

    def forward(self, ids: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the logits, and what was seen in the image."""
        states, _ = self.gru(self.embedding(ids) + self.position)
        query = self.norm(states)
        seen, _ = self.attention(query, tokens, tokens, need_weights=False)
        return {"logits": self.classifier(query + seen), "seen": seen}


class Captioner(nn.Module):
    """Image [N, 3, H, W] float and word ids [N, T] int64 to logits and what was seen."""

    def __init__(self, words: int = 30, length: int = 5, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.encoder = ImageEncoder(width)
        self.decoder = WordDecoder(words, length, width, heads)

    def forward(self, image: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """See the class."""
        tokens = self.encoder(image).flatten(2).transpose(1, 2)  # [N, H * W, width]
        return self.decoder(ids, tokens)


def loss(output: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the next words [N, T]; word 0 is padding and does not count."""
    return F.cross_entropy(output["logits"].flatten(0, 1), targets.flatten(), ignore_index=0)
