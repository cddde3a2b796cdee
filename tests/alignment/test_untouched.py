"""`align` leaves the process and the models as it found them, but for the transfer."""

from __future__ import annotations

import random

import numpy as np
import paddle
import pytest
import torch

from alignment import AlignmentError, align
from alignment.weights.models import paddle_state, torch_state
from tests.alignment.small import (
    PaddleNet,
    Through,
    TorchNet,
    paddle_loss,
    seeded_torch_net,
    small_pair,
    torch_loss,
)


def state_of_the_process() -> list[bytes]:
    paddle_states = [state.current_seed() for state in paddle.get_rng_state()]
    return [
        repr(random.getstate()).encode(),
        np.random.get_state()[1].tobytes() + bytes(np.random.get_state()[2]),
        torch.get_rng_state().numpy().tobytes(),
        repr(paddle_states).encode(),
        f"{torch.get_default_dtype()} {paddle.get_default_dtype()}".encode(),
        paddle.device.get_device().encode(),
        f"{torch.is_grad_enabled()} {paddle.is_grad_enabled()}".encode(),
    ]


def noisy(paddle_model=PaddleNet, **changes):
    """A pair that draws from every generator on the way."""

    def torch_model():
        random.random()
        np.random.rand()
        torch.rand(3)
        TorchNet()
        return seeded_torch_net()

    def drawing(function, draw):
        def loss(*args):
            draw(3), random.random(), np.random.rand()
            return function(*args)

        return loss

    return small_pair(
        paddle_model,
        **{
            "torch_model": torch_model,
            "torch_loss": drawing(torch_loss, torch.rand),
            "paddle_loss": drawing(paddle_loss, lambda n: paddle.rand([n])),
        }
        | changes,
    )


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_random_states_dtypes_and_device_stay(mode):
    before = state_of_the_process()
    paddle_before = paddle.get_rng_state()
    assert align(noisy(mode=mode))
    assert state_of_the_process() == before
    drawn = paddle.rand([4]).numpy()
    paddle.set_rng_state(paddle_before)
    assert np.array_equal(paddle.rand([4]).numpy(), drawn)


def test_random_states_stay_when_a_model_raises():
    before = state_of_the_process()
    with pytest.raises(AlignmentError):
        align(noisy(lambda: PaddleNet(relu1=Through(lambda _x: 1 / 0))))
    assert state_of_the_process() == before


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("training", [True, False])
def test_instances_keep_mode_buffers_gradients_and_torchs_weights(mode, training):
    torch_net, paddle_net = seeded_torch_net(), PaddleNet()
    torch_net.train(training)
    torch_net.conv2.eval()
    (paddle_net.train if training else paddle_net.eval)()
    paddle_net.conv2.eval()
    weights = torch_state(torch_net)
    report = align(small_pair(paddle_net, torch_model=torch_net, mode=mode))
    assert report, str(report)
    after = torch_state(torch_net)
    assert all(np.array_equal(weights[name], after[name]) for name in weights)
    paddle_after = paddle_state(paddle_net)
    assert np.array_equal(paddle_after["conv1.weight"], weights["conv1.weight"])
    assert np.array_equal(paddle_after["bn._mean"], weights["bn.running_mean"])
    assert np.array_equal(paddle_after["bn._variance"], weights["bn.running_var"])
    for net in (torch_net, paddle_net):
        assert (net.training, net.conv1.training, net.conv2.training) == (training, training, False)
        assert all(parameter.grad is None for parameter in net.parameters())
    assert {str(p.dtype) for p in torch_net.parameters()} == {"torch.float32"}
    assert {str(p.dtype) for p in paddle_net.parameters()} == {"paddle.float32"}
    assert not any(m._forward_hooks for m in torch_net.modules())
    assert not any(layer._forward_post_hooks for layer in paddle_net.sublayers())


def test_without_transfer_paddles_weights_stay():
    paddle_net = PaddleNet()
    before = paddle_state(paddle_net)
    assert not align(small_pair(paddle_net, transfer=False))
    after = paddle_state(paddle_net)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_inputs_and_targets_stay():
    pair = small_pair()
    copies = {name: array.copy() for name, array in pair.named_arrays().items()}
    align(pair)
    assert all(np.array_equal(copies[n], array) for n, array in pair.named_arrays().items())


def test_works_where_gradients_are_switched_off_outside():
    with torch.no_grad(), paddle.no_grad():
        report = align(small_pair())
        assert not torch.is_grad_enabled()
        assert not paddle.is_grad_enabled()
    assert report, str(report)


def test_default_dtypes_of_the_caller_do_not_matter():
    paddle.set_default_dtype("float64")
    torch.set_default_dtype(torch.float64)
    try:
        report = align(small_pair())
        assert torch.get_default_dtype() == torch.float64
        assert paddle.get_default_dtype() == "float64"
    finally:
        paddle.set_default_dtype("float32")
        torch.set_default_dtype(torch.float32)
    assert report, str(report)


def test_two_runs_give_the_same_report():
    assert align(small_pair()).steps == align(small_pair()).steps
