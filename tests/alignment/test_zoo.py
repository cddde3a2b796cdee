"""`python -m alignment.zoo`: a fast form of `make zoo`."""

from __future__ import annotations

from alignment import zoo

NAME = "unet_bilinear_w32"


def test_network_is_aligned(tmp_path, capsys):
    steps = ["--steps", "forward", "loss", "backward"]
    assert zoo.main(["--networks", NAME, *steps, "--out", str(tmp_path)]) == 0
    line, summary = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{NAME}  ")
    assert "aligned:" in line
    assert "forward loss backward" in line
    assert summary.startswith("1 of 1 networks aligned")
    assert (tmp_path / NAME / "report.html").is_file()


def test_misaligned_network_is_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(zoo, "compare", lambda name, *_: (name == "a", f"of {name}"))
    assert zoo.main(["--networks", "a", "b", "--out", str(tmp_path)]) == 1
    assert "1 of 2 networks aligned" in capsys.readouterr().out


def test_unknown_network_is_one_sentence(tmp_path, capsys):
    assert zoo.main(["--networks", "unet_bilinaer", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "did you mean" in error
    assert len(error.splitlines()) == 1
