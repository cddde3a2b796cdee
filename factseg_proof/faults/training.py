"""Faults in training: optimizer, schedule, clipping, running statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import paddle
from paddle import nn

from alignment.pair import Pair, TrainSetup
from factseg_paddle import FactSeg
from factseg_proof.faults.fault import Plant
from factseg_proof.faults.network import in_model
from factseg_proof.pairs import recipe

RIGHT_CLIP = nn.ClipGradByGlobalNorm(recipe.CLIP)


def in_training(change: Callable[[FactSeg], None] | None = None, **options: Any) -> Plant:
    """Plant another optimizer than the recipe's, or a fault that shows in training."""

    def planted(pair: Pair, seed: int) -> Pair:
        if change:
            pair = in_model(change)(pair, seed)
        setup = TrainSetup(partial(_optimizer, **options))
        return replace(pair, paddle_train=setup)

    return planted


def _optimizer(
    net: FactSeg,
    *,
    momentum: float = recipe.MOMENTUM,
    weight_decay: Any = recipe.WEIGHT_DECAY,
    clip: Any = RIGHT_CLIP,
    late: int = 0,
    every: int = 1,
    kind: type = paddle.optimizer.Momentum,
    decayed: Callable[[str], bool] = lambda _name: True,
) -> paddle.optimizer.Optimizer:
    """Return the recipe's optimizer with something changed."""
    rate = _Rate(late, every)
    for name, parameter in net.named_parameters():
        if not decayed(name):  # not a group of its own: Paddle clips each group by itself
            parameter.regularizer = paddle.regularizer.L2Decay(0.0)
    options = {"parameters": net.parameters(), "weight_decay": weight_decay, "grad_clip": clip}
    return kind(rate, momentum, **options)


class _Rate(paddle.optimizer.lr.PolynomialDecay):
    """The recipe's schedule, late by some steps, or moving only every so many steps."""

    def __init__(self, late: int, every: int) -> None:
        self._late, self._every = late, every
        super().__init__(recipe.RATE, recipe.ITERATIONS, end_lr=0.0, power=recipe.POWER)

    def get_lr(self) -> float:
        """Return the rate at the wrong step."""
        right, self.last_epoch = self.last_epoch, self.last_epoch // self._every + self._late
        try:
            return super().get_lr()
        finally:
            self.last_epoch = right


class Decoupled(paddle.optimizer.Momentum):
    """Momentum whose decay goes past the velocity, as AdamW's does."""

    def __init__(self, *args: Any, weight_decay: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._decay = weight_decay

    def step(self) -> None:
        """Decay, then step."""
        rate = self.get_lr()
        with paddle.no_grad():
            for parameter in self._parameter_list:
                if not parameter.stop_gradient:
                    parameter.scale_(1 - rate * self._decay)
        super().step()


Decoupled.__name__ = "Momentum"  # its state is Momentum's


def inverted_statistics(net: FactSeg) -> None:
    """Give torch's momentum to every BatchNorm."""
    for layer in net.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._momentum = 1 - layer._momentum
