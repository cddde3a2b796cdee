"""The catalogue: each fault with the step that must flag it and the place that must be named."""

from __future__ import annotations

import math
from functools import partial

import paddle
import paddle.nn.functional as F
from paddle import nn

from factseg_paddle import JointLoss, transforms
from factseg_paddle.data.images import files as image_files
from factseg_paddle.data.images import palettes
from factseg_paddle.metrics import ConfusionMatrix
from factseg_proof.faults import data, loss, network, training
from factseg_proof.faults.data import in_checks
from factseg_proof.faults.fault import Fault
from factseg_proof.faults.loss import in_loss
from factseg_proof.faults.network import RESNET, attributes, in_model, in_weights, swap, wrap
from factseg_proof.faults.training import in_training
from factseg_proof.pairs import recipe

FIRST = f"{RESNET}.conv1.weight"


def _upsample(mode: str, *, align_corners: bool) -> nn.Layer:
    return nn.Upsample(scale_factor=2, mode=mode, align_corners=align_corners)


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

TRAINING = [
    Fault(
        "momentum 0.8",
        "training",
        "momentum 0.8 for 0.9",
        "train",
        f"train:step 1: {FIRST} (update)",
        in_training(momentum=0.8),
    ),
    Fault(
        "no decay",
        "training",
        "no weight decay",
        "train",
        f"train:step 0: {FIRST} (update)",
        in_training(weight_decay=None),
    ),
    Fault(
        "no decay on biases and norms",
        "training",
        "weight decay on kernels only",
        "train",
        f"train:step 0: {RESNET}.bn1.weight (update)",
        in_training(decayed=lambda name: "conv" in name and name.endswith("weight")),
    ),
    Fault(
        "decoupled decay",
        "training",
        "weight decay goes past the velocity",
        "train",
        f"train:step 0: {FIRST} (velocity)",
        in_training(kind=training.Decoupled),
    ),
    Fault(
        "clip per tensor",
        "training",
        "each gradient is clipped by its own norm",
        "train",
        "train:step 0: clipped gradient norm",
        in_training(clip=nn.ClipGradByNorm(recipe.CLIP)),
    ),
    Fault(
        "clip before backward",
        "training",
        "gradients are clipped before there are any: never",
        "train",
        "train:step 0: clipped gradient norm",
        in_training(clip=None),
    ),
    Fault(
        "rate off by one",
        "training",
        "the schedule is a step ahead",
        "train",
        "train:step 0: learning rate",
        in_training(late=1),
    ),
    Fault(
        "schedule by epoch",
        "training",
        "the schedule moves once an epoch",
        "train",
        "train:step 1: learning rate",
        in_training(every=1000),
    ),
    Fault(
        "statistics' momentum inverted",
        "training",
        "torch's momentum 0.1 given to Paddle, which means 0.9",
        "train",
        f"train:step 0: {RESNET}.bn1.running_mean",
        in_training(change=training.inverted_statistics),
    ),
]

DATA = [
    Fault(
        "BGR",
        "data",
        "images are read as OpenCV gives them",
        "preprocess",
        "preprocess:decode image",
        in_checks("preprocess", image_files, "read_image", data.bgr),
    ),
    Fault(
        "mean and std of 0-1",
        "data",
        "images of 0-255 are normalised by the mean and std of 0-1",
        "preprocess",
        "preprocess:normalise",
        in_checks("preprocess", transforms, "normalize", data.unit_scale),
    ),
    Fault(
        "pad before normalising",
        "data",
        "evaluation pads with black and not with the mean",
        "preprocess",
        "preprocess:pad after normalising",
        in_checks("preprocess", transforms, "pad_to_divisible", data.padded_black),
    ),
    Fault(
        "rot90 clockwise",
        "data",
        "quarter turns go the other way",
        "preprocess",
        "preprocess:rot90 k=1, image",
        in_checks("preprocess", transforms, "rot90", data.clockwise),
    ),
    Fault(
        "swapped labels",
        "data",
        "two classes have each other's index",
        "preprocess",
        "preprocess:every colour to index",
        in_checks("preprocess", palettes, "color_to_index", data.swapped_classes),
    ),
    Fault(
        "mask not flipped",
        "data",
        "the image is flipped and its mask is not",
        "preprocess",
        "preprocess:horizontal flip, labels",
        in_checks("preprocess", transforms, "horizontal_flip", data.flip_image_alone),
    ),
    Fault(
        "transposed confusion matrix",
        "data",
        "rows are the prediction",
        "metric",
        "metric:confusion matrix, plain",
        in_checks("metric", ConfusionMatrix, "update", data.update_transposed),
    ),
]

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

CATALOGUE: tuple[Fault, ...] = (
    *STRUCTURE, *WEIGHTS, *LOSS, *BACKWARD, *TRAINING, *DATA, *NUMERIC, *EQUIVALENT,
)  # fmt: skip


def _conv(in_channels: int, out_channels: int, **options: str) -> nn.Layer:
    return nn.Conv2D(in_channels, out_channels, 3, padding=1, **options)
