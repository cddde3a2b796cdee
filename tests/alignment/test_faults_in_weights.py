"""A tensor that differs, is missing or does not fit is named by the step weights."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from alignment import align
from tests.alignment.small import (
    PaddleNet,
    failed_names,
    seeded_torch_net,
    small_pair,
    step,
)


def test_weights_as_they_are_differ_by_name():
    torch_net, paddle_net = seeded_torch_net(), PaddleNet()
    align(small_pair(paddle_net, torch_model=torch_net), ["weights"])
    assert align(small_pair(paddle_net, torch_model=torch_net, transfer=False))
    paddle_net.conv2.bias.set_value(paddle_net.conv2.bias + 1e-6)
    report = align(small_pair(paddle_net, torch_model=torch_net, transfer=False))
    assert report.first_divergence == "weights:conv2.bias"
    assert failed_names(report, "weights") == {"conv2.bias"}


def test_running_statistics_belong_to_the_weights():
    paddle_net = PaddleNet()
    align(small_pair(paddle_net), ["weights"])
    paddle_net.bn._variance.set_value(paddle_net.bn._variance * 1.5)
    report = align(small_pair(paddle_net, transfer=False))
    assert report.first_divergence == "weights:bn.running_var"


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (
            lambda: PaddleNet(conv1=paddle.nn.Conv2D(3, 6, 3, padding=1, bias_attr=False)),
            "weights:conv1.bias",
        ),
        (lambda: PaddleNet(extra=paddle.nn.Linear(2, 2)), "weights:extra.weight"),
        (lambda: PaddleNet(fc=paddle.nn.Linear(5, 7)), "weights:fc.weight"),
        (
            lambda: PaddleNet(conv2=paddle.nn.Conv2D(6, 7, 3, padding=1)),
            "weights:conv2.weight",
        ),
        (lambda: PaddleNet(bn=paddle.nn.Identity()), "weights:bn.weight"),
    ],
    ids=["missing", "extra", "misshapen", "misshapen so that the next layer raises", "no layer"],
)
def test_transfer_that_does_not_fit_fails_the_weights_step(make, first):
    assert align(small_pair(make)).first_divergence == first


def test_misfit_is_named_by_a_step_that_runs_alone_and_raises():
    pair = small_pair(lambda: PaddleNet(conv2=paddle.nn.Conv2D(6, 7, 3, padding=1)))
    report = align(pair, ["backward"])
    assert report.first_divergence == "weights:conv2.weight"


def test_weights_of_another_dtype_do_not_fit():
    report = align(small_pair(torch_model=lambda: seeded_torch_net().double()), ["weights"])
    failed = step(report, "weights").tensors[0]
    assert failed.reason == "dtype float32 where float64 is expected"


def test_convert_that_raises_fails_the_weights_step():
    convert = {"fc.weight": (["fc.weight"], lambda array: array @ np.ones((99, 1)))}
    report = align(small_pair(convert=convert))
    assert report.first_divergence == "weights:fc.weight"
    reasons = {t.name: t.reason for t in step(report, "weights").tensors if not t}
    assert list(reasons) == ["fc.weight"]
    assert reasons["fc.weight"].startswith("can't be made of torch's: matmul")
