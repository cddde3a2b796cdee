"""Faults of number: half precision, NaN, one element that is off."""

from __future__ import annotations

import math

from factseg_proof.faults import network
from factseg_proof.faults.fault import Fault
from factseg_proof.faults.network import RESNET, in_model, wrap

NUMERIC = [
    Fault(
        "float16",
        "numeric",
        "a layer's output goes through float16",
        "forward",
        "fg_decoder.blocks.0.0.0",
        in_model(wrap("fg_decoder.blocks.0.0.0", network.half)),
    ),
    Fault(
        "float16 in float32 alone",
        "numeric",
        "the same, but not where the model runs in float64, as under automatic mixed precision",
        "forward",
        "fg_decoder.blocks.0.0.0",
        in_model(wrap("fg_decoder.blocks.0.0.0", network.half_of_single)),
    ),
    Fault(
        "NaN in one element",
        "numeric",
        "one element of a layer's output is NaN",
        "forward",
        f"{RESNET}.layer3.0.bn2",
        in_model(wrap(f"{RESNET}.layer3.0.bn2", network.with_one_element(math.nan))),
    ),
    Fault(
        "one activation off by 0.9",
        "numeric",
        "one element of a layer's output is 0.9 too large",
        "forward",
        "bifpn.fpn_inner2",
        in_model(wrap("bifpn.fpn_inner2", network.with_one_element(0.9))),
    ),
]
