"""The example under `examples/`: it aligns, and a fault in each kind of its layers is named."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace

import paddle.nn.functional as PF
import pytest
from paddle import nn

from alignment import Pair, align
from alignment.__main__ import main
from alignment.pair_files import Request, load_pair
from tests.alignment import example_faults as faults
from tests.alignment.small import step
from tests.alignment.test_sides import without
from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs

EXAMPLE = REPO / "examples" / "captioner" / "pair.py"
ON_EXAMPLE = ("--pair", f"{EXAMPLE}:make_pair")


@pytest.fixture
def made(monkeypatch) -> Pair:
    """The example's pair; its folder can be imported from for as long as the test runs.

    Two training steps: all ten, which take five times as long, are in `test_example_aligns`.
    """
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    return replace(load_pair(Request(pair=ON_EXAMPLE[1])), train_steps=2)


def with_fault(pair: Pair, plant) -> Pair:
    """The pair with a Paddle model that `plant` has changed."""

    def model():
        net = pair.paddle_model()
        plant(net)
        return net

    return replace(pair, paddle_model=model)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_example_aligns(monkeypatch, seed, mode):
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    pair = replace(load_pair(Request(pair=ON_EXAMPLE[1], seed=seed)), mode=mode)
    report = align(pair)
    assert report, str(report)
    assert [result.step for result in report.steps] == [
        "data",
        "weights",
        "forward",
        "loss",
        "backward",
        "train",
    ]


def test_every_layer_of_the_example_is_compared(made):
    compared = {tensor.name.partition("[")[0] for tensor in step(align(made), "forward").tensors}
    assert compared >= {
        "encoder.stem",
        "encoder.norm",
        "encoder.upsample",
        "decoder.embedding",
        "decoder.gru",
        "decoder.norm",
        "decoder.attention",
        "decoder.classifier",
        "output.logits",
        "output.seen",
    }


def test_example_weights_are_nowhere_trivial(made):
    for name, tensor in made.torch_model().state_dict().items():
        assert tensor.numel() > 1
        assert not ((tensor == 0) | (tensor == 1)).any(), name
        assert tensor.std() > 0.1, name


@pytest.mark.parametrize("fault", faults.IN_LAYERS)
def test_fault_in_a_layer_is_named(made, fault):
    plant, place = faults.IN_LAYERS[fault]
    assert align(with_fault(made, plant)).first_divergence == place


def test_transposed_conv_padded_the_right_way_passes(made):
    """The fault above is the side that is padded, not the other way of writing it."""
    right = faults.swap(
        "image.deconv", lambda: nn.Conv2DTranspose(8, 16, 3, 2, padding=[1, 0, 1, 0])
    )
    assert align(with_fault(made, right))


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (faults.WithoutBias, "linear_without_its_bias"),
        (faults.Flipped, "transposed_conv_flipped"),
        (faults.Backwards, "gru_backwards"),
        (faults.ResetBefore, "gru_reset_gate"),
        (faults.Unscaled, "attention_unscaled"),
    ],
)
def test_layers_written_anew_are_right_but_for_their_fault(made, monkeypatch, kind, fault):
    monkeypatch.setattr(kind, "faulty", False)
    report = align(with_fault(made, faults.IN_LAYERS[fault][0]))
    assert report, str(report)


# Faults in functional code, in what goes back, in the loss and in the weights


def test_fault_in_functional_code_is_named_by_the_layers_around_it(made):
    report = align(with_fault(made, faults.without_relu))
    assert report.first_divergence == "encoder.norm -> encoder.upsample"


def test_scaled_embedding_is_named_by_the_layers_around_it(made):
    """Some transformers scale their embeddings, others do not."""
    report = align(with_fault(made, faults.scaled_embedding))
    assert report.first_divergence == "decoder.embedding -> decoder.gru"


def test_attention_that_is_fed_something_else_is_named_as_the_receiver(made):
    report = align(with_fault(made, faults.unnormalised_query))
    assert report.first_divergence == "decoder.norm -> decoder.attention"


def test_attention_over_wrong_keys_is_named(made):
    class Keys(nn.MultiHeadAttention):
        def forward(self, query, _key, value):
            return super().forward(query, value * 0.9, value)

    fault = faults.swap("text.attend", lambda: Keys(16, 4))
    assert align(with_fault(made, fault)).first_divergence == "decoder.attention"


def test_gradient_that_does_not_arrive_is_named(made):
    """The forward pass is right; the image encoder would never learn."""

    def cut_off(net):
        text, forward = net.text, net.text.forward
        text.forward = lambda ids, tokens: forward(ids, tokens.detach())

    report = align(with_fault(made, cut_off))
    assert all(step(report, name) for name in ("weights", "forward", "loss"))
    assert report.first_divergence == "encoder.upsample -> decoder.attention"


def test_frozen_embedding_is_named(made):
    def freeze(net):
        net.text.embed.weight.stop_gradient = True

    report = align(with_fault(made, freeze))
    assert report.first_divergence == "grad:decoder.embedding.weight"


def test_loss_that_counts_padding_is_named(made):
    pair = replace(made, paddle_loss=lambda out, targets: PF.cross_entropy(out["logits"], targets))
    assert align(pair).first_divergence == "loss:loss"


def test_weights_that_were_not_carried_over_are_named(made):
    assert align(replace(made, transfer=False)).first_divergence == "weights:encoder.stem.weight"


def test_part_of_the_fused_attention_is_named_under_torchs_layer(made):
    def other_keys(net):
        net.text.attend.k_proj.weight.stop_gradient = True

    report = align(with_fault(made, other_keys))
    assert report.first_divergence == "grad:decoder.attention.k_proj.weight"


def test_forgotten_rename_is_told_and_following_the_message_aligns(made):
    report = align(replace(made, rename={}), "weights")
    assert report.first_divergence == "weights:image.conv.weight"
    reason = step(report, "weights").tensors[0].reason
    assert "(like it in kind and shape: encoder.stem.weight [8, 3, 3, 3])" in reason
    rename = ast.literal_eval(re.search(r"rename = (\{.*\}), would match 23 of the 23", reason)[1])
    assert align(replace(made, rename=rename))


def test_tensor_of_another_shape_is_told_to_need_convert(made):
    report = align(replace(made, convert={}), "weights")
    assert report.first_divergence == "weights:text.positions"
    reason = step(report, "weights").tensors[0].reason
    assert "(like it in size: decoder.position [1, 5, 16]; `convert` changes shapes)" in reason


# One side alone


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Torch's record of the example, made where Paddle can't be imported."""
    folder = tmp_path_factory.mktemp("record")
    done = without("paddle", *ON_EXAMPLE, "--side", "torch", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder


def test_example_is_compared_with_a_record_where_torch_is_missing(record, tmp_path):
    done = without("torch", *ON_EXAMPLE, "--torch-records", record, "--out", tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    assert "ALIGNED: captioner, 6 steps" in done.stdout


def test_example_records_the_paddle_side_where_torch_is_missing(tmp_path):
    done = without("torch", *ON_EXAMPLE, "--side", "paddle", "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recorded"] == "paddle"


def test_example_of_another_seed_does_not_pass_for_the_record(record, tmp_path, capsys):
    options = ("--seed", "1", "--torch-records", str(record), "--out", str(tmp_path))
    assert main([*ON_EXAMPLE, *options]) == 2
    assert "record again" in capsys.readouterr().err
