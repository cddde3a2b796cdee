"""Faults in the network's structure: most show in the forward step, at a layer or between two."""

from __future__ import annotations

from functools import partial

import paddle.nn.functional as F
from paddle import nn

from factseg_proof.faults import network
from factseg_proof.faults.fault import Fault
from factseg_proof.faults.network import RESNET, attributes, in_model, swap

STRUCTURE = [
    Fault(
        "align_corners",
        "structure",
        "a decoder upsamples with align_corners=False",
        "forward",
        "fg_decoder.blocks.1.0.3",
        in_model(
            swap("fg_decoder.blocks.1.0.3", lambda _: _upsample("bilinear", align_corners=False))
        ),
    ),
    Fault(
        "align_corners of the logits",
        "structure",
        "the last upsampling, between layers and output, has align_corners=False",
        "forward",
        "forward:output.class_logits",
        in_model(partial(network.forward, align_corners=False)),
    ),
    Fault(
        "eps 1e-3",
        "structure",
        "a BatchNorm with TensorFlow's epsilon",
        "forward",
        f"{RESNET}.layer2.0.bn2",
        in_model(attributes(f"{RESNET}.layer2.0.bn2", _epsilon=1e-3)),
    ),
    Fault(
        "eps 1e-6",
        "structure",
        "a BatchNorm with epsilon 1e-6 for 1e-5",
        "forward",
        "fg_decoder.blocks.3.0.1",
        in_model(attributes("fg_decoder.blocks.3.0.1", _epsilon=1e-6)),
    ),
    Fault(
        "padding mode",
        "structure",
        "a convolution pads by replication",
        "forward",
        "bifpn.fpn_layer1",
        in_model(
            swap("bifpn.fpn_layer1", lambda _: _conv(256, 256, padding_mode="replicate")),
        ),
    ),
    Fault(
        "ceil_mode",
        "structure",
        "the pool rounds its size up",
        "forward",
        f"{RESNET}.maxpool",
        in_model(
            swap(f"{RESNET}.maxpool", lambda _: nn.MaxPool2D(3, 2, padding=1, ceil_mode=True))
        ),
    ),
    Fault(
        "average pool",
        "structure",
        "the pool averages",
        "forward",
        f"{RESNET}.maxpool",
        in_model(swap(f"{RESNET}.maxpool", lambda _: nn.AvgPool2D(3, 2, padding=1))),
    ),
    Fault(
        "stride placement",
        "structure",
        "the stride sits on the 1x1 convolution, as in the first ResNet paper",
        "forward",
        f"{RESNET}.layer2.0.conv1",
        in_model(network.stride_on_first),
    ),
    Fault(
        "dilation",
        "structure",
        "a convolution is dilated",
        "forward",
        f"{RESNET}.layer4.1.conv2",
        in_model(
            attributes(
                f"{RESNET}.layer4.1.conv2", _dilation=[2, 2], _updated_padding=[2, 2], _padding=2
            )
        ),
    ),
    Fault(
        "missing activation",
        "structure",
        "a bottleneck lacks the first of its three ReLUs",
        "forward",
        f"{RESNET}.layer1.1.bn1 -> {RESNET}.layer1.1.conv2",
        in_model(partial(network.block, path=f"{RESNET}.layer1.1", relu1=False)),
    ),
    Fault(
        "doubled activation",
        "structure",
        "a bottleneck has a ReLU before the sum as well",
        "forward",
        f"{RESNET}.layer2.1.bn3 -> {RESNET}.layer2.1.relu#3",
        in_model(partial(network.block, path=f"{RESNET}.layer2.1", relu3=True)),
    ),
    Fault(
        "other activation",
        "structure",
        "LeakyReLU for ReLU",
        "forward",
        "fg_decoder.blocks.0.0.2",
        in_model(swap("fg_decoder.blocks.0.0.2", lambda _: nn.LeakyReLU(0.01))),
    ),
    Fault(
        "nearest for bilinear",
        "structure",
        "a decoder upsamples to the nearest",
        "forward",
        "bi_decoder.blocks.2.0.3",
        in_model(
            swap("bi_decoder.blocks.2.0.3", lambda _: _upsample("nearest", align_corners=False))
        ),
    ),
    Fault(
        "bilinear for nearest",
        "structure",
        "the pyramid's top-down path is bilinear",
        "forward",
        "fgfpn.fpn_inner3 -> fgfpn.fpn_layer3",
        in_model(network.bilinear_fpn),
    ),
    Fault(
        "sum not divided",
        "structure",
        "a decoder adds its four levels and does not average them",
        "forward",
        "bi_decoder.blocks.3.2.3 -> bi_cls",
        in_model(network.decoder_without_mean),
    ),
    Fault(
        "swapped branches",
        "structure",
        "each decoder gets the other branch's pyramid",
        "forward",
        "fgfpn.fpn_layer1 -> fg_decoder.blocks.0.0.0",
        in_model(network.logits_of_swapped_branches),
    ),
    Fault(
        "shared layer",
        "structure",
        "two BatchNorms of a block are one by mistake",
        "weights",
        f"weights:{RESNET}.layer3.1.bn2.weight",
        in_model(network.shared_norm),
    ),
    Fault(
        "dropout left on",
        "structure",
        "a dropout between two layers that evaluation mode does not reach",
        "forward",
        "bi_decoder.blocks.3.2.3 -> bi_cls",
        in_model(partial(network.forward, of_decoded=lambda x: F.dropout(x, 0.1, training=True))),
    ),
]


def _upsample(mode: str, *, align_corners: bool) -> nn.Layer:
    return nn.Upsample(scale_factor=2, mode=mode, align_corners=align_corners)


def _conv(in_channels: int, out_channels: int, **options: str) -> nn.Layer:
    return nn.Conv2D(in_channels, out_channels, 3, padding=1, **options)
