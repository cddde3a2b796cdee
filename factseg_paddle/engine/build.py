"""From a configuration to the network, its loss and its optimizer."""

from __future__ import annotations

import paddle
from paddle import nn

from factseg_paddle.config.schema import Loss, Model, Optimizer
from factseg_paddle.engine.schedule import Schedule
from factseg_paddle.losses import (
    AnnealedFocalLoss,
    AuxiliaryLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JointLoss,
)
from factseg_paddle.models import create_model


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
            devices = f"{gpus} GPUs, numbered from 0" if gpus else "no GPU"
            cure = "" if paddle.is_compiled_with_cuda() else "install paddlepaddle-gpu or "
            raise DeviceError(f"device {name}: this Paddle sees {devices}; {cure}use --device cpu")
    return paddle.device.set_device(name)


def build_model(settings: Model, num_classes: int) -> nn.Layer:
    """Build the network with its own initial weights, which depend on `paddle.seed`.

    Raises:
        ValueError: there is no network of that name, or it has not these options.
    """
    options = dict(settings.options)
    if settings.gradient_checkpointing:
        options["gradient_checkpointing"] = True
    return create_model(settings.name, num_classes, **options)


def build_loss(settings: Loss, ignore_index: int, network: nn.Layer) -> nn.Layer:
    """Build the loss, a function of (*output, labels) with the output of that network.

    Raises:
        ValueError: the network does not return what the loss takes, or has no auxiliary heads that
            could be weighted.
    """
    is_joint = settings.kind == "joint"
    if is_joint != getattr(network, "has_binary_logits", False):
        use = "cross_entropy, with loss.sampling mean" if is_joint else "joint"
        raise ValueError(
            f"loss.kind is {settings.kind}, with which {type(network).__name__} can't learn; use "
            f"{use}"
        )
    sampling = {"thresh": settings.thresh, "min_kept": settings.min_kept}
    if is_joint:
        return JointLoss(ignore_index, settings.sampling, settings.ratio, settings.form, **sampling)
    if settings.kind == "cross_entropy":
        loss = CrossEntropyLoss(ignore_index, settings.sampling, settings.ratio, **sampling)
    elif settings.kind == "focal":
        loss = FocalLoss(gamma=settings.gamma, ignore_index=ignore_index)
    elif settings.kind == "annealed_focal":
        loss = AnnealedFocalLoss(settings.annealing_steps, settings.gamma, ignore_index)
    else:
        loss = DiceLoss(ignore_index=ignore_index)
    weight = getattr(network, "aux_weight", None)
    if settings.aux_weight is None:
        return AuxiliaryLoss(loss, weight or 0.0)
    if weight is None:
        raise ValueError(
            f"loss.aux_weight {settings.aux_weight} is for networks with auxiliary heads, and "
            f"{type(network).__name__} has none; leave it out"
        )
    return AuxiliaryLoss(loss, settings.aux_weight)


def build_optimizer(
    model: nn.Layer, settings: Optimizer, schedule: Schedule
) -> paddle.optimizer.Momentum | paddle.optimizer.Adam:
    """Return the optimizer over all parameters that learn.

    Weight decay is on all of them, as in the original; Adam adds it to the gradients, as torch's
    does. Gradients are clipped by `TrainStep`, which logs their norm; Paddle's own clipping would
    overwrite them and tell nobody.

    Raises:
        ValueError: heads shall learn faster than a backbone that the network lacks.
    """
    common = {"parameters": _parameters(model, settings), "weight_decay": settings.weight_decay}
    if settings.kind == "adam":
        return paddle.optimizer.Adam(schedule, **common)
    return paddle.optimizer.Momentum(schedule, momentum=settings.momentum, **common)


def _parameters(model: nn.Layer, settings: Optimizer) -> list:
    """Return all that learn, in two groups where the heads have a rate of their own."""
    # BatchNorm's running statistics count among Paddle's parameters.
    learning = [p for p in model.parameters() if not p.stop_gradient]
    factor = settings.head_lr_factor
    if factor == 1:
        return learning
    if not hasattr(model, "backbone_layers"):
        raise ValueError(
            f"optimizer.head_lr_factor {factor} is for networks with a pretrained backbone, and "
            f"{type(model).__name__} has none; leave it out"
        )
    inside = {p.name for layer in model.backbone_layers().values() for p in layer.parameters()}
    backbone = [p for p in learning if p.name in inside]
    heads = {"params": [p for p in learning if p.name not in inside], "learning_rate": factor}
    return [{"params": backbone}, heads] if backbone else [heads]
