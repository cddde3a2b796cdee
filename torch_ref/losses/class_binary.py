"""The loss of the two branches apart: `cls_loss` of the original's module/factseg.py."""

import torch
import torch.nn.functional as F
from torch import nn

from torch_ref.losses.cross_entropy import CrossEntropyLoss
from torch_ref.losses.labels import check_branches, keep_valid, split_labels
from torch_ref.losses.mining import valid_mean
from torch_ref.losses.precision import in_full_precision


class ClassBinaryLoss(nn.Module):
    """A loss on the class logits plus binary cross-entropy of foreground against background.

    Foreground is label > 0. The binary part is the mean over valid pixels.

    Args:
        class_loss: called with (class_logits, labels); the original has `OhemCrossEntropyLoss`,
            `InverseFrequencyCrossEntropyLoss`, and `CrossEntropyLoss` plain or with
            sampling="som". None is plain cross-entropy with the same `ignore_index`.
        ignore_index: label of the pixels that count for nothing in the binary part.
    """

    def __init__(self, class_loss: nn.Module | None = None, ignore_index: int = 255):
        super().__init__()
        self.class_loss = CrossEntropyLoss(ignore_index) if class_loss is None else class_loss
        self.ignore_index = ignore_index

    @in_full_precision
    def forward(
        self, class_logits: torch.Tensor, binary_logits: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Give the scalar loss.

        Args:
            class_logits: [N, C, H, W] float.
            binary_logits: [N, 1, H, W] float, the logit of foreground.
            labels: [N, H, W] int64.

        Raises:
            ValueError: the binary logits do not fit the class logits, or a label is wrong.
        """
        check_branches(class_logits, binary_logits)
        valid, targets = split_labels(labels, class_logits, self.ignore_index)
        foreground = (targets > 0).to(binary_logits.dtype)
        binary_losses = F.binary_cross_entropy_with_logits(
            binary_logits.squeeze(1), foreground, reduction="none"
        )
        binary_loss = valid_mean(keep_valid(binary_losses, valid), valid)
        return self.class_loss(class_logits, labels) + binary_loss
