"""Faults in the joint loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import paddle
import paddle.nn.functional as F

from factseg_paddle import JointLoss
from factseg_paddle.losses import joint as joint_loss
from factseg_proof.faults.fault import Plant


def in_loss(loss: Callable[..., paddle.Tensor]) -> Plant:
    """Plant another loss: function of class logits, binary logits and labels."""
    return lambda pair, _seed: replace(pair, paddle_loss=lambda out, labels: loss(*out, labels))


def _probabilities(
    class_logits: paddle.Tensor,
    binary_logits: paddle.Tensor,
    *,
    axis: int = 1,
    negated: bool = False,
    renormalised: bool = True,
) -> paddle.Tensor:
    """Compute the joint probability, written anew."""
    s = F.sigmoid(-binary_logits if negated else binary_logits)
    p = F.softmax(class_logits, axis=axis)
    joint = paddle.concat([(1 - s) * p[:, :1], s * p[:, 1:]], axis=1)
    return joint / joint.sum(axis=1, keepdim=True) if renormalised else joint


def losses(joint: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Return negative log of the joint probability, [N, H, W]; 0 where ignored."""
    valid = labels != 255
    targets = paddle.where(valid, labels, paddle.zeros_like(labels))
    of_pixels = F.nll_loss(paddle.log(joint), targets, reduction="none")
    return of_pixels * valid.astype(of_pixels.dtype)


def mined(of_pixels: paddle.Tensor, *, k: int | None = None, largest: bool = True) -> paddle.Tensor:
    """Mine as SOM does: return the mean of the k largest losses that are not 0."""
    k = k or int(0.1 * of_pixels.size)
    top, _ = paddle.topk(of_pixels.flatten(), k, largest=largest)
    kept = (top > 0).astype(top.dtype)
    return (top * kept).sum() / (kept.sum() + 1e-6)


def of_joint(**options: Any) -> Callable[..., paddle.Tensor]:
    """Return the loss of a joint probability that is wrong as the options say."""
    return lambda f, b, labels: mined(losses(_probabilities(f, b, **options), labels))


def share_of_valid(f: paddle.Tensor, b: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Mine as SOM with a k that counts valid pixels only."""
    k = int(0.1 * int((labels != 255).sum()))
    return mined(losses(_probabilities(f, b), labels), k=k)


def easiest(f: paddle.Tensor, b: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Mine the smallest losses as SOM does the largest."""
    return mined(losses(_probabilities(f, b), labels), largest=False)


def background_ignored(f: paddle.Tensor, b: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Compute the loss with background pixels ignored like the others."""
    return JointLoss()(f, b, paddle.where(labels == 0, paddle.full_like(labels, 255), labels))


def summed(f: paddle.Tensor, b: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Sum the mined losses."""
    of_pixels = losses(_probabilities(f, b), labels)
    return paddle.topk(of_pixels.flatten(), int(0.1 * of_pixels.size))[0].sum()


def leaking(f: paddle.Tensor, b: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Compute the loss with the probabilities' own gradient let through."""
    p = F.softmax(f, axis=1)
    return mined(losses(_probabilities(f, b) + (p - p.detach()), labels))


def with_plain_clone(f: paddle.Tensor, b: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Compute the literal form with a clone that hands gradients on."""
    with mock.patch.object(joint_loss.Clone, "apply", lambda tensor: tensor.clone()):
        return JointLoss(form="literal")(f, b, labels)
