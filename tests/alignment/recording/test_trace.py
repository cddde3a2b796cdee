"""What is recorded of a run: names of calls, values when a layer returns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alignment.recording.calls import renamed
from alignment.recording.trace import LayerRecorder, Trace
from alignment.recording.value_key import Kind, ValueKey, lookup_value
from alignment.torch_side.layerwise import watch_torch
from alignment.torch_side.tensors import TORCH


def recorded(model, *inputs, rename=None):
    trace = Trace()
    watch = watch_torch(model, rename or {}, on_end=LayerRecorder(trace, TORCH))
    trace.tree = watch.tree
    with watch, torch.no_grad():
        model(*inputs)
    return trace


class Net(torch.nn.Module):
    def __init__(self, forward, **layers) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


class Function(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_second_call_of_a_layer_has_its_own_name():
    net = Net(lambda self, x: self.halve(self.halve(x)), halve=Function(lambda x: x / 2))
    values = recorded(net, torch.ones(1)).of_kind(Kind.OUTPUT)
    assert {name: float(value[0]) for name, value in values.items()} == {
        "halve": 0.5,
        "halve#2": 0.25,
    }


def test_in_place_activation_does_not_rewrite_what_came_before():
    net = Net(
        lambda self, x: self.relu(self.same(x)),
        same=Function(lambda x: x + 0),
        relu=torch.nn.ReLU(inplace=True),
    )
    values = recorded(net, torch.tensor([-1.0, 1.0])).of_kind(Kind.OUTPUT)
    assert values["same"].tolist() == [-1.0, 1.0]
    assert values["relu"].tolist() == [0.0, 1.0]


def test_container_shares_the_copy_of_its_last_layer():
    net = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    values = recorded(net, torch.ones(1, 2)).of_kind(Kind.OUTPUT)
    assert values["0"] is values["0.0"]


def test_shared_layer_goes_by_its_first_name():
    shared = Function(lambda x: x + 1)
    net = Net(lambda self, x: self.b(self.a(x)), a=shared, b=shared)
    assert list(recorded(net, torch.ones(1)).of_kind(Kind.OUTPUT)) == ["a", "a#2"]


def test_layers_that_are_never_called_are_listed():
    net = Net(lambda self, x: self.a(x), a=torch.nn.ReLU(), b=torch.nn.ReLU())
    assert recorded(net, torch.ones(1)).tree.not_called == ["b"]


def test_several_outputs_of_a_call_know_the_call():
    net = Net(lambda self, x: self.two(x)[0], two=Function(lambda x: (x, {"y": -x})))
    trace = recorded(net, torch.ones(1))
    assert trace.calls == {"two[0]": "two", "two[1].y": "two"}
    assert trace.of_kind(Kind.OUTPUT)["two[1].y"].tolist() == [-1.0]


def test_layer_without_a_tensor_is_no_trouble():
    net = Net(lambda self, x: (self.none(x), x)[1], none=Function(lambda _x: None))
    trace = recorded(net, torch.ones(1))
    assert (trace.values, trace.tree.not_called) == ({}, [])


def test_output_of_unknown_structure_is_said_and_not_read():
    net = Net(lambda self, x: (self.odd(x), x)[1], odd=Function(lambda x: {x}))
    trace = recorded(net, torch.ones(1))
    assert trace.values == {}
    assert trace.unread[0].startswith("odd is a set")


def test_names_are_spelt_as_the_other_side_spells_them():
    net = Net(lambda self, x: self.layers(x), layers=torch.nn.Sequential(torch.nn.ReLU()))
    rename = {r"^layers\.(\d+)$": r"blocks.\1.act", r"^layers$": "blocks"}
    values = recorded(net, torch.ones(1), rename=rename).of_kind(Kind.OUTPUT)
    assert list(values) == ["blocks.0.act", "blocks"]


def test_regexes_apply_one_after_the_other():
    assert renamed("a.b", {"^a": "b", "b": "c"}) == "c.c"
    assert renamed("a.b", {}) == "a.b"


def test_hooks_are_gone_afterwards():
    net = torch.nn.Sequential(torch.nn.ReLU())
    recorded(net, torch.ones(1))
    assert not net[0]._forward_hooks


def test_hooks_are_gone_after_an_error():
    net = torch.nn.Sequential(Function(lambda _x: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        recorded(net, torch.ones(1))
    assert not net[0]._forward_hooks


def test_of_kind_gives_the_names_after_the_kind():
    values = {ValueKey(Kind.OUTPUT, "a"): np.ones(1), ValueKey(Kind.MODEL_OUTPUT, "a"): np.zeros(1)}
    assert Trace(values).of_kind(Kind.MODEL_OUTPUT) == {"a": np.zeros(1)}


@pytest.mark.parametrize("name", ["attn", "attn[0]"])
def test_lone_tensor_stands_for_the_first_of_several(name):
    def output(name):
        return ValueKey(Kind.OUTPUT, name)

    assert lookup_value(output(name), {output("attn[0]"): 1, output("attn[1]"): 2}) == 1
    assert lookup_value(output(name), {output("attn"): 1}) == 1
    assert lookup_value(output("attn[1]"), {output("attn"): 1}) is None
