"""Models that strangers bring: recurrent, attention, integer inputs, shared and frozen tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as PF
import pytest
import torch
import torch.nn.functional as F
from paddle import nn

from alignment import Pair, align
from tests.alignment.small import (
    PaddleNet,
    Through,
    end_to_end,
    failed_names,
    images,
    seeded_torch_net,
    small_pair,
    step,
)

SEED = 7
SEQUENCE = images((2, 5, 4))


class Torch(torch.nn.Module):
    """A net of given layers and a forward function."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = forward

    def forward(self, *inputs):
        return self.function(self, *inputs)


class Paddle(nn.Layer):
    """Its twin."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = forward

    def forward(self, *inputs):
        return self.function(self, *inputs)


def pair_of(torch_model, paddle_model, *inputs, **changes) -> Pair:
    """Both models under the mean of the squares of their first output."""

    def first(output):
        return output[0] if isinstance(output, (tuple, list)) else output

    def seeded():
        torch.manual_seed(SEED)
        return torch_model()

    options = {
        "torch_loss": lambda output: first(output).pow(2).mean(),
        "paddle_loss": lambda output: first(output).pow(2).mean(),
    }
    return Pair(
        name="kind",
        torch_model=torch_model if isinstance(torch_model, torch.nn.Module) else seeded,
        paddle_model=paddle_model,
        inputs=inputs,
        **options | changes,
    )


def passes(pair: Pair):
    report = align(pair)
    assert report, str(report)
    return report


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_forward_and_backward(kind, mode):
    pair = pair_of(
        lambda: Torch(
            lambda self, x: self.rnn(x)[0],
            rnn=getattr(torch.nn, kind)(4, 3, 2, bidirectional=True, batch_first=True),
        ),
        lambda: Paddle(
            lambda self, x: self.rnn(x)[0],
            rnn=getattr(nn, kind)(4, 3, num_layers=2, direction="bidirect"),
        ),
        SEQUENCE,
        mode=mode,
    )
    report = passes(pair)
    assert len({tensor.name for tensor in end_to_end(report, "backward")}) == 1 + 16 + 1


def test_layer_with_several_outputs_is_named_without_their_index():
    pair = pair_of(
        lambda: Torch(lambda self, x: self.rnn(x)[0], rnn=torch.nn.LSTM(4, 3, batch_first=True)),
        lambda: Paddle(lambda self, x: self.rnn(x)[0], rnn=Negated(nn.LSTM(4, 3))),
        SEQUENCE,
        rename={r"^rnn\.inner": "rnn"},
    )
    report = align(pair)
    assert report.first_divergence == "rnn"
    assert "rnn[1][0]" in failed_names(report, "forward")


class Negated(nn.Layer):
    """A layer that is given the wrong sign."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(-x)


def attention(fault=lambda x: x):
    return pair_of(
        lambda: Torch(
            lambda self, x: self.attn(x, x, x)[0],
            attn=torch.nn.MultiheadAttention(4, 2, batch_first=True),
        ),
        lambda: Paddle(lambda self, x: self.attn(x, fault(x), x), attn=nn.MultiHeadAttention(4, 2)),
        SEQUENCE,
    )


def test_attention_passes_with_its_parts_by_name():
    report = passes(attention())
    weights = [tensor.name for tensor in step(report, "weights").tensors]
    parts = [f"attn.{p}_proj.{kind}" for p in ("q", "k", "v", "out") for kind in ("weight", "bias")]
    assert weights == parts


def test_attention_over_other_keys_is_named():
    assert align(attention(lambda x: x * 1.01)).first_divergence == "inputs[0] -> attn"


def test_attention_with_one_wrong_part_names_the_part():
    torch_model, paddle_model = attention().torch_model(), attention().paddle_model()
    pair = pair_of(torch_model, paddle_model, SEQUENCE)
    align(pair, "weights")
    key = paddle_model.attn.k_proj.bias
    key.set_value(key + 0.1)
    report = align(pair_of(torch_model, paddle_model, SEQUENCE, transfer=False), "weights")
    assert report.first_divergence == "weights:attn.k_proj.bias"


def embedding(nets, *, scale):
    function = lambda self, ids: ((self.emb(ids) + self.pos(self.steps)) * self.scale, ids)  # noqa: E731
    if nets is torch:
        net = Torch(function, emb=torch.nn.Embedding(10, 4), pos=torch.nn.Embedding(5, 4))
        net.register_buffer("steps", torch.arange(5))
        net.scale = torch.nn.Parameter(torch.tensor(scale))
        net.unused = torch.nn.Linear(2, 2)
        return net
    net = Paddle(function, emb=nn.Embedding(10, 4), pos=nn.Embedding(5, 4))
    net.register_buffer("steps", paddle.arange(5))
    net.scale = net.create_parameter([])
    net.unused = nn.Linear(2, 2)
    return net


def test_integer_input_integer_buffer_scalar_and_unused_parameters():
    ids = np.random.default_rng(0).integers(0, 10, (2, 5))
    report = passes(
        pair_of(lambda: embedding(torch, scale=0.7), lambda: embedding(paddle, scale=0), ids)
    )
    compared = {tensor.name for tensor in end_to_end(report, "backward")}
    assert compared == {"output[0] (gradient)", "emb.weight", "pos.weight", "scale"}
    assert step(report, "forward").notes == ("never called: unused",)


def test_model_without_weights_has_none_to_compare():
    pair = pair_of(lambda: torch.nn.ReLU(), lambda: nn.ReLU(), images((3, 4)))
    assert align(pair, ["forward", "loss"])
    assert align(pair).first_divergence == "weights:nothing was compared"


def test_integer_outputs_are_equal_or_not():
    def made(ours):
        return pair_of(
            lambda: Torch(lambda _self, x: x.argmax(1)),
            lambda: Paddle(lambda _self, x: ours(x)),
            images((3, 4)),
            torch_loss=None,
            paddle_loss=None,
        )

    assert align(made(lambda x: x.argmax(1)), ["forward"])
    assert align(made(lambda x: x.argmin(1)), ["forward"]).first_divergence == "forward:output"


def test_infinite_attention_masks_pass_backward():
    """Layers hand on the reference's output; inf - inf made it NaN."""

    causal = pair_of(
        lambda: Torch(
            lambda self, x: F.softmax(self.mask(self.linear(x) + CAUSAL.to(x.dtype)), -1),
            linear=torch.nn.Linear(4, 4),
            mask=torch.nn.Identity(),
        ),
        lambda: Paddle(
            lambda self, x: PF.softmax(
                self.mask(self.linear(x) + paddle.to_tensor(CAUSAL.numpy()).astype(x.dtype)), -1
            ),
            linear=nn.Linear(4, 4),
            mask=nn.Identity(),
        ),
        images((4, 4)),
    )
    passes(causal)


CAUSAL = torch.full((4, 4), float("-inf")).triu(1)


def test_huge_mask_values_hide_no_other_fault():
    """A layer that gives -1e38 once was the measure of all others."""

    def torch_model():
        return Torch(
            lambda self, x: (self.mask(x), self.act(self.linear(x)))[1],
            mask=Torch(lambda _self, x: x * 0 - 1e38),
            linear=torch.nn.Linear(4, 4),
            act=torch.nn.Tanh(),
        )

    def paddle_model(act):
        return Paddle(
            lambda self, x: (self.mask(x), self.act(self.linear(x)))[1],
            mask=Through(lambda x: x * 0 - 1e38),
            linear=nn.Linear(4, 4),
            act=act,
        )

    passes(pair_of(torch_model, lambda: paddle_model(nn.Tanh()), images((3, 4))))
    report = align(pair_of(torch_model, lambda: paddle_model(nn.Softsign()), images((3, 4))))
    assert report.first_divergence == "act"


def test_float_targets_follow_the_dtype_of_the_run():
    """float32 targets beside float64 outputs made regression losses raise."""
    pair = pair_of(
        lambda: torch.nn.Linear(4, 2),
        lambda: nn.Linear(4, 2),
        images((3, 4)),
        targets=(images((3, 2)),),
        torch_loss=F.mse_loss,
        paddle_loss=PF.mse_loss,
    )
    report = passes(pair)
    assert not step(report, "loss").notes


def test_in_place_layer_on_the_input_itself():
    pair = pair_of(
        lambda: torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(4, 4)),
        lambda: nn.Sequential(Through(PF.relu_), nn.Linear(4, 4)),
        images((3, 4)),
    )
    given = pair.inputs[0].copy()
    passes(pair)
    assert np.array_equal(given, pair.inputs[0])


def test_loss_that_writes_into_the_outputs():
    pair = pair_of(
        lambda: torch.nn.Linear(4, 4),
        lambda: nn.Linear(4, 4),
        images((3, 4)),
        torch_loss=lambda output: output.relu_().sum(),
        paddle_loss=lambda output: PF.relu_(output).sum(),
    )
    passes(pair)


class Opaque:
    def __init__(self, tensor):
        self.tensor = tensor


def test_inner_layer_of_unknown_output_is_noted_and_no_failure():
    def build(made, linear, function):
        return made(
            lambda self, x: (self.none(x), self.wrap(self.linear(x)).tensor)[1],
            linear=linear,
            wrap=function(Opaque),
            none=function(lambda _x: None),
        )

    pair = pair_of(
        lambda: build(Torch, torch.nn.Linear(4, 4), lambda f: Torch(lambda _self, x, f=f: f(x))),
        lambda: build(Paddle, nn.Linear(4, 4), Through),
        images((3, 4)),
    )
    notes = step(passes(pair), "forward").notes
    assert len(notes) == 1
    assert notes[0].startswith("not compared: wrap is a Opaque")


def test_frozen_on_both_sides_is_no_difference():
    def frozen(net, attribute, value):
        setattr(net[0].weight, attribute, value)
        return net

    pair = pair_of(
        lambda: frozen(
            torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)),
            "requires_grad",
            False,
        ),
        lambda: frozen(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "stop_gradient", True),
        images((3, 4)),
    )
    report = passes(pair)
    assert "0.weight" not in {tensor.name for tensor in step(report, "backward").tensors}


def test_frozen_in_torch_alone_is_a_difference():
    def torch_model():
        net = torch.nn.Linear(4, 4)
        net.bias.requires_grad_(False)
        return net

    report = align(pair_of(torch_model, lambda: nn.Linear(4, 4), images((3, 4))))
    assert report.first_divergence == "grad:bias"


def test_dropout_is_off_in_evaluation_mode():
    passes(
        pair_of(
            lambda: torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)),
            lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
            images((3, 4)),
        )
    )


def test_several_inputs_and_several_targets():
    pair = pair_of(
        lambda: torch.nn.Bilinear(3, 4, 2),
        lambda: nn.Bilinear(3, 4, 2),
        images((5, 3)),
        images((5, 4)),
        targets=(images((5, 2)), images((5, 1), seed=9)),
        torch_loss=lambda output, target, weight: ((output - target) ** 2 * weight).sum(),
        paddle_loss=lambda output, target, weight: ((output - target) ** 2 * weight).sum(),
    )
    report = passes(pair)
    assert {t.name for t in step(report, "backward").tensors} >= {
        "inputs[0] (gradient)",
        "inputs[1] (gradient)",
    }
    assert list(report.inputs) == ["inputs[0]", "inputs[1]", "targets[0]", "targets[1]"]


@dataclass
class Heads:
    used: object
    unused: object


@pytest.mark.parametrize("kind", [dict, Heads])
def test_output_that_the_loss_does_not_use(kind):
    def build(made, linear):
        return made(
            lambda self, x: kind(used=self.a(x), unused=self.b(x)), a=linear(4, 2), b=linear(4, 2)
        )

    def used(output):
        return (output["used"] if kind is dict else output.used).pow(2).sum()

    pair = pair_of(
        lambda: build(Torch, torch.nn.Linear),
        lambda: build(Paddle, nn.Linear),
        images((3, 4)),
        torch_loss=used,
        paddle_loss=used,
    )
    report = passes(pair)
    assert {tensor.name for tensor in end_to_end(report, "backward")} == {
        "output.used (gradient)",
        "a.weight",
        "a.bias",
        "inputs[0] (gradient)",
    }


def test_renamed_layers_are_compared_under_torchs_names():
    def paddle_model(slope):
        return Paddle(
            lambda self, x: self.layers(x),
            layers=nn.Sequential(
                Paddle(
                    lambda self, x: self.act(self.linear(x)),
                    linear=nn.Linear(4, 4),
                    act=nn.LeakyReLU(slope),
                )
            ),
        )

    def made(slope):
        return pair_of(
            lambda: Torch(
                lambda self, x: self.blocks(x),
                blocks=torch.nn.Sequential(
                    Torch(
                        lambda self, x: self.relu(self.fc(x)),
                        fc=torch.nn.Linear(4, 4),
                        relu=torch.nn.LeakyReLU(0.1),
                    )
                ),
            ),
            lambda: paddle_model(slope),
            images((3, 4)),
            rename={r"^layers": "blocks", r"\.linear": ".fc", r"\.act": ".relu"},
        )

    report = passes(made(0.1))
    assert [t.name for t in step(report, "weights").tensors] == [
        "blocks.0.fc.weight",
        "blocks.0.fc.bias",
    ]
    assert {t.name for t in step(report, "forward").tensors} >= {"blocks.0.fc", "blocks.0.relu"}
    assert not step(report, "forward").notes
    assert align(made(0.2)).first_divergence == "blocks.0.relu"


def test_fused_projection_made_by_convert():
    def torch_model():
        return Torch(
            lambda self, x: self.q(x) * self.k(x), q=torch.nn.Linear(4, 3), k=torch.nn.Linear(4, 3)
        )

    def paddle_model():
        def product(self, x):
            q, k = self.qk(x).split(2, axis=-1)
            return q * k

        return Paddle(product, qk=nn.Linear(4, 6))

    convert = {
        "qk.weight": (("q.weight", "k.weight"), lambda q, k: np.concatenate([q.T, k.T], 1)),
        "qk.bias": (("q.bias", "k.bias"), lambda q, k: np.concatenate([q, k])),
    }
    report = passes(pair_of(torch_model, paddle_model, images((3, 4)), convert=convert))
    assert {t.name for t in step(report, "backward").tensors} >= {"qk.weight", "qk.bias"}
    wrong = convert | {"qk.bias": (("q.bias", "k.bias"), lambda q, k: np.concatenate([k, q]))}
    report = align(pair_of(torch_model, paddle_model, images((3, 4)), convert=wrong))
    assert not step(report, "forward")


def test_gradient_that_is_zero_but_for_rounding():
    """A bias before a normalisation: its gradient is 1e-17 here and -1e-9 there."""

    def build(made, layers, norm):
        return made(lambda self, x: self.norm(self.conv(x)), conv=layers(5, 3, 1), norm=norm)

    pair = pair_of(
        lambda: build(Torch, torch.nn.Conv1d, torch.nn.InstanceNorm1d(3)),
        lambda: build(Paddle, nn.Conv1D, nn.InstanceNorm1D(3, weight_attr=False, bias_attr=False)),
        SEQUENCE,
        torch_loss=lambda output: output.pow(3).sum(),
        paddle_loss=lambda output: output.pow(3).sum(),
    )
    passes(pair)


def test_sublayers_of_one_side_are_listed_and_no_failure():
    pair = small_pair(lambda: PaddleNet(relu1=nn.Sequential(Through(lambda x: x), nn.ReLU())))
    report = align(pair)
    assert report, str(report)
    assert step(report, "forward").notes == ("called in Paddle only: relu1.0, relu1.1",)


def test_instances_and_functions_give_the_same_report():
    of_functions = align(small_pair())
    of_instances = align(small_pair(PaddleNet(), torch_model=seeded_torch_net()))
    assert of_instances.steps == of_functions.steps
