"""Where a fault is: in a layer, in a call of it, or in the code between two layers."""

from __future__ import annotations

import paddle
import paddle.nn.functional as PF
import pytest

from alignment import align
from tests.alignment.small import images, step
from tests.alignment.twins import (
    TORCH,
    PaddleTwin,
    Scaled,
    TorchTwin,
    doubled,
    first_divergence,
    passes,
    twins,
    two_linear,
)

PICTURES = images((2, 3, 6, 6))


# Code between layers ---------------------------------------------------------------------------

FUNCTIONAL = {
    "in front of the first layer": (
        lambda net, x: net.b(net.a(x)),
        lambda net, x: net.b(net.a(x / 255)),
        "inputs[0] -> a",
    ),
    "between two layers": (
        lambda net, x: net.b(net.a(x) * 2),
        lambda net, x: net.b(net.a(x) * 2.001),
        "a -> b",
    ),
    "residual left out": (
        lambda net, x: net.b(net.a(x) + x),
        lambda net, x: net.b(net.a(x)),
        "a -> b",
    ),
    "behind the last layer": (
        lambda net, x: net.b(net.a(x)) * 2,
        lambda net, x: net.b(net.a(x)),
        "forward:output",
    ),
    "activation left out": (
        lambda net, x: net.b(net.nn.f.relu(net.a(x))),
        lambda net, x: net.b(net.a(x)),
        "a -> b",
    ),
    "detached": (
        lambda net, x: net.b(net.a(x)),
        lambda net, x: net.b(net.a(x).detach()),
        "a -> b",
    ),
    "gradient doubled": (
        lambda net, x: net.b(net.a(x)),
        lambda net, x: net.b(doubled(net.a(x))),
        "a -> b",
    ),
    "gradient doubled behind the last layer": (
        lambda net, x: net.b(net.a(x)) * 2,
        lambda net, x: doubled(net.b(net.a(x)) * 2),
        "b -> output",
    ),
}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("fault", FUNCTIONAL)
def test_fault_in_functional_code_names_the_layers_around_it(fault, mode):
    forward, wrong, place = FUNCTIONAL[fault]
    passes(twins(forward, two_linear, mode=mode))
    assert first_divergence(forward, two_linear, fault=wrong, mode=mode) == place


def test_functional_residual_of_wrong_sign_names_the_last_layer_before_it():
    def layers(nn):
        return two_linear(nn) | {"c": nn.linear(4, 4)}

    def forward(net, x):
        a = net.a(x)
        return net.c(net.b(a) + a)

    def wrong(net, x):
        a = net.a(x)
        return net.c(net.b(a) - a)

    assert first_divergence(forward, layers, fault=wrong) == "b -> c"


def branches(nn):
    return two_linear(nn) | {"c": nn.linear(8, 4)}


def test_concatenation_in_another_order():
    place = first_divergence(
        lambda net, x: net.c(net.nn.cat([net.a(x), net.b(x)], 1)),
        branches,
        fault=lambda net, x: net.c(net.nn.cat([net.b(x), net.a(x)], 1)),
    )
    assert place == "b -> c"


def test_branches_that_run_in_another_order_are_no_fault():
    def forward(net, x):
        left, right = net.a(x), net.b(x)
        return net.c(net.nn.cat([left, right], 1))

    def reordered(net, x):
        right, left = net.b(x), net.a(x)
        return net.c(net.nn.cat([left, right], 1))

    passes(twins(forward, branches, fault=reordered))


def test_two_branches_that_swap_their_inputs():
    def layers(nn):
        return branches(nn) | {"stem": nn.linear(4, 4)}

    def forward(net, x):
        return net.c(net.nn.cat([net.a(net.stem(x)), net.b(x)], 1))

    def swapped(net, x):
        return net.c(net.nn.cat([net.a(x), net.b(net.stem(x))], 1))

    assert first_divergence(forward, layers, fault=swapped) == "stem -> a"


@pytest.mark.parametrize("consumer", ["b", "c"])
@pytest.mark.parametrize(
    "spoilt", [lambda x: x.detach(), doubled, lambda x: Scaled.apply(x, -1.0)],
    ids=["detached", "doubled", "negative"],
)  # fmt: skip
def test_gradient_that_goes_wrong_on_its_way_from_one_of_two_consumers(consumer, spoilt):
    def layers(nn):
        return two_linear(nn) | {"c": nn.linear(4, 4)}

    def forward(net, x):
        x = net.a(x)
        return net.b(x) + net.c(x)

    def wrong(net, x):
        x = net.a(x)
        if consumer == "b":
            return net.b(spoilt(x)) + net.c(x)
        return net.b(x) + net.c(spoilt(x))

    passes(twins(forward, layers))
    assert first_divergence(forward, layers, fault=wrong) == f"a -> {consumer}"


# Calls -----------------------------------------------------------------------------------------


class WrongAt(paddle.nn.Layer):
    """A ReLU that is wrong at one of its calls."""

    def __init__(self, call):
        super().__init__()
        self.call, self.count = call, 0

    def forward(self, x):
        self.count += 1
        return PF.relu(x) * (1.5 if self.count == self.call else 1)


@pytest.mark.parametrize(("call", "place"), [(1, "act"), (2, "act#2"), (3, "act#3")])
def test_fault_in_one_call_of_a_layer_names_the_call(call, place):
    def forward(net, x):
        return net.act(net.b(net.act(net.a(net.act(x)))))

    # Made anew for each run, so that it counts from 0.
    place_found = first_divergence(
        forward,
        lambda nn: two_linear(nn) | {"act": nn.relu()},
        parts=lambda _nn: {"act": WrongAt(call)},
    )
    assert place_found == place


def block(nn):
    layers = {"conv1": nn.conv(3, 3), "bn1": nn.bn(3), "conv2": nn.conv(3, 3), "bn2": nn.bn(3)}
    return layers | {"relu": nn.relu_in_place()}


def block_forward(net, x):
    out = net.relu(net.bn1(net.conv1(x)))
    return net.relu(net.bn2(net.conv2(out)) + x)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        (
            lambda net, x: net.relu(net.bn2(net.conv2(net.bn1(net.conv1(x)))) + x),
            "bn1 -> conv2",
        ),
        (
            lambda net, x: net.bn2(net.conv2(net.relu(net.bn1(net.conv1(x))))) + x,
            "forward:output",
        ),
        (
            lambda net, x: net.relu(
                net.bn2(net.relu(net.conv2(net.relu(net.bn1(net.conv1(x)))))) + x
            ),
            "conv2 -> bn2",
        ),
    ],
    ids=["first missing", "last missing", "one too many"],
)
def test_shared_activation_that_is_missing_or_doubled(wrong, place, mode):
    passes(twins(block_forward, block, PICTURES, mode=mode))
    assert first_divergence(block_forward, block, PICTURES, fault=wrong, mode=mode) == place


@pytest.mark.parametrize("function", ["relu", "sigmoid"])
def test_activation_that_is_called_twice_in_a_row(function):
    """A second ReLU changes no value; on the way back it is seen."""

    def layers(nn):
        return two_linear(nn) | {"act": nn.function(getattr(nn.f, function))}

    pair = twins(
        lambda net, x: net.b(net.act(net.a(x))),
        layers,
        fault=lambda net, x: net.b(net.act(net.act(net.a(x)))),
    )
    report = align(pair)
    assert report.first_divergence == "act -> b"
    assert bool(step(report, "forward")) == (function == "relu")
    assert step(report, "forward").notes == ("called in Paddle only: act#2",)


def test_layer_used_in_the_place_of_its_twin():
    report = align(
        twins(
            lambda net, x: net.b(net.a(x)),
            two_linear,
            fault=lambda net, x: net.a(net.a(x)),
        )
    )
    assert not report
    assert report.first_divergence == "forward:output"
    assert "called in torch only: b" in step(report, "forward").notes[0]


def test_one_layer_under_two_names_where_torch_has_two_differs_in_weights():
    def share(net):
        net.b = net.a

    report = align(twins(lambda net, x: net.b(net.a(x)), two_linear, change=share))
    assert report.first_divergence.startswith("weights:")


def test_layer_that_is_never_called_is_listed():
    report = passes(
        twins(
            lambda net, x: net.b(net.a(x)),
            lambda nn: two_linear(nn) | {"aux": nn.linear(2, 2)},
        )
    )
    assert step(report, "forward").notes == ("never called: aux",)


def test_layer_that_one_side_calls_with_another_number_of_arguments():
    def layers(nn):
        twin = TorchTwin if nn is TORCH else PaddleTwin
        plus = twin(lambda _net, x, y=None: x if y is None else x + y, lambda _nn: {})
        return two_linear(nn) | {"plus": plus}

    report = align(
        twins(
            lambda net, x: net.b(net.plus(net.a(x), x)),
            layers,
            fault=lambda net, x: net.b(net.plus(net.a(x)) + x),
        )
    )
    assert report.first_divergence == "plus", "end to end its output is another"
    assert "called with other arguments than in torch: plus" in step(report, "forward").notes


def test_model_that_catches_what_a_layer_raises():
    def broken(_x):
        raise ValueError("not here")

    def trying(net, x):
        try:
            return net.fast(x)
        except ValueError:
            return net.slow(x)

    def layers(nn):
        twin = TorchTwin if nn is TORCH else PaddleTwin
        parts = {"fast": nn.function(broken), "slow": nn.linear(4, 4)}
        return {"block": twin(trying, lambda _nn: parts), "after": nn.linear(4, 2)}

    def forward(net, x):
        return net.after(net.block(x))

    passes(twins(forward, layers))
    place = first_divergence(forward, layers, fault=lambda net, x: net.after(net.block(x) * 2))
    assert place == "block.slow -> after"


def test_model_that_raises_in_the_middle_names_what_was_wrong_before():
    def forward(net, x):
        return net.b(net.a(x) * 2)

    place = first_divergence(
        forward,
        lambda nn: two_linear(nn) | {"c": nn.linear(4, 4)},
        fault=lambda net, x: net.b(net.a(x * 2).reshape([-1])),
    )
    assert place == "inputs[0] -> a"
