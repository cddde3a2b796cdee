"""Focal loss, `FocalLoss` in the original's module/loss.py (which failed with alpha=None)."""

from collections.abc import Sequence

import paddle
from paddle import nn

from factseg_paddle.losses.cross_entropy import pixel_cross_entropy
from factseg_paddle.losses.labels import keep_valid, split_labels
from factseg_paddle.losses.mining import valid_mean
from factseg_paddle.losses.precision import in_full_precision


class FocalLoss(nn.Layer):
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
        return valid_mean(keep_valid(losses, valid), valid)

    def _pixel_alpha(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        if len(self.alpha) != logits.shape[1]:
            raise ValueError(
                f"alpha has {len(self.alpha)} weights, but logits of shape {list(logits.shape)} "
                f"have {logits.shape[1]} channels; give one weight per class"
            )
        alpha = paddle.to_tensor(self.alpha, dtype=logits.dtype, place=logits.place)
        return alpha[targets.reshape([-1])].reshape(targets.shape)
