"""What the weights step says to a user who forgot `rename`: words, never a decision."""

import ast
import re

import pytest
from paddle import nn as pnn
from torch import nn as tnn

from alignment.weights.models import match_models
from alignment.weights.suggestions import Known, hint_for, rename_entries


def suggested(weights) -> dict:
    """The entries of `rename` in the first message that has some; {} where none has."""
    for problem in weights.problems:
        found = re.search(r"rename[^{]*(\{.*\}), would match", problem.message)
        if found:
            return ast.literal_eval(found[1])
    return {}


def tree(nets, layers: dict):
    """Nested containers of layers; lists become numbered ones."""
    names, lists = (
        (tnn.ModuleDict, tnn.ModuleList) if nets is tnn else (pnn.LayerDict, pnn.LayerList)
    )
    if isinstance(layers, dict):
        return names({name: tree(nets, part) for name, part in layers.items()})
    if isinstance(layers, list):
        return lists([tree(nets, part) for part in layers])
    return layers


def matched(theirs: dict, ours: dict, **options):
    return match_models(tree(tnn, theirs), tree(pnn, ours), **options)


def both_with(weights_of):
    """Follow the suggestion: everything fits then."""
    first = weights_of({})
    assert not first
    entries = suggested(first)
    after = weights_of(entries)
    assert after, str(after)
    return entries


# What fits in each case, and the entries that are suggested.
CASES = {
    "container": (
        {"blocks": [tnn.Linear(8, 4), tnn.Linear(8, 4)]},
        {"layers": [pnn.Linear(8, 4), pnn.Linear(8, 4)]},
        {r"^layers\b": "blocks"},
    ),
    "container_and_layer": (
        {"blocks": [{"fc": tnn.Linear(8, 4), "norm": tnn.LayerNorm(4)}]},
        {"layers": [{"linear": pnn.Linear(8, 4), "norm": pnn.LayerNorm(4)}]},
        {r"^layers\.(\d+)\.linear\b": r"blocks.\1.fc", r"^layers\b": "blocks"},
    ),
    "kinds_of_one_shape": (
        {"a": tnn.GroupNorm(2, 4), "b": tnn.LayerNorm(4), "c": tnn.BatchNorm1d(4)},
        {"x": pnn.LayerNorm(4), "y": pnn.BatchNorm1D(4), "z": pnn.GroupNorm(2, 4)},
        {r"^x\b": "b", r"^y\b": "c", r"^z\b": "a"},
    ),
    "wrapped": (
        {"conv": tnn.Conv2d(3, 4, 3), "norm": tnn.BatchNorm2d(4)},
        {"net": {"conv": pnn.Conv2D(3, 4, 3), "norm": pnn.BatchNorm2D(4)}},
        {r"^net\.": ""},
    ),
    "wrapped_in_torch": (
        {"net": {"conv": tnn.Conv2d(3, 4, 3), "norm": tnn.BatchNorm2d(4)}},
        {"conv": pnn.Conv2D(3, 4, 3), "norm": pnn.BatchNorm2D(4)},
        {"^": "net."},
    ),
    "numbered_otherwise": (
        {"net": [tnn.Linear(2, 3), tnn.ReLU(), tnn.Linear(3, 4)]},
        {"net": [pnn.Linear(2, 3), pnn.Linear(3, 4)]},
        {r"^net\.1\b": "net.2"},
    ),
    "fused_attention": (
        {"attention": tnn.MultiheadAttention(8, 2)},
        {"attend": pnn.MultiHeadAttention(8, 2)},
        {r"^attend\b": "attention"},
    ),
    "recurrent": (
        {"lstm": tnn.LSTM(4, 3), "up": tnn.ConvTranspose2d(3, 4, 2)},
        {"rnn": pnn.LSTM(4, 3), "deconv": pnn.Conv2DTranspose(3, 4, 2)},
        {r"^rnn\b": "lstm", r"^deconv\b": "up"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rename_that_joins_everything_is_suggested(case):
    theirs, ours, expected = CASES[case]
    assert both_with(lambda rename: matched(theirs, ours, rename=rename)) == expected


def test_alike_halves_are_told_apart_by_what_is_unlike_in_them():
    """Encoder and decoder hold the same layers; their embeddings differ."""

    def half(nets, words, embedding, blocks):
        return {embedding: nets.Embedding(words, 4), blocks: [nets.Linear(4, 4)]}

    theirs = {n: half(tnn, w, "embedding", "blocks") for n, w in (("encoder", 9), ("decoder", 7))}
    ours = {n: half(pnn, w, "embed", "layers") for n, w in (("enc", 9), ("dec", 7))}
    entries = both_with(lambda rename: matched(theirs, ours, rename=rename))
    assert entries[r"^enc\b"] == "encoder"


def test_nothing_is_suggested_where_several_pairings_are_as_good():
    theirs = {"one": tnn.Linear(4, 4), "two": tnn.Linear(4, 4)}
    ours = {"first": pnn.Linear(4, 4), "second": pnn.Linear(4, 4)}
    weights = matched(theirs, ours)
    assert len(weights.problems) == 8
    assert not suggested(weights)


def test_only_what_is_certain_is_suggested():
    theirs = {"one": tnn.Linear(4, 4), "two": tnn.Linear(4, 4), "norm": tnn.LayerNorm(4)}
    ours = {"first": pnn.Linear(4, 4), "second": pnn.Linear(4, 4), "ln": pnn.LayerNorm(4)}
    weights = matched(theirs, ours)
    assert suggested(weights) == {r"^ln\b": "norm"}
    assert "would match 2 of the 6 tensors of Paddle that have none" in str(weights)


def test_rename_that_would_take_a_name_from_another_is_not_suggested():
    """`net.` would go from the layer that fits already, too."""
    theirs = {"conv": tnn.Conv2d(3, 4, 3), "net": {"norm": tnn.BatchNorm2d(4)}}
    ours = {"net": {"conv": pnn.Conv2D(3, 4, 3), "norm": pnn.BatchNorm2D(4)}}
    assert not suggested(matched(theirs, ours))


def test_entries_come_on_top_of_those_that_are_given():
    theirs = {"encoder": {"fc": tnn.Linear(4, 3), "norm": tnn.LayerNorm(3)}}
    ours = {"enc": {"linear": pnn.Linear(4, 3), "ln": pnn.LayerNorm(3)}}
    given = {"^enc": "encoder"}
    weights = matched(theirs, ours, rename=given)
    assert "more entries of rename, {" in str(weights)
    assert matched(theirs, ours, rename=given | suggested(weights))


def test_shape_alone_joins_nothing():
    weights = matched({"a": tnn.Linear(4, 3)}, {"b": pnn.Linear(4, 3)})
    assert not weights.sources


def test_both_sides_are_listed_with_kind_shape_and_layout():
    text = str(matched({"fc": tnn.Linear(4, 3)}, {"linear": pnn.Linear(4, 3)}))
    assert (
        "Paddle's linear.weight [4, 3] has no counterpart in torch "
        "(like it in kind and shape: fc.weight [3, 4] transposed)" in text
    )
    assert (
        "torch's fc.weight [3, 4] has no counterpart in Paddle "
        "(like it in kind and shape: linear.weight [4, 3])" in text
    )


def test_parts_of_a_fused_tensor_are_told_apart():
    text = str(matched({"a": tnn.MultiheadAttention(4, 2)}, {"b": pnn.Linear(2, 2)}))
    assert "torch's a.in_proj_weight [12, 4] rows 4 to 8 has no counterpart in Paddle" in text


def known(name, shape=(2,), kind="linear"):
    return Known(name, shape, kind)


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        ([known("x.weight"), known("fb.weight", kind="conv2d")], " (like it in kind and shape: x"),
        ([known("x.weight", kind="conv2d"), known("fc.bias")], " (like it in shape: x.weight"),
        ([known("x.scale", kind="")], " (like it in shape: x.scale"),
        ([known("x.w", (1, 2))], " (like it in size: x.w; `convert` changes shapes)"),
        ([known("x.weight", (3,))], " (nearest: fc.biass)"),
        ([], " (nearest: fc.biass)"),
    ],
)
def test_best_counterpart(free, expected):
    assert hint_for(known("fc.weight"), free, ["fc.biass"]).startswith(expected)


def test_users_own_layers_are_of_no_kind():
    """Two classes that happen to have the same name, or none, say nothing."""
    ours, theirs = known("a.w", kind=""), known("b.w", kind="")
    assert hint_for(ours, [theirs], []) == " (like it in shape: b.w)"
    assert rename_entries([ours], [theirs]) == {r"^a\b": "b"}  # yet the only layer of that form
