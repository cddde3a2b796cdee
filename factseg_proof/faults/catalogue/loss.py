"""Faults in the loss: its value, or the gradient that it hands on."""

from __future__ import annotations

from factseg_paddle import JointLoss
from factseg_proof.faults import loss
from factseg_proof.faults.fault import Fault
from factseg_proof.faults.loss import in_loss

LOSS = [
    Fault(
        "softmax axis",
        "loss",
        "softmax over the width",
        "loss",
        "loss:loss",
        in_loss(loss.of_joint(axis=-1)),
    ),
    Fault(
        "ignore index",
        "loss",
        "the background is ignored as well, as reduce_zero_label does",
        "loss",
        "loss:loss",
        in_loss(loss.background_ignored),
    ),
    Fault(
        "reduction",
        "loss",
        "the kept losses are summed",
        "loss",
        "loss:loss",
        in_loss(loss.summed),
    ),
    Fault(
        "no mining",
        "loss",
        "the mean over all valid pixels",
        "loss",
        "loss:loss",
        in_loss(JointLoss(sampling="mean")),
    ),
    Fault(
        "k over valid pixels",
        "loss",
        "SOM keeps a share of the valid pixels",
        "loss",
        "loss:loss",
        in_loss(loss.share_of_valid),
    ),
    Fault(
        "smallest for largest",
        "loss",
        "SOM keeps the easiest pixels",
        "loss",
        "loss:loss",
        in_loss(loss.easiest),
    ),
    Fault(
        "s for 1 - s",
        "loss",
        "the binary probability is that of the background",
        "loss",
        "loss:loss",
        in_loss(loss.of_joint(negated=True)),
    ),
    Fault(
        "not renormalised",
        "loss",
        "the joint probability does not sum to 1",
        "loss",
        "loss:loss",
        in_loss(loss.of_joint(renormalised=False)),
    ),
    Fault(
        "leaking clone",
        "loss",
        "the cloned probabilities hand their gradient on, as in Paddle 2.3",
        "backward",
        "backward:output.class_logits (gradient)",
        in_loss(loss.leaking),
    ),
]
