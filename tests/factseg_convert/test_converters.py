"""Checkpoints go there and back bit-equal."""

import re
import subprocess
import sys

import numpy as np
import paddle
import pytest
import torch

import factseg_paddle
import torch_ref
from alignment.weights.checkpoint_files import read_checkpoint
from factseg_convert.architectures import identify, misfits
from factseg_paddle.io import load_pdparams
from scripts import convert_paddle2torch, convert_torch2paddle
from tests.factseg_convert.files import (
    COUNTER,
    assert_same_tensors,
    light_state,
    load_torch,
    names_and_shapes,
    random_state,
    there_and_back,
)
from tests.paths import REPO
from torch_ref.models.backbones import BACKBONES


@pytest.fixture(scope="module")
def resnet18():
    return random_state("resnet", "resnet18", 7)


def test_published_factseg_form_comes_back_bit_equal(tmp_path, capsys):
    state = random_state("factseg", "resnet50", 16)
    model = {f"module.{name}": tensor for name, tensor in state.items()}
    assert len(model) == 438
    opt = {"state": {0: {"momentum_buffer": torch.ones(3)}}}
    back = there_and_back(tmp_path, {"model": model, "opt": opt, "global_step": 60000})
    out = capsys.readouterr().out
    assert "FactSeg with resnet50, 16 classes, 438 tensors" in out
    assert "opt, beside the weights, is not converted" in out
    assert list(back) == ["model", "global_step"]
    assert back["global_step"] == 60000
    assert_same_tensors(back["model"], model)
    loaded = paddle.load(str(tmp_path / "a.pdparams"))
    assert len(loaded) == 371
    mean = loaded["resencoder.resnet.layer4.2.bn3._mean"].numpy()
    np.testing.assert_array_equal(mean, state["resencoder.resnet.layer4.2.bn3.running_mean"])


@pytest.mark.parametrize("counters", [True, False], ids=["with_counters", "without_counters"])
def test_torchvision_resnet50_keys_come_back_bit_equal(tmp_path, counters, capsys):
    state = random_state("resnet", "resnet50", 1000, counters=counters)
    assert len(state) == (320 if counters else 267)
    assert_same_tensors(there_and_back(tmp_path, state), state)
    assert "resnet50, 1000 classes" in capsys.readouterr().out


def test_a_converted_resnet50_loads_into_paddle_vision_and_computes_the_same(tmp_path):
    torch.manual_seed(0)
    model = BACKBONES["resnet50"](num_classes=1000).eval()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    net = paddle.vision.models.resnet50(pretrained=False)
    assert net.set_state_dict(paddle.load(str(tmp_path / "a.pdparams"))) == ([], [])
    net.eval()
    x = np.random.RandomState(0).rand(1, 3, 32, 32).astype(np.float32)
    theirs = model(torch.from_numpy(x)).detach().numpy()
    ours = net(paddle.to_tensor(x)).numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_a_converted_factseg_loads_into_ours_and_computes_the_same(tmp_path):
    torch.manual_seed(0)
    model = torch_ref.FactSeg(num_classes=6, backbone="resnet18").eval()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    net = factseg_paddle.FactSeg(num_classes=6, backbone="resnet18")
    assert net.set_state_dict(paddle.load(str(tmp_path / "a.pdparams"))) == ([], [])
    net.eval()
    x = np.random.RandomState(0).rand(1, 3, 64, 64).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(x))
    for our, their in zip(net(paddle.to_tensor(x)), theirs, strict=True):
        assert np.abs(our.numpy() - their.numpy()).max() < 1e-4 * np.abs(their.numpy()).max()


@pytest.mark.parametrize(
    ("wrapper", "prefix"), [(None, "module."), ("model", ""), ("state_dict", "module.")]
)
def test_every_form_comes_back(tmp_path, resnet18, wrapper, prefix):
    state = {prefix + name: tensor for name, tensor in resnet18.items()}
    back = there_and_back(tmp_path, {wrapper: state} if wrapper else state)
    assert_same_tensors(back[wrapper] if wrapper else back, state)


def test_bits_dtypes_and_order_are_kept_as_they_are(tmp_path, resnet18):
    kinds = [torch.float16, torch.float64, torch.bfloat16, torch.float32]
    state = {
        name: tensor if name.endswith(COUNTER) else tensor.to(kinds[i % 4])
        for i, (name, tensor) in enumerate(reversed(resnet18.items()))
    }
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45, -float("nan")])
    state["bn1.running_var"] = torch.cat([odd, state["bn1.running_var"][5:]])
    state["fc.weight"] = state["fc.weight"].t().contiguous().t()  # another memory layout
    state["bn1.weight"] = torch.nn.Parameter(torch.arange(128.0)[::2])
    state["bn1.bias"] = state["bn1.weight"].detach()  # sharing its memory
    assert_same_tensors(there_and_back(tmp_path, state), state)


def test_legacy_files_and_numpy_scalars_are_read(tmp_path, resnet18):
    content = {"model": resnet18, "global_step": np.int64(7), "miou": np.float64(0.648)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    argv = ["--input", str(tmp_path / "a.pdparams"), "--output", str(tmp_path / "b.pth")]
    assert convert_paddle2torch.main(argv) == 0
    back = load_torch(tmp_path / "b.pth")
    assert (back["global_step"], back["miou"]) == (7, 0.648)
    assert_same_tensors(back["model"], resnet18)


def test_a_paddle_checkpoint_goes_to_torch_and_comes_back(tmp_path, capsys):
    paddle.seed(0)
    net = paddle.vision.models.resnet18(pretrained=False, num_classes=3)
    paddle.save(net.state_dict(), str(tmp_path / "a.pdparams"))
    assert convert_paddle2torch.main(["--input", str(tmp_path / "a.pdparams")]) == 0
    assert "num_batches_tracked is 0 in all 20 layers, since there is no" in capsys.readouterr().out
    model = BACKBONES["resnet18"](num_classes=3)
    model.load_state_dict(load_torch(tmp_path / "a.pth"))  # strict
    np.testing.assert_array_equal(model.fc.weight.detach().numpy(), net.fc.weight.numpy().T)
    assert model.bn1.num_batches_tracked == 0
    argv = ["--input", str(tmp_path / "a.pth"), "--output", str(tmp_path / "back.pdparams")]
    assert convert_torch2paddle.main(argv) == 0
    before, after = (load_pdparams(tmp_path / name) for name in ("a.pdparams", "back.pdparams"))
    assert list(before) == list(after)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


# Which network


@pytest.mark.parametrize("arch", ["factseg", "resnet"])
@pytest.mark.parametrize("backbone", list(BACKBONES))
@pytest.mark.parametrize("num_classes", [2, 16])
def test_every_depth_and_class_count_is_told_by_names_and_shapes(
    tmp_path, arch, backbone, num_classes
):
    torch.save(light_state(arch, backbone, num_classes), tmp_path / "a.pth")
    checkpoint = read_checkpoint(tmp_path / "a.pth", "torch")
    variant = identify(checkpoint)
    name = f"FactSeg with {backbone}" if arch == "factseg" else backbone
    assert (variant.name, variant.num_classes) == (name, num_classes)
    assert misfits(variant, checkpoint) == []


# The command line


@pytest.fixture
def weights(tmp_path, monkeypatch):
    for script in (convert_torch2paddle, convert_paddle2torch):
        monkeypatch.setattr(script, "WEIGHTS", tmp_path)
    return tmp_path


def test_without_arguments_every_checkpoint_in_weights_is_converted(weights, capsys):
    (weights / "sub").mkdir()
    torch.save(light_state("resnet"), weights / "a.pth")
    torch.save(light_state("resnet", num_classes=9), weights / "sub" / "b.pth")
    (weights / ".c.1234.tmp.pth").write_bytes(b"unfinished")
    (weights / "README.md").write_text("text")
    assert convert_torch2paddle.main([]) == 0
    assert capsys.readouterr().out.count("bit-equal") == 2
    assert (weights / "a.pdparams").exists()
    assert (weights / "sub" / "b.pdparams").exists()
    original = (weights / "a.pth").read_bytes()
    assert convert_paddle2torch.main([]) == 0  # what they were made from is not replaced
    assert capsys.readouterr().out.count("is there already") == 2
    assert (weights / "a.pth").read_bytes() == original
    (weights / "a.pth").unlink()
    assert convert_paddle2torch.main([]) == 0
    assert set(load_torch(weights / "a.pth")) == set(names_and_shapes("resnet"))


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (convert_torch2paddle, r"no \.pth file .*resnet50-19c8e357\.pth"),
        (convert_paddle2torch, r"no .pdparams"),
    ],
)
def test_empty_weights_say_what_goes_there(weights, capsys, script, what):
    assert script.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.search(what, captured.err)
    assert list(weights.iterdir()) == []


def test_scripts_run_from_any_directory_and_without_paddle(tmp_path):
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    (tmp_path / "paddle.py").write_text("raise RuntimeError('paddle was imported')")
    script = REPO / "scripts" / "convert_torch2paddle.py"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, script, "--input", "a.pth", "--output", "b.pdparams", "--arch", "resnet"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "a.pth: resnet18, 5 classes, 122 tensors" in done.stdout
    assert len(load_pdparams(tmp_path / "b.pdparams")) == 102


@pytest.mark.parametrize("name", ["torch2paddle", "paddle2torch"])
def test_help_shows_examples(name, capsys):
    script = {"torch2paddle": convert_torch2paddle, "paddle2torch": convert_paddle2torch}[name]
    with pytest.raises(SystemExit) as stopped:
        script.main(["--help"])
    assert stopped.value.code == 0
    assert f"python scripts/convert_{name}.py --input" in capsys.readouterr().out
