"""FactSeg in both packages: shapes, sizes, output strides, options refused."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from tests.models.sides import SIDES
from tests.paths import REPO


@pytest.fixture(scope="module", params=SIDES)
def side(request):
    return SIDES[request.param]


@pytest.fixture(scope="module")
def small(side):
    """FactSeg-18 of 5 classes in evaluation mode."""
    side.seed(0)
    model = side.package.FactSeg(num_classes=5, backbone="resnet18")
    model.eval()
    return model


def images(side, shape, dtype=np.float32):
    return side.tensor(np.random.default_rng(0).normal(size=shape).astype(dtype))


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_logits_have_the_inputs_size(side, small, size):
    output = small(images(side, (2, 3, *size)))
    assert tuple(output.class_logits.shape) == (2, 5, *size)
    assert tuple(output.binary_logits.shape) == (2, 1, *size)
    assert output._fields == ("class_logits", "binary_logits")


def test_forward_is_the_same_in_training_and_evaluation_but_for_batch_norm(side, small):
    small.train()
    output = small(images(side, (2, 3, 32, 32)))
    small.eval()
    assert output._fields == ("class_logits", "binary_logits")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((500, 512), "height 500 is not divisible by 32; use 480 or 512"),
        ((512, 33), "width 33 is not divisible by 32; use 32 or 64"),
        ((31, 64), "height 31 is not divisible by 32; use 32$"),
    ],
)
def test_side_not_divisible_by_32_is_refused_with_sizes_that_are(side, small, size, message):
    with pytest.raises(ValueError, match=message):
        small(images(side, (1, 3, *size)))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32)])
def test_input_that_is_no_batch_of_images_is_refused(side, small, shape):
    with pytest.raises(ValueError, match=r"is not a batch of images \[N, 3, H, W\]"):
        small(images(side, shape))


def test_unknown_options_are_refused(side):
    with pytest.raises(ValueError, match="backbone 'resnet19' is not known; use one of resnet18"):
        side.package.FactSeg(backbone="resnet19")
    with pytest.raises(ValueError, match="output_stride 4 is not known; use 8, 16 or 32"):
        side.package.FactSeg(backbone="resnet18", output_stride=4)
    with pytest.raises(ValueError, match="num_classes 1 is too few"):
        side.package.FactSeg(num_classes=1, backbone="resnet18")
    with pytest.raises(TypeError):
        side.package.FactSeg(16, "resnet18", 32)


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)),
        ("resnet34", (64, 128, 256, 512)),
        ("resnet50", (256, 512, 1024, 2048)),
        ("resnet101", (256, 512, 1024, 2048)),
    ],
)
@pytest.mark.parametrize(
    ("output_stride", "strides"),
    [(32, (4, 8, 16, 32)), (16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))],
)
def test_features_have_the_stated_channels_and_strides(
    side, backbone, channels, output_stride, strides
):
    model = side.to_be_loaded(
        lambda: side.package.FactSeg(2, backbone, output_stride=output_stride)
    )
    model.eval()
    encoder = model.resencoder
    assert (encoder.out_channels, encoder.out_strides) == (channels, strides)
    x = images(side, (1, 3, 64, 32))
    for feature, depth, stride in zip(encoder(x), channels, strides, strict=True):
        assert tuple(feature.shape) == (1, depth, 64 // stride, 32 // stride)
    assert tuple(model(x).class_logits.shape) == (1, 2, 64, 32)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize(
    ("output_stride", "dilations"),
    [
        (16, {"layer3": {1}, "layer4": {1, 2}}),
        (8, {"layer3": {1, 2}, "layer4": {2, 4}}),
    ],
)
def test_dilation_takes_the_place_of_the_stride(side, backbone, output_stride, dilations):
    with side.without_values():
        resnet = side.backbones.BACKBONES[backbone](output_stride=output_stride)
    for stage, expected in dilations.items():
        convs = [
            getattr(block, name)
            for block in getattr(resnet, stage)
            for name in ("conv1", "conv2", "conv3")
            if hasattr(block, name)
        ]
        # Layers that see one position alone have no dilation to set.
        wide = [conv for conv in convs if tuple(conv.weight.shape[2:]) == (3, 3)]
        found = {_first(getattr(c, "dilation", None) or c._dilation) for c in wide}
        assert found == expected, stage


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_network_holds_the_strided_one_at_every_nth_position(side, backbone, output_stride):
    """Dilation only keeps what the stride would have dropped: the values left over are the same."""
    strided, dilated = (
        side.double(side.backbones.BACKBONES[backbone](output_stride=stride))
        for stride in (32, output_stride)
    )
    side.load(dilated, side.state(strided))
    strided.eval()
    dilated.eval()
    x = images(side, (1, 3, 64, 96), np.float64)
    for coarse, fine in zip(strided.features(x), dilated.features(x), strict=True):
        step = fine.shape[2] // coarse.shape[2]
        reference, ours = side.array(coarse), side.array(fine)[:, :, ::step, ::step]
        assert np.max(np.abs(ours - reference)) <= 1e-12 * np.max(np.abs(reference))
    assert fine.shape[2] == 64 // output_stride


@pytest.mark.parametrize("output_stride", [8, 16])
def test_state_dict_does_not_depend_on_the_output_stride(side, output_stride):
    usual, other = (
        side.state(
            side.to_be_loaded(lambda s=stride: side.package.FactSeg(2, "resnet18", output_stride=s))
        )
        for stride in (32, output_stride)
    )
    assert [(n, a.shape) for n, a in other.items()] == [(n, a.shape) for n, a in usual.items()]


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_both_packages_compute_the_same(output_stride):
    """In float64; Paddle's bilinear kernel computes its ratio in float32."""
    outputs = []
    weights = None
    for side in SIDES.values():
        side.seed(1)
        model = side.package.FactSeg(4, "resnet18", output_stride=output_stride)
        if weights is None:
            weights = {k: v for k, v in side.state(model).items() if "batches" not in k}
        side.load(model, weights)
        model = side.double(model)
        model.eval()
        output = model(images(side, (2, 3, 64, 96), np.float64))
        outputs.append([side.array(tensor) for tensor in output])
    for ours, reference in zip(*outputs, strict=True):
        assert np.max(np.abs(ours - reference)) < 3e-6 * np.max(np.abs(reference))


def test_classification_head_is_torchvisions(side):
    resnet = side.backbones.resnet18(num_classes=7)
    resnet.eval()
    assert tuple(resnet(images(side, (2, 3, 64, 64))).shape) == (2, 7)
    assert {"fc.weight", "fc.bias"} <= side.state(resnet).keys()
    headless = side.backbones.resnet18()
    with pytest.raises(ValueError, match="has no head"):
        headless(images(side, (1, 3, 64, 64)))


def test_float64_goes_through_the_network(side):
    model = side.double(side.package.FactSeg(2, "resnet18"))
    model.eval()
    output = model(images(side, (1, 3, 32, 32), np.float64))
    assert side.array(output.class_logits).dtype == np.float64


def _first(value):
    return value[0] if isinstance(value, (tuple, list)) else value


# One value a channel is nothing to normalise: Paddle gives it back as it is, where torch raises.


def test_one_image_whose_map_is_one_pixel_is_told_in_training(side):
    model = side.backbones.resnet18(num_classes=2)
    model.eval()
    model(images(side, (1, 3, 32, 32)))
    model.train()
    ours = "one image whose map is 1x1 .*; train with two images or more, or with a larger one"
    told = {
        SIDES["factseg_paddle"]: pytest.warns(UserWarning, match=ours),
        SIDES["torch_ref"]: pytest.raises(ValueError, match="Expected more than 1 value per chan"),
    }
    with told[side]:
        model(images(side, (1, 3, 32, 32)))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=ours)
        model(images(side, (2, 3, 32, 32)))
        model(images(side, (1, 3, 32, 64)))


@pytest.mark.parametrize("package", SIDES)
def test_every_batch_norm_of_maps_is_made_where_one_pixel_is_told(package):
    pattern = re.compile(r"nn\.BatchNorm2[dD]\(")
    files = sorted((REPO / package / "models").rglob("*.py"))
    makers = [file.name for file in files if pattern.search(file.read_text(encoding="utf-8"))]
    assert makers == ["layers.py"]
