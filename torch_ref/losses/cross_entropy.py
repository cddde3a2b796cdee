"""Cross-entropy on logits: over all valid pixels, the hard ones, or weighted by rarity.

`ohem_cross_entropy` and `InverseWeightCrossEntroyLoss` in the original's module/loss.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from torch_ref.losses.labels import keep_valid, split_labels
from torch_ref.losses.mining import Sampler
from torch_ref.losses.precision import in_full_precision


class CrossEntropyLoss(nn.Module):
    """Cross-entropy of the pixels that the sampling keeps.

    Args:
        ignore_index: label of the pixels that count for nothing.
        sampling: "mean" over the valid pixels, "som" or "ohem"; see `Sampler` for the rest.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        sampling: str = "mean",
        ratio: float = 0.1,
        *,
        thresh: float = 0.7,
        min_kept: int = 100_000,
    ):
        super().__init__()
        self.ignore_index = ignore_index
        self.sampler = Sampler(sampling, ratio, thresh, min_kept)

    @in_full_precision
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Give the scalar loss of logits [N, C, H, W] float and labels [N, H, W] int64."""
        valid, targets = split_labels(labels, logits, self.ignore_index)
        losses = keep_valid(pixel_cross_entropy(logits, targets), valid)
        return self.sampler(losses, valid)


class OhemCrossEntropyLoss(CrossEntropyLoss):
    """Cross-entropy of the hard pixels: those below max(k-th probability, `thresh`).

    Args:
        ignore_index: label of the pixels that count for nothing.
        thresh: probability of the true class below which a pixel is hard, in (0, 1].
        min_kept: pixels per image that are kept however easy they are.
    """

    def __init__(self, ignore_index: int = 255, thresh: float = 0.7, min_kept: int = 100_000):
        super().__init__(ignore_index, "ohem", thresh=thresh, min_kept=min_kept)


class InverseFrequencyCrossEntropyLoss(nn.Module):
    """Cross-entropy with class weights 1 / log(1.02 + frequency), taken from each batch.

    The weighted mean: sum of weight * loss over the sum of the weights of the valid pixels.

    Args:
        num_classes: C; the frequency of a class that is absent is 0, its weight 50.5.
        ignore_index: label of the pixels that count for nothing, in the frequencies too.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255):
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    @in_full_precision
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Give the scalar loss of logits [N, C, H, W] float and labels [N, H, W] int64.

        Raises:
            ValueError: the logits have another number of channels than `num_classes`.
        """
        if logits.shape[1] != self.num_classes:
            raise ValueError(
                f"logits of shape {list(logits.shape)} have {logits.shape[1]} channels, "
                f"but num_classes is {self.num_classes}"
            )
        valid, targets = split_labels(labels, logits, self.ignore_index)
        kept = valid.to(logits.dtype)
        weights = self._class_weights(targets, valid, logits.dtype)
        pixel_weights = weights[targets.reshape(-1)].reshape(targets.shape) * kept
        losses = keep_valid(pixel_cross_entropy(logits, targets), valid)
        # Each weight is above 1, so 1 stands in only where no pixel is valid.
        return (losses * pixel_weights).sum() / pixel_weights.sum().clamp(min=1.0)

    def _class_weights(
        self, targets: torch.Tensor, valid: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        counts = torch.bincount(targets.masked_select(valid), minlength=self.num_classes)
        frequencies = counts.to(dtype) / counts.sum().to(dtype).clamp(min=1.0)
        return 1 / torch.log(1.02 + frequencies)  # [C]


def pixel_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy of every pixel, exact at any finite logit.

    Args:
        logits: [N, C, H, W] float.
        targets: [N, H, W] int64 in [0, C).

    Returns:
        [N, H, W] in the dtype of the logits.
    """
    return F.cross_entropy(logits, targets, reduction="none")
