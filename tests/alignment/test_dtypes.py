"""float64 judges where both sides can run in it; float32 decides where it is all there is."""

from __future__ import annotations

import paddle
import paddle.nn.functional as PF
import pytest
import torch

from alignment import Pair, align
from tests.alignment.small import (
    PaddleNet,
    Through,
    TorchFunction,
    end_to_end,
    images,
    seeded_torch_net,
    small_pair,
    step,
    upsampled,
)


def test_every_tensor_is_judged_in_both_dtypes():
    report = align(small_pair())
    assert step(report, "forward").counts == {"passed": 31, "failed": 0, "declared": 0}
    forward = end_to_end(report, "forward")
    assert len(forward) == 16
    assert {tensor.dtype for tensor in forward} == {"float64", "float32"}
    assert forward[0].name == forward[1].name == "conv1"


def test_output_in_another_dtype_fails():
    class Paddle(PaddleNet):
        def forward(self, x):
            return super().forward(x).astype("float64")

    report = align(small_pair(Paddle))
    assert report.first_divergence == "forward:output"
    failed = next(t for t in step(report, "forward").tensors if not t)
    assert failed.reason == "dtype float64 where float32 is expected"


def test_layer_that_can_not_run_in_float64_is_judged_in_float32_and_said_so():
    def single(x):
        if x.dtype != paddle.float32:
            raise ValueError("float32 alone")
        return PF.relu(x)

    report = align(small_pair(lambda: PaddleNet(relu1=Through(single))))
    assert report, str(report)
    for name in ("forward", "loss", "backward"):
        assert {tensor.dtype for tensor in step(report, name).tensors} == {"float32"}
        assert "judged in float32 alone" in step(report, name).notes[0]
        assert "float32 alone" in step(report, name).notes[0]
    assert str(report).count("judged in float32 alone") == 1


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_float32_decides_where_it_is_all_there_is(mode):
    def single(x):
        if x.dtype != paddle.float32:
            raise ValueError("float32 alone")
        return PF.relu(x) * 1.01

    report = align(small_pair(lambda: PaddleNet(relu1=Through(single)), mode=mode))
    assert report.first_divergence == "relu1"


def test_backward_alone_that_can_not_run_in_float64_leaves_forward_its_float64():
    class SingleBackward(paddle.autograd.PyLayer):
        @staticmethod
        def forward(_ctx, x):
            return x.clone()

        @staticmethod
        def backward(_ctx, gradient):
            if gradient.dtype != paddle.float32:
                raise ValueError("float32 alone")
            return gradient.clone()

    report = align(
        small_pair(lambda: PaddleNet(up=Through(lambda x: SingleBackward.apply(upsampled(x)))))
    )
    assert report, str(report)
    assert {t.dtype for t in step(report, "forward").tensors} == {"float64", "float32"}
    assert {t.dtype for t in step(report, "backward").tensors} == {"float32"}
    assert not step(report, "forward").notes
    assert "judged in float32 alone" in step(report, "backward").notes[0]


def test_torch_that_can_not_run_in_float64_is_said_too():
    class Single(torch.nn.Module):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise ValueError("float32 alone")
            return x.relu()

    def torch_net():
        net = seeded_torch_net()
        net.relu1 = Single()
        return net

    report = align(small_pair(torch_model=torch_net))
    assert report, str(report)
    assert "judged in float32 alone" in step(report, "forward").notes[0]
    assert not align(small_pair(lambda: PaddleNet(relu1=paddle.nn.GELU()), torch_model=torch_net))


def test_float32_overflow_on_both_sides_is_declared():
    def torch_net():
        net = torch.nn.Linear(4, 4)
        return torch.nn.Sequential(net, TorchFunction(lambda x: torch.exp(x.abs() * 0 + 200) * x))

    def paddle_net():
        net = paddle.nn.Linear(4, 4)
        return paddle.nn.Sequential(net, Through(lambda x: paddle.exp(x.abs() * 0 + 200) * x))

    pair = Pair(
        name="overflow", torch_model=torch_net, paddle_model=paddle_net, inputs=(images((2, 4)),)
    )
    report = align(pair, ["forward"])
    assert report, str(report)
    declared = [t for t in step(report, "forward").tensors if t.status == "declared"]
    assert {t.reason for t in declared} == {"not finite in torch float32 either"}
