"""The joint probability of the two branches and its loss, the heart of FactSeg.

The FactSeg paper (doi 10.1109/TGRS.2021.3097148); `JointLoss` in the original's module/loss.py,
and its `Clone` in the Paddle port.

With p the softmax of the class logits f and s the sigmoid of the binary logit b, the joint
probability is (1 - s) p_0 for the background and s p_c for each other class, divided by the sum.
Since s / (1 - s) = exp(b), that is exactly the softmax over [f_0, f_1 + b, ..., f_C-1 + b]. So
there are two forms of one loss: "literal" multiplies, divides and takes the logarithm as the
original does, and "logits" is cross-entropy with b added to the foreground channels.
"""

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer, PyLayerContext

from factseg_paddle.losses.labels import check_branches, keep_valid, split_labels
from factseg_paddle.losses.mining import Sampler, check_choice
from factseg_paddle.losses.precision import in_full_precision

FORMS = ("literal", "logits")


class JointLoss(nn.Layer):
    """Negative log of the joint probability, over the pixels that the sampling keeps.

    form="logits" has finite values and gradients at any finite logit. form="literal" has not: a
    binary logit of 20 on a background pixel is an infinite loss with NaN gradients in float32, and
    Paddle's softmax clips at -64, so that no loss exceeds 64.

    Both forms hold a PyLayer, and Paddle 3.3.1 crashes when a graph with one is gone through a
    second time (`retain_graph=True`): compute the loss again instead.

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
        self, class_logits: paddle.Tensor, binary_logits: paddle.Tensor, labels: paddle.Tensor
    ) -> paddle.Tensor:
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
def joint_probability(class_logits: paddle.Tensor, binary_logits: paddle.Tensor) -> paddle.Tensor:
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
    return F.softmax(paddle.concat([class_logits[:, :1], foreground], axis=1), axis=1)


class Clone(PyLayer):
    """A copy through which no gradient flows: forward is its input, backward exactly zero.

    Paddle 2.3 leaked the gradient of a cloned tensor through the in-place assignments of the
    literal form. Paddle 3.3 does not, as every element is assigned; it is part of the
    reproduction.
    """

    @staticmethod
    def forward(ctx: PyLayerContext, tensor: paddle.Tensor) -> paddle.Tensor:  # noqa: ARG004
        """Copy the tensor."""
        return tensor.clone()

    @staticmethod
    def backward(ctx: PyLayerContext, gradient: paddle.Tensor) -> paddle.Tensor:  # noqa: ARG004
        """Give zeros in place of the gradient."""
        return paddle.zeros_like(gradient)


def _literal_losses(
    class_logits: paddle.Tensor, binary_logits: paddle.Tensor, targets: paddle.Tensor
) -> paddle.Tensor:
    foreground = F.sigmoid(binary_logits)  # [N, 1, H, W]
    classes = F.softmax(class_logits, axis=1)  # [N, C, H, W]
    joint = Clone.apply(classes)
    joint[:, 0] = (1 - foreground).squeeze(1) * classes[:, 0]
    joint[:, 1:] = foreground * classes[:, 1:]
    joint = joint / joint.sum(axis=1, keepdim=True)
    return F.nll_loss(paddle.log(joint), targets, reduction="none")  # [N, H, W]


def _logits_losses(
    class_logits: paddle.Tensor, binary_logits: paddle.Tensor, targets: paddle.Tensor
) -> paddle.Tensor:
    fixed = binary_logits.detach()
    targets = targets.unsqueeze(1)
    losses, foreground = _JointCrossEntropy.apply(class_logits, fixed, targets)
    # The slope in the binary logit is P(foreground) - [target is foreground]. It enters by a term
    # of value 0: `paddle.grad` for one input alone refuses a PyLayer of two (Paddle 3.3.1).
    slope = foreground - (targets > 0).astype(foreground.dtype)
    return (losses + slope * (binary_logits - fixed)).squeeze(1)  # [N, H, W]


class _JointCrossEntropy(PyLayer):
    """Cross-entropy over [f_0, f_c + b] with its analytic gradient in the class logits f.

    Channel by channel, so that nothing of the size of the class logits is made but their gradient.
    A test holds it equal to `pixel_cross_entropy` of the concatenated logits. At [2, 16, 512, 512]
    on 2 cores, forward and backward take 0.17 s here, 0.59 s there, 0.92 s in the literal form,
    and peak memory grows by 85, 119 and 206 MiB.
    """

    @staticmethod
    def forward(
        ctx: PyLayerContext,
        class_logits: paddle.Tensor,
        binary_logits: paddle.Tensor,
        targets: paddle.Tensor,
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Give losses and P(foreground), both [N, 1, H, W]; targets are [N, 1, H, W] int64."""
        background, *foreground = _channels(class_logits)
        largest = foreground[0]
        for channel in foreground[1:]:
            largest = paddle.maximum(largest, channel)
        # The foreground leads the background by this much.
        lead = largest - background + binary_logits
        behind = lead.clip(max=0.0)
        foreground_total = paddle.zeros_like(largest)
        for channel in foreground:
            foreground_total.add_((channel - largest).add_(behind).exp_())
        background_logit = (-lead).clip(max=0.0)
        total = foreground_total + background_logit.exp()
        ctx.save_for_backward(class_logits, largest, behind, background_logit, targets, total)
        of_target = paddle.take_along_axis(class_logits, targets, axis=1) - largest + behind
        of_target = paddle.where(targets > 0, of_target, background_logit)
        foreground_probability = foreground_total / total
        ctx.mark_non_differentiable(foreground_probability)
        return total.log() - of_target, foreground_probability

    @staticmethod
    def backward(
        ctx: PyLayerContext, gradient: paddle.Tensor, _: paddle.Tensor
    ) -> tuple[paddle.Tensor, None, None]:
        """Give (softmax - one-hot) * gradient for the class logits."""
        class_logits, largest, behind, background_logit, targets, total = ctx.saved_tensor()
        scale = gradient / total
        class_gradient = paddle.empty_like(class_logits)
        for c, channel in enumerate(_channels(class_logits)):
            shifted = (channel - largest).add_(behind) if c else background_logit.clone()
            class_gradient[:, c : c + 1] = shifted.exp_().multiply_(scale)
        class_gradient.put_along_axis_(targets, -gradient, axis=1, reduce="add")
        return class_gradient, None, None


def _channels(logits: paddle.Tensor) -> list[paddle.Tensor]:
    return [logits[:, c : c + 1] for c in range(logits.shape[1])]  # views [N, 1, H, W]
