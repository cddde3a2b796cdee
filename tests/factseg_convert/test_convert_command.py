"""`factseg convert` sees by the input's name which way to go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from factseg_convert.cli import direction, main
from tests.factseg_convert.files import assert_same_tensors, load_torch, random_state


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("a.pth", "paddle"),
        ("a.pt", "paddle"),
        ("folder/a.b.pth", "paddle"),
        ("a.pdparams", "torch"),
        ("a.pdopt", None),
        ("a.onnx", None),
        ("a", None),
    ],
)
def test_direction_of_a_file(name, to):
    assert direction(Path(name)) == to


def test_a_folder_is_a_paddle_checkpoint_whatever_its_name(tmp_path):
    (tmp_path / "run.pth").mkdir()
    assert direction(tmp_path) == direction(tmp_path / "run.pth") == "torch"


def test_there_and_back_by_names_alone(tmp_path, capsys):
    state = random_state("factseg")
    torch.save(state, tmp_path / "a.pt")
    assert main(["--input", str(tmp_path / "a.pt")]) == 0
    assert f"wrote {tmp_path / 'a.pdparams'}" in capsys.readouterr().out
    assert main(["--input", str(tmp_path / "a.pdparams")]) == 0
    assert_same_tensors(load_torch(tmp_path / "a.pth"), state)


def test_a_checkpoint_folder_goes_to_torch(tmp_path):
    state = random_state("factseg", counters=False)
    torch.save(state, tmp_path / "a.pth")
    folder = tmp_path / "iter_000001"
    folder.mkdir()
    output = str(folder / "model.pdparams")
    assert main(["--input", str(tmp_path / "a.pth"), "--output", output]) == 0
    assert main(["--input", str(folder)]) == 0
    back = load_torch(tmp_path / "iter_000001.pth")
    assert back.keys() >= state.keys()


@pytest.mark.parametrize("name", ["model.onnx", "model", "model.pdopt"])
def test_a_name_that_does_not_tell_is_one_sentence(tmp_path, capsys, name):
    with pytest.raises(SystemExit) as stop:
        main(["--input", str(tmp_path / name)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"whether {tmp_path / name} is torch's or Paddle's can't be seen by its name" in said
    assert said.count("\n") == 1


def test_a_file_that_is_not_there_is_one_sentence(tmp_path, capsys):
    assert main(["--input", str(tmp_path / "a.pth")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'a.pth'} does not exist\n"


def test_without_an_input_it_says_so(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert "--input" in capsys.readouterr().err
