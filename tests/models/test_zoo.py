"""Every classic network in both packages: what all of them can do, and its golden values."""

from __future__ import annotations

import importlib
import re

import numpy as np
import paddle
import pytest
import torch

from factseg_paddle.engine.weights import model_arrays, set_weights
from factseg_paddle.losses import AuxiliaryLoss, CrossEntropyLoss
from factseg_paddle.models import list_models
from tests.models.golden import golden_networks, image
from tests.models.sides import SIDES

pytestmark = pytest.mark.timeout(600)  # starts whole runs

NETWORKS = {network.name: network for network in golden_networks()}

# Paddle's bilinear interpolation computes in float32 even where its input is float64.
ALLOWED = {"torch_ref": 1e-9, "factseg_paddle": 5e-6}

# What FastFCN's checkpoints hold and its logits don't use: the backbone's classifier, and the layer
# that tells which classes are in the image.
UNUSED = ("pretrained.fc.", "head.encmodule.selayer.")


# The golden values of all but the largest in the suite; what else is asked of one of each family
# there, and of all by `make slow`.
FAMILIES = (
    *("deeplabv3_r50_vainf", "deeplabv3plus_r50_article", "denseaspp_d121_factseg"),
    *("denseunet_d121_smp", "farseg_r50", "fastfcn_jpu_encnet_r50", "fcn8_resnet50_article"),
    *("pspnet_r50_article", "refinenet_r50_article", "resunet_r50_factseg", "segnet_authors"),
    *("semanticfpn_r50_factseg", "unet_article"),
)
ONE_OF_EACH = [
    name if name in FAMILIES else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS
]

# The largest, 85 to 134 million parameters: of each kind a smaller one is in the suite, and of FCN
# with VGG-16 the one whose maps the reference's padding makes twelve times as large.
LARGEST = (
    *("fastfcn_r50_article", "fcn8s_atonce_wkentaro", "fcn8s_vgg16_article"),
    *("refinenet_r101_thomasjpfan", "refinenet_r50_factseg"),
)
LIGHT = [
    pytest.param(name, marks=pytest.mark.slow) if name in LARGEST else name for name in NETWORKS
]


# Of the module, so that tests are ordered by network.
@pytest.fixture(scope="module", params=ONE_OF_EACH)
def in_paddle(request):
    network = NETWORKS[request.param]
    return network, built("factseg_paddle", network)


def built(package, network):
    create_model = SIDES[package].package.create_model
    return create_model(network.model, network.num_classes, **network.options)


def image_of(*shape):
    return np.random.RandomState(3).randn(*shape).astype(np.float32)


class TestInPaddle:
    """With its initial weights."""

    def test_logits_have_the_size_of_the_image(self, in_paddle):
        network, model = in_paddle
        shrunk = 64 // network.out_shape[-1]  # of the two that are asked not to enlarge
        model.eval()
        with paddle.no_grad():
            output = model(paddle.to_tensor(image_of(2, 3, 64, 96)))
        assert output.logits.shape == [2, network.num_classes, 64 // shrunk, 96 // shrunk]
        assert output.aux_logits == ()
        assert np.isfinite(output.logits.numpy()).all()

    def test_odd_sizes_work_or_are_refused_with_sizes_that_do(self, in_paddle):
        network, model = in_paddle
        shrunk = 64 // network.out_shape[-1]
        model.eval()
        with paddle.no_grad():
            try:
                logits = model(paddle.to_tensor(image_of(1, 3, 75, 33))).logits
            except ValueError as error:
                named = re.search(r"^height 75 is .*; use (\d+)(?: or (\d+))?$", str(error))
                for size in filter(None, named.groups()):
                    model(paddle.to_tensor(image_of(1, 3, int(size), 32)))
            else:
                assert logits.shape[2:] == [-(-75 // shrunk), -(-33 // shrunk)]

    def test_saved_weights_load(self, in_paddle, tmp_path):
        _, model = in_paddle
        arrays = model_arrays(model)
        with paddle.no_grad():
            for tensor in model.state_dict().values():
                tensor.set_value(paddle.zeros_like(tensor))
        report = set_weights(model, tmp_path / "a.pdparams", arrays)
        assert (set(report.used), report.kept) == (set(arrays), ())
        for name, tensor in model.state_dict().items():
            np.testing.assert_array_equal(tensor.numpy(), arrays[name])


@pytest.mark.parametrize("name", LIGHT)
def test_golden_values_of_both_packages(name):
    network = NETWORKS[name]
    weights = network.weights()  # once: of the largest networks they take seconds
    assert_golden("factseg_paddle", network, weights)
    torch_model = assert_golden("torch_ref", network, weights)
    if name in FAMILIES:  # of all of them by `make slow`
        assert_half_precision(torch_model)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in FAMILIES])
def test_half_precision_of_the_others(name):
    network = NETWORKS[name]
    assert_half_precision(assert_golden("torch_ref", network, network.weights()))


def assert_half_precision(model):
    """In torch, since Paddle's CPU kernels have none; Paddle's on a GPU, below."""
    images = torch.from_numpy(image_of(1, 3, 64, 64))
    with torch.no_grad():
        full = model.float().eval()(images).logits
        half = model.bfloat16()(images.bfloat16()).logits
    assert half.dtype == torch.bfloat16
    # By the norm: where SegNet's poolings choose another pixel, single logits jump.
    assert 0 < (half.float() - full).norm() < 0.03 * full.norm()


def assert_golden(package, network, weights):
    """Names and shapes of the tensors, and the logits in float64; gives the network."""
    side = SIDES[package]
    model = side.to_be_loaded(lambda: built(package, network))
    state = side.state(model)
    ours = {n: tuple(a.shape) for n, a in state.items() if not n.endswith("_tracked")}
    assert ours == dict(network.tensors)
    side.load(model, weights)
    side.double(model).eval()
    with torch.no_grad(), paddle.no_grad():
        output = model(side.tensor(image()))
    logits = side.array(output.logits)
    assert logits.shape == network.out_shape
    assert output.aux_logits == ()
    error = np.abs(network.pick(logits) - network.logits).max() / network.largest
    assert error <= ALLOWED[package]
    return model


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_step_with_half_of_it_frozen_lowers_the_loss(name):
    model = built("factseg_paddle", NETWORKS[name])
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.Dropout | paddle.nn.Dropout2D):
            layer.p = 0.0
    parameters = list(SIDES["factseg_paddle"].parameters(model).items())
    cut = len(parameters) // 2
    while parameters[cut][1].ndim != 4:  # Paddle freezes the whole of a BatchNorm or nothing
        cut += 1
    frozen, learning = dict(parameters[:cut]), dict(parameters[cut:])
    before = {name: parameter.numpy() for name, parameter in frozen.items()}
    for parameter in frozen.values():
        parameter.stop_gradient = True
    model.train()
    criterion = AuxiliaryLoss(CrossEntropyLoss(), 0.4)
    images = paddle.to_tensor(image_of(2, 3, 64, 64))

    def loss():
        output = model(images)
        side = output.logits.shape[-1]
        labels = np.random.RandomState(4).randint(0, 16, (2, side, side))
        return criterion(*output, paddle.to_tensor(labels))

    first = loss()
    first.backward()
    gradients = SIDES["factseg_paddle"].gradients(model)
    assert gradients.keys() == {n for n in learning if not n.startswith(UNUSED)}
    square = sum(float(np.vdot(gradient, gradient)) for gradient in gradients.values())
    rate = 1e-3 * float(first) / square  # to first order the loss falls by a thousandth
    with paddle.no_grad():
        for name in gradients:
            learning[name].set_value(learning[name] - rate * learning[name].grad)
        assert float(loss()) < float(first)
    for name, parameter in frozen.items():
        np.testing.assert_array_equal(parameter.numpy(), before[name])


@pytest.mark.parametrize("package", SIDES)
@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_counts(name, package):
    network, side = NETWORKS[name], SIDES[package]
    for num_classes in 16, 21:
        with side.without_values():
            model = side.package.create_model(network.model, num_classes, **network.options)
        shapes = [parameter.shape for parameter in side.parameters(model).values()]
        assert sum(int(np.prod(shape)) for shape in shapes) == network.parameters[num_classes]


@pytest.mark.parametrize("package", SIDES)
@pytest.mark.parametrize("name", list_models())
def test_unknown_option_is_refused(name, package):
    with pytest.raises(ValueError, match=f"option of {name} 'output_strde' is not known"):
        SIDES[package].package.create_model(name, 5, output_strde=8)


UNETS = ["unet_bilinear", "unet_bilinear_w32", "unet_transposed", "unet_transposed_w32"]
SUGGESTIONS = {
    "pspnet": ["pspnet_resnet50_deepstem_os8", "pspnet_resnet50_os16", "pspnet_resnet50_os8"],
    "unet": [*UNETS, "denseunet_densenet121", "resunet_resnet50"],
    "segnet": ["segnet_vgg16_bn", "segnet_vgg16_bn_relu"],
    "FarSeg": ["farseg_resnet50"],
    "UNET_BILINEAR": UNETS[:2],
    "unet_bilinaer": UNETS[:2],
    "fcn": [name for name in list_models() if name.startswith("fcn")]
    + [name for name in list_models() if name.startswith("fastfcn")][:3]
    + ["2 more"],
}


@pytest.mark.parametrize("package", SIDES)
@pytest.mark.parametrize("name", SUGGESTIONS)
def test_unknown_network_is_answered_by_those_with_the_name_in_theirs(name, package):
    message = f"network '{name}' is not known; did you mean {' or '.join(SUGGESTIONS[name])}?"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SIDES[package].package.create_model(name)


@pytest.mark.parametrize("package", SIDES)
@pytest.mark.parametrize("name", ["", "nonsense"])
def test_network_that_is_like_none_is_answered_by_all(name, package):
    with pytest.raises(ValueError, match=f"known are {', '.join(list_models())}$"):
        SIDES[package].package.create_model(name)


@pytest.mark.parametrize("package", SIDES)
@pytest.mark.parametrize("num_classes", ["21", None, 2.5])
def test_class_count_that_is_no_integer_is_one_sentence(num_classes, package):
    message = f"num_classes {num_classes!r} is no integer; give the number of classes"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SIDES[package].package.create_model("unet_bilinear_w32", num_classes)


@pytest.mark.parametrize("package", SIDES)
def test_class_count_may_be_numpys(package):
    side = SIDES[package]
    with side.without_values():
        side.package.create_model("unet_bilinear_w32", np.int64(3))


@pytest.mark.gpu
@pytest.mark.skipif(not paddle.is_compiled_with_cuda(), reason="this Paddle has no CUDA")
@pytest.mark.parametrize("name", list_models())
def test_paddle_half_precision(name):
    paddle.device.set_device("gpu")
    model = SIDES["factseg_paddle"].package.create_model(name, 16)
    model.eval()
    images = paddle.to_tensor(image_of(1, 3, 64, 64))
    with paddle.no_grad():
        full = model(images).logits
        with paddle.amp.auto_cast(level="O1"):
            half = model(images).logits.astype("float32")
    paddle.device.set_device("cpu")
    # Two start with a classifier of zeros.
    assert float((half - full).abs().max()) <= 0.05 * float(full.abs().max())


def test_both_packages_have_the_same_networks():
    assert SIDES["torch_ref"].package.list_models() == list_models()


@pytest.mark.parametrize("package", SIDES)
def test_every_network_has_the_name_of_its_function(package):
    creation = importlib.import_module(f"{package}.models.creation")
    assert {name: build.__name__ for name, build in creation.MODELS.items()} == {
        name: name for name in list_models()
    }


def test_every_network_has_golden_values():
    names = {network.model for network in NETWORKS.values()}
    assert {n for n in list_models() if not n.startswith("factseg")} == names
