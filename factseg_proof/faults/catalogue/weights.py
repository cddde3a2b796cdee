"""Faults in the weights, which the weights step shows."""

from __future__ import annotations

import paddle

from factseg_proof.faults import network
from factseg_proof.faults.fault import Fault
from factseg_proof.faults.network import RESNET, in_weights

WEIGHTS = [
    Fault(
        "transposed kernel",
        "weights",
        "a square kernel with height and width swapped",
        "weights",
        "weights:bifpn.fpn_layer2.weight",
        in_weights(network.transposed("bifpn.fpn_layer2.weight")),
    ),
    Fault(
        "statistics left behind",
        "weights",
        "running statistics stay at 0 and 1",
        "weights",
        f"weights:{RESNET}.bn1.running_mean",
        in_weights(network.reset_statistics),
    ),
    Fault(
        "one element off",
        "weights",
        "one element of a kernel is a thousandth off",
        "weights",
        "weights:fgfpn.fpn_inner4.weight",
        in_weights(network.one_element_off("fgfpn.fpn_inner4.weight")),
    ),
    Fault(
        "swapped layers",
        "weights",
        "two layers of equal shape have each other's kernels",
        "weights",
        f"weights:{RESNET}.layer1.1.conv1.weight",
        in_weights(
            network.exchange(f"{RESNET}.layer1.1.conv1.weight", f"{RESNET}.layer1.2.conv1.weight")
        ),
    ),
    Fault(
        "permuted classes",
        "weights",
        "the classes of the head stand in another order",
        "weights",
        "weights:fg_cls.weight",
        in_weights(network.permuted_classes),
    ),
    Fault(
        "bias left behind",
        "weights",
        "a bias stays at 0",
        "weights",
        "weights:bi_cls.bias",
        in_weights(lambda state: state["bi_cls.bias"].set_value(paddle.zeros([1]))),
    ),
]
