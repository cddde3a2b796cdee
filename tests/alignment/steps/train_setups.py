"""Ways to train the small pair, right and wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import paddle
import torch

from alignment import Pair, TrainSetup, align
from tests.alignment.small import PaddleNet, images, small_pair

RATE, DECAY, NORM, STEPS = 0.1, 0.02, 0.2, 2


def torch_setup(kind="Momentum", *, decay=DECAY, scheduler=None, clip=None, **options):
    """Torch's optimizer over all parameters."""
    make = {"Momentum": torch.optim.SGD}.get(kind) or getattr(torch.optim, kind)
    options = ({"momentum": 0.9} if kind == "Momentum" else {}) | options

    def optimizer(model):
        return make(model.parameters(), lr=RATE, weight_decay=decay, **options)

    return TrainSetup(optimizer, scheduler, clip)


def paddle_setup(kind="Momentum", *, decay=DECAY, rate=RATE, clip=None, groups=None, **options):
    """Paddle's; `rate` may be a function that makes a schedule, `clip` one that makes a clip."""
    make = getattr(paddle.optimizer, kind)

    def optimizer(model):
        return make(
            rate() if callable(rate) else rate,
            parameters=groups(model) if groups else model.parameters(),
            weight_decay=decay or None,
            grad_clip=clip() if clip else None,
            **options,
        )

    return TrainSetup(optimizer)


def poly(optimizer):
    """The schedule of the original, over ten steps."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / 10) ** 0.9)


def paddle_poly(**options):
    """The same in Paddle."""
    return lambda: paddle.optimizer.lr.PolynomialDecay(RATE, 10, 0.0, 0.9, **options)


def clip_global(model):
    """Torch's clipping by the norm of all gradients."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), NORM)


def training_pair(ours: TrainSetup, theirs: TrainSetup, net=PaddleNet, **changes) -> Pair:
    """The small pair with four images and two ways to train."""
    pair = small_pair(net, inputs=(images((4, 3, 6, 6)),), targets=(np.array([3, 1, 0, 2]),))
    options = {"torch_train": theirs, "paddle_train": ours, "train_steps": STEPS}
    return dataclasses.replace(pair, **options | changes)


def trained(ours=None, theirs=None, net=PaddleNet, **changes):
    """The report of the train step alone."""
    pair = training_pair(ours or paddle_setup(), theirs or torch_setup(), net, **changes)
    return align(pair, ["train"])


def first(report) -> str | None:
    """Where the report sees the first divergence."""
    return report.first_divergence
