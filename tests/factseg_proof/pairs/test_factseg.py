"""Our own pair: right ones pass whatever the seed, broken ones fail under the layer's name."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import paddle
import pytest
import torch

from alignment import align
from alignment.__main__ import main
from alignment.pair_files import Request, load_pair
from alignment.torch_side.shapes import shapes_only
from factseg_paddle import FactSeg as PaddleFactSeg
from factseg_paddle.data.images.files import write_png
from factseg_paddle.data.synthetic.scenes import paint_scene
from factseg_proof.pairs.factseg import make_pair
from factseg_proof.pairs.seeded import seeded_weight
from tests.alignment.small import step
from torch_ref import FactSeg as TorchFactSeg
from torch_ref import JointLoss

pytestmark = pytest.mark.timeout(600)  # starts whole runs

MODEL_STEPS = ["weights", "forward", "backward"]


def without_a_relu():
    """FactSeg whose foreground decoder lacks one ReLU."""
    model = PaddleFactSeg(backbone="resnet18")
    parts = model.fg_decoder.blocks[1][0]
    relu = next(i for i, part in enumerate(parts) if isinstance(part, paddle.nn.ReLU))
    parts[relu] = paddle.nn.Identity()
    return model


BROKEN = """
import dataclasses
from factseg_proof.pairs.factseg import make_pair as factseg
from tests.factseg_proof.pairs.test_factseg import without_a_relu

def make_pair(seed):
    pair = factseg(seed, crop_size=32, backbone="resnet18")
    return dataclasses.replace(pair, paddle_model=without_a_relu)
"""


def test_factseg_that_lacks_a_relu_exits_1_and_names_it(tmp_path, capsys):
    file = tmp_path / "broken.py"
    file.write_text(BROKEN, encoding="utf-8")
    options = ["--steps", "weights", "forward", "--out", str(tmp_path / "report")]
    assert main(["--pair", f"{file}:make_pair", *options]) == 1
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["first_divergence"].startswith("fg_decoder.blocks.1.0.")
    assert [s["passed"] for s in report["steps"]] == [True, False]
    assert report["first_divergence"] in capsys.readouterr().out


# The one of 50 layers is what `make align` compares, and the slow form below.
@pytest.mark.parametrize(
    ("seed", "mode", "crop"),
    [pytest.param(101, "eval", 32, marks=pytest.mark.slow), (102, "train", 64)],
)
def test_factseg_is_aligned(seed, mode, crop):
    pair = make_pair(seed, crop_size=crop, backbone="resnet18")
    report = align(dataclasses.replace(pair, mode=mode), MODEL_STEPS)
    assert report, str(report)
    assert not step(report, "forward").notes


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("seed", range(200, 212))
def test_factseg_raises_no_false_alarm(seed, mode):
    report = align(dataclasses.replace(make_pair(seed, crop_size=64), mode=mode), MODEL_STEPS)
    assert report, str(report)


def run_on_real_image(shared_data, tmp_path, *options) -> int:
    folder = "isaid/val"
    files = {
        "--image": shared_data(f"{folder}/images/images/P0003.png"),
        "--mask": shared_data(f"{folder}/masks/images/P0003_instance_color_RGB.png"),
    }
    words = [str(word) for pair in files.items() for word in pair]
    return main([*words, "--out", str(tmp_path), *options])


def test_real_image_is_aligned_before_the_network(shared_data, tmp_path, capsys):
    steps = ["data", "preprocess", "metric", "loss"]
    options = ("--pair", "factseg_resnet18", "--crop", "32", "--steps", *steps)
    status = run_on_real_image(shared_data, tmp_path, *options)
    assert status == 0, capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    preprocess = next(s for s in report["steps"] if s["step"] == "preprocess")
    assert {"decode image", "decode mask"} <= {t["name"] for t in preprocess["tensors"]}


def test_masks_of_indices_are_decoded_on_both_sides(tmp_path, capsys):
    # the reference looked each index up as a colour: KeyError (1, 1, 1)
    scene = paint_scene(size=64, seed=0)
    labels = scene.labels.copy()
    labels[:8] = 255
    write_png(tmp_path / "image.png", scene.image)
    write_png(tmp_path / "mask.png", labels)
    files = ["--image", str(tmp_path / "image.png"), "--mask", str(tmp_path / "mask.png")]
    options = ("--pair", "factseg_resnet18", "--crop", "32", "--steps", "preprocess")
    status = main([*files, *options, "--out", str(tmp_path / "out")])
    assert status == 0, capsys.readouterr()


@pytest.mark.parametrize("name", ["factseg_resnet18", "factseg_resnet50"])
def test_regression_factseg_by_the_name_in_list_models_has_its_own_loss(name):
    # it was compared under the cross-entropy of the other networks, which its output does not fit
    pair = load_pair(Request(pair=name, crop=32))
    (labels,) = (torch.from_numpy(array) for array in pair.targets)
    model = pair.torch_model().eval()
    with torch.no_grad():
        output = model(torch.from_numpy(pair.inputs[0]))
        assert pair.torch_loss(output, labels) == JointLoss()(*output, labels)
    assert load_pair(Request(pair="factseg", crop=32)).name == "factseg"


@pytest.mark.slow
def test_real_image_is_aligned_in_all_steps(shared_data, tmp_path, capsys):
    status = run_on_real_image(shared_data, tmp_path, "--crop", "256")
    assert status == 0, capsys.readouterr().out


def test_real_window_has_foreground(shared_data):
    folder = "isaid/val"
    pair = make_pair(
        0,
        image=shared_data(f"{folder}/images/images/P0003.png"),
        mask=shared_data(f"{folder}/masks/images/P0003_instance_color_RGB.png"),
        crop_size=64,
    )
    (labels,) = pair.targets
    assert labels.shape == (1, 64, 64)
    assert ((labels > 0) & (labels != 255)).mean() > 0.05


@pytest.mark.parametrize("crop", [32, 64, 96])
def test_painted_input_has_objects_and_ignored_pixels(crop):
    pair = make_pair(7, crop_size=crop)
    (pixels,), (labels,) = pair.inputs, pair.targets
    assert (pixels.shape, pixels.dtype) == ((2, 3, crop, crop), np.float32)
    assert (labels.shape, labels.dtype) == ((2, crop, crop), np.int64)
    assert (labels == 255).any()
    assert np.array_equal(pixels, make_pair(7, crop_size=crop).inputs[0])
    assert not np.array_equal(pixels, make_pair(8, crop_size=crop).inputs[0])


def test_default_scene_has_objects():
    (labels,) = make_pair(0).targets
    assert len(set(np.unique(labels)) - {0, 255}) >= 3


def test_no_weight_is_where_a_fault_could_hide():
    """Statistics, scales and biases stay away from 0 and 1 on the whole, and follow the seed."""
    with shapes_only():
        state = TorchFactSeg().state_dict()
    vectors = {n: t for n, t in state.items() if t.ndim == 1}
    assert len(vectors) > 100
    for name, tensor in vectors.items():
        values = seeded_weight(name, tuple(tensor.shape), 0)
        for trivial in (0.0, 1.0):
            assert np.mean(np.abs(values - trivial) < 1e-3) < 0.1, name
        assert values.dtype == np.float32
        assert values.size == 1 or np.std(values) > 0.01
    name, tensor = next(iter(vectors.items()))
    values = [seeded_weight(name, tuple(tensor.shape), seed) for seed in (0, 0, 1)]
    assert np.array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


def test_networks_of_the_pair_are_made_once_and_share_nothing():
    pair = make_pair(0, crop_size=32, backbone="resnet18")
    one, other = pair.paddle_model(), pair.paddle_model()
    image = paddle.to_tensor(pair.inputs[0])
    one.eval()
    other.eval()
    with paddle.no_grad():
        before = one(image).class_logits.numpy()
        assert np.array_equal(other(image).class_logits.numpy(), before)
        for tensor in other.state_dict().values():
            tensor.set_value(paddle.zeros_like(tensor))
        assert not other(image).class_logits.numpy().any()
        assert np.array_equal(one(image).class_logits.numpy(), before)
    assert pair.paddle_model().state_dict()["fg_cls.weight"].numpy().any()
