"""The focal losses of FarSeg, whose factors are weights: no gradient flows through them.

Source: Zheng et al., "Foreground-Aware Relation Network for Geospatial Object Segmentation in High
Spatial Resolution Remote Sensing Imagery" (arXiv 2011.09766); Z-Zheng/FarSeg
`module/loss.py`. Both divide by the number of valid pixels plus the number of images.
"""

import math

import paddle
from paddle import nn

from factseg_paddle.losses.cross_entropy import pixel_cross_entropy
from factseg_paddle.losses.focal import checked_gamma
from factseg_paddle.losses.labels import keep_valid, split_labels
from factseg_paddle.losses.precision import in_full_precision


class SoftmaxFocalLoss(nn.Layer):
    """Cross-entropy of every pixel times the weight (1 - p_y)^gamma.

    Args:
        gamma: focusing exponent, at least 0.
        normalize: scale the weights so that the value is that of cross-entropy.
        ignore_index: label of the pixels that count for nothing.

    Raises:
        ValueError: gamma is negative.
    """

    def __init__(self, gamma: float = 2.0, *, normalize: bool = False, ignore_index: int = 255):
        super().__init__()
        self.gamma = checked_gamma(gamma)
        self.normalize = normalize
        self.ignore_index = ignore_index

    @in_full_precision
    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Give the scalar loss of logits [N, C, H, W] float and labels [N, H, W] int64."""
        valid, targets = split_labels(labels, logits, self.ignore_index)
        losses = keep_valid(pixel_cross_entropy(logits, targets), valid)
        weights = _focal_weights(losses.detach(), self.gamma, normalize=self.normalize)
        return _per_pixel_and_image(losses * weights, valid)


class AnnealedFocalLoss(nn.Layer):
    """From cross-entropy to the normalised focal loss, along a half cosine.

    With s the weight of `SoftmaxFocalLoss(normalize=True)`, the weight at step t of T is
    s + (1 - s) (1 + cos(pi t / T)) / 2, and s from T on. The value is that of cross-entropy at any
    step: the annealing moves the gradients alone.

    The step is told (see `set_step`) and not counted here: the training loop knows it and keeps it
    in its checkpoints, and a count would go wrong where auxiliary heads take the loss once more.

    Args:
        annealing_steps: T.
        gamma: focusing exponent, at least 0.
        ignore_index: label of the pixels that count for nothing.

    Attributes:
        step: t, 1 in the first step of a training; None until it is told.

    Raises:
        ValueError: gamma is negative, or annealing_steps is not positive.
    """

    def __init__(self, annealing_steps: int = 10_000, gamma: float = 2.0, ignore_index: int = 255):
        super().__init__()
        if annealing_steps < 1:
            raise ValueError(f"annealing_steps {annealing_steps} is below 1; FarSeg has 10000")
        self.annealing_steps = annealing_steps
        self.gamma = checked_gamma(gamma)
        self.ignore_index = ignore_index
        self.step: int | None = None

    @in_full_precision
    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Give the scalar loss of logits [N, C, H, W] float and labels [N, H, W] int64.

        Raises:
            ValueError: the step was never told.
        """
        if self.step is None:
            raise ValueError("AnnealedFocalLoss has no step; call set_step(loss, step) before it")
        valid, targets = split_labels(labels, logits, self.ignore_index)
        losses = keep_valid(pixel_cross_entropy(logits, targets), valid)
        weights = _focal_weights(losses.detach(), self.gamma, normalize=True)
        progress = min(self.step / self.annealing_steps, 1.0)
        weights = weights + (1 - weights) * (1 + math.cos(math.pi * progress)) / 2
        return _per_pixel_and_image(losses * weights, valid)


def set_step(loss: nn.Layer, step: int) -> None:
    """Tell every annealed loss in `loss` the training step that comes, the first being 1."""
    for layer in loss.sublayers(include_self=True):
        if isinstance(layer, AnnealedFocalLoss):
            layer.step = step


def _focal_weights(losses: paddle.Tensor, gamma: float, *, normalize: bool) -> paddle.Tensor:
    """Return (1 - p)^gamma of losses -log p [N, H, W]; normalised, they keep the losses' sum."""
    weights = (-paddle.expm1(-losses)) ** gamma
    if normalize:
        # Held off 0, which it is where every loss is 0: the original has 0 / 0 there.
        tiny = paddle.finfo(losses.dtype).tiny
        weights = weights * (losses.sum() / (losses * weights).sum().clip(min=tiny))
    return weights


def _per_pixel_and_image(losses: paddle.Tensor, valid: paddle.Tensor) -> paddle.Tensor:
    return losses.sum() / (valid.astype(losses.dtype).sum() + losses.shape[0])
