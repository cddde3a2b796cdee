"""Defects that the converters once had, beyond the manifest's; each test is named after its own."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from alignment.weights.checkpoint_files import read_checkpoint
from alignment.weights.suggestions import nearest
from factseg_convert.architectures import identify
from factseg_paddle.io import CheckpointError, load_plain
from scripts import convert_paddle2torch, convert_torch2paddle
from tests.factseg_convert.files import (
    assert_same_tensors,
    light_state,
    names_and_shapes,
    there_and_back,
)
from tests.paths import REPO


def published(path):
    model = {f"module.{name}": tensor for name, tensor in light_state("resnet").items()}
    torch.save({"model": model, "opt": {"lr": torch.ones(1)}, "global_step": 3}, path)


# Replacing


def test_converting_back_silently_replaced_the_published_file_and_lost_its_opt(tmp_path, capsys):
    published(tmp_path / "pub.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "pub.pth")]) == 0
    before = (tmp_path / "pub.pth").read_bytes()
    capsys.readouterr()
    back = ["--input", str(tmp_path / "pub.pdparams")]
    assert convert_paddle2torch.main(back) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"{tmp_path / 'pub.pth'} is there already and holds opt, which the output would lack; "
        "give --output\n"
    )
    assert (tmp_path / "pub.pth").read_bytes() == before
    assert convert_paddle2torch.main([*back, "--output", str(tmp_path / "pub.pth")]) == 0
    assert f"replaced {tmp_path / 'pub.pth'} and" in capsys.readouterr().out


def test_replacing_a_file_was_called_writing(tmp_path, capsys):
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    assert "  wrote " in capsys.readouterr().out
    assert convert_paddle2torch.main(["--input", str(tmp_path / "a.pdparams")]) == 0
    out = capsys.readouterr().out
    assert f"  replaced {tmp_path / 'a.pth'} and" in out
    assert "wrote" not in out


def test_the_folder_mode_stopped_at_the_first_bad_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(convert_torch2paddle, "WEIGHTS", tmp_path)
    (tmp_path / "a.pth").write_bytes(b"no checkpoint")
    torch.save(light_state("resnet"), tmp_path / "b.pth")
    torch.save({"other": torch.ones(1)}, tmp_path / "c.pth")
    torch.save(light_state("resnet"), tmp_path / "d.pth")
    assert convert_torch2paddle.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("bit-equal") == 2
    assert (tmp_path / "b.pdparams").exists()
    assert (tmp_path / "d.pdparams").exists()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"2 of 4 files not converted: {tmp_path / 'a.pth'} is truncated")
    assert f"; {tmp_path / 'c.pth'} has none of the tensors" in captured.err


# Names


def test_a_mixed_prefix_was_accepted_and_a_name_silently_changed(tmp_path, refused):
    state = {f"module.{name}": tensor for name, tensor in light_state("resnet").items()}
    for name in ("fc.bias", "conv1.weight"):
        state[name] = state.pop(f"module.{name}")
    torch.save(state, tmp_path / "a.pth")
    message = refused(convert_torch2paddle, "a.pth")
    assert "has module. before 120 of its names, but not before fc.bias, conv1.weight" in message


def test_many_misfits_had_no_nearest_name(tmp_path, refused):
    state = light_state("resnet")
    state["zzz"] = torch.ones(3)
    del state["conv1.weight"]
    state["fc.q"] = state.pop("fc.bias")
    torch.save(state, tmp_path / "a.pth")
    message = refused(convert_torch2paddle, "a.pth")
    assert "2 missing, 2 extra" in message
    assert message.count("(nearest name: ") == 4
    assert "extra fc.q [5] (nearest name: fc.bias)" in message


def test_the_nearest_of_equally_like_names_was_the_last():
    known = [f"layer{i}.0.bn1.bias" for i in (2, 3, 4)]
    assert nearest("layer1.0.bn1.bias", known) == "layer2.0.bn1.bias"
    assert nearest("layer1.0.bn1.bias", known[::-1]) == "layer4.0.bn1.bias"


@pytest.mark.parametrize(
    "rename",
    [lambda name: name[::-1], lambda name: f"resencoder.x.{name}", lambda name: name + "s"],
    ids=["reversed", "deeper", "plural"],
)
def test_the_nearest_name_is_found_fast_for_a_file_that_is_misnamed_throughout(rename):
    right = list(names_and_shapes("factseg", "resnet50", 16))
    wrong = [rename(name) for name in right]
    assert len(right) == 438
    start = time.process_time()
    assert all(nearest(name, wrong, wrong) for name in right)
    assert all(nearest(name, right, right) for name in wrong)
    assert time.process_time() - start < 4  # about 1 s; difflib over all of them took minutes


@pytest.mark.parametrize("prefix", ["backbone.", "module.module."])
@pytest.mark.parametrize("script", [convert_torch2paddle, convert_paddle2torch])
def test_a_foreign_prefix_had_no_nearest_name(tmp_path, refused, prefix, script):
    state = {prefix + name: tensor for name, tensor in light_state("resnet").items()}
    if script is convert_torch2paddle:
        torch.save(state, tmp_path / "a")
    else:
        content = {name: tensor.numpy() for name, tensor in state.items()}
        (tmp_path / "a").write_bytes(pickle.dumps(content, 4))
    message = refused(script, "a")
    expected = f"its first is {prefix}conv1.weight (nearest known name: conv1.weight)"
    assert expected in message


# The forms in which the references' own scripts save


@pytest.mark.parametrize(
    ("wrapper", "prefix", "beside", "dropped"),
    [
        ("model_state", "", {"cur_itrs": 3, "best_score": 0.5}, ["optimizer_state"]),  # VainF
        (
            "model_state_dict",
            "",
            {"epoch": 1, "iteration": 3, "arch": "FCN8s", "best_mean_iu": np.float64(0.5)},
            ["optim_state_dict"],
        ),  # wkentaro
        ("model_state", "module.", {"epoch": 3, "best_iou": 0.5}, ["optimizer_state"]),  # semseg
    ],
    ids=["VainF", "wkentaro", "pytorch-semseg"],
)
def test_a_state_dict_under_another_key_was_no_checkpoint(
    tmp_path, capsys, wrapper, prefix, beside, dropped
):
    state = {prefix + name: tensor for name, tensor in light_state("resnet").items()}
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    content = {**beside, wrapper: state, **dict.fromkeys(dropped, optimizer)}
    back = there_and_back(tmp_path, content)
    assert_same_tensors(back.pop(wrapper), state)
    assert back == beside
    assert f"{dropped[0]}, beside the weights, is not converted" in capsys.readouterr().out


@pytest.mark.parametrize("mask_values", [[0, 1], [[0, 0, 0], [255, 255, 255]]])
def test_plain_values_among_the_tensors_made_milesials_files_no_state_dict(
    tmp_path, capsys, mask_values
):
    state = light_state("resnet")
    back = there_and_back(tmp_path, {**state, "mask_values": mask_values})
    assert_same_tensors(back, state)
    out = capsys.readouterr().out
    assert "  mask_values, beside the weights, is not converted: weights only\n" in out


def test_lists_that_share_others_are_not_walked_for_ever(tmp_path, refused):
    bomb = [0]
    for _ in range(40):
        bomb = [bomb, bomb]
    torch.save({"a": torch.ones(1), "b": bomb}, tmp_path / "a.pth")
    assert "'b' is of type list, no tensor" in refused(convert_torch2paddle, "a.pth")


# Messages


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({**light_state("resnet"), "a\nb\x1b[m": torch.ones(2)}, r"extra 'a\nb\x1b[m' [2]"),
        ({"a\nb": torch.ones(2)}, r"its first is 'a\nb' (nearest"),
        ({"a\nb": torch.ones(2, dtype=torch.uint16)}, r"'a\nb' is of dtype uint16"),
        ({"a\nb": {}, "c": torch.ones(2)}, r"'a\nb' is of type dict"),
        (
            {"module.a": torch.ones(2), "module.b": torch.ones(2), "a\nb": torch.ones(2)},
            r"not before 'a\nb'",
        ),
    ],
)
def test_control_characters_in_names_made_several_lines(tmp_path, refused, content, shown):
    torch.save(content, tmp_path / "a.pth")
    assert shown in refused(convert_torch2paddle, "a.pth")


def test_control_characters_in_what_a_pickle_asks_for_made_several_lines(tmp_path, refused):
    evil = b"\x8c\x06evil\nx\x8c\x04f\x1b[m\x93"
    (tmp_path / "a.pdparams").write_bytes(b"\x80\x04" + evil + b".")
    message = refused(convert_paddle2torch, "a.pdparams")
    assert r"asks for 'evil\nx.f\x1b[m', which could run code; it was not loaded" in message


def test_spaces_and_colours_in_what_a_torch_file_asks_for_were_cut_or_shown(tmp_path, refused):
    # torch's own reader takes names by line, so a line break can't be in one.
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pth").read_bytes()
    old, new = b"ctorch._utils\n_rebuild_tensor_v2\n", b"cevil x\nf\x1b[m\n"
    assert old in data
    (tmp_path / "a.pth").write_bytes(data.replace(old, new))
    message = refused(convert_torch2paddle, "a.pth")
    assert r"asks for 'evil x.f\x1b[m', which could run code" in message


def test_a_full_standard_output_was_called_none(tmp_path):
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    script = REPO / "scripts" / "convert_torch2paddle.py"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, script, "--input", tmp_path / "a.pth"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == "standard output can't be used: No space left on device\n"
    assert done.returncode == 2


@pytest.mark.parametrize("protocol", [2, 4])
def test_an_old_torch_file_was_called_an_int(tmp_path, refused, protocol):
    torch.save(
        {"a": torch.ones(2)},
        tmp_path / "a.pth",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=False,
    )
    message = refused(convert_paddle2torch, "a.pth")
    assert "in torch's old format, not a Paddle file; for convert_torch2paddle.py" in message


# Reading


@pytest.mark.parametrize("kind", [list, tuple], ids=["lists", "tuples"])
def test_shared_nested_containers_made_the_reader_walk_for_ever(tmp_path, kind):
    bomb = kind([np.zeros(1)])
    for _ in range(40):
        bomb = kind([bomb, bomb])
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({"a": bomb}, 4))
    start = time.process_time()
    content = load_plain(tmp_path / "a.pdparams")
    assert content["a"][0] is content["a"][1]
    assert time.process_time() - start < 1


def test_a_list_that_holds_itself_is_one_sentence(tmp_path):
    loop = []
    loop.append(loop)
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({"a": loop}, 4))
    with pytest.raises(CheckpointError, match="not a Paddle checkpoint"):
        load_plain(tmp_path / "a.pdparams")


def test_half_of_the_names_with_a_prefix_are_taken_as_they_are(tmp_path):
    torch.save({"module.fc.bias": torch.ones(1), "bn1.bias": torch.ones(1)}, tmp_path / "a.pth")
    checkpoint = read_checkpoint(tmp_path / "a.pth", "torch")
    assert list(checkpoint.state) == ["module.fc.bias", "bn1.bias"]
    assert identify(checkpoint).name == "resnet18"
