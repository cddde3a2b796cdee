"""Lines and logs for tests."""

import numpy as np

from factseg_paddle.engine.logs.format import TrainLine, format_evaluation, format_train_line


def line(iteration: int, iters: int = 100, **changes) -> TrainLine:
    """A line of ours at an iteration."""
    values = {
        "epoch": 1 + iteration // 40,
        "loss": 2.0 * 0.98**iteration,
        "lr": 0.007 * (1 - (iteration - 1) / iters) ** 0.9,
        "batch_cost": 1.5,
        "reader_cost": 0.01,
        "ips": 2.6667,
        "eta": int(1.5 * (iters - iteration)),
        "grad_norm": 3.25,
        "loss_scale": None,
        "skipped": 0,
    }
    return TrainLine(iteration=iteration, iters=iters, **values | changes)


def class_iou(iteration: int, classes: int = 3) -> np.ndarray:
    """IoUs that grow, the later classes more slowly."""
    return 1 - np.exp(-iteration / (20.0 * (1 + np.arange(classes))))


def log_text(iterations: range, evaluate_every: int = 20, classes: int = 3) -> str:
    """A log of ours, an evaluation after each so many iterations."""
    lines = ["the network starts from random weights"]
    for iteration in iterations:
        lines.append(format_train_line(line(iteration)))
        if iteration % evaluate_every == 0:
            iou = class_iou(iteration, classes)
            lines.append(format_evaluation(iteration, iou, float(iou.mean())))
    return "\n".join(lines) + "\n"
