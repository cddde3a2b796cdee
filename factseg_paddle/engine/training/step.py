"""One training step, in float32 or in mixed precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn

from factseg_paddle.config.schema import Amp

WAY_OUT = (
    "going on would meet it again: start a new run with model.weights set to a checkpoint and a "
    "smaller optimizer.learning_rate"
)


class TrainingError(RuntimeError):
    """Training can't go on; the message says where and why."""


@dataclass(frozen=True)
class StepResult:
    """What one step did.

    Attributes:
        loss: before scaling.
        learning_rate: the one that was applied.
        gradient_norm: L2 norm of all gradients before clipping, without the loss scale.
        loss_scale: what the loss was multiplied by; 1 in float32.
        skipped: the gradients overflowed in half precision, and the parameters stayed as they were.
    """

    loss: float
    learning_rate: float
    gradient_norm: float
    loss_scale: float
    skipped: bool


@dataclass(frozen=True, eq=False)
class Learner:
    """A network and all that teaches it.

    Attributes:
        network: unwrapped; its weights are saved.
        loss: function (*output, labels) that gives the scalar loss.
        optimizer: without clipping.
        schedule: the optimizer's rate.
        scaler: of the loss, off in float32.
        level: "O1", "O2" or None for float32.
    """

    network: nn.Layer
    loss: nn.Layer
    optimizer: paddle.optimizer.Optimizer
    schedule: paddle.optimizer.lr.LRScheduler
    scaler: paddle.amp.GradScaler
    level: str | None


def step_seed(seed: int, iteration: int, rank: int) -> int:
    """Return what Paddle's generators are seeded with for one step of one process.

    Dropout draws from them. Neither neighbouring seeds and iterations nor the processes of data
    parallel training share a stream, as they would if the three were added.

    Args:
        seed: of the configuration.
        iteration: iterations done.
        rank: number of the process.
    """
    state = np.random.SeedSequence([seed, iteration, rank]).generate_state(1, np.uint64)
    return int(state[0])


def usable_level(level: str | None) -> tuple[str | None, str]:
    """Return the level of mixed precision that the device can do, and what to say about it."""
    if level and not paddle.amp.is_float16_supported():
        device = paddle.device.get_device()
        return None, f"AMP {level} was asked for, but {device} has no float16: training in float32"
    return level, f"training with AMP {level}" if level else "training in float32"


def build_scaler(settings: Amp, level: str | None) -> paddle.amp.GradScaler:
    """Build the dynamic loss scaling; without a level it is off and passes everything through."""
    return paddle.amp.GradScaler(
        enable=level is not None,
        init_loss_scaling=settings.init_loss_scaling,
        incr_every_n_steps=settings.growth_interval,
    )


class TrainStep:
    """Forward, loss, backward, clipping and the optimizer.

    The loss leaves autocast by itself (`losses.precision`). Scaled gradients are divided by the
    scale before their norm is taken and clipped.

    Args:
        model: in training mode; may be wrapped for data parallel training.
        criterion: function (*output, labels) that gives the scalar loss.
        optimizer: without clipping.
        schedule: the optimizer's rate.
        scaler: Paddle's GradScaler or anything with its methods.
        level: "O1", "O2" or None for float32.
        clip_norm: largest L2 norm of all gradients together; None for any.
    """

    def __init__(
        self,
        model: nn.Layer,
        criterion: nn.Layer,
        optimizer: paddle.optimizer.Optimizer,
        schedule: paddle.optimizer.lr.LRScheduler,
        *,
        scaler: Any,
        level: str | None,
        clip_norm: float | None,
    ) -> None:
        self._model, self._criterion = model, criterion
        self._optimizer, self._schedule, self._scaler = optimizer, schedule, scaler
        self._level = level
        self._clip_norm = math.inf if clip_norm is None else clip_norm
        self._parameters = [p for p in model.parameters() if not p.stop_gradient]

    def __call__(self, images: paddle.Tensor, labels: paddle.Tensor) -> StepResult:
        """Take the step.

        Args:
            images: [N, 3, H, W] float32.
            labels: [N, H, W] int64.

        Raises:
            TrainingError: the loss is not finite, or the gradients are not and no scaler is there
                to skip the step. The parameters have not changed.
        """
        rate, scale = self._optimizer.get_lr(), self._loss_scale()
        with paddle.amp.auto_cast(enable=self._level is not None, level=self._level or "O1"):
            output = self._model(images)
        loss = self._criterion(*output, labels)
        value = float(loss)
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at a learning rate of {rate:.6f}; {WAY_OUT}")
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        norm = float(paddle.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm))
        skipped = not math.isfinite(norm)
        if skipped and self._level is None:
            raise TrainingError(
                f"the loss is {value:.4f}, but the norm of its gradients is {norm}; {WAY_OUT}"
            )
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.clear_grad()
        self._schedule.step()
        return StepResult(value, float(rate), norm, scale, skipped)

    def _loss_scale(self) -> float:
        state = self._scaler.state_dict()  # empty where it is off
        return float(state["scale"][0]) if state else 1.0
