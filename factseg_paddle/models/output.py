"""What the networks with one head return."""

from __future__ import annotations

from typing import NamedTuple

import paddle


class SegmentationOutput(NamedTuple):
    """Logits [N, num_classes, H, W] at input size, and those of the auxiliary heads likewise.

    Auxiliary heads exist in training mode alone: `aux_logits` is empty in evaluation.
    """

    logits: paddle.Tensor
    aux_logits: tuple[paddle.Tensor, ...] = ()
