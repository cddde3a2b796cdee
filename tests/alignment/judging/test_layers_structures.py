"""Layers that hand each other tuples, dicts, named tuples and dataclasses."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import paddle
import pytest
import torch

from alignment import align
from tests.alignment.small import images, step
from tests.alignment.twins import (
    TORCH,
    PaddleTwin,
    TorchTwin,
    doubled,
    first_divergence,
    passes,
    twins,
    two_linear,
)

Named = namedtuple("Named", "one two")


@dataclass
class Data:
    one: object
    two: object


@dataclass(frozen=True)
class Frozen:
    one: object
    two: object


STRUCTURES = {
    "tuple": (lambda a, b: (a, b), lambda s: (s[0], s[1])),
    "list": (lambda a, b: [a, b], lambda s: (s[0], s[1])),
    "dict": (lambda a, b: {"one": a, "two": b}, lambda s: (s["one"], s["two"])),
    "ordered dict": (
        lambda a, b: OrderedDict(one=a, two=b),
        lambda s: (s["one"], s["two"]),
    ),
    "named tuple": (Named, lambda s: (s.one, s.two)),
    "dataclass": (Data, lambda s: (s.one, s.two)),
    "frozen dataclass": (Frozen, lambda s: (s.one, s.two)),
    "nested": (lambda a, b: {"x": [a, (b, None)]}, lambda s: (s["x"][0], s["x"][1][0])),
    "with a number": (lambda a, b: (a, 3, "text", b), lambda s: (s[0], s[3])),
}


def twin(nn):
    return TorchTwin if nn is TORCH else PaddleTwin


def structured(make, take, *, spoil=lambda a, b: (a, b), read=lambda a, b: (a, b)):
    """Layers: one gives two tensors in a structure, one takes it."""

    def split(net, x):
        return make(*spoil(net.left(x), net.right(x)))

    def join(net, s):
        left, right = read(*take(s))
        return net.left(left) * net.right(right)

    def layers(nn):
        def parts(nn):
            return {"left": nn.linear(4, 4), "right": nn.linear(4, 4)}

        return {"split": twin(nn)(split, parts), "join": twin(nn)(join, parts)}

    return layers


def in_turn(net, x):
    return net.join(net.split(x))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_structures_between_blocks_pass(structure, mode):
    passes(twins(in_turn, structured(*STRUCTURES[structure]), mode=mode))


FAULTS = {
    "second wrong": ({"spoil": lambda a, b: (a, b * 2)}, "split.right -> join.right"),
    "swapped": ({"spoil": lambda a, b: (b, a)}, "split.left -> join.left"),
    "gradient": ({"read": lambda a, b: (a, doubled(b))}, "split.right -> join.right"),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_on_the_way_through_a_structure(structure, fault):
    make, take = STRUCTURES[structure]
    options, place = FAULTS[fault]
    pair = twins(
        in_turn, structured(make, take), parts=lambda nn: structured(make, take, **options)(nn)
    )
    assert align(pair).first_divergence == place


class Leaf:
    """A layer without parts that gives a structure: it is judged as a whole."""

    @staticmethod
    def layers(make, take, spoil=lambda x: x):
        def layers(nn):
            return {
                "stem": nn.linear(4, 4),
                "leaf": nn.function(lambda x: make(x * 2, spoil(x.sum(1, keepdim=True)))),
                "merge": nn.function(lambda s: take(s)[0] + take(s)[1]),
                "head": nn.linear(4, 2),
            }

        return layers


def through_leaf(net, x):
    return net.head(net.merge(net.leaf(net.stem(x))))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_layer_that_gives_a_structure_is_named_as_a_whole(structure):
    make, take = STRUCTURES[structure]
    layers = Leaf.layers(make, take)
    passes(twins(through_leaf, layers))
    for spoil in (lambda x: x + 1, doubled):
        wrong = Leaf.layers(make, take, spoil)
        assert first_divergence(through_leaf, layers, parts=wrong) == "leaf"


def test_output_that_a_layer_lacks_is_said_and_what_takes_it_is_around_the_fault():
    layers = Leaf.layers(lambda a, b: (a, b), lambda s: (s[0], s[-1]))
    wrong = Leaf.layers(lambda a, _b: (a,), lambda s: (s[0], s[-1]))
    report = align(twins(through_leaf, layers, parts=lambda nn: {"leaf": wrong(nn)["leaf"]}))
    assert report.first_divergence == "merge -> head"
    notes = step(report, "forward").notes
    assert "called in torch only: leaf[1]" in notes
    assert "called with other arguments than in torch: merge" in notes


def test_same_tensor_twice_in_an_output():
    layers = Leaf.layers(lambda a, _b: (a, a), lambda s: (s[0], s[1]))
    passes(twins(through_leaf, layers))


def test_layer_that_hands_on_its_input():
    """The identity in one framework may be the very tensor, in the other a copy."""

    def layers(nn):
        same = nn.function(lambda x: x)
        return {"stem": nn.linear(4, 4), "same": same, "head": nn.linear(4, 2)}

    def forward(net, x):
        x = net.stem(x)
        return net.head(net.same(x) + x)

    passes(twins(forward, layers))
    passes(twins(forward, layers, parts=lambda nn: {"same": nn.function(lambda x: x.clone())}))


def test_output_that_one_layer_gives_and_the_model_returns_as_well():
    def forward(net, x):
        features = net.stem(x)
        return {"logits": net.head(features), "features": features, "input": x}

    def layers(nn):
        return {"stem": nn.linear(4, 4), "head": nn.linear(4, 2)}

    def wrong(net, x):
        features = net.stem(x)
        return {"logits": net.head(features), "features": features * 1.01, "input": x}

    passes(twins(forward, layers))
    assert first_divergence(forward, layers, fault=wrong) == "forward:output.features"


def test_integers_between_layers():
    def layers(nn):
        return {
            "pick": nn.function(lambda x: x.argmax(1)),
            "emb": nn.embedding(4, 3),
            "head": nn.linear(3, 2),
        }

    def forward(net, x):
        return net.head(net.emb(net.pick(x)))

    passes(twins(forward, layers))
    place = first_divergence(
        forward, layers, parts=lambda nn: {"pick": nn.function(lambda x: x.argmin(1))}
    )
    assert place == "pick"
    place = first_divergence(
        forward, layers, fault=lambda net, x: net.head(net.emb(3 - net.pick(x)))
    )
    assert place == "pick -> emb"


def test_attention_that_is_called_with_one_tensor_or_three():
    def torch_forward(net, x):
        return net.attn(x, x, x)[0] if isinstance(net, torch.nn.Module) else net.attn(x)

    def layers(nn):
        if nn is TORCH:
            return {"attn": torch.nn.MultiheadAttention(4, 2, batch_first=True)}
        return {"attn": paddle.nn.MultiHeadAttention(4, 2)}

    x = images((2, 5, 4))
    passes(twins(torch_forward, layers, x))
    passes(twins(torch_forward, layers, x, mode="train"))
    place = first_divergence(torch_forward, layers, x, fault=lambda net, x: net.attn(x * 1.01))
    assert place == "inputs[0] -> attn"
    place = first_divergence(torch_forward, layers, x, fault=lambda net, x: net.attn(x, x * 2, x))
    assert place == "inputs[0] -> attn"


def test_layer_called_by_keyword():
    def layers(nn):
        plus = twin(nn)(lambda _net, x, y: x - y, lambda _nn: {})
        plus.forward = lambda x, y: x - y
        return {"a": nn.linear(4, 4), "minus": plus}

    def forward(net, x):
        return net.minus(x=net.a(x), y=x)

    passes(twins(forward, layers))
    place = first_divergence(forward, layers, fault=lambda net, x: net.minus(x=x, y=net.a(x)))
    assert place == "a -> minus"


def test_boolean_masks_between_layers():
    def layers(nn):
        return {
            "a": nn.linear(4, 4),
            "mask": nn.function(lambda x: x > 0),
            "b": nn.linear(4, 2),
        }

    def forward(net, x):
        x = net.a(x)
        mask = net.mask(x)
        return net.b(
            x * (mask.float() if isinstance(net, torch.nn.Module) else mask.astype(x.dtype))
        )

    report = passes(twins(forward, layers))
    assert "mask" in {t.name for t in step(report, "forward").tensors}
    place = first_divergence(
        forward, layers, parts=lambda nn: {"mask": nn.function(lambda x: x > 0.1)}
    )
    assert place == "mask"


def test_two_inputs_in_the_wrong_order():
    def layers(nn):
        return {"a": nn.linear(4, 4), "b": nn.linear(4, 4)}

    def forward(net, x, y):
        return net.a(x) + net.b(y)

    x, y = images((3, 4)), images((3, 4), seed=2)
    passes(twins(forward, layers, x, y))
    place = first_divergence(forward, layers, x, y, fault=lambda net, x, y: net.a(y) + net.b(x))
    assert place == "inputs[0] -> a"
    place = first_divergence(
        forward, layers, x, y, fault=lambda net, x, y: net.a(x) + net.b(y * np.float32(2))
    )
    assert place == "inputs[1] -> b"


def without_gradient(net, x, factor=2):
    nothing = torch.no_grad() if isinstance(net, torch.nn.Module) else paddle.no_grad()
    with nothing:
        x = net.a(x)
    return net.b(x * factor)


UNTRACED = {
    "detached": (
        lambda net, x: net.b(net.a(x).detach() * 2),
        lambda net, x: net.b(net.a(x).detach() * 3),
    ),
    "no_grad": (without_gradient, lambda net, x: without_gradient(net, x, 3)),
    "integers": (
        lambda net, x: net.b(net.emb(net.pick(x))),
        lambda net, x: net.b(net.emb(3 - net.pick(x))),
    ),
}


@pytest.mark.parametrize("code", UNTRACED)
def test_code_that_autograd_does_not_see_names_the_layer_before_it(code):
    def layers(nn):
        made = two_linear(nn) | {"emb": nn.embedding(4, 4)}
        return made | {"pick": nn.function(lambda x: x.argmax(1))}

    right, wrong = UNTRACED[code]
    passes(twins(right, layers))
    place = {"integers": "pick -> emb"}.get(code, "a -> b")
    assert first_divergence(right, layers, fault=wrong) == place
