"""The joint probability of the two branches and its loss, the heart of FactSeg.

The FactSeg paper (doi 10.1109/TGRS.2021.3097148); `JointLoss` in the original's module/loss.py.

With p the softmax of the class logits f and s the sigmoid of the binary logit b, the joint
probability is (1 - s) p_0 for the background and s p_c for each other class, divided by the sum.
Since s / (1 - s) = exp(b), that is exactly the softmax over [f_0, f_1 + b, ..., f_C-1 + b]. So
there are two forms of one loss: "literal" multiplies, divides and takes the logarithm as the
original does, and "logits" is cross-entropy with b added to the foreground channels.
"""

import torch
import torch.nn.functional as F
from torch import nn

from torch_ref.losses.cross_entropy import pixel_cross_entropy
from torch_ref.losses.labels import check_branches, keep_valid, split_labels
from torch_ref.losses.mining import Sampler, check_choice
from torch_ref.losses.precision import in_full_precision

FORMS = ("literal", "logits")


class JointLoss(nn.Module):
    """Negative log of the joint probability, over the pixels that the sampling keeps.

    form="logits" has finite values and gradients at any finite logit. form="literal" has not: a
    binary logit of 20 on a background pixel is an infinite loss with NaN gradients in float32.

    Args:
        ignore_index: label of the pixels that count for nothing.
        sampling: "som" (small object mining, the paper's), "ohem" or "mean" over valid pixels.
        ratio: SOM's share of all pixels, in (0, 1]; the original trains iSAID with 0.1.
        form: "logits" or "literal".
        thresh: OHEM's probability; the original handed `ratio` over here, to a function that it
            does not have.
        min_kept: OHEM's least number of pixels per image.

    Raises:
        ValueError: an unknown sampling or form, or a number out of its range.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        sampling: str = "som",
        ratio: float = 0.1,
        form: str = "logits",
        *,
        thresh: float = 0.7,
        min_kept: int = 100_000,
    ):
        super().__init__()
        check_choice("form", form, FORMS)
        self.ignore_index = ignore_index
        self.sampler = Sampler(sampling, ratio, thresh, min_kept)
        self.form = form

    @in_full_precision
    def forward(
        self, class_logits: torch.Tensor, binary_logits: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Give the scalar loss.

        Args:
            class_logits: [N, C, H, W] float, C >= 2.
            binary_logits: [N, 1, H, W] float, the logit of foreground.
            labels: [N, H, W] int64.

        Raises:
            ValueError: shapes or dtypes that do not fit, or a label outside [0, C).
        """
        check_branches(class_logits, binary_logits)
        valid, targets = split_labels(labels, class_logits, self.ignore_index)
        pixel_losses = _literal_losses if self.form == "literal" else _logits_losses
        losses = keep_valid(pixel_losses(class_logits, binary_logits, targets), valid)
        return self.sampler(losses, valid)


@in_full_precision
def joint_probability(class_logits: torch.Tensor, binary_logits: torch.Tensor) -> torch.Tensor:
    """Give the joint probability of every class, finite at any finite logit.

    Args:
        class_logits: [N, C, H, W] float, C >= 2.
        binary_logits: [N, 1, H, W] float.

    Returns:
        [N, C, H, W], at least float32; sums to 1 over the channels, each image by itself.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_branches(class_logits, binary_logits)
    foreground = class_logits[:, 1:] + binary_logits
    return F.softmax(torch.cat([class_logits[:, :1], foreground], dim=1), dim=1)


def _literal_losses(
    class_logits: torch.Tensor, binary_logits: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    foreground = F.sigmoid(binary_logits)  # [N, 1, H, W]
    classes = F.softmax(class_logits, dim=1)  # [N, C, H, W]
    joint = classes.clone()
    joint[:, 0] = (1 - foreground).squeeze(1) * classes[:, 0]
    joint[:, 1:] = foreground * classes[:, 1:]
    joint = joint / joint.sum(dim=1, keepdim=True)
    return F.nll_loss(torch.log(joint), targets, reduction="none")  # [N, H, W]


def _logits_losses(
    class_logits: torch.Tensor, binary_logits: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    joint_logits = torch.cat([class_logits[:, :1], class_logits[:, 1:] + binary_logits], dim=1)
    return pixel_cross_entropy(joint_logits, targets)  # [N, H, W]
