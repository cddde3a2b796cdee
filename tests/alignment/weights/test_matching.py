"""Tensors of torch models and Paddle models, joined by layer type: the outputs agree afterwards."""

import json
from dataclasses import asdict

import numpy as np
import paddle
import pytest
import torch
from paddle import nn as pnn
from torch import nn as tnn

from alignment.weights.matching import match
from alignment.weights.models import (
    load_paddle_state,
    load_torch_state,
    match_models,
    paddle_state,
    paddle_tensors,
    torch_specs,
    torch_state,
)
from alignment.weights.suggestions import nearest
from alignment.weights.tensors import PaddleTensor, TensorSpec, WeightsError

X = np.random.RandomState(0).randn(2, 5, 8)
IMAGE = np.random.RandomState(1).randn(2, 4, 6, 6)


@pytest.fixture(autouse=True)
def float64():
    # Not `layer.to(dtype=...)`: that breaks Paddle's recurrent layers.
    paddle.set_default_dtype("float64")
    torch.set_default_dtype(torch.float64)
    yield
    paddle.set_default_dtype("float32")
    torch.set_default_dtype(torch.float32)


def fill(module, seed=0):
    """Values away from 0 and 1 everywhere, so that no tensor can be left behind unnoticed."""
    random = np.random.RandomState(seed)
    for tensor in {id(t): t for t in module.state_dict(keep_vars=True).values()}.values():
        if tensor.is_floating_point():
            tensor.data = torch.from_numpy(random.uniform(0.2, 0.7, tuple(tensor.shape)))
    return module.eval()


def transfer(module, layer, **options):
    weights = match_models(module, layer, **options)
    assert weights, str(weights)
    made = weights.to_paddle(torch_state(module))
    assert made.keys() == paddle_state(layer).keys()
    load_paddle_state(layer, made)
    layer.eval()


def outputs(result):
    """All tensors of a nested result, as arrays."""
    if isinstance(result, tuple | list):
        return [array for item in result for array in outputs(item)]
    return [result.detach().numpy() if isinstance(result, torch.Tensor) else result.numpy()]


def assert_agree(torch_result, paddle_result):
    ours, theirs = outputs(paddle_result), outputs(torch_result)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=0, atol=1e-12 * np.abs(their).max())


PAIRS = {
    "linear_square": (lambda: tnn.Linear(8, 8), lambda: pnn.Linear(8, 8), X),
    "linear": (lambda: tnn.Linear(8, 3), lambda: pnn.Linear(8, 3), X),
    "linear_without_bias": (
        lambda: tnn.Linear(8, 3, bias=False),
        lambda: pnn.Linear(8, 3, bias_attr=False),
        X,
    ),
    "conv": (lambda: tnn.Conv2d(4, 4, 3), lambda: pnn.Conv2D(4, 4, 3), IMAGE),
    "conv_transposed": (
        lambda: tnn.ConvTranspose2d(4, 4, 2),
        lambda: pnn.Conv2DTranspose(4, 4, 2),
        IMAGE,
    ),
    "layer_norm": (lambda: tnn.LayerNorm(8), lambda: pnn.LayerNorm(8), X),
    "group_norm": (lambda: tnn.GroupNorm(2, 4), lambda: pnn.GroupNorm(2, 4), IMAGE),
    "instance_norm": (
        lambda: tnn.InstanceNorm2d(4, affine=True),
        lambda: pnn.InstanceNorm2D(4),
        IMAGE,
    ),
    "prelu": (lambda: tnn.PReLU(4), lambda: pnn.PReLU(4), IMAGE),
    "encoder_layer": (
        lambda: tnn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        lambda: pnn.TransformerEncoderLayer(8, 2, 16),
        X,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_transferred_layer_computes_the_same(name):
    make_torch, make_paddle, x = PAIRS[name]
    module, layer = fill(make_torch()), make_paddle()
    transfer(module, layer)
    assert_agree(module(torch.from_numpy(x)), layer(paddle.to_tensor(x)))


def test_batch_norm_carries_its_running_statistics():
    # Paddle keeps eps in float32, which is 5e-13 here.
    module, layer = fill(tnn.BatchNorm2d(4)), pnn.BatchNorm2D(4)
    transfer(module, layer)
    ours = layer(paddle.to_tensor(IMAGE)).numpy()
    theirs = module(torch.from_numpy(IMAGE)).detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(layer._variance.numpy(), module.running_var.numpy())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_agree_in_gate_order_and_state(kind, bidirectional):
    module = fill(
        getattr(tnn, kind)(8, 3, 2, bidirectional=bidirectional, batch_first=True), seed=3
    )
    direction = "bidirect" if bidirectional else "forward"
    layer = getattr(pnn, kind)(8, 3, 2, direction=direction)
    transfer(module, layer)
    assert len(paddle_state(layer)) == len(module.state_dict())  # Paddle names each of them twice
    assert_agree(module(torch.from_numpy(X)), layer(paddle.to_tensor(X)))


@pytest.mark.parametrize("widths", [(8, 8), (6, 5)], ids=["fused", "apart"])
def test_attention_is_taken_apart_by_layer_type(widths):
    key, value = widths
    module = fill(tnn.MultiheadAttention(8, 2, kdim=key, vdim=value, batch_first=True))
    layer = pnn.MultiHeadAttention(8, 2, kdim=key, vdim=value)
    transfer(module, layer)
    arrays = [X, X[..., :key], X[..., :value]]
    theirs = module(*map(torch.from_numpy, arrays))[0]
    assert_agree(theirs, layer(*map(paddle.to_tensor, arrays)))


def test_bilinear_bias_gets_its_leading_one():
    module, layer = fill(tnn.Bilinear(8, 8, 3)), pnn.Bilinear(8, 8, 3)
    transfer(module, layer)
    ours = layer(paddle.to_tensor(X[0]), paddle.to_tensor(X[1]))
    assert_agree(module(torch.from_numpy(X[0]), torch.from_numpy(X[1])), ours)


def test_gradients_are_carried_like_weights_and_buffers_may_be_absent():
    module = fill(tnn.Sequential(tnn.Linear(8, 8), tnn.BatchNorm1d(5)))
    layer = pnn.Sequential(pnn.Linear(8, 8), pnn.BatchNorm1D(5))
    transfer(module, layer)
    module(torch.from_numpy(X)).pow(2).sum().backward()
    (layer(paddle.to_tensor(X)) ** 2).sum().backward()
    theirs = {name: p.grad.numpy() for name, p in module.named_parameters()}
    made = match_models(module, layer).to_paddle(theirs)
    assert list(made) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    for name, parameter in layer.named_parameters():
        if name in made:
            np.testing.assert_allclose(parameter.grad.numpy(), made[name], rtol=1e-9)


# Names


class TorchTied(tnn.Module):
    def __init__(self):
        super().__init__()
        self.embed = tnn.Embedding(7, 8)
        self.head = tnn.Linear(8, 7, bias=False)
        self.head.weight = self.embed.weight


class PaddleTied(pnn.Layer):
    def __init__(self):
        super().__init__()
        self.embed = pnn.Embedding(7, 8)
        self.again = self.embed


def test_names_that_share_a_tensor_count_once():
    assert list(torch_state(TorchTied())) == ["embed.weight"]
    assert [t.name for t in paddle_tensors(PaddleTied())] == ["embed.weight"]
    assert paddle_tensors(PaddleTied())[0].aliases == ("again.weight",)
    tied = tnn.ModuleDict({"embed": (embed := tnn.Embedding(7, 8)), "again": embed})
    assert match_models(tied, PaddleTied())
    apart = tnn.ModuleDict({"embed": tnn.Embedding(7, 8), "again": tnn.Embedding(7, 8)})
    assert "torch's again.weight [7, 8] has no counterpart" in str(
        match_models(apart, PaddleTied())
    )


@pytest.mark.parametrize("order", [("embed", "again"), ("again", "embed")])
def test_paddle_may_hold_apart_what_torch_shares_in_any_order(order):
    tied = tnn.ModuleDict({"embed": (embed := tnn.Embedding(7, 8)), "again": embed})
    layer = pnn.LayerDict({name: pnn.Embedding(7, 8) for name in order})
    assert match_models(tied, layer)


def test_rename_turns_paddle_paths_into_torch_paths():
    module = fill(
        tnn.ModuleDict({"layers": tnn.ModuleList([tnn.Linear(8, 8), tnn.BatchNorm1d(5)])})
    )
    layer = pnn.LayerDict({"blocks": pnn.LayerList([pnn.Linear(8, 8), pnn.BatchNorm1D(5)])})
    assert not match_models(module, layer)
    transfer(module, layer, rename={r"^blocks\.(\d+)\.": r"layers.\1."})
    made = paddle_state(layer)["blocks.0.weight"]
    np.testing.assert_array_equal(made, module["layers"][0].weight.detach().numpy().T)
    # torch's own spelling is understood too
    assert match_models(
        module,
        layer,
        rename={"^blocks": "layers", "_mean$": "running_mean", "_variance": "running_var"},
    )


def test_convert_makes_one_tensor_of_several():
    module = fill(tnn.ModuleDict({"a": tnn.Linear(8, 3), "b": tnn.Linear(8, 2)}))
    layer = pnn.LayerDict({"ab": pnn.Linear(8, 5)})
    convert = {
        "ab.weight": (("a.weight", "b.weight"), lambda a, b: np.concatenate([a, b]).T),
        "ab.bias": (("a.bias", "b.bias"), lambda a, b: np.concatenate([a, b])),
    }
    transfer(module, layer, convert=convert)
    x = torch.from_numpy(X)
    expected = torch.cat([module["a"](x), module["b"](x)], -1)
    assert_agree(expected, layer["ab"](paddle.to_tensor(X)))
    bad = match_models(module, layer, convert={**convert, "ab.bias": (("a.bais",), lambda a: a)})
    assert "made of a.bais" not in str(bad)
    assert "convert makes ab.bias of a.bais, which torch lacks (nearest: a.bias)" in str(bad)
    unknown = match_models(module, layer, convert={**convert, "ab.bais": (("a.bias",), np.copy)})
    assert "convert names ab.bais, which Paddle lacks (nearest: ab.bias)" in str(unknown)


def test_a_square_weight_of_another_layer_type_is_not_transposed():
    class Own(pnn.Layer):
        def __init__(self):
            super().__init__()
            self.weight = self.create_parameter([8, 8])

    module = fill(tnn.Linear(8, 8, bias=False))
    made = match_models(module, Own()).to_paddle(torch_state(module))
    np.testing.assert_array_equal(made["weight"], module.weight.detach().numpy())


def test_every_tensor_without_a_partner_is_listed_with_the_nearest_name():
    module = tnn.ModuleDict({"fc": tnn.Linear(8, 4), "old": tnn.Linear(2, 2)})
    layer = pnn.LayerDict({"fc": pnn.Linear(8, 3), "older": pnn.Linear(2, 2)})
    problems = match_models(module, layer).problems
    assert len(problems) == 6
    text = "; ".join(map(str, problems))
    assert "Paddle's fc.weight is [8, 3], torch's fc.weight makes it [8, 4]" in text
    assert "Paddle's fc.bias is [3], torch's fc.bias makes it [4]" in text
    like = "has no counterpart in torch (like it in kind and shape"
    assert f"Paddle's older.weight [2, 2] {like}: old.weight [2, 2] transposed)" in text
    assert "torch's old.bias [2] has no counterpart in Paddle (like it in kind and shape" in text


def test_two_paddle_tensors_for_one_torch_tensor_are_a_problem():
    specs = [TensorSpec("a", (2,), "a", first_name="a")]
    tensors = [PaddleTensor("a", (2,)), PaddleTensor("b", (2,))]
    weights = match(specs, tensors, rename={"b": "a"})
    assert "Paddle's a and b both ask for torch's a" in str(weights)


def test_nothing_to_compare_is_not_a_match():
    assert not match([], [])
    assert "no tensors" in str(match([], []))


def test_specs_survive_a_record_and_need_no_framework_to_be_matched():
    module, layer = tnn.MultiheadAttention(8, 2), pnn.MultiHeadAttention(8, 2)
    recorded = json.loads(json.dumps([asdict(spec) for spec in torch_specs(module)]))
    specs = [TensorSpec.from_record(record) for record in recorded]
    assert tuple(specs) == torch_specs(module)
    assert match(specs, paddle_tensors(layer))


def test_a_map_refuses_half_of_a_tensor_and_another_shape():
    convert = {"w": (("a", "b"), np.add)}
    specs = [TensorSpec(name, (2,), name, first_name=name) for name in "ab"]
    weights = match(specs, [PaddleTensor("w", (2,))], convert=convert)
    with pytest.raises(WeightsError, match="w needs b of torch too"):
        weights.to_paddle({"a": np.ones(2)})
    with pytest.raises(WeightsError, match=r"w is \[2\] in Paddle, but torch's a, b gives \[3\]"):
        weights.to_paddle({"a": np.ones(3), "b": np.ones(3)})


@pytest.mark.parametrize(
    ("layer", "state_of", "load"),
    [
        (tnn.Linear(2, 3), torch_state, load_torch_state),
        (pnn.Linear(2, 3), paddle_state, load_paddle_state),
    ],
    ids=["torch", "paddle"],
)
def test_loading_is_all_or_nothing_and_lists_everything(layer, state_of, load):
    before = state_of(layer)
    good = {name: array + 1 for name, array in before.items()}
    bad = {"weight": good["weight"].astype(np.float16), "bais": good["bias"]}
    with pytest.raises(
        WeightsError, match=r"bais is extra .nearest: bias.; bias is missing; weight"
    ):
        load(layer, bad)
    with pytest.raises(WeightsError, match=r"bias is float32 \[3\] and is given float32 \[1, 3\]"):
        load(layer, {**good, "bias": good["bias"][None]})
    for name, array in state_of(layer).items():
        np.testing.assert_array_equal(array, before[name])
    load(layer, good)
    for name, array in state_of(layer).items():
        np.testing.assert_array_equal(array, good[name])


def test_nearest_prefers_the_first_group_that_has_one():
    assert nearest("fc.bias", ["fc.biass"], ["bn.bias"]) == "fc.biass"
    assert nearest("fc.bias", ["conv1"], ["bn.bias"]) == "bn.bias"
    assert nearest("fc.bias", []) == ""
