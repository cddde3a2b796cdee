"""The calls of layers: names, nesting, hooks, and which call is which on the other side."""

from __future__ import annotations

import difflib
import gc
import weakref
from collections import Counter

import numpy as np
import paddle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.paddle_side.layerwise import watch_paddle
from alignment.recording.calls import CallTree, layer_of, match_calls
from alignment.torch_side.layerwise import watch_torch
from tests.alignment.twins import PADDLE, TORCH, PaddleTwin, TorchTwin


class Side:
    """One framework, so that each test runs on both."""

    def __init__(self, nn, twin, watch, tensor):
        self.nn, self.twin, self.watch, self.tensor = nn, twin, watch, tensor

    def net(self, forward, **layers):
        return self.twin(forward, lambda _nn: layers)

    def x(self):
        return self.tensor(np.ones((2, 4), np.float32))


SIDES = [
    Side(TORCH, TorchTwin, watch_torch, torch.from_numpy),
    Side(PADDLE, PaddleTwin, watch_paddle, paddle.to_tensor),
]


@pytest.fixture(params=SIDES, ids=["torch", "paddle"])
def side(request):
    return request.param


def hooks(net) -> int:
    """How many forward hooks there are on all layers."""
    if isinstance(net, torch.nn.Module):
        return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.modules())
    layers = net.sublayers(include_self=True)
    return sum(len(one._forward_pre_hooks) + len(one._forward_post_hooks) for one in layers)


def test_calls_are_named_counted_and_nested(side):
    nn = side.nn
    block = side.net(lambda net, x: net.act(net.fc(net.act(x))), fc=nn.linear(4, 4), act=nn.relu())
    net = side.net(
        lambda net, x: net.block(net.block(net.stem(x))),
        unused=nn.linear(2, 2),
        block=block,
        stem=nn.sequential(nn.linear(4, 4)),
    )
    with side.watch(net, {}) as watch:
        net(side.x())
    assert watch.tree.parents == {
        "stem": "",
        "stem.0": "stem",
        "block": "",
        "block.act": "block",
        "block.fc": "block",
        "block.act#2": "block",
        "block#2": "",
        "block.act#3": "block#2",
        "block.fc#2": "block#2",
        "block.act#4": "block#2",
    }
    assert list(watch.tree.parents)[:3] == ["stem", "stem.0", "block"]
    assert watch.tree.not_called == ["unused"]


def test_layer_under_two_names_goes_by_the_first(side):
    act = side.nn.relu()
    net = side.net(lambda net, x: net.second(net.first(x)), first=act, second=act)
    with side.watch(net, {}) as watch:
        net(side.x())
    assert list(watch.tree.parents) == ["first", "first#2"]
    assert watch.tree.not_called == []


def test_names_are_those_after_rename(side):
    net = side.net(lambda net, x: net.block1(x), block1=side.nn.sequential(side.nn.relu()))
    with side.watch(net, {r"^block(\d)": r"blocks.\1", r"blocks\.1": "b"}) as watch:
        net(side.x())
    assert watch.tree.parents == {"b": "", "b.0": "b"}


def test_what_the_callbacks_give_takes_the_place_of_arguments_and_output(side):
    net = side.net(lambda net, x: net.twice(x), twice=side.nn.function(lambda x: 2 * x))
    told = []

    def begin(call, layer, args, kwargs):
        told.append(("begin", call, layer is net.twice))
        return (args[0] + 10,), kwargs

    def end(call, layer, output):
        told.append(("end", call, layer is net.twice))
        return output + 0.5

    with side.watch(net, {}, begin, end):
        changed = net(side.x())
    assert float(changed[0, 0]) == 22.5
    assert told == [("begin", "twice", True), ("end", "twice", True)]
    assert float(net(side.x())[0, 0]) == 2


def test_arguments_by_keyword_are_told(side):
    net = side.net(lambda net, x: net.scale(x, by=net.nn.zeros_like(x)), scale=Scaled(side).layer())
    told = {}

    def begin(call, _layer, args, kwargs):
        told[call] = (len(args), list(kwargs))

    with side.watch(net, {}, begin):
        net(side.x())
    assert told == {"scale": (1, ["by"])}


class Scaled:
    """A layer with an argument that is given by name."""

    def __init__(self, side):
        self.side = side

    def layer(self):
        base = torch.nn.Module if self.side.nn is TORCH else paddle.nn.Layer

        class Layer(base):
            def forward(self, x, by):
                return x * by

        return Layer()


def test_paused_watch_neither_counts_nor_tells(side):
    net = side.net(lambda net, x: net.b(net.a(x)), a=side.nn.relu(), b=side.nn.relu())
    told = []

    def begin(call, layer, args, kwargs):
        told.append(call)
        watch.paused = True
        layer(*args, **kwargs)
        watch.paused = False

    with side.watch(net, {}, begin, lambda call, *_: told.append(call)) as watch:
        net(side.x())
    assert told == ["a", "a", "b", "b"]
    assert list(watch.tree.parents) == ["a", "b"]


def test_hooks_are_gone_after_the_run_and_after_an_error(side):
    def broken(_x):
        raise ValueError("no")

    net = side.net(lambda net, x: net.b(net.a(x)), a=side.nn.relu(), b=side.nn.function(broken))
    watch = side.watch(net, {}, lambda *_: counts.append(hooks(net)))
    counts = []
    with pytest.raises(ValueError, match="no"), watch:
        net(side.x())
    assert counts == [4, 4]
    assert hooks(net) == 0
    assert watch.tree.parents == {"a": "", "b": ""}
    assert watch.tree.not_called == []


def test_layer_that_raises_and_is_caught_takes_no_other_calls_name(side):
    """The block that had tried it was told to have ended under its name."""

    def broken(_x):
        raise ValueError("no")

    def trying(net, x):
        try:
            return net.fast(x)
        except ValueError:
            return net.slow(x)

    nn, ended = side.nn, []
    block = side.net(trying, fast=nn.function(broken), slow=nn.relu())
    net = side.net(lambda net, x: net.after(net.block(x)), block=block, after=nn.relu())
    with side.watch(net, {}, None, lambda call, *_: ended.append(call)) as watch:
        net(side.x())
    assert ended == ["block.slow", "block", "after"]
    assert watch.tree.parents["after"] == ""


def test_users_own_hooks_stay_and_count_as_part_of_the_layer(side):
    net = side.net(lambda net, x: net.act(x), act=side.nn.relu())
    if side.nn is TORCH:
        net.act.register_forward_pre_hook(lambda _m, args: (args[0] - 3,))
        net.act.register_forward_hook(lambda _m, _args, output: output + 7)
    else:
        net.act.register_forward_pre_hook(lambda _m, args: (args[0] - 3,))
        net.act.register_forward_post_hook(lambda _m, _args, output: output + 7)
    seen = {}

    def begin(call, _layer, args, _kwargs):
        seen[f"given {call}"] = float(args[0][0, 0])

    def end(call, _layer, output):
        seen[f"gave {call}"] = float(output[0, 0])

    with side.watch(net, {}, begin, end):
        net(side.x())
    assert seen == {"given act": 1, "gave act": 7}
    assert hooks(net) == 2
    assert float(net(side.x())[0, 0]) == 7


def test_finest_of_a_tree():
    tree = CallTree({"a": "", "a.0": "a", "a.0.x": "a.0", "a.1": "a", "b": "", "a#2": ""})
    assert tree.finest(tree.parents) == ["a.0.x", "a.1", "b", "a#2"]
    assert tree.finest(["a", "a.0", "b"]) == ["a.0", "b"]
    assert tree.finest(["b", "a"]) == ["a", "b"], "in the order of the calls"
    assert tree.finest(["a", "a.0.x"]) == ["a.0.x"], "a level may be left out"
    assert tree.finest(["unknown", "b"]) == ["b"]
    assert tree.finest([]) == []


# Matching --------------------------------------------------------------------------------------


def test_equal_sequences_match_call_by_call():
    calls = ["conv", "relu", "conv#2", "relu#2"]
    assert match_calls(calls, calls) == {call: call for call in calls}


BLOCK = ["conv1", "bn1", "relu", "conv2", "bn2", "relu#2", "conv3", "bn3", "relu#3"]


def without(calls, missing):
    """The calls when one is not made: those of its layer after it are counted anew."""
    return numbered([layer_of(call) for call in calls if call != missing])


def numbered(layers):
    counts = Counter()
    calls = []
    for layer in layers:
        counts[layer] += 1
        calls.append(layer if counts[layer] == 1 else f"{layer}#{counts[layer]}")
    return calls


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("relu", {"relu": "relu#2", "relu#2": "relu#3"}),
        ("relu#2", {"relu": "relu", "relu#2": "relu#3"}),
        ("relu#3", {"relu": "relu", "relu#2": "relu#2"}),
    ],
)
def test_missing_call_of_a_shared_layer_moves_no_other(missing, expected):
    matched = match_calls(BLOCK, without(BLOCK, missing))
    assert {ours: theirs for ours, theirs in matched.items() if "relu" in ours} == expected
    others = [call for call in BLOCK if "relu" not in call]
    assert all(matched[call] == call for call in others)
    assert len(matched) == 8


def test_doubled_call_of_a_shared_layer_is_the_one_without_counterpart():
    ours = numbered([*map(layer_of, BLOCK[:3]), "relu", *map(layer_of, BLOCK[3:])])
    matched = match_calls(BLOCK, ours)
    assert len(matched) == len(BLOCK)
    assert matched["relu#3"] == "relu#2"
    assert matched["relu#4"] == "relu#3"
    assert sum(call in matched for call in ("relu", "relu#2")) == 1


def test_branches_that_run_in_another_order_match_by_name():
    left, right = ["left.a", "left.b"], ["right.a", "right.b"]
    calls = ["stem", *left, *right, "head"]
    ours = ["stem", *right, *left, "head"]
    assert match_calls(calls, ours) == {call: call for call in ours}


def test_layers_of_one_side_have_no_counterpart():
    assert match_calls(["a", "b"], ["a", "c"]) == {"a": "a"}
    assert match_calls([], ["a"]) == {}
    assert match_calls(["a"], []) == {}


def test_call_that_is_missing_where_branches_are_reordered_too():
    theirs = ["a", "act", "b", "act#2", "c", "act#3"]
    ours = ["b", "act", "a", "c", "act#2"]  # a's activation is missing, and b runs before a
    matched = match_calls(theirs, ours)
    assert matched["act"] == "act#2"
    assert matched["act#2"] == "act#3"


sequences = st.lists(st.sampled_from("abcd"), max_size=12).map(numbered)


@given(sequences)
@settings(max_examples=100, deadline=None)
def test_matching_equal_sequences_is_the_identity(calls):
    assert match_calls(calls, calls) == {call: call for call in calls}


@given(sequences, sequences)
@settings(max_examples=300, deadline=None)
def test_matching_is_one_to_one_between_calls_of_the_same_layer(theirs, ours):
    matched = match_calls(theirs, ours)
    assert set(matched) <= set(ours)
    assert set(matched.values()) <= set(theirs)
    assert len(set(matched.values())) == len(matched), "one to one"
    assert all(layer_of(own) == layer_of(their) for own, their in matched.items())
    assert list(matched) == [call for call in ours if call in matched], "in order"
    for layer in "abcd":
        of_layer = [their for own, their in matched.items() if layer_of(own) == layer]
        assert of_layer == [call for call in theirs if call in of_layer], "never crossed"


@given(sequences, st.data())
@settings(max_examples=100, deadline=None)
def test_one_missing_call_costs_one_match_at_most(calls, data):
    if not calls:
        return
    missing = data.draw(st.sampled_from(calls))
    ours = without(calls, missing)
    matched = match_calls(calls, ours)
    blocks = difflib.SequenceMatcher(
        None, [layer_of(c) for c in calls], [layer_of(c) for c in ours], autojunk=False
    ).get_matching_blocks()
    assert len(matched) >= sum(block.size for block in blocks)
    assert all(matched[call] == call for call in ours if layer_of(call) != layer_of(missing))


def test_a_watch_that_is_over_does_not_keep_the_model(side):
    """Models stayed in memory until the garbage collector ran: half a GiB more at the peak."""

    class Told:
        def __init__(self, net):
            self.watch = side.watch(net, {}, on_end=self.end)

        def end(self, *_call):
            return None

    net = side.net(lambda net, x: net.fc(x), fc=side.nn.linear(4, 4))
    layer, told = weakref.ref(net.fc), Told(net)
    gc.disable()
    try:
        with told.watch:
            net(side.x())
        assert list(told.watch.tree.parents) == ["fc"]
        del net
        assert layer() is None
    finally:
        gc.enable()
