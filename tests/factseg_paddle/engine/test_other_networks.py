"""Networks other than FactSeg through training, evaluation and prediction."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest

from factseg_paddle import create_model
from factseg_paddle.config.loading import ConfigError, load_config, make_config
from factseg_paddle.data.synthetic.scenes import make_sample_dataset
from factseg_paddle.engine.build import build_loss, build_model
from factseg_paddle.engine.restore import restore
from factseg_paddle.engine.training.start import train
from factseg_paddle.engine.weights import load_backbone, load_weights, model_arrays
from factseg_paddle.inference.predictor import network_predictor
from factseg_paddle.io import CheckpointError, save_pdparams
from factseg_paddle.losses import (
    AnnealedFocalLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    set_step,
)
from tests.paths import REPO

NAME = "unet_bilinear_w32"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unet")
    make_sample_dataset(folder / "data", images=4, size=64, seed=0)
    opts = [
        f"data.dataset_root={folder / 'data'}",
        "data.sample=null",
        "data.patch_size=32",
        "data.stride=32",
        "eval.patch_size=64",
        "eval.stride=64",
        f"model.name={NAME}",
        "loss.kind=cross_entropy",
        "loss.sampling=mean",
        "train.iters=2",
        "train.batch_size=2",
        "train.log_iters=1",
        f"train.save_dir={folder / 'run'}",
    ]
    status = train(load_config(REPO / "configs" / "quickstart.yml", opts))
    assert status == 0
    return folder / "run"


def test_run_is_restored_from_its_checkpoint(run):
    restored = restore(run / "iter_000002")
    state = json.loads((run / "iter_000002" / "state.json").read_text())
    assert state["config"]["model"]["name"] == NAME
    assert list(restored.network.state_dict()) == list(create_model(NAME, 16).state_dict())
    image = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    logits = restored.network(paddle.to_tensor(image)).logits.numpy().astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = network_predictor(restored.network)(image)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_weights_of_another_class_count_load_all_but_the_head(run):
    network = create_model(NAME, 5)
    report = load_weights(network, run / "iter_000002")
    assert report.kept == ("reduce.weight", "reduce.bias")
    assert report.reason == "16 classes in the file, 5 here"


def test_other_class_count_is_refused_when_restoring(run):
    with pytest.raises(CheckpointError, match="16 classes in the file, 5 here"):
        restore(
            run / "iter_000002" / "model.pdparams",
            opts=["data.kind=folder", 'data.val={"image_dir": "."}', "data.num_classes=5"],
        )


def test_weights_without_configuration_ask_for_it(tmp_path):
    save_pdparams(tmp_path / "unet.pdparams", model_arrays(create_model(NAME, 3)))
    with pytest.raises(CheckpointError, match="for another network give its configuration"):
        restore(tmp_path / "unet.pdparams")


def test_network_without_backbone_refuses_backbone_weights(tmp_path):
    with pytest.raises(CheckpointError, match="LightUNet has no pretrained backbone"):
        load_backbone(create_model(NAME, 3), tmp_path / "any.pdparams")


BAD = {
    "joint loss": (NAME, "joint", "with which LightUNet can't learn; use cross_entropy"),
    "loss of others": (
        "factseg_resnet18",
        "dice",
        "dice, with which FactSeg can't learn; use joint",
    ),
}


@pytest.mark.parametrize(("name", "kind", "message"), BAD.values(), ids=BAD)
def test_loss_that_does_not_fit_the_network_is_refused_before_anything_is_written(
    name, kind, message, tmp_path
):
    values = {"model": {"name": name}, "loss": {"kind": kind}, "device": "cpu"}
    values["train"] = {"save_dir": str(tmp_path / "run")}
    values["data"] = {"dataset_root": str(tmp_path / "data"), "sample": {"images": 2, "size": 64}}
    with pytest.raises(ValueError, match=message):
        train(make_config(values, "test"))
    assert list(tmp_path.iterdir()) == []


def test_option_that_a_network_lacks_is_refused():
    settings = make_config({"model": {"name": NAME, "options": {"x": 1}}}, "test").model
    with pytest.raises(ValueError, match=f"option of {NAME} 'x' is not known"):
        build_model(settings, 3)


OTHERS = {"ratio": 0.5, "form": "literal", "gamma": 1.0, "annealing_steps": 9}


@pytest.mark.parametrize(("key", "value"), OTHERS.items())
def test_key_of_another_loss_is_refused(key, value):
    with pytest.raises(ConfigError, match=f"loss: {key} belongs to kind .*, and kind is dice"):
        make_config({"model": {"name": NAME}, "loss": {"kind": "dice", key: value}}, "test")


LOSSES = {
    "cross_entropy": ({"sampling": "mean"}, CrossEntropyLoss(sampling="mean")),
    "focal": ({"gamma": 3.0}, FocalLoss(gamma=3.0)),
    "annealed_focal": ({"gamma": 3.0, "annealing_steps": 9}, AnnealedFocalLoss(9, 3.0)),
    "dice": ({}, DiceLoss()),
}


@pytest.mark.parametrize(("kind", "options", "expected"), [(k, *v) for k, v in LOSSES.items()])
def test_losses_of_the_configuration(kind, options, expected):
    settings = {"kind": kind, "aux_weight": 0.3, **options}
    config = make_config({"model": {"name": NAME}, "loss": settings}, "test")
    network = paddle.nn.Identity()
    network.aux_weight = 0.4  # as a network has that has such heads
    loss = build_loss(config.loss, 255, network)
    rng = np.random.default_rng(1)
    logits, aux = (paddle.to_tensor(rng.normal(size=(2, 4, 8, 8))) for _ in range(2))
    labels = paddle.to_tensor(rng.integers(0, 4, size=(2, 8, 8)))
    set_step(loss, 4)
    set_step(expected, 4)
    for tensor in logits, aux:
        tensor.stop_gradient = False
    loss(logits, (aux,), labels).backward()
    found = [tensor.grad.numpy() for tensor in (logits, aux)]
    for tensor, weight, gradient in zip((logits, aux), (1, 0.3), found, strict=True):
        tensor.clear_gradient()
        (weight * expected(tensor, labels)).backward()
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-12, atol=0)


def test_weight_of_auxiliary_heads_that_are_not_there_is_refused():
    loss = {"kind": "dice", "aux_weight": 0.3}
    config = make_config({"model": {"name": NAME}, "loss": loss}, "test")
    with pytest.raises(ValueError, match=r"for networks with auxiliary heads, and LightUNet has"):
        build_loss(config.loss, 255, create_model(NAME, 3))


def test_annealed_loss_is_told_the_step_before_and_after_a_resume(run, monkeypatch, tmp_path):
    opts = ["loss.kind=annealed_focal", "loss.sampling=som", "loss.ratio=0.1", "train.iters=3"]
    opts += ["train.save_interval=1", f"train.save_dir={tmp_path / 'run'}"]
    config = load_config(run / "config.yml", opts)
    steps = []
    forward = AnnealedFocalLoss.forward

    def noting(self, *args):
        steps.append(self.step)
        return forward(self, *args)

    monkeypatch.setattr(AnnealedFocalLoss, "forward", noting)
    assert train(config) == 0
    assert steps == [1, 2, 3]
    assert train(config, resume=str(tmp_path / "run" / "iter_000001")) == 0
    assert steps == [1, 2, 3, 2, 3]


def test_misspelt_network_and_option_get_suggestions():
    with pytest.raises(ValueError, match=r"did you mean .*unet_bilinear"):
        create_model("unet_bilinaer", 3)
    with pytest.raises(ValueError, match=r"option of factseg_resnet18 'output_strides' is not"):
        create_model("factseg_resnet18", 3, output_strides=8)
