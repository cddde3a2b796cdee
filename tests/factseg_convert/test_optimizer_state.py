"""Three steps in one framework, the state converted, three in the other: six in one."""

import copy

import pytest

from factseg_convert.optimizer_layout import scheduler_to_torch, to_paddle, to_torch
from factseg_paddle.optimizers.state import load_optimizer_state, optimizer_state
from tests.factseg_convert.optimizers import (
    OPTIMIZERS,
    carry_to_torch,
    difference,
    maps_of,
    paddle_net,
    paddle_optimizer,
    torch_net,
    torch_optimizer,
    train_paddle,
    train_torch,
)

# Seen: 7.4e-14 at most, mostly of the eps of BatchNorm, which Paddle keeps as float32.
SAME = 1e-12


@pytest.fixture(params=list(OPTIMIZERS))
def name(request):
    return request.param


def six_torch_steps(name):
    net = torch_net()
    train_torch(net, *torch_optimizer(name, net), range(6))
    return net


def spoil(name, layer):
    """An optimizer in a state that no other test would lead to, on weights that are kept."""
    kept = {key: value.numpy() for key, value in layer.state_dict().items()}
    optimizer, scheduler = paddle_optimizer(name, layer)
    train_paddle(layer, optimizer, scheduler, range(100, 108))
    for key, value in layer.state_dict().items():
        value.set_value(kept[key])
    return optimizer, scheduler


def test_three_steps_in_torch_and_three_in_paddle_are_six(name):
    net = torch_net()
    optimizer, scheduler = torch_optimizer(name, net)
    train_torch(net, optimizer, scheduler, range(3))
    state = to_paddle(
        optimizer.state_dict(), *maps_of(net)[:2], step=3, scheduler=scheduler.state_dict()
    )
    assert (state["type"], state["step"]) == (OPTIMIZERS[name][0], 3)
    layer = paddle_net(like=net)
    ours, our_scheduler = spoil(name, layer)
    load_optimizer_state(layer, ours, state)
    train_paddle(layer, ours, our_scheduler, range(3, 6))
    assert difference(layer, six_torch_steps(name)) < SAME


def test_three_steps_in_paddle_and_three_in_torch_are_six(name):
    net = torch_net()
    layer = paddle_net(like=net)
    optimizer, scheduler = paddle_optimizer(name, layer)
    train_paddle(layer, optimizer, scheduler, range(3))
    state = optimizer_state(layer, optimizer, 3)
    carry_to_torch(layer, net)
    theirs, their_scheduler = torch_optimizer(name, copy.deepcopy(net))
    train_torch(torch_net(), theirs, their_scheduler, range(2))  # not to start from nothing
    theirs, their_scheduler = torch_optimizer(name, net)
    for group in theirs.param_groups:
        group["lr"] = 123.0
    theirs.load_state_dict(to_torch(state, maps_of(net)[0], maps_of(net)[2]))
    their_scheduler.load_state_dict(scheduler_to_torch(state))
    train_torch(net, theirs, their_scheduler, range(3, 6))
    six = paddle_net(like=torch_net())
    train_paddle(six, *paddle_optimizer(name, six), range(6))
    assert difference(six, net) < SAME
    assert difference(six, six_torch_steps(name)) < SAME
