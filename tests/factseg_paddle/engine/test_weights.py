"""Loading weights: strictly, with a report, and never a guess."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from factseg_paddle.engine.weights import load_backbone, load_weights, model_arrays, read_weights
from factseg_paddle.io import CheckpointError, save_pdparams
from factseg_paddle.models import FactSeg
from factseg_paddle.models.backbones.resnet import resnet18
from tests.factseg_paddle.engine.tiny import seeded


def source():
    """A network whose tensors are all unlike fresh ones."""
    net, rng = seeded(1), np.random.default_rng(1)
    for tensor in net.state_dict().values():
        tensor.set_value(rng.uniform(0.5, 1.5, tensor.shape).astype(np.float32))
    return net


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.pdparams"
    save_pdparams(path, model_arrays(source()))
    return path


def differs(a, b):
    theirs = model_arrays(b)
    return [name for name, array in model_arrays(a).items() if (array != theirs[name]).any()]


def test_all_tensors_are_loaded(file):
    net = seeded(2)
    report = load_weights(net, file)
    assert differs(net, source()) == []
    assert str(report) == f"{file}: {len(report.used)} tensors loaded"
    assert len(report.used) == len(net.state_dict())


@pytest.mark.parametrize("form", ["model", "module.", "paddle"])
def test_published_forms(tmp_path, form):
    arrays = model_arrays(source())
    path = tmp_path / "published.pdparams"
    if form == "model":
        save_pdparams(path, {"model": arrays, "global_step": 5})
    elif form == "module.":
        save_pdparams(path, {f"module.{name}": array for name, array in arrays.items()})
    else:
        paddle.save(source().state_dict(), str(path))
    net = seeded(2)
    load_weights(net, path)
    assert differs(net, source()) == []


def test_another_class_count_keeps_the_class_head_and_says_so(file):
    net, fresh = seeded(2, num_classes=5), seeded(2, num_classes=5)
    report = load_weights(net, file)
    assert sorted(differs(net, fresh)) == sorted(report.used)
    assert report.kept == ("fg_cls.weight", "fg_cls.bias")
    assert str(report).endswith(
        "2 not used (fg_cls.weight, fg_cls.bias), 2 kept as initialised "
        "(fg_cls.weight, fg_cls.bias): 3 classes in the file, 5 here"
    )


def test_bfloat16_weights_are_widened(tmp_path):
    arrays = {
        name: (array.view(np.uint32) >> 16).astype(np.uint16)
        for name, array in model_arrays(source()).items()
    }
    path = tmp_path / "half.pdparams"
    save_pdparams(path, arrays)
    net = seeded(2)
    load_weights(net, path)
    for name, array in model_arrays(net).items():
        np.testing.assert_allclose(array, model_arrays(source())[name], rtol=2**-7)


def renamed(arrays):
    arrays["fg_cls.wight"] = arrays.pop("fg_cls.weight")


def misshapen(arrays):
    arrays["body.0.bias"] = arrays["body.0.bias"][:2]


def text(arrays):
    arrays["note"] = "x"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            renamed,
            r"1 tensors are missing \(fg_cls.weight\); 1 tensors have no place here "
            r"\(fg_cls.wight\)",
        ),
        (misshapen, r"have another shape \(body.0.bias is \[2\], should be \[4\]\)"),
        (text, "is no state dict: 'note' is of type str"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(tmp_path, change, sentence):
    arrays = model_arrays(source())
    change(arrays)
    path = tmp_path / "net.pdparams"
    save_pdparams(path, arrays)
    net = seeded(2)
    with pytest.raises(CheckpointError, match=sentence):
        load_weights(net, path)
    assert differs(net, seeded(2)) == []


def test_torch_file_is_answered_with_the_command(tmp_path):
    command = "convert it first: python scripts/convert_torch2paddle.py --input .*net.pth"
    with pytest.raises(CheckpointError, match=command):
        read_weights(tmp_path / "net.pth")


def test_missing_file_and_folder_without_weights(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing.pdparams don't exist; give a .pdparams"):
        read_weights(tmp_path / "nothing.pdparams")
    with pytest.raises(CheckpointError, match=r"has no model.pdparams; give"):
        read_weights(tmp_path)


def test_truncated_file(file):
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="is truncated or not a Paddle checkpoint"):
        load_weights(seeded(), file)


def test_resnet_weights_go_into_the_encoder_without_its_classifier(tmp_path):
    paddle.seed(3)
    classifier = resnet18()
    arrays = model_arrays(classifier)
    arrays["fc.weight"], arrays["fc.bias"] = np.zeros((512, 10), "f4"), np.zeros(10, "f4")
    path = tmp_path / "resnet18.pdparams"
    save_pdparams(path, arrays)
    paddle.seed(4)
    network = FactSeg(3, "resnet18")
    report = load_backbone(network, path)
    encoder = network.resencoder
    np.testing.assert_array_equal(encoder.resnet.conv1.weight.numpy(), arrays["conv1.weight"])
    assert report.unused == ("fc.weight", "fc.bias")
    assert str(report).endswith("2 not used (fc.weight, fc.bias): the encoder has no classifier")


def test_linear_weights_become_the_convolution_over_the_whole_map(tmp_path):
    class Convolutional(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.fc = paddle.nn.Conv2D(3, 4, 2)

        def backbone_layers(self):
            return {"classifier.0": self.fc}

    linear, network = paddle.nn.Linear(3 * 2 * 2, 4), Convolutional()
    path = tmp_path / "vgg.pdparams"
    save_pdparams(path, {f"classifier.0.{n}": a for n, a in model_arrays(linear).items()})
    load_backbone(network, path)
    maps = paddle.randn([5, 3, 2, 2])
    np.testing.assert_allclose(
        network.fc(maps).flatten(1).numpy(), linear(maps.flatten(1)).numpy(), atol=1e-6
    )


def test_head_of_which_a_part_alone_has_other_classes_is_damaged(tmp_path):
    arrays = model_arrays(seeded(1, num_classes=5))
    arrays["fg_cls.bias"] = arrays["fg_cls.bias"][:1]
    save_pdparams(tmp_path / "net.pdparams", arrays)
    with pytest.raises(CheckpointError, match=r"another shape \(fg_cls\.bias is"):
        load_weights(seeded(2, num_classes=5), tmp_path / "net.pdparams")
