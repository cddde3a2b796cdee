"""The loss of a network with auxiliary heads."""

from collections.abc import Sequence

import torch
from torch import nn


class AuxiliaryLoss(nn.Module):
    """One loss on the logits, and on those of each auxiliary head times a weight.

    Source: Zhao et al., "Pyramid Scene Parsing Network" (arXiv 1612.01105), section 3.3.

    Args:
        loss: of (logits [N, C, H, W], labels [N, H, W]) -> scalar.
        weight: of every auxiliary head; the networks that have some know theirs as `aux_weight`.
    """

    def __init__(self, loss: nn.Module, weight: float = 0.0):
        super().__init__()
        self.loss = loss
        self.weight = weight

    def forward(
        self, logits: torch.Tensor, aux_logits: Sequence[torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        """Give the scalar loss of a `SegmentationOutput`'s two fields and labels."""
        total = self.loss(logits, labels)
        for aux in aux_logits:
            total = total + self.weight * self.loss(aux, labels)
        return total
