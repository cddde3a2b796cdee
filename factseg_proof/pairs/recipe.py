"""FactSeg's training recipe in both frameworks: SGD, poly schedule, clipping by the global norm."""

from __future__ import annotations

from alignment.pair import TrainSetup

RATE, ITERATIONS, POWER = 0.007, 60000, 0.9
MOMENTUM, WEIGHT_DECAY, CLIP = 0.9, 1e-4, 35.0


def torch_setup() -> TrainSetup:
    """Set the recipe up for torch."""
    return TrainSetup(_torch_optimizer, _torch_schedule, _torch_clip)


def paddle_setup() -> TrainSetup:
    """Set the recipe up for Paddle, whose optimizer holds schedule and clipping."""
    return TrainSetup(_paddle_optimizer)


def _torch_optimizer(model):  # noqa: ANN001
    import torch

    return torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def _torch_schedule(optimizer):  # noqa: ANN001
    import torch

    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda iteration: (1 - iteration / ITERATIONS) ** POWER
    )


def _torch_clip(model):  # noqa: ANN001
    import torch

    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)


def _paddle_optimizer(model):  # noqa: ANN001
    import paddle

    rate = paddle.optimizer.lr.PolynomialDecay(RATE, ITERATIONS, end_lr=0.0, power=POWER)
    return paddle.optimizer.Momentum(
        rate,
        MOMENTUM,
        parameters=model.parameters(),
        weight_decay=WEIGHT_DECAY,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(CLIP),
    )
