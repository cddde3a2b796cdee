"""Faults at parameters: frozen, doubled, used outside of layers, other values."""

from __future__ import annotations

import dataclasses

import numpy as np
import paddle
import pytest
import torch

from alignment import align
from tests.alignment.small import failed_names, step
from tests.alignment.twins import TORCH, doubled, first_divergence, passes, twins, two_linear


def freeze(name):
    def change(net):
        dict(net.named_parameters())[name].stop_gradient = True

    return change


def double_gradient(name):
    def change(net):
        dict(net.named_parameters())[name].register_hook(lambda gradient: gradient * 2)

    return change


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("change", [freeze, double_gradient])
@pytest.mark.parametrize("name", ["a.weight", "b.bias"])
def test_fault_at_a_parameter_names_its_gradient(change, name, mode):
    pair = twins(lambda net, x: net.b(net.a(x)), two_linear, change=change(name), mode=mode)
    report = align(pair)
    assert step(report, "forward")
    assert report.first_divergence == f"grad:{name}"
    assert failed_names(report, "backward") == {name}


def test_gradient_of_a_layers_input_alone():
    """Its output and its parameters' gradients are right."""

    class WrongBack(paddle.nn.Linear):
        def forward(self, x):
            return super().forward(doubled(x))

    place = first_divergence(
        lambda net, x: net.b(net.a(x)),
        two_linear,
        parts=lambda _nn: {"b": WrongBack(4, 4)},
    )
    assert place == "b"


def with_position(net, x):
    return net.b(net.a(x) + net.position)


def positioned(nn):
    """Layers, and a parameter of the net itself."""
    if nn is TORCH:
        return two_linear(nn) | {"position": torch.nn.Parameter(torch.zeros(4))}
    return two_linear(nn) | {"position": paddle.create_parameter([4], "float32")}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_parameter_used_in_functional_code(mode):
    report = passes(twins(with_position, positioned, mode=mode))
    assert "position" in {t.name for t in step(report, "backward").tensors}
    place = first_divergence(
        with_position,
        positioned,
        fault=lambda net, x: net.b(net.a(x) + net.position.detach()),
        mode=mode,
    )
    assert place == "grad:position"
    place = first_divergence(
        with_position, positioned, fault=lambda net, x: net.b(net.a(x)), mode=mode
    )
    assert place == "a -> b"


IDS = np.array([[1, 5, 2], [0, 3, 3]])


def tied(net, ids):
    x = net.b(net.emb(ids))
    weight = net.emb.weight
    return net.nn.matmul(x, weight.T)


def tied_layers(nn):
    return {"emb": nn.embedding(6, 4), "b": nn.linear(4, 4)}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_output_tied_to_the_embedding(mode):
    passes(twins(tied, tied_layers, IDS, mode=mode))

    def detached(net, ids):
        return net.nn.matmul(net.b(net.emb(ids)), net.emb.weight.detach().T)

    assert first_divergence(tied, tied_layers, IDS, fault=detached, mode=mode) == "grad:emb.weight"


def test_weights_that_differ_are_named_where_forward_runs_alone():
    pair = twins(lambda net, x: net.b(net.a(x)), two_linear)
    torch_net, paddle_net = pair.torch_model(), pair.paddle_model()
    pair = dataclasses.replace(pair, torch_model=torch_net, paddle_model=paddle_net)
    align(pair, ["weights"])
    pair = dataclasses.replace(pair, transfer=False)
    assert align(pair, ["forward"])
    paddle_net.b.bias.set_value(paddle_net.b.bias + 0.1)
    report = align(pair, ["forward"])
    assert [one.step for one in report.steps] == ["forward"]
    assert report.first_divergence == "weights:b.bias"
