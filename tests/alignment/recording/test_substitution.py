"""Tensors in the place of others: one stays one, and what a layer changed is written back."""

from __future__ import annotations

import paddle
import pytest
import torch

from alignment.paddle_side.tensors import PADDLE
from alignment.recording.nested import flatten
from alignment.recording.substitution import (
    CallArguments,
    substitute_inputs,
    substitute_outputs,
)
from alignment.torch_side.tensors import TORCH

SIDES = {"torch": (TORCH, torch.ones), "paddle": (PADDLE, paddle.ones)}


@pytest.fixture(params=SIDES)
def side(request):
    return SIDES[request.param]


def plus(ops, tensors, value):
    return [ops.clone(tensor) + value for tensor in tensors]


def values(ops, *tensors):
    return [float(ops.to_array(tensor).ravel()[0]) for tensor in tensors]


def test_tensor_that_stands_three_times_is_one_before_and_after(side):
    ops, ones = side
    x, y = ones([2]), ones([2]) * 5
    arguments = CallArguments((x, [y, x]), {"key": x, "flag": True}, ops)
    assert arguments.positions == [0, 1, 0, 0]
    substituted, (args, kwargs) = substitute_inputs(
        arguments, plus(ops, arguments.distinct, 10), ops
    )
    assert args[0] is args[1][1] is kwargs["key"] is substituted.substitutes[0]
    assert kwargs["flag"] is True
    assert values(ops, args[0], args[1][0]) == [11, 15]
    assert values(ops, x, y) == [1, 5]


def test_output_under_two_names_is_asked_for_once_by_the_first(side):
    ops, ones = side
    output = {"a": ones([1]), "b": None}
    output["c"] = (output["a"], ones([1]) * 2)
    asked = []

    def negative(named):
        asked.extend(name for name, _ in named)
        return [-tensor for _, tensor in named]

    named = list(flatten(output, ops.is_tensor, "call"))
    replaced = substitute_outputs(output, named, negative, ops)
    assert asked == ["call.a", "call.c[1]"]
    assert replaced["a"] is replaced["c"][0]
    assert values(ops, *[tensor for _, tensor in flatten(replaced, ops.is_tensor)]) == [-1, -1, -2]
    assert values(ops, output["a"]) == [1]


def run(ops, tensor, layer, value):
    """Call a layer that is given and gives other tensors; what stands for its output."""
    arguments = CallArguments((tensor,), {}, ops)
    inputs, (args, _) = substitute_inputs(arguments, plus(ops, arguments.distinct, 10), ops)
    output = layer(*args)
    named = list(flatten(output, ops.is_tensor, "call"))
    return substitute_outputs(output, named, lambda _: [ops.clone(tensor) * 0 + value], ops, inputs)


def test_layer_that_works_in_place_and_returns_its_input_does_so_still(side):
    ops, ones = side
    tensor = ones([2])
    output = run(ops, tensor, lambda x: x.add_(x), 7.0)
    assert output is tensor, "the code around it may go on with what it gave"
    assert values(ops, tensor) == [7]


def test_layer_that_changes_its_input_and_returns_another_tensor(side):
    ops, ones = side
    tensor = ones([2])

    def layer(x):
        x.add_(x)
        return x * 3

    output = run(ops, tensor, layer, 7.0)
    assert output is not tensor
    assert values(ops, tensor, output) == [22, 7]


def test_layer_that_changes_nothing_leaves_its_input(side):
    ops, ones = side
    tensor = ones([2])
    assert values(ops, run(ops, tensor, lambda x: x * 3, 7.0), tensor) == [7, 1]
