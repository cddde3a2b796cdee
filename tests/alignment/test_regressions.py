"""Defects of the harness that a review found, one test each."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import paddle
import pytest
import torch

from alignment import AlignmentError, Pair, TrainSetup, align
from alignment.steps.torch_reference import run_torch
from tests.alignment.small import Through, TorchFunction, images, step

X = images((4, 3))


class Torch(torch.nn.Module):
    """a, then the layer or function between, then c."""

    def __init__(self, between, layer=None) -> None:
        super().__init__()
        self.a, self.c = torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)
        self.between, self.b = between, layer

    def forward(self, x):
        return self.c(self.between(self, self.a(x)))


class Paddle(paddle.nn.Layer):
    """The same."""

    def __init__(self, between, layer=None) -> None:
        super().__init__()
        self.a, self.c = paddle.nn.Linear(3, 3), paddle.nn.Linear(3, 2)
        self.between, self.b = between, layer

    def forward(self, x):
        return self.c(self.between(self, self.a(x)))


def pair_of(theirs, ours, **changes) -> Pair:
    def seeded():
        torch.manual_seed(0)
        return theirs()

    options = {
        "torch_loss": lambda output: output.pow(2).mean(),
        "paddle_loss": lambda output: output.pow(2).mean(),
        "inputs": (X,),
    }
    return Pair(name="net", torch_model=seeded, paddle_model=ours, **options | changes)


def training(rate=0.1, steps=2) -> dict:
    return {
        "torch_train": TrainSetup(lambda m: torch.optim.SGD(m.parameters(), rate)),
        "paddle_train": TrainSetup(lambda m: paddle.optimizer.SGD(rate, parameters=m.parameters())),
        "train_steps": steps,
    }


def test_layer_that_is_given_another_number_of_tensors_is_no_alarm():
    class Scale(paddle.nn.Layer):
        def forward(self, x):
            return x * 0.5

    class TorchScale(torch.nn.Module):
        def forward(self, x, factor):
            return x * factor

    report = align(
        pair_of(
            lambda: Torch(lambda net, x: net.b(x, torch.full_like(x[0], 0.5)), TorchScale()),
            lambda: Paddle(lambda net, x: net.b(x), Scale()),
        ),
        ["forward", "backward"],
    )
    assert report, str(report)
    assert "called with other arguments than in torch: b" in step(report, "forward").notes


def test_layer_that_returns_more_tensors_in_paddle_ends_nothing():
    report = align(
        pair_of(
            lambda: Torch(lambda net, x: net.b(x), TorchFunction(lambda x: x * 2)),
            lambda: Paddle(lambda net, x: net.b(x)[0], Through(lambda x: (x * 2, x))),
        )
    )
    assert report, str(report)
    assert not any("not all layers" in note for note in step(report, "forward").notes)


def test_wrong_boolean_between_layers_is_placed():
    report = align(
        pair_of(
            lambda: Torch(lambda net, x: x * net.b(x > 0).to(x.dtype), TorchFunction(lambda m: ~m)),
            lambda: Paddle(
                lambda net, x: x * net.b(x < 0).astype(x.dtype),
                Through(paddle.logical_not),
            ),
        ),
        ["forward"],
    )
    assert report.first_divergence == "a -> b"


def test_blank_image_in_training_mode_leaves_a_report(tmp_path):
    report = align(
        pair_of(
            lambda: Torch(lambda net, x: net.b(x), torch.nn.BatchNorm1d(3)),
            lambda: Paddle(lambda net, x: net.b(x), paddle.nn.BatchNorm1D(3)),
            mode="train",
            inputs=(np.ones((4, 3), np.float32),),
        ),
        out=tmp_path,
    )
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["passed"] is bool(report)


class TorchPrompt(torch.nn.Module):
    def __init__(self, expand) -> None:
        super().__init__()
        self.p, self.expand = torch.nn.Parameter(torch.rand(1, 3) + 0.5), expand

    def forward(self, x):
        return self.p.expand(x.shape[0], -1) if self.expand else self.p


class PaddlePrompt(paddle.nn.Layer):
    def __init__(self, expand) -> None:
        super().__init__()
        self.p, self.expand = self.create_parameter([1, 3]), expand

    def forward(self, x):
        return self.p.expand([x.shape[0], -1]) if self.expand else self.p


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("expand", [True, False])
def test_layer_that_returns_its_parameter_can_be_perturbed(expand, mode):
    report = align(
        pair_of(
            lambda: Torch(lambda net, x: x + net.b(x), TorchPrompt(expand)),
            lambda: Paddle(lambda net, x: x + net.b(x), PaddlePrompt(expand)),
            mode=mode,
            **training(rate=1e-6),
        )
    )
    assert report, str(report)


@pytest.mark.parametrize(
    "losses",
    [
        (lambda o: (o.float() ** 2).mean(), lambda o: (o.astype("float32") ** 2).mean()),
        (lambda o: (o**2).mean().reshape(1), lambda o: (o**2).mean().reshape([1])),
    ],
    ids=["float32", "of shape [1]"],
)
def test_train_step_takes_losses_as_the_step_loss_does(losses):
    report = align(
        pair_of(
            lambda: Torch(lambda _net, x: x),
            lambda: Paddle(lambda _net, x: x),
            torch_loss=losses[0],
            paddle_loss=losses[1],
            **training(),
        )
    )
    assert report, str(report)


def test_long_sum_is_no_alarm_where_paddle_has_no_float64():
    def summed(x):
        assert x.dtype == paddle.float32
        return x.cumsum(1)[:, -1:].expand(x.shape)

    pair = pair_of(
        lambda: torch.nn.Sequential(TorchFunction(lambda x: x.sum(1, keepdim=True).expand_as(x))),
        lambda: paddle.nn.Sequential(Through(summed)),
        inputs=(np.random.default_rng(0).uniform(0, 1, (2, 2000)).astype(np.float32),),
        torch_loss=None,
        paddle_loss=None,
    )
    report = align(pair, ["forward"])
    assert report, str(report)


def test_one_tensor_under_two_names_goes_back_once():
    report = align(
        pair_of(
            lambda: TorchFunction2(lambda y: {"a": y, "b": y}),
            lambda: PaddleFunction2(lambda y: {"a": y, "b": y}),
            torch_loss=lambda o: o["a"].pow(2).mean() + o["b"].mean(),
            paddle_loss=lambda o: o["a"].pow(2).mean() + o["b"].mean(),
        )
    )
    assert report, str(report)


class TorchFunction2(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.a, self.function = torch.nn.Linear(3, 3), function

    def forward(self, x):
        return self.function(self.a(x))


class PaddleFunction2(paddle.nn.Layer):
    def __init__(self, function) -> None:
        super().__init__()
        self.a, self.function = paddle.nn.Linear(3, 3), function

    def forward(self, x):
        return self.function(self.a(x))


def test_train_step_alone_names_a_parameter_that_torch_lacks():
    def ours():
        net = Paddle(lambda _net, x: x)
        net.extra = paddle.nn.Linear(3, 3)
        return net

    pair = pair_of(lambda: Torch(lambda _net, x: x), ours, **training())
    assert align(pair, ["train"]).first_divergence == "weights:extra.weight"


def test_randomness_is_found_whatever_the_seed_outside():
    pair = pair_of(
        lambda: Torch(lambda _net, x: x),
        lambda: Paddle(lambda _net, x: paddle.nn.functional.dropout(x, 0.5, training=True)),
    )
    for seed in (0, 1, 2):
        paddle.seed(seed)
        report = align(pair, ["forward"])
        assert report.first_divergence == "a -> c"
        assert "another value each time" in step(report, "forward").tensors[0].reason


def test_randomness_in_training_alone_is_placed_between_layers():
    pair = pair_of(
        lambda: Torch(lambda _net, x: x),
        lambda: Paddle(lambda net, x: paddle.nn.functional.dropout(x, 0.5, net.training)),
        **training(),
    )
    assert align(pair).first_divergence == "a -> c"
    assert align(pair, ["train"]).first_divergence == "a -> c"


def test_origins_are_followed_through_assignment_to_a_slice():
    def assembled(made, factor):
        def between(net, x):
            buffer = made(x)
            buffer[:, :2] = x[:, :2]
            buffer[:, 2:] = net.b(x)[:, 2:] * factor
            return buffer

        return between

    pair = pair_of(
        lambda: Torch(assembled(torch.zeros_like, 1.0), torch.nn.Linear(3, 3)),
        lambda: Paddle(assembled(paddle.zeros_like, 1.1), paddle.nn.Linear(3, 3)),
    )
    assert align(pair, ["forward"]).first_divergence == "b -> c"


def test_record_of_fewer_training_steps_is_refused():
    pair = pair_of(
        lambda: Torch(lambda _net, x: x), lambda: Paddle(lambda _net, x: x), **training()
    )
    reference = run_torch(pair, ["train"])
    with pytest.raises(AlignmentError, match="the torch record has 2 training steps, this is 5"):
        align(replace(pair, train_steps=5), ["train"], reference=reference)


def test_loss_is_differentiated_at_torchs_output():
    # it was at Paddle's own, so a pixel at the cut of a top-k failed every gradient behind it
    def ends_at_a_kink(base, shift):
        class Net(base):
            def forward(self, x):
                y = super().forward(x)
                return y, y - y.detach() + shift

        return lambda: Net(lambda _net, x: x)

    def loss(relu):
        return lambda output: output[0].pow(2).mean() + relu(output[1]).sum()

    pair = pair_of(
        ends_at_a_kink(Torch, 0.0),
        ends_at_a_kink(Paddle, 1e-9),
        torch_loss=loss(torch.relu),
        paddle_loss=loss(paddle.nn.functional.relu),
        **training(),
    )
    report = align(pair, ["backward", "train"])
    assert report, str(report)
    assert not [t for s in report.steps for t in s.tensors if t.status == "declared"]
