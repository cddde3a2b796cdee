"""`--arch NAME` for the networks that FactSeg is compared with."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from alignment.checkpoints import Checkpoint, Form
from alignment.variants import identify, misfits
from alignment.weights import torch_specs
from scripts import convert_paddle2torch, convert_torch2paddle
from tests.weights.files import assert_same_tensors, load_torch
from torch_ref import create_model, list_models

NAMES = [name for name in list_models() if not name.startswith("factseg_")]


def specs_of(name, num_classes):
    with torch.device("meta"):
        return torch_specs(create_model(name, num_classes))


def empty_file(tmp_path, name, num_classes, side):
    """A file's tensors by name, without memory behind them."""
    specs = [spec for spec in specs_of(name, num_classes) if spec.paddle_name]
    state = {}
    for spec in specs:
        tensor_name = spec.torch_name if side == "torch" else spec.paddle_name
        shape = spec.torch_shape if side == "torch" else spec.paddle_shape
        state[tensor_name] = np.broadcast_to(np.float32(0), shape)
    return Checkpoint(tmp_path / "a", side, state, Form())


@pytest.mark.parametrize("side", ["torch", "paddle"])
@pytest.mark.parametrize("name", NAMES)
def test_class_count_is_told_by_the_shapes(tmp_path, name, side):
    checkpoint = empty_file(tmp_path, name, 5, side)
    variant = identify(checkpoint, name)
    assert (variant.name, variant.num_classes) == (name, 5)
    assert misfits(variant, checkpoint) == []


def random_state(name, num_classes):
    generator = torch.Generator().manual_seed(1)
    model = create_model(name, num_classes)
    return {
        key: torch.randint(9, tensor.shape, generator=generator, dtype=tensor.dtype)
        if tensor.dtype == torch.int64
        else torch.rand(tensor.shape, generator=generator)
        for key, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize("name", ["unet_transposed_w32", "fastfcn_resnet50_encnet"])
def test_weights_come_back_bit_equal(tmp_path, capsys, name):
    state = random_state(name, 7)
    torch.save({"model": state, "epoch": 3}, tmp_path / "a.pth")
    arch = ["--arch", name]
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth"), *arch]) == 0
    back = ["--input", str(tmp_path / "a.pdparams"), "--output", str(tmp_path / "back.pth")]
    assert convert_paddle2torch.main([*back, *arch]) == 0
    assert f"{name}, 7 classes, {len(state)} tensors" in capsys.readouterr().out
    loaded = load_torch(tmp_path / "back.pth")
    assert loaded["epoch"] == 3
    assert_same_tensors(loaded["model"], state)
    manifest = json.loads((tmp_path / "a.pdparams.manifest.json").read_text())
    assert manifest["model"] == f"{name}, 7 classes"


def refused(tmp_path, capsys, state, *options):
    torch.save(state, tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth"), *options]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth"]
    return capsys.readouterr().err


def test_misspelt_network_gets_a_suggestion(tmp_path, capsys):
    message = refused(tmp_path, capsys, {"a": torch.ones(1)}, "--arch", "unet_bilinaer")
    assert (
        message
        == "arch 'unet_bilinaer' is not known; did you mean unet_bilinear or unet_bilinear_w32?\n"
    )


def test_file_of_another_network_is_refused_by_tensor(tmp_path, capsys):
    state = random_state("unet_transposed_w32", 7)
    message = refused(tmp_path, capsys, state, "--arch", "unet_bilinear_w32")
    assert "does not fit unet_bilinear_w32, 16 classes: " in message
    assert "missing stem.conv1.weight [32, 3, 3, 3]" in message


def test_unnamed_network_is_told_how_to_be_named(tmp_path, capsys):
    message = refused(tmp_path, capsys, random_state("unet_bilinear_w32", 7))
    assert message.endswith("another network has to be named by --arch\n")
