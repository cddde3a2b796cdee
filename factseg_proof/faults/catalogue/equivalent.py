"""Changes that compute the same and must raise no alarm."""

from __future__ import annotations

from functools import partial

import paddle.nn.functional as F

from factseg_paddle import JointLoss
from factseg_proof.faults import loss, network
from factseg_proof.faults.fault import Fault
from factseg_proof.faults.loss import in_loss
from factseg_proof.faults.network import in_model, wrap

EQUIVALENT = [
    Fault(
        "plain clone",
        "equivalent",
        "no zero-gradient PyLayer: on Paddle 3 every element is overwritten, so nothing leaks",
        "",
        "",
        in_loss(loss.with_plain_clone),
    ),
    Fault(
        "literal form",
        "equivalent",
        "the loss by way of probabilities",
        "",
        "",
        in_loss(JointLoss(form="literal")),
    ),
    Fault(
        "in-place ReLU",
        "equivalent",
        "a ReLU works in place",
        "",
        "",
        in_model(wrap("fg_decoder.blocks.0.0.2", lambda _right, x: F.relu_(x))),
    ),
    Fault(
        "binary branch first",
        "equivalent",
        "the branches run in the other order",
        "",
        "",
        in_model(partial(network.forward, binary_first=True)),
    ),
    Fault(
        "sum in another order",
        "equivalent",
        "a decoder adds its levels from the other end",
        "",
        "",
        in_model(network.decoder_that_sums_backwards),
    ),
]
