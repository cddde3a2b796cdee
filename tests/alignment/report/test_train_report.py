"""What the train step says and leaves behind: curves, dtypes, the pair as it was."""

from __future__ import annotations

import functools

import numpy as np
import paddle
import pytest
import torch

from alignment import align
from alignment.location import AtCall
from alignment.weights.models import paddle_state, torch_state
from tests.alignment.small import PaddleNet, Through, seeded_torch_net, step
from tests.alignment.steps.train_setups import (
    first,
    paddle_poly,
    paddle_setup,
    poly,
    torch_setup,
    trained,
    training_pair,
)
from tests.alignment.test_untouched import state_of_the_process
from tests.alignment.twins import twins, two_linear


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_number_of_steps(steps):
    report = trained(train_steps=steps)
    tensors = step(report, "train").tensors
    assert {t.name.partition(":")[0] for t in tensors} == {f"step {i}" for i in range(steps)}
    assert {t.comparison for t in tensors} == {"end_to_end", "by_itself"}
    assert {key: len(values) for key, values in report.curves.items()} == dict.fromkeys(
        ("torch", "paddle", "lowest", "highest"), steps
    )


def test_curves_are_the_losses_of_free_runs():
    curves = trained(
        paddle_setup(rate=paddle_poly()), torch_setup(scheduler=poly), train_steps=5
    ).curves
    assert all(
        low <= loss <= high
        for low, loss, high in zip(
            curves["lowest"], curves["torch"], curves["highest"], strict=True
        )
    )
    assert curves["torch"] == pytest.approx(curves["paddle"], rel=1e-4)
    assert curves["torch"][-1] < curves["torch"][0]
    wrong = trained(paddle_setup(rate=1.0), torch_setup(), train_steps=5).curves
    assert wrong["torch"] != pytest.approx(wrong["paddle"], rel=1e-2)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("training", [True, False])
def test_pair_and_process_stay_as_they_were(mode, training):
    torch_net, paddle_net = seeded_torch_net(), PaddleNet()
    (torch_net.train if training else torch_net.eval)()
    (paddle_net.train if training else paddle_net.eval)()
    weights = torch_state(torch_net)
    before = state_of_the_process()
    pair = training_pair(
        paddle_setup(), torch_setup(), paddle_net, torch_model=torch_net, mode=mode
    )
    assert align(pair)
    assert state_of_the_process() == before
    after = torch_state(torch_net)
    assert all(np.array_equal(weights[name], after[name]) for name in weights)
    ours = paddle_state(paddle_net)
    assert np.array_equal(ours["bn._variance"], weights["bn.running_var"])
    assert np.array_equal(ours["fc.bias"], weights["fc.bias"])
    for net in (torch_net, paddle_net):
        assert (net.training, net.bn.training) == (training, training)
        assert all(parameter.grad is None for parameter in net.parameters())
        assert {str(p.dtype).rpartition(".")[2] for p in net.parameters()} == {"float32"}


def test_mode_of_the_pair_does_not_matter_to_training():
    results = [step(trained(mode=mode), "train") for mode in ("eval", "train")]
    assert results[0] == results[1]


def test_dropout_in_training_mode_is_named_as_random():
    def layers(nn):
        return two_linear(nn) | {"drop": nn.dropout(0.5)}

    pair = twins(
        lambda net, x: net.b(net.drop(net.a(x))),
        layers,
        torch_train=torch_setup(),
        paddle_train=paddle_setup(),
        train_steps=2,
    )
    report = align(pair)
    assert all(result for result in report.steps if result.step != "train")
    assert report.first_divergence == "drop"
    random = [t for t in step(report, "train").tensors if t.location == AtCall("drop")]
    assert [t.reason.split()[0] for t in random] == ["torch", "Paddle"]


def test_layer_that_can_not_train_in_float64_is_said_and_judged_in_float32():
    def single(x):
        if x.dtype != paddle.float32:
            raise ValueError("float32 alone")
        return paddle.nn.functional.relu(x)

    class Single(torch.nn.Module):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise ValueError("float32 alone")
            return x.relu()

    def torch_net():
        net = seeded_torch_net()
        net.relu1 = Single()
        return net

    report = trained(net=lambda: PaddleNet(relu1=Through(single)), torch_model=torch_net)
    assert report, str(report)
    assert {t.dtype for t in step(report, "train").tensors} == {"float32"}
    with_fault = functools.partial(trained, torch_model=torch_net)
    wrong = with_fault(paddle_setup(momentum=0.5), net=lambda: PaddleNet(relu1=Through(single)))
    assert first(wrong) == "train:step 1: conv1.weight (update)"


def test_paddle_that_can_not_train_in_float64():
    def single(x):
        if x.dtype != paddle.float32:
            raise ValueError("float32 alone")
        return paddle.nn.functional.relu(x)

    report = trained(net=lambda: PaddleNet(relu1=Through(single)))
    assert report, str(report)
