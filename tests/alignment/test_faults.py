"""A planted fault is flagged in its step, under the name of what is wrong."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as PF
import pytest
import torch

from alignment import Pair, align
from tests.alignment.small import (
    PaddleNet,
    Through,
    end_to_end,
    failed_names,
    images,
    paddle_loss,
    seeded_torch_net,
    small_pair,
    step,
    upsampled,
)

STEPS = ["data", "weights", "forward", "loss", "backward"]


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("seed", range(3))
def test_equal_nets_are_aligned(mode, seed):
    pair = small_pair(
        torch_model=lambda: seeded_torch_net(seed=seed),
        inputs=(images((4, 3, 6, 6), seed=seed),),
        targets=(np.array([0, 1, 2, 3]),),
        mode=mode,
    )
    report = align(pair)
    assert report, str(report)
    assert [result.step for result in report.steps] == STEPS
    assert str(report).count("\n") == len(STEPS), "one line a step and a verdict"


class Doubled(paddle.autograd.PyLayer):
    """The identity with twice the gradient."""

    @staticmethod
    def forward(_ctx, x):
        return x.clone()

    @staticmethod
    def backward(_ctx, gradient):
        return 2 * gradient


FORWARD_FAULTS = {
    "ReLU removed": ("relu1", paddle.nn.Identity),
    "ReLU replaced": ("relu2", lambda: paddle.nn.LeakyReLU(0.01)),
    "ReLU replaced by GELU": ("relu1", paddle.nn.GELU),
    "align_corners flipped": ("up", lambda: Through(lambda x: upsampled(x, False))),
    "scale factor": (
        "up",
        lambda: paddle.nn.Upsample(scale_factor=3, mode="bilinear", align_corners=True),
    ),
    "epsilon": ("bn", lambda: paddle.nn.BatchNorm2D(6, epsilon=1e-3)),
    "padding": ("conv2", lambda: paddle.nn.Conv2D(6, 5, 3, padding=1, padding_mode="reflect")),
    "dilation": ("conv2", lambda: paddle.nn.Conv2D(6, 5, 3, padding=2, dilation=2)),
    "NaN": ("relu1", lambda: Through(lambda x: PF.relu(x) * float("nan"))),
    "NaN in one element": (
        "relu1",
        lambda: Through(
            lambda x: (
                PF.relu(x)
                .flatten()
                .scatter(paddle.to_tensor([7]), paddle.to_tensor([float("nan")], dtype=x.dtype))
                .reshape(x.shape)
            )
        ),
    ),
    "one element off": (
        "relu1",
        lambda: Through(
            lambda x: (
                PF.relu(x)
                .flatten()
                .scatter(paddle.to_tensor([7]), paddle.to_tensor([0.9], dtype=x.dtype))
                .reshape(x.shape)
            )
        ),
    ),
    "a ten-thousandth off": ("relu1", lambda: Through(lambda x: PF.relu(x) * 1.0001)),
    "transposed": ("up", lambda: Through(lambda x: upsampled(x).transpose([0, 1, 3, 2]))),
}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("fault", FORWARD_FAULTS)
def test_fault_in_a_layer_names_the_layer(fault, mode):
    name, make = FORWARD_FAULTS[fault]
    report = align(small_pair(lambda: PaddleNet(**{name: make()}), mode=mode))
    assert not report
    assert report.first_divergence == name
    assert next(result.step for result in report.steps if not result) == "forward"
    assert step(report, "data")
    assert step(report, "weights")


def patched_net():
    """A net whose `forward` a user replaced by a function that holds on to the net itself."""
    net = PaddleNet()
    right = net.forward
    net.forward = lambda x: right(x) * 1.5
    return net


def test_function_that_patches_forward_is_asked_for_a_model_for_each_run():
    """A deep copy of such a model ran the layers of the original, and blamed its weights."""
    report = align(small_pair(patched_net, mode="train"))
    assert step(report, "weights")
    assert report.first_divergence == "forward:output"
    shared = PaddleNet()
    assert align(small_pair(lambda: shared))
    assert shared.fc.weight.dtype == paddle.float32


def test_layer_whose_output_makes_the_model_raise_is_named():
    """The layers that had returned were forgotten, and the exit status was that of no result."""
    wrong = {"up": lambda: paddle.nn.Flatten(2)}
    report = align(small_pair(lambda: PaddleNet(**{n: make() for n, make in wrong.items()})))
    assert not report
    assert report.first_divergence == "up"


def test_fault_in_front_of_the_second_call_of_a_layer_names_both_calls():
    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.act = torch.nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x) - 0.5)

    class Paddle(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.act = paddle.nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x) - 0.4)

    pair = Pair(name="twice", torch_model=Torch, paddle_model=Paddle, inputs=(images((2, 3)),))
    assert align(pair, ["forward"]).first_divergence == "act -> act#2"


def frozen(name):
    def make():
        net = PaddleNet()
        dict(net.named_parameters())[name].stop_gradient = True
        return net

    return make


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (frozen("conv2.weight"), "grad:conv2.weight"),
        (frozen("fc.bias"), "grad:fc.bias"),
        (
            lambda: PaddleNet(relu2=Through(lambda x: PF.relu(x).detach())),
            "relu2",
        ),
        (
            lambda: PaddleNet(up=Through(lambda x: Doubled.apply(upsampled(x)))),
            "up",
        ),
    ],
    ids=["frozen weight", "frozen bias", "detached branch", "doubled gradient"],
)
def test_fault_in_backward_names_the_parameter_or_the_layer(make, first):
    report = align(small_pair(make))
    assert step(report, "forward")
    assert report.first_divergence == first


def test_gradient_fault_ahead_of_a_layer_that_is_registered_first():
    """Parameters are looked through against the order of calls, not of registration."""

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.stem = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.head(self.stem(x))

    class Paddle(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.head, self.stem = paddle.nn.Linear(4, 4), paddle.nn.Linear(4, 4)

        def forward(self, x):
            return self.head(self.stem(x).detach()) + self.head(self.stem(x)).detach() * 0

    pair = Pair(
        name="order",
        torch_model=Torch,
        paddle_model=Paddle,
        inputs=(images((2, 4)),),
        torch_loss=lambda output: output.pow(2).sum(),
        paddle_loss=lambda output: output.pow(2).sum(),
    )
    report = align(pair, ["backward"])
    assert failed_names(report, "backward") >= {"stem.weight", "stem.bias"}
    assert report.first_divergence == "stem -> head"


@pytest.mark.parametrize(
    "loss",
    [
        lambda output, labels: 1.0001 * paddle_loss(output, labels),
        lambda output, labels: PF.cross_entropy(output, labels, ignore_index=1),
        lambda output, labels: PF.cross_entropy(output, labels, label_smoothing=0.1),
        lambda output, labels: paddle_loss(output, labels).reshape([1]),
        lambda output, labels: paddle_loss(output, labels) * float("nan"),
    ],
    ids=["scaled", "ignore index", "smoothed", "shape", "NaN"],
)
def test_fault_in_the_loss_is_the_loss_steps(loss):
    report = align(small_pair(paddle_loss=loss))
    assert step(report, "forward")
    assert report.first_divergence == "loss:loss"


def test_loss_that_is_right_with_a_wrong_gradient_fails_backward():
    report = align(
        small_pair(paddle_loss=lambda o, t: paddle_loss(Doubled.apply(o), t)), ["loss", "backward"]
    )
    assert step(report, "loss")
    assert report.first_divergence == "backward:output (gradient)"


def two_outputs(torch_names, paddle_names):
    class Torch(torch.nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return dict.fromkeys(torch_names, y)

    class Paddle(paddle.nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return dict.fromkeys(paddle_names, y)

    return Pair(
        name="outputs",
        torch_model=lambda: Torch(3, 3),
        paddle_model=lambda: Paddle(3, 3),
        inputs=(images((2, 3)),),
    )


def test_output_name_that_one_side_lacks_fails_with_its_side():
    report = align(two_outputs("ab", "ac"), ["forward"])
    reasons = {t.name: t.reason for t in step(report, "forward").tensors if not t}
    assert reasons == {
        "output.b": "Paddle gives no such tensor",
        "output.c": "torch gives no such tensor",
    }
    assert report.first_divergence == "forward:output.b"


def test_results_stand_in_the_same_order_each_time():
    names = [t.name for t in end_to_end(align(two_outputs("edcba", "abxyz")), "forward")]
    expected = [f"output.{letter}" for letter in "edcbaxyz"]
    assert list(dict.fromkeys(names)) == expected


def test_output_that_is_transposed_fails_forward_even_where_the_loss_then_raises():
    class Paddle(PaddleNet):
        def forward(self, x):
            return super().forward(x).transpose([1, 0])

    report = align(small_pair(Paddle))
    assert report.first_divergence == "forward:output"
    assert failed_names(report, "loss") == {"the Paddle side"}
    assert not step(report, "backward")
