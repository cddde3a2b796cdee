"""Gradient checkpointing that moves BatchNorm's running statistics once, not twice.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174).
"""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.distributed.fleet.utils import recompute


def recompute_stage(stage: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    """Run `stage` on x without keeping its activations; backward computes them again.

    Backward's second run would move the running statistics once more, so it puts them back.

    Args:
        stage: a layer of one input and one output; must be called where gradients are enabled.
        x: input, any shape and dtype that the stage takes.

    Returns:
        What stage(x) returns, with the same gradients.
    """
    if x.stop_gradient:
        # Paddle's recompute connects its output to the graph only through inputs that want a
        # gradient, so behind a frozen stage the parameters of this one would get none.
        x = x.detach()
        x.stop_gradient = False
    first_run = True

    def run(x: paddle.Tensor) -> paddle.Tensor:
        nonlocal first_run
        if first_run:
            first_run = False
            return stage(x)
        # Paddle counts running statistics among the parameters, not among the buffers.
        tensors = stage.state_dict().values()
        statistics = [(tensor, tensor.clone()) for tensor in tensors if tensor.stop_gradient]
        out = stage(x)
        for tensor, before in statistics:
            tensor.set_value(before)
        return out

    return recompute(run, x)
