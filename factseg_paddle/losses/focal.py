"""Focal loss, `FocalLoss` in the original's module/loss.py (which failed with alpha=None).

Lin et al., "Focal Loss for Dense Object Detection" (arXiv 1708.02002). It is also what the article
"classic segmentation models" writes for one pixel, -(1 - p)^gamma log p, here with a mean; and with
average="all" that of VainF/DeepLabV3Plus-Pytorch `utils/loss.py`.
"""

from collections.abc import Sequence

import paddle
from paddle import nn

from factseg_paddle.losses.cross_entropy import pixel_cross_entropy
from factseg_paddle.losses.labels import keep_valid, split_labels
from factseg_paddle.losses.mining import check_choice, valid_mean
from factseg_paddle.losses.precision import in_full_precision

AVERAGES = ("valid", "all")


class FocalLoss(nn.Layer):
    """Mean of alpha[y] * (1 - p_y)^gamma * -log p_y.

    The modulating factor is differentiated too.

    Args:
        alpha: one weight per class, or None for 1 throughout.
        gamma: focusing exponent, at least 0; with 0 and no alpha it is cross-entropy.
        ignore_index: label of the pixels that add nothing.
        average: "valid" divides the sum by the number of valid pixels, "all" by that of all.

    Raises:
        ValueError: gamma is negative, or an unknown average.
    """

    def __init__(
        self,
        alpha: Sequence[float] | None = None,
        gamma: float = 2.0,
        ignore_index: int = 255,
        *,
        average: str = "valid",
    ):
        super().__init__()
        check_choice("average", average, AVERAGES)
        self.alpha = None if alpha is None else tuple(float(weight) for weight in alpha)
        self.gamma = checked_gamma(gamma)
        self.ignore_index = ignore_index
        self.average = average

    @in_full_precision
    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Give the scalar loss of logits [N, C, H, W] float and labels [N, H, W] int64.

        Raises:
            ValueError: alpha has another length than the logits have channels.
        """
        valid, targets = split_labels(labels, logits, self.ignore_index)
        losses = pixel_cross_entropy(logits, targets)
        # 1 - p held off 0, where x^gamma has no finite slope for gamma < 1.
        tiny = paddle.finfo(losses.dtype).tiny
        improbability = (1 - paddle.exp(-losses)).clip(min=tiny)
        losses = improbability**self.gamma * losses
        if self.alpha is not None:
            losses = losses * self._pixel_alpha(logits, targets)
        losses = keep_valid(losses, valid)
        return losses.mean() if self.average == "all" else valid_mean(losses, valid)

    def _pixel_alpha(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        if len(self.alpha) != logits.shape[1]:
            raise ValueError(
                f"alpha has {len(self.alpha)} weights, but logits of shape {list(logits.shape)} "
                f"have {logits.shape[1]} channels; give one weight per class"
            )
        alpha = paddle.to_tensor(self.alpha, dtype=logits.dtype, place=logits.place)
        return alpha[targets.reshape([-1])].reshape(targets.shape)


def checked_gamma(gamma: float) -> float:
    """Give a focusing exponent back; raise a ValueError if it is negative."""
    if gamma < 0:
        raise ValueError(f"gamma {gamma} is negative; use 0 (cross-entropy) or more, often 2")
    return gamma
