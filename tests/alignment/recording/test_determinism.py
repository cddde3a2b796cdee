"""Randomness is found, its side and its place are named, and nothing else is taken for it."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
import torch

from alignment import align
from tests.alignment.small import images, step
from tests.alignment.test_untouched import state_of_the_process
from tests.alignment.twins import first_divergence, passes, twins, two_linear

X = images((8, 4))


def in_order(net, x):
    return net.b(net.drop(net.a(x)))


def dropping(p):
    return lambda nn: two_linear(nn) | {"drop": nn.dropout(p)}


def identity(nn):
    return two_linear(nn) | {"drop": nn.function(lambda x: x * 1)}


def with_random(torch_is, paddle_is):
    def layers(nn):
        is_torch = nn.linear is torch.nn.Linear
        if torch_is if is_torch else paddle_is:
            drop = nn.function(lambda x: nn.f.dropout(x, 0.5, training=True))
        else:
            drop = nn.function(lambda x: x * 1)
        return two_linear(nn) | {"drop": drop}

    return layers


SIDES = {
    "torch": (True, False, {"torch"}),
    "Paddle": (False, True, {"Paddle"}),
    "both": (True, True, {"torch", "Paddle"}),
}


def random_reasons(report, name="forward"):
    return {
        t.reason.partition(" ")[0]: str(t.location)
        for t in step(report, name).tensors
        if "another value each time that it runs" in t.reason
    }


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_random_layer_is_named_with_its_side(sides, mode):
    *random, expected = SIDES[sides]
    report = align(twins(in_order, with_random(*random), X, mode=mode))
    assert report.first_divergence == "drop"
    assert random_reasons(report) == dict.fromkeys(expected, "drop")
    reasons = {t.reason for t in step(report, "forward").tensors if not t}
    assert any("dropout, or a random operation" in reason for reason in reasons)


def test_dropout_of_both_sides_in_training_mode():
    passes(twins(in_order, dropping(0.5), X))
    report = align(twins(in_order, dropping(0.5), X, mode="train"))
    assert random_reasons(report) == {"torch": "drop", "Paddle": "drop"}
    passes(twins(in_order, dropping(0.0), X, mode="train"))


def test_dropout_that_one_side_lacks_in_training_mode():
    report = align(twins(in_order, dropping(0.5), X, parts=identity, mode="train"))
    assert random_reasons(report) == {"torch": "drop"}
    report = align(twins(in_order, identity, X, parts=dropping(0.5), mode="train"))
    assert random_reasons(report) == {"Paddle": "drop"}


PLACES = {
    "in front of the first layer": (lambda net, x, drop: net.b(net.a(drop(x))), "inputs[0] -> a"),
    "between two layers": (lambda net, x, drop: net.b(drop(net.a(x))), "a -> b"),
    "behind the last layer": (lambda net, x, drop: drop(net.b(net.a(x))), "forward:output"),
}
OPERATIONS = {
    "dropout": lambda net: lambda x: net.nn.drop(x),
    "noise": lambda net: lambda x: x + 0.1 * net.nn.rand_like(x),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("sides", SIDES)
def test_random_functional_code_is_named_by_the_layers_around_it(place, operation, sides):
    forward, expected = PLACES[place]
    in_torch, in_paddle, names = SIDES[sides]

    def run(net, x):
        is_torch = isinstance(net, torch.nn.Module)
        random = in_torch if is_torch else in_paddle
        return forward(net, x, OPERATIONS[operation](net) if random else lambda x: x)

    report = align(twins(run, two_linear, X))
    assert report.first_divergence == expected
    assert random_reasons(report) == dict.fromkeys(names, expected)


def test_small_randomness_is_found():
    report = align(
        twins(
            in_order,
            identity,
            X,
            parts=lambda nn: {"drop": nn.function(lambda x: x * (1 + 1e-5 * nn.rand_like(x)))},
        )
    )
    assert random_reasons(report) == {"Paddle": "drop"}


def test_random_layer_inside_of_a_block():
    def layers(nn):
        return {"block": nn.sequential(nn.linear(4, 4), nn.dropout(0.5), nn.linear(4, 4))}

    report = align(twins(lambda net, x: net.block(x), layers, X, mode="train"))
    assert report.first_divergence == "block.1"
    assert random_reasons(report) == {"torch": "block.1", "Paddle": "block.1"}


def test_second_call_alone_is_random():
    class Second(torch.nn.Module):
        """Random from its second call on."""

        def __init__(self):
            super().__init__()
            self.count = 0

        def forward(self, x):
            self.count += 1
            return x * torch.rand_like(x) if self.count > 1 else x * 1

    def layers(nn):
        is_torch = nn.linear is torch.nn.Linear
        return two_linear(nn) | {"drop": Second() if is_torch else nn.function(lambda x: x * 1)}

    report = align(twins(lambda net, x: net.b(net.drop(net.a(net.drop(x)))), layers, X))
    assert random_reasons(report) == {"torch": "drop#2"}


@pytest.mark.parametrize("steps", [["forward"], ["loss"], ["backward"]])
def test_randomness_is_said_in_the_first_step_that_runs(steps):
    report = align(twins(in_order, with_random(True, True), X), steps)
    assert set(random_reasons(report, steps[0])) == {"torch", "Paddle"}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_deterministic_nets_are_not_random(mode):
    def layers(nn):
        return {"a": nn.conv(3, 4), "bn": nn.bn(4), "act": nn.relu_in_place(), "b": nn.conv(4, 2)}

    def forward(net, x):
        return net.b(net.act(net.bn(net.a(x))))

    report = passes(twins(forward, layers, images((2, 3, 6, 6)), mode=mode))
    assert not random_reasons(report)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_random(value):
    def spoilt(nn):
        mask = (
            (lambda x: x.where(x < 0.1, x * 0 + value))
            if nn.linear is torch.nn.Linear
            else (lambda x: paddle.where(x < 0.1, x, x * 0 + value))
        )
        return two_linear(nn) | {"drop": nn.function(mask)}

    def forward(net, x):
        return net.drop(net.a(x))

    report = align(twins(forward, spoilt, X), ["forward"])
    assert not random_reasons(report)
    assert report, str(report)


def test_layer_that_counts_its_calls_is_not_taken_for_random_code():
    """Another value in each call of one run, the same in each run."""

    def counting(nn):
        count = []

        def scaled(x):
            count.append(1)
            return x * len(count)

        return nn.function(scaled)

    def layers(nn):
        return two_linear(nn) | {"drop": counting(nn)}

    report = align(twins(lambda net, x: net.b(net.drop(net.a(net.drop(x)))), layers, X))
    assert not random_reasons(report)
    assert report, str(report)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_random_states_stay_as_found(mode):
    before, paddle_before = state_of_the_process(), paddle.get_rng_state()
    align(twins(in_order, with_random(True, True), X, mode=mode))
    assert state_of_the_process() == before
    drawn = paddle.rand([4]).numpy()
    paddle.set_rng_state(paddle_before)
    assert np.array_equal(paddle.rand([4]).numpy(), drawn)


def test_seeded_random_code_is_not_random():
    """A model that draws from a generator of its own is the same each time, and may be equal."""
    noise = np.random.default_rng(3).normal(size=(8, 4)).astype(np.float32)

    def forward(net, x):
        drawn = net.nn.tensor(noise)
        drawn = drawn.to(x.dtype) if isinstance(x, torch.Tensor) else drawn.astype(x.dtype)
        return net.b(net.a(x) + drawn)

    passes(twins(forward, two_linear, X))
    assert first_divergence(forward, two_linear, X, fault=in_turn) == "a -> b"


def in_turn(net, x):
    return net.b(net.a(x))
