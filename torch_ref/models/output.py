"""What the networks with one head return."""

from __future__ import annotations

from typing import NamedTuple

import torch


class SegmentationOutput(NamedTuple):
    """Logits [N, num_classes, H, W] at input size, and those of the auxiliary heads likewise.

    Auxiliary heads exist in training mode alone: `aux_logits` is empty in evaluation.
    """

    logits: torch.Tensor
    aux_logits: tuple[torch.Tensor, ...] = ()
