"""`python -m factseg_proof.networks`: a fast form of `make zoo`."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from subprocess import CompletedProcess

import paddle
import pytest
import torch

from alignment import align
from factseg_paddle.models import list_models
from factseg_paddle.models.layers import upsample
from factseg_proof import networks as zoo
from factseg_proof.pairs.classic import make_pair

pytestmark = pytest.mark.timeout(600)  # starts whole runs

NAME = "unet_bilinear_w32"


def test_network_is_aligned(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a relative --out was not found again from another folder
    steps = ["--steps", "forward", "loss", "backward"]
    assert zoo.main(["--networks", NAME, *steps, "--out", "reports"]) == 0
    line, summary = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{NAME}  ")
    assert "aligned:" in line
    assert "forward loss backward" in line
    assert 0 < int(line.split("largest ")[1].removesuffix("% of allowed")) <= 100
    assert summary.startswith("1 of 1 networks aligned")
    assert (tmp_path / "reports" / NAME / "report.html").is_file()


def test_misaligned_network_is_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(zoo, "compare", lambda name, *_: (name == NAME, f"of {name}"))
    assert zoo.main(["--networks", NAME, "unet_bilinear", "--out", str(tmp_path)]) == 1
    assert "1 of 2 networks aligned" in capsys.readouterr().out


def test_network_that_can_not_run_does_not_stop_the_others(tmp_path, capsys, monkeypatch):
    """One that was killed because memory ran out ended an hour's work."""

    def killed(*_, **__):
        return CompletedProcess([], -9, "", "")

    monkeypatch.setattr(subprocess, "run", killed)
    assert zoo.main(["--networks", NAME, "unet_bilinear", "--out", str(tmp_path)]) == 2
    first, second, summary = capsys.readouterr().out.splitlines()
    assert "could not run: ended by signal 9; the system may have killed it" in first
    assert second.startswith("unet_bilinear ")
    assert summary.startswith("0 of 2 networks aligned")


def test_every_network_is_compared_by_default(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(zoo, "compare", lambda *_: (True, "aligned"))
    assert zoo.main(["--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list_models()


def test_unknown_network_is_one_sentence(tmp_path, capsys):
    assert zoo.main(["--networks", "unet_bilinaer", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "did you mean" in error
    assert len(error.splitlines()) == 1


def other_epsilon(model):
    model.down2.conv.bn1._epsilon = 1e-4


def other_order_of_concatenation(model):
    up = model.up3

    def forward(x, skip):
        return up.conv(paddle.concat([upsample(x, 2, align_corners=True), skip], axis=1))

    up.forward = forward


def missing_activation(model):
    model.stem.relu1 = paddle.nn.Identity()


FAULTS = {
    other_epsilon: "down2.conv.bn1",
    other_order_of_concatenation: "up2.conv.relu2 -> up3.conv.conv1",
    missing_activation: "stem.relu1",
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_planted_fault_is_placed(plant):
    assert first_divergence(NAME, plant) == FAULTS[plant]


def other_epsilon_in_the_auxiliary_head(model):
    model.auxlayer.conv5[1]._epsilon = 1e-2


@pytest.mark.slow  # a ResNet-50's alignment; the next test is its fast form
def test_fault_in_an_auxiliary_head_was_placed_nowhere_but_in_the_loss_of_training():
    plant = other_epsilon_in_the_auxiliary_head
    assert first_divergence("fastfcn_resnet50_fcn", plant) == "auxlayer.conv5.1"


def test_auxiliary_heads_run_in_evaluation_mode_too():
    pair = make_pair("fastfcn_resnet50_fcn", crop_size=32)
    models = (pair.torch_model(), torch.from_numpy), (pair.paddle_model(), paddle.to_tensor)
    for model, tensor in models:
        model.eval()
        assert len(model(tensor(pair.inputs[0])).aux_logits) == 1
        assert not model.auxlayer.conv5[1].training


def first_divergence(name, plant):
    pair = make_pair(name, crop_size=32)

    def faulty():
        model = pair.paddle_model()
        plant(model)
        return model

    return align(replace(pair, paddle_model=faulty), ["weights", "forward"]).first_divergence
