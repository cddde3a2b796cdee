"""`--arch NAME` for the networks that FactSeg is compared with."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import factseg_paddle
from alignment.torch_side.shapes import shapes_only
from alignment.weights.checkpoint_files import Checkpoint, Envelope
from alignment.weights.models import torch_specs
from factseg_convert.architectures import check_fit, identify, misfits
from factseg_convert.classifiers import CLASSIFIERS, build_classifier
from factseg_paddle.engine.weights import load_backbone
from factseg_paddle.io import CheckpointError
from scripts import convert_paddle2torch, convert_torch2paddle
from tests.factseg_convert.files import assert_same_tensors, load_torch
from torch_ref import create_model, list_models

NAMES = [*CLASSIFIERS, *(name for name in list_models() if not name.startswith("factseg_"))]


@functools.lru_cache
def specs_of(name, num_classes):
    build = build_classifier if name in CLASSIFIERS else create_model
    with shapes_only():
        return torch_specs(build(name, num_classes))


def empty_file(tmp_path, name, num_classes, side):
    """A file's tensors by name, without memory behind them."""
    specs = [spec for spec in specs_of(name, num_classes) if spec.paddle_name]
    state = {}
    for spec in specs:
        tensor_name = spec.torch_name if side == "torch" else spec.paddle_name
        shape = spec.torch_shape if side == "torch" else spec.paddle_shape
        state[tensor_name] = np.broadcast_to(np.float32(0), shape)
    return Checkpoint(tmp_path / "a", side, state, Envelope())


@pytest.mark.parametrize("side", ["torch", "paddle"])
@pytest.mark.parametrize("name", NAMES)
def test_class_count_is_told_by_the_shapes(tmp_path, name, side):
    checkpoint = empty_file(tmp_path, name, 5, side)
    variant = identify(checkpoint, name)
    assert (variant.name, variant.num_classes) == (name, 5)
    assert misfits(variant, checkpoint) == []


@pytest.mark.parametrize("side", ["torch", "paddle"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_are_told_by_their_names(tmp_path, name, side):
    checkpoint = empty_file(tmp_path, name, 1000, side)
    variant = identify(checkpoint)
    assert (variant.name, variant.num_classes) == (name, 1000)
    assert misfits(variant, checkpoint) == []


@pytest.mark.parametrize("name", NAMES[len(CLASSIFIERS) :])
def test_unnamed_network_is_told_how_to_be_named(tmp_path, name):
    checkpoint = empty_file(tmp_path, name, 5, "torch")
    with pytest.raises(CheckpointError, match="another network has to be named by --arch"):
        check_fit(identify(checkpoint), checkpoint, guessed=True)


def test_file_of_one_class_is_refused(tmp_path):
    checkpoint = empty_file(tmp_path, "unet_bilinear_w32", 2, "torch")
    one = {**checkpoint.state, "reduce.weight": np.zeros((1, 32, 1, 1), np.float32)}
    with pytest.raises(CheckpointError, match=r"reduce.weight is \[1, 32, 1, 1\], which is fewer"):
        identify(replace(checkpoint, state=one), "unet_bilinear_w32")


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


@pytest.mark.slow  # half a gigabyte is converted and read
def test_torchvisions_vgg16_bn_becomes_the_backbone_of_fcn8s(tmp_path, capsys):
    """The published names and shapes; the convolutions' biases go into the running means."""
    generator = torch.Generator().manual_seed(2)
    shapes = {name: t.shape for name, t in build_classifier("vgg16_bn", 1000).state_dict().items()}
    state = {
        name: torch.tensor(0)
        if name.endswith("_tracked")
        else torch.zeros(1).expand(shape)
        if name.startswith("classifier")
        else torch.rand(shape, generator=generator)
        for name, shape in shapes.items()
    }
    torch.save(state, tmp_path / "vgg16_bn.pth")
    argv = ["--input", str(tmp_path / "vgg16_bn.pth"), "--arch", "vgg16_bn"]
    assert convert_torch2paddle.main(argv) == 0
    assert "vgg16_bn, 1000 classes" in capsys.readouterr().out
    network = factseg_paddle.create_model("fcn8s_vgg16_bn", 21)
    report = load_backbone(network, tmp_path / "vgg16_bn.pdparams")
    assert len(report.unused) == 6
    first = network.backbone_layers()["features.1"]
    expected = state["features.1.running_mean"] - state["features.0.bias"]
    np.testing.assert_array_equal(first._mean.numpy(), expected.numpy())
