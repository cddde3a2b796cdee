"""Small pairs with a fault on request: what the harness is shown instead of a large network."""

from __future__ import annotations

import dataclasses

import numpy as np
import paddle
import paddle.nn.functional as PF
import torch
import torch.nn.functional as F

from alignment import Pair


class TorchNet(torch.nn.Module):
    """Conv, BatchNorm, ReLU, bilinear, Conv, in-place ReLU, mean, Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.bn = torch.nn.BatchNorm2d(6)
        self.relu1 = torch.nn.ReLU()
        self.up = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv2 = torch.nn.Conv2d(6, 5, 3, padding=1)
        self.relu2 = torch.nn.ReLU(inplace=True)
        self.fc = torch.nn.Linear(5, 4)

    def forward(self, x):
        x = self.up(self.relu1(self.bn(self.conv1(x))))
        x = self.relu2(self.conv2(x))
        return self.fc(x.mean((2, 3)))


class PaddleNet(paddle.nn.Layer):
    """The same, with a fault on request in `parts` or in `broken_*`."""

    def __init__(self, **parts) -> None:
        super().__init__()
        self.conv1 = paddle.nn.Conv2D(3, 6, 3, padding=1)
        self.bn = paddle.nn.BatchNorm2D(6)
        self.relu1 = paddle.nn.ReLU()
        self.up = paddle.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv2 = paddle.nn.Conv2D(6, 5, 3, padding=1)
        self.relu2 = paddle.nn.ReLU()
        self.fc = paddle.nn.Linear(5, 4)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        x = self.up(self.relu1(self.bn(self.conv1(x))))
        x = self.relu2(self.conv2(x))
        return self.fc(x.mean((2, 3)))


class Through(paddle.nn.Layer):
    """A layer and a function of its output."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class TorchFunction(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *values):
        return self.function(*values)


def upsampled(x, align_corners=True):
    """Paddle's bilinear x2."""
    return PF.interpolate(x, scale_factor=2, mode="bilinear", align_corners=align_corners)


def seeded_torch_net(net=TorchNet, seed: int = 0):
    """A net with no parameter at 0 or 1, made without touching any random state."""
    with torch.random.fork_rng():
        made = net()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if tensor.is_floating_point():
                low, high = (0.5, 1.5) if name.endswith("running_var") else (-0.5, 0.5)
                tensor.copy_(torch.from_numpy(rng.uniform(low, high, tuple(tensor.shape))))
    return made


def torch_loss(output, labels):
    return F.cross_entropy(output, labels)


def paddle_loss(output, labels):
    return PF.cross_entropy(output, labels)


def images(shape=(2, 3, 6, 6), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def small_pair(paddle_model=PaddleNet, **changes) -> Pair:
    """The pair of the two nets; `changes` replace its fields."""
    pair = Pair(
        name="small",
        torch_model=seeded_torch_net,
        paddle_model=paddle_model,
        inputs=(images(),),
        targets=(np.array([3, 1]),),
        torch_loss=torch_loss,
        paddle_loss=paddle_loss,
    )
    return dataclasses.replace(pair, **changes)


def step(report, name: str):
    """The step `name` of a report."""
    return next(result for result in report.steps if result.step == name)


def failed_names(report, name: str) -> set[str]:
    """Tensors that failed in a step."""
    return {tensor.name for tensor in step(report, name).tensors if not tensor}


def end_to_end(report, name: str) -> list:
    """The tensors of a step that are compared end to end."""
    return [t for t in step(report, name).tensors if t.comparison == "end_to_end"]
