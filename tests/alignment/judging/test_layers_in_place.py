"""Layers and code that work in place, on either side."""

from __future__ import annotations

import pytest

from tests.alignment.twins import first_divergence, passes, twins, two_linear


def used_again(net, x):
    x = net.a(x)
    y = net.act(x)
    return net.b(y) + net.c(x)  # an in-place activation has changed x


def three(act):
    return lambda nn: two_linear(nn) | {"c": nn.linear(4, 4), "act": act(nn)}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_input_of_an_in_place_layer_is_used_again(mode):
    passes(twins(used_again, three(lambda nn: nn.relu_in_place()), mode=mode))


def test_out_of_place_layer_that_is_written_correctly_passes():
    def written(net, x):
        x = net.act(net.a(x))
        return net.b(x) + net.c(x)

    pair = twins(
        used_again,
        three(lambda nn: nn.relu_in_place()),
        fault=written,
        parts=lambda nn: {"act": nn.relu()},
    )
    passes(pair)


def test_out_of_place_layer_where_the_input_is_used_again_names_its_user():
    place = first_divergence(
        used_again,
        three(lambda nn: nn.relu_in_place()),
        parts=lambda nn: {"act": nn.relu()},
    )
    assert place == "act -> c"


def test_in_place_layer_where_torchs_is_not_names_its_user():
    place = first_divergence(
        used_again,
        three(lambda nn: nn.relu()),
        parts=lambda nn: {"act": nn.relu_in_place()},
    )
    assert place == "a -> c"


def test_in_place_layer_on_a_part_of_a_tensor():
    def forward(net, x):
        x = net.a(x)
        net.act(x[:, :2])
        return net.b(x)

    def written(net, x):
        x = net.a(x)
        return net.b(net.nn.cat([net.act(x[:, :2]), x[:, 2:]], 1))

    pair = twins(
        forward,
        lambda nn: two_linear(nn) | {"act": nn.relu_in_place()},
        fault=written,
        parts=lambda nn: {"act": nn.relu()},
    )
    passes(pair)


def test_functional_in_place_code_between_layers():
    def forward(net, x):
        x = net.a(x)
        x += 1
        return net.b(x)

    def wrong(net, x):
        x = net.a(x)
        x += 2
        return net.b(x)

    passes(twins(forward, two_linear))
    assert first_divergence(forward, two_linear, fault=wrong) == "a -> b"
