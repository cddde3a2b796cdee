"""Faults in the optimizer, the schedule, clipping and what training does to statistics."""

from __future__ import annotations

from paddle import nn

from factseg_proof.faults import training
from factseg_proof.faults.fault import Fault
from factseg_proof.faults.network import RESNET
from factseg_proof.faults.training import in_training
from factseg_proof.pairs import recipe

FIRST = f"{RESNET}.conv1.weight"

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
