"""The learning rate as a function of the iteration: poly, cosine or steps, after a warm-up.

Sources: poly as the original's `configs/isaid/factseg.py`; cosine is Loshchilov and Hutter's SGDR
(arXiv 1608.03983), equation 5, without restarts. (The FCN-8s article names a cosine and takes one
element of it, a constant; that is schedule step without milestones.)
"""

from __future__ import annotations

import math

import paddle

from factseg_paddle.config.schema import Optimizer


def learning_rate(settings: Optimizer, iteration: int, iters: int) -> float:
    """Return the rate of an iteration.

    In a warm-up of w iterations it rises in equal steps to the full rate, which iteration w has;
    poly and cosine have what is left of the run.

    Args:
        settings: which schedule, and its numbers.
        iteration: from 0; from `iters` on the rate is that at the end.
        iters: iterations of the whole run.
    """
    warmup, peak, end = settings.warmup_iters, settings.learning_rate, settings.end_learning_rate
    if iteration < warmup:
        return peak * (iteration + 1) / (warmup + 1)
    if settings.schedule == "step":
        return peak * settings.gamma ** sum(iteration >= m for m in settings.milestones)
    progress = min(iteration - warmup, iters - warmup) / (iters - warmup)
    if settings.schedule == "cosine":
        return end + (peak - end) * (1 + math.cos(math.pi * progress)) / 2
    return (peak - end) * (1 - progress) ** settings.power + end


class Schedule(paddle.optimizer.lr.LRScheduler):
    """`learning_rate` as Paddle's optimizers take it; its position is all the state it has.

    Args:
        settings: as in `learning_rate`.
        iters: as in `learning_rate`.
    """

    def __init__(self, settings: Optimizer, iters: int) -> None:
        self._settings, self._iters = settings, iters
        super().__init__(settings.learning_rate)

    def get_lr(self) -> float:
        """Return the rate at the position."""
        return learning_rate(self._settings, self.last_epoch, self._iters)
