"""Twin nets: one forward function over the layers of either framework, with a fault on request."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import paddle
import paddle.nn.functional as PF
import torch
import torch.nn.functional as F

from alignment import Pair, align
from tests.alignment.small import Through, TorchFunction, images

TORCH = SimpleNamespace(
    linear=torch.nn.Linear,
    conv=lambda i, o: torch.nn.Conv2d(i, o, 3, padding=1),
    bn=lambda c, eps=1e-5: torch.nn.BatchNorm2d(c, eps=eps),
    group_norm=lambda g, c, eps=1e-5: torch.nn.GroupNorm(g, c, eps=eps),
    layer_norm=lambda c, eps=1e-5: torch.nn.LayerNorm(c, eps=eps),
    relu=torch.nn.ReLU,
    relu_in_place=lambda: torch.nn.ReLU(inplace=True),
    max_pool=lambda: torch.nn.MaxPool2d(2),
    dropout=torch.nn.Dropout,
    embedding=torch.nn.Embedding,
    sequential=torch.nn.Sequential,
    function=TorchFunction,
    cat=torch.cat,
    f=F,
    matmul=torch.matmul,
    zeros_like=torch.zeros_like,
    drop=lambda x, p=0.5: F.dropout(x, p),
    rand_like=torch.rand_like,
    tensor=torch.from_numpy,
)
PADDLE = SimpleNamespace(
    linear=paddle.nn.Linear,
    conv=lambda i, o: paddle.nn.Conv2D(i, o, 3, padding=1),
    bn=lambda c, eps=1e-5: paddle.nn.BatchNorm2D(c, epsilon=eps),
    group_norm=lambda g, c, eps=1e-5: paddle.nn.GroupNorm(g, c, epsilon=eps),
    layer_norm=lambda c, eps=1e-5: paddle.nn.LayerNorm(c, epsilon=eps),
    relu=paddle.nn.ReLU,
    relu_in_place=lambda: Through(PF.relu_),
    max_pool=lambda: paddle.nn.MaxPool2D(2),
    dropout=paddle.nn.Dropout,
    embedding=paddle.nn.Embedding,
    sequential=paddle.nn.Sequential,
    function=Through,
    cat=paddle.concat,
    f=PF,
    matmul=paddle.matmul,
    zeros_like=paddle.zeros_like,
    drop=lambda x, p=0.5: PF.dropout(x, p),
    rand_like=lambda x: paddle.rand(x.shape, x.dtype),
    tensor=paddle.to_tensor,
)


class TorchTwin(torch.nn.Module):
    """The net in torch; `nn` is its framework's namespace."""

    nn = TORCH

    def __init__(self, forward, layers):
        super().__init__()
        for name, layer in layers(TORCH).items():
            setattr(self, name, layer)
        self.function = forward

    def forward(self, *inputs):
        return self.function(self, *inputs)


class PaddleTwin(paddle.nn.Layer):
    """The net in Paddle."""

    nn = PADDLE

    def __init__(self, forward, layers):
        super().__init__()
        for name, layer in layers(PADDLE).items():
            setattr(self, name, layer)
        self.function = forward

    def forward(self, *inputs):
        return self.function(self, *inputs)


def two_linear(nn):
    """The layers a and b [.., 4] -> [.., 4]."""
    return {"a": nn.linear(4, 4), "b": nn.linear(4, 4)}


class Scaled(paddle.autograd.PyLayer):
    """The identity with a multiple of the gradient."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor


def doubled(x):
    """The same with twice the gradient."""
    return Scaled.apply(x, 2.0)


def seed_weights(net, seed: int = 0):
    """Give a torch net weights that are nowhere 0 or 1."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                low, high = (0.5, 1.5) if name.endswith("running_var") else (-0.7, 0.7)
                tensor.copy_(torch.from_numpy(rng.uniform(low, high, tuple(tensor.shape))))
    return net


def squares(output):
    """The mean of the squares of a model's first output."""
    if isinstance(output, dict):
        output = next(iter(output.values()))
    elif isinstance(output, (tuple, list)):
        output = output[0]
    return output.pow(2).mean()


def twins(forward, layers, *inputs, fault=None, parts=None, change=None, seed=0, **changes) -> Pair:
    """A pair of the same net in both frameworks.

    Args:
        forward: function (net, *inputs), written for both frameworks.
        layers: function of a namespace that gives the layers by name.
        inputs: arrays; images [2, 4] where none is given.
        fault: Paddle's forward, where it is another.
        parts: function of Paddle's namespace that gives layers in the place of others.
        change: function that does something to the Paddle net.
        seed: of torch's weights.
        changes: further fields of the pair.
    """

    def torch_model():
        with torch.random.fork_rng():
            return seed_weights(TorchTwin(forward, layers), seed)

    def paddle_model():
        def with_parts(nn):
            return layers(nn) | (parts(nn) if parts else {})

        net = PaddleTwin(fault or forward, with_parts)
        if change:
            change(net)
        return net

    losses = {"torch_loss": squares, "paddle_loss": squares}
    return Pair(
        name="twins",
        torch_model=torch_model,
        paddle_model=paddle_model,
        inputs=inputs or (images((3, 4)),),
        **losses | changes,
    )


def first_divergence(*args, steps=None, **options):
    """Where the report of such a pair sees the first divergence."""
    return align(twins(*args, **options), steps).first_divergence


def passes(pair: Pair, steps=None):
    """The pair's report, which has to be good."""
    report = align(pair, steps)
    assert report, str(report)
    return report
