"""Focal loss, `FocalLoss` in the original's module/loss.py (which failed with alpha=None)."""

from collections.abc import Sequence

import torch
from torch import nn

from torch_ref.losses.cross_entropy import pixel_cross_entropy
from torch_ref.losses.labels import keep_valid, split_labels
from torch_ref.losses.mining import valid_mean
from torch_ref.losses.precision import in_full_precision


class FocalLoss(nn.Module):
    """Mean over valid pixels of alpha[y] * (1 - p_y)^gamma * -log p_y.

    The modulating factor is differentiated too.

    Args:
        alpha: one weight per class, or None for 1 throughout.
        gamma: focusing exponent, at least 0; with 0 and no alpha it is cross-entropy.
        ignore_index: label of the pixels that count for nothing.

    Raises:
        ValueError: gamma is negative.
    """

    def __init__(
        self, alpha: Sequence[float] | None = None, gamma: float = 2.0, ignore_index: int = 255
    ):
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma {gamma} is negative; use 0 (cross-entropy) or more, often 2")
        self.alpha = None if alpha is None else tuple(float(weight) for weight in alpha)
        self.gamma = gamma
        self.ignore_index = ignore_index

    @in_full_precision
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Give the scalar loss of logits [N, C, H, W] float and labels [N, H, W] int64.

        Raises:
            ValueError: alpha has another length than the logits have channels.
        """
        valid, targets = split_labels(labels, logits, self.ignore_index)
        losses = pixel_cross_entropy(logits, targets)
        # 1 - p held off 0, where x^gamma has no finite slope for gamma < 1.
        tiny = torch.finfo(losses.dtype).tiny
        improbability = (1 - torch.exp(-losses)).clamp(min=tiny)
        losses = improbability**self.gamma * losses
        if self.alpha is not None:
            losses = losses * self._pixel_alpha(logits, targets)
        return valid_mean(keep_valid(losses, valid), valid)

    def _pixel_alpha(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if len(self.alpha) != logits.shape[1]:
            raise ValueError(
                f"alpha has {len(self.alpha)} weights, but logits of shape {list(logits.shape)} "
                f"have {logits.shape[1]} channels; give one weight per class"
            )
        alpha = torch.tensor(self.alpha, dtype=logits.dtype, device=logits.device)
        return alpha[targets.reshape(-1)].reshape(targets.shape)
