"""From a configuration to the network, its loss and its optimizer."""

from __future__ import annotations

import paddle
from paddle import nn

from factseg_paddle.config_schema import Loss, Model, Optimizer
from factseg_paddle.losses import AuxiliaryLoss, CrossEntropyLoss, JointLoss
from factseg_paddle.models import FactSeg, create_model


class DeviceError(ValueError):
    """The device that was asked for is not there; one sentence."""


def select_device(name: str | None) -> str:
    """Make a device the current one; a GPU where there is one and none is named.

    Args:
        name: "cpu", "gpu", "gpu:N" or None.

    Returns:
        Its name as Paddle gives it.

    Raises:
        DeviceError: this Paddle sees no such device.
    """
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if name is None:
        name = "gpu" if gpus else "cpu"
    if name.startswith("gpu"):
        number = int(name.partition(":")[2] or 0)
        if number >= gpus:
            found = f"{gpus} GPUs, numbered from 0" if gpus else "no GPU"
            cure = "" if paddle.is_compiled_with_cuda() else "install paddlepaddle-gpu or "
            raise DeviceError(f"device {name}: this Paddle sees {found}; {cure}use --device cpu")
    return paddle.device.set_device(name)


def build_model(settings: Model, num_classes: int) -> nn.Layer:
    """The network with its own initial weights, which depend on `paddle.seed`.

    Raises:
        ValueError: there is no network of that name, or it has not these options.
    """
    if settings.name != "factseg":
        return create_model(settings.name, num_classes, **settings.options)
    return FactSeg(
        num_classes,
        settings.backbone,
        output_stride=settings.output_stride,
        frozen_stages=settings.frozen_stages,
        frozen_batch_norm=settings.frozen_batch_norm,
        gradient_checkpointing=settings.gradient_checkpointing,
    )


def build_loss(settings: Loss, ignore_index: int, network: nn.Layer) -> nn.Layer:
    """The loss, a function of (*output, labels) with the output of that network."""
    sampling = {"thresh": settings.thresh, "min_kept": settings.min_kept}
    if settings.kind == "joint":
        return JointLoss(ignore_index, settings.sampling, settings.ratio, settings.form, **sampling)
    weight = settings.aux_weight
    if weight is None:
        weight = getattr(network, "aux_weight", 0.0)  # networks without such heads have none
    loss = CrossEntropyLoss(ignore_index, settings.sampling, settings.ratio, **sampling)
    return AuxiliaryLoss(loss, weight)


def build_optimizer(model: nn.Layer, settings: Optimizer, iters: int) -> paddle.optimizer.Momentum:
    """SGD with momentum over all parameters that learn, its rate on the poly schedule.

    Weight decay is on all of them, as in the original. Gradients are clipped by `TrainStep`, which
    logs their norm; Paddle's own clipping would overwrite them and tell nobody.
    """
    rate = paddle.optimizer.lr.PolynomialDecay(
        settings.learning_rate, decay_steps=iters, end_lr=0.0, power=settings.power
    )
    return paddle.optimizer.Momentum(
        rate,
        momentum=settings.momentum,
        # BatchNorm's running statistics count among Paddle's parameters.
        parameters=[p for p in model.parameters() if not p.stop_gradient],
        weight_decay=settings.weight_decay,
    )
