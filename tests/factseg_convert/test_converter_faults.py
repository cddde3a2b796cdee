"""Bad input to the converters: one sentence, exit status 2, and no output left behind."""

import errno
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from factseg_paddle import io
from factseg_paddle.io import load_pdparams, save_pdparams
from scripts import convert_paddle2torch, convert_torch2paddle
from tests.factseg_convert.files import COUNTER, light_state
from tests.paths import REPO


@pytest.fixture(scope="module")
def resnet_pdparams(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paddle")
    torch.save(light_state("resnet"), folder / "a.pth")
    assert convert_torch2paddle.main(["--input", str(folder / "a.pth")]) == 0
    return load_pdparams(folder / "a.pdparams")


# Tensors that don't fit


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_missing_extra_and_misshapen_tensor_of_factseg_is_listed(tmp_path, refused, prefix):
    state = light_state("factseg")
    state["fgfpn.fpn_iner1.bias"] = state.pop("fgfpn.fpn_inner1.bias")
    del state["bi_decoder.blocks.0.0.1.running_var"]
    state["bi_cls.weight"] = torch.zeros(2, 128, 1, 1)
    state["another"] = torch.zeros(3)
    state = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"model": state}, tmp_path / "a.pth")
    message = refused(convert_torch2paddle, "a.pth")
    assert f"FactSeg with resnet18, 5 classes as {prefix}fg_cls.bias says" in message
    assert "2 missing, 2 extra, 1 misshapen; nothing was written" in message
    right, wrong = f"{prefix}fgfpn.fpn_inner1.bias", f"{prefix}fgfpn.fpn_iner1.bias"
    assert f"missing {right} [256] (nearest name: {wrong})" in message
    assert f"extra {wrong} [256] (nearest name: {right})" in message
    assert f"missing {prefix}bi_decoder.blocks.0.0.1.running_var [128] (nearest name: " in message
    assert f"misshapen {prefix}bi_cls.weight is [2, 128, 1, 1], should be [1, 128, 1, 1]" in message
    assert f"extra {prefix}another [3]" in message


def test_every_missing_extra_and_misshapen_tensor_of_a_pdparams_is_listed(
    tmp_path, refused, resnet_pdparams
):
    state = dict(resnet_pdparams)
    state["bn1.running_mean"] = state.pop("bn1._mean")
    state["fc.weight"] = state["fc.weight"].T
    save_pdparams(tmp_path / "a.pdparams", state)
    message = refused(convert_paddle2torch, "a.pdparams")
    assert "resnet18, 5 classes as fc.bias says: 1 missing, 1 extra, 1 misshapen" in message
    assert "missing bn1._mean [64] (nearest name: bn1.running_mean)" in message
    assert "misshapen fc.weight is [5, 512], should be [512, 5]" in message


@pytest.mark.parametrize("name", ["conv1.weight", "bn1.running_mean", "fc.weight", "fc.bias"])
def test_any_single_missing_tensor_is_named(tmp_path, refused, name):
    state = light_state("resnet")
    del state[name]
    torch.save(state, tmp_path / "a.pth")
    assert f"1 missing; nothing was written: missing {name} [" in refused(
        convert_torch2paddle, "a.pth"
    )


def test_counters_may_be_absent_together_but_not_in_part(tmp_path, refused):
    state = light_state("resnet")
    del state[f"layer1.0.bn1.{COUNTER}"]
    state[f"bn1.{COUNTER}"] = torch.tensor(1.0)
    torch.save(state, tmp_path / "a.pth")
    message = refused(convert_torch2paddle, "a.pth")
    assert f"missing layer1.0.bn1.{COUNTER} []" in message
    assert f"misshapen bn1.{COUNTER} is float32, should be int64" in message


def test_another_network_is_called_neither(tmp_path, refused):
    torch.save({"encoder.weight": torch.ones(2)}, tmp_path / "a.pth")
    message = refused(convert_torch2paddle, "a.pth")
    assert "none of the tensors of FactSeg or a ResNet among its 1; its first is encoder" in message
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    message = refused(convert_torch2paddle, "a.pth", "--arch", "factseg")
    assert "none of the tensors of FactSeg among its 122" in message
    torch.save({}, tmp_path / "a.pth")
    assert "among its 0\n" in refused(convert_torch2paddle, "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds list, not a dictionary of tensors"),
        (torch.ones(2), "holds Tensor, not a dictionary of tensors"),
        ({"conv1.weight": torch.ones(2), "opt": {}}, "'opt' is of type dict, no tensor"),
        ({"conv1.weight": torch.ones(2), "a": [[[3]]]}, "'a' is of type list, no tensor"),
        ({"mask_values": [0, 1], "epoch": 3}, "'mask_values' is of type list, no tensor"),
        ({"model_state": {"mask_values": [0, 1]}}, "'mask_values' is of type list, no tensor"),
        ({"conv1.weight": np.float64(3)}, "'conv1.weight' is of type float64, no tensor"),
        ({"model": {3: torch.ones(2)}}, "entry 3 is not named by a text"),
        ({"conv1.weight": torch.ones(2, dtype=torch.uint16)}, "conv1.weight is of dtype uint16"),
        ({"conv1.weight": torch.ones(2, 2).to_sparse()}, "weights are dense"),
        ({"conv1.weight": torch.ones(2, device="meta")}, "(torch.strided, meta)"),
        (
            {
                "module.bn1.bias": torch.ones(64),
                "bn1.bias": torch.ones(64),
                "module.x": torch.ones(2),
            },
            "has module. before 2 of its names, but not before bn1.bias",
        ),
    ],
)
def test_what_is_no_state_dict_is_refused_by_name(tmp_path, refused, content, message):
    torch.save(content, tmp_path / "a.pth")
    assert message in refused(convert_torch2paddle, "a.pth")


# Files that can't be read


@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
def test_a_torch_file_cut_anywhere_is_one_sentence(tmp_path, refused, zip_format):
    path = tmp_path / "a.pth"
    state = {f"layer1.{i}.bias": torch.ones(50) for i in range(10)}
    torch.save(state, path, _use_new_zipfile_serialization=zip_format)
    data = path.read_bytes()
    lengths = {*range(0, 40), *range(40, len(data), len(data) // 60), len(data) - 1}
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        assert "truncated or not a torch checkpoint" in refused(convert_torch2paddle, "a.pth")


def test_a_cut_pdparams_is_one_sentence(tmp_path, refused, resnet_pdparams):
    path = tmp_path / "a.pdparams"
    save_pdparams(path, {name: array[:2] for name, array in resnet_pdparams.items()})
    data = path.read_bytes()
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        message = refused(convert_paddle2torch, "a.pdparams")
        assert "truncated or not a Paddle checkpoint" in message


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x00" * 500, b"PK\x03\x04" + b"a" * 200])
def test_other_files_are_no_checkpoints(tmp_path, refused, content):
    (tmp_path / "a").write_bytes(content)
    assert "not a torch checkpoint" in refused(convert_torch2paddle, "a")
    assert "not a Paddle" in refused(convert_paddle2torch, "a")


def test_the_wrong_script_says_which_is_the_right_one(tmp_path, refused, resnet_pdparams):
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    save_pdparams(tmp_path / "a.pdparams", resnet_pdparams)
    assert "convert_paddle2torch.py" in refused(convert_torch2paddle, "a.pdparams")
    assert "zip archive as torch.save writes it" in refused(convert_paddle2torch, "a.pth")


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["weights", "opt"])
def test_a_torch_file_that_would_run_code_is_refused_and_not_run(
    tmp_path, refused, place, zip_format
):
    canary = tmp_path / "canary"
    content = {"model": light_state("resnet"), "opt": {}}
    content["model" if place == "weights" else "opt"]["x"] = Touch(canary)
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zip_format)
    message = refused(convert_torch2paddle, "a.pth")
    assert "asks for posix.system, which could run code; it was not loaded" in message
    assert not canary.exists()


def test_a_whole_module_is_refused_by_the_class_it_asks_for(tmp_path, refused):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    assert "asks for torch.nn.modules.linear.Linear" in refused(convert_torch2paddle, "a.pth")


def test_a_pdparams_that_would_run_code_is_refused_and_not_run(tmp_path, refused):
    import pickle

    canary = tmp_path / "canary"
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({"bn1.bias": Touch(canary)}))
    message = refused(convert_paddle2torch, "a.pdparams")
    assert "asks for posix.system, which could run code; it was not loaded" in message
    assert not canary.exists()


# Paths and disks


def test_paths_that_cannot_be_are_one_sentence_each(tmp_path, refused):
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    (tmp_path / "folder").mkdir()
    assert "nothing.pth does not exist" in refused(convert_torch2paddle, "nothing.pth")
    assert "folder is a folder; give a checkpoint" in refused(convert_torch2paddle, "folder")
    assert "is the input" in refused(convert_torch2paddle, "a.pth", output="a.pth")
    assert "is the input" in refused(convert_torch2paddle, "a.pth", output="folder/../a.pth")
    message = refused(convert_torch2paddle, "a.pth", output="nowhere/b")
    assert "nowhere does not exist; make it first" in message
    assert "folder is a folder" in refused(convert_torch2paddle, "a.pth", output="folder")
    assert "File name too long" in refused(convert_torch2paddle, "a.pth", output="b" * 300)


def test_output_without_input_is_refused(tmp_path, capsys):
    assert convert_torch2paddle.main(["--output", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.startswith("--output needs --input")


@pytest.mark.parametrize("call", ["write_pdparams", "write_manifest"])
def test_a_full_disk_leaves_nothing(tmp_path, refused, monkeypatch, call):
    def full(path, _content):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    torch.save(light_state("resnet"), tmp_path / "a.pth")
    monkeypatch.setattr(f"factseg_convert.write.{call}", full)
    message = refused(convert_torch2paddle, "a.pth")
    assert "out.bin was not written: No space left on device" in message


@pytest.mark.parametrize("to", ["paddle", "torch"])
def test_a_real_write_error_of_the_system_is_one_sentence(tmp_path, to, refused, resnet_pdparams):
    # A limit on the size of files stands in for the full disk; Python reports both as OSError.
    save_pdparams(tmp_path / "a.pdparams", resnet_pdparams)
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        if to == "paddle":
            message = refused(convert_torch2paddle, "a.pth")
        else:
            message = refused(convert_paddle2torch, "a.pdparams")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "out.bin was not written: File too large" in message


def test_an_output_that_reads_back_otherwise_is_not_kept(tmp_path, refused, monkeypatch):
    def careless(path, state):
        io.write_pdparams(path, {name: array + 0.5 for name, array in state.items()})

    torch.save(light_state("resnet"), tmp_path / "a.pth")
    monkeypatch.setattr("factseg_convert.write.write_pdparams", careless)
    assert "does not hold conv1.weight as it was" in refused(convert_torch2paddle, "a.pth")


def test_kill_in_the_middle_leaves_no_output(tmp_path):
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    code = (
        "import os, signal, sys\n"
        "from factseg_convert import write\n"
        "from scripts import convert_torch2paddle\n"
        "def stop(path, manifest):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write.write_manifest = stop\n"
        "convert_torch2paddle.main(['--input', sys.argv[1]])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.pth"], cwd=REPO, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.pdparams").exists()
    assert not (tmp_path / "a.pdparams.manifest.json").exists()
