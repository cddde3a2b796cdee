"""Faults that leave every output right and show in the gradients."""

from __future__ import annotations

from functools import partial

from factseg_proof.faults import network
from factseg_proof.faults.fault import Fault
from factseg_proof.faults.network import RESNET, in_model, wrap

BACKWARD = [
    Fault(
        "scaled gradient",
        "backward",
        "a layer's gradient is doubled",
        "backward",
        "fgfpn.fpn_layer3",
        in_model(wrap("fgfpn.fpn_layer3", lambda right, x: network.Scaled.apply(right(x)))),
    ),
    Fault(
        "frozen parameter",
        "backward",
        "a bias is frozen",
        "backward",
        "grad:fgfpn.fpn_inner2.bias",
        in_model(network.freeze("fgfpn.fpn_inner2.bias")),
    ),
    Fault(
        "doubled parameter gradient",
        "backward",
        "a hook doubles the gradient of one kernel",
        "backward",
        "grad:fg_cls.weight",
        in_model(network.double("fg_cls.weight")),
    ),
    Fault(
        "detached feature",
        "backward",
        "the binary branch gets the deepest feature detached",
        "backward",
        f"{RESNET}.layer4.2.relu#3 -> bifpn.fpn_inner4",
        in_model(partial(network.forward, of_features=lambda f: (*f[:3], f[3].detach()))),
    ),
    Fault(
        "detached head",
        "backward",
        "the binary logits are detached",
        "backward",
        "bi_cls -> output.binary_logits",
        in_model(partial(network.forward, of_binary=lambda logits: logits.detach())),
    ),
    Fault(
        "detached layer",
        "backward",
        "a layer's output is detached",
        "backward",
        "fg_decoder.blocks.2.0.1",
        in_model(wrap("fg_decoder.blocks.2.0.1", lambda right, x: right(x).detach())),
    ),
]
