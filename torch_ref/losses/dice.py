"""Dice losses: 1 - (2 sum pq + smooth) / (sum p + sum q + smooth), void pixels left out.

`DiceLoss` of the original's module/loss.py and SimpleCV's `DiceWithLogitsLoss` have this quotient
for a probability p and a target q of 0 or 1, summed over the whole batch: that is
`BinaryDiceLoss`. `DiceLoss` here is its form for several classes, and what the article "classic
segmentation models" means: its 2 |X Y| / (|X| + |Y|) lacks the "1 -" and would grow with success.
"""

import torch
import torch.nn.functional as F
from torch import nn

from torch_ref.losses.labels import split_labels
from torch_ref.losses.precision import in_full_precision


class DiceLoss(nn.Module):
    """Soft dice of several classes: the quotient of each class over the batch, then their mean.

    p is the softmax over channels, q the one-hot label. A class that is absent from the labels
    counts too: its loss falls to 0 as its probability does.

    Args:
        smooth: added above and below, greater than 0: with no valid pixel the loss is then 0.
        ignore_index: label of the pixels that count for nothing.

    Raises:
        ValueError: smooth is not positive.
    """

    def __init__(self, smooth: float = 1.0, ignore_index: int = 255):
        super().__init__()
        self.smooth = _checked_smooth(smooth)
        self.ignore_index = ignore_index

    @in_full_precision
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Give the scalar loss of logits [N, C, H, W] float and labels [N, H, W] int64."""
        valid, targets = split_labels(labels, logits, self.ignore_index)
        kept = valid.to(logits.dtype).unsqueeze(1)
        one_hot = F.one_hot(targets, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
        probabilities = F.softmax(logits, dim=1)
        return _dice(probabilities * kept, one_hot * kept, self.smooth, dim=[0, 2, 3]).mean()


class BinaryDiceLoss(nn.Module):
    """Soft dice of foreground against background on one logit, summed over the batch.

    Args:
        smooth: added above and below, greater than 0: with no valid pixel the loss is then 0.
        ignore_index: label of the pixels that count for nothing.

    Raises:
        ValueError: smooth is not positive.
    """

    def __init__(self, smooth: float = 1.0, ignore_index: int = 255):
        super().__init__()
        self.smooth = _checked_smooth(smooth)
        self.ignore_index = ignore_index

    @in_full_precision
    def forward(self, binary_logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Give the scalar loss of binary_logits [N, 1, H, W] float and labels [N, H, W] int64.

        The labels are 0, 1 or `ignore_index`: `(labels > 0)` of class labels must be taken before.
        """
        if binary_logits.ndim == 4 and binary_logits.shape[1] != 1:
            raise ValueError(
                f"binary_logits of shape {list(binary_logits.shape)} are not [N, 1, H, W]; use "
                "DiceLoss for class logits"
            )
        valid, targets = split_labels(labels, binary_logits, self.ignore_index, num_classes=2)
        kept = valid.to(binary_logits.dtype)
        foreground = targets.to(binary_logits.dtype)
        return _dice(F.sigmoid(binary_logits).squeeze(1) * kept, foreground * kept, self.smooth)


def _dice(
    probabilities: torch.Tensor,
    targets: torch.Tensor,
    smooth: float,
    dim: list[int] | None = None,
) -> torch.Tensor:
    both = (probabilities * targets).sum(dim)
    return 1 - (2 * both + smooth) / (probabilities.sum(dim) + targets.sum(dim) + smooth)


def _checked_smooth(smooth: float) -> float:
    if not smooth > 0:
        raise ValueError(f"smooth {smooth} is not positive; an empty batch would be 0 / 0; use 1")
    return smooth
