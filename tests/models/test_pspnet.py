"""What the golden values of PSPNet can't see."""

from __future__ import annotations

import itertools
from importlib import import_module

import numpy as np
import paddle
import pytest

from factseg_paddle.models.backbones import resnet50
from tests.models.sides import SIDES, built_model, random_tensor, shapes_of_paddle
from tests.models.starts import assert_starts, kaiming_normal, torch_default

pytestmark = pytest.mark.usefixtures("without_gradients")

# Probabilities of dropout, of the auxiliary head last.
DROPOUT = {
    "pspnet_resnet50_deepstem_os8": [0.1, 0.1],
    "pspnet_resnet50_os16": [0.1],
    "pspnet_resnet50_os8": [0.3, 0.15],
}
DEEP_STEM, SERIAL, UPSAMPLING = DROPOUT


@pytest.fixture(scope="module", params=itertools.product(DROPOUT, SIDES), ids="-".join)
def built(request):
    return built_model(*request.param)


class TestPSPNet:
    def test_initial_values(self, built):
        name, side, model = built
        state = side.state(model)
        if name == DEEP_STEM:
            shifts = [
                n for n in state if n.startswith("decoder.") and _is_batch_norm_bias(n, state)
            ]
            assert len(shifts) == 6
            assert all(np.all(state.pop(shift) == np.float32(1e-4)) for shift in shifts)
        slopes = [n for n in state if n.endswith("conv.2.weight") and state[n].shape == (1,)]
        assert len(slopes) == (3 if name == UPSAMPLING else 0)
        assert all(state.pop(slope) == 0.25 for slope in slopes)

        def expected(tensor, fan_in, fan_out):
            if tensor.startswith(("encoder.", "backbone.")):
                return kaiming_normal(fan_out)
            if name == DEEP_STEM and tensor.endswith("weight"):
                return kaiming_normal(fan_in)
            return torch_default(fan_in)

        assert_starts(state, expected)

    def test_dropout_is_of_whole_channels_and_of_its_reference_rates(self, built):
        name, _, model = built
        layers = model.sublayers() if isinstance(model, paddle.nn.Layer) else model.modules()
        dropouts = [layer for layer in layers if type(layer).__name__.startswith("Dropout")]
        assert {type(layer).__name__.lower() for layer in dropouts} == {"dropout2d"}
        assert [layer.p for layer in dropouts] == DROPOUT[name]

    def test_sizes(self, built):
        name, side, model = built
        model.eval()
        size = (33, 47)
        if name == UPSAMPLING:
            with pytest.raises(ValueError, match="width 47 is not divisible by 8; use 40 or 48"):
                model(random_tensor(side, 1, 3, 32, 47))
            size = (32, 40)
        output = model(random_tensor(side, 1, 3, *size))
        assert tuple(output.logits.shape) == (1, 5, *size)
        assert output.aux_logits == ()

    def test_auxiliary_logits_in_training_mode(self, built):
        name, side, model = built
        output = model.train()(random_tensor(side, 2, 3, 32, 48))
        assert tuple(output.logits.shape) == (2, 5, 32, 48)
        shapes = [tuple(aux.shape) for aux in output.aux_logits]
        assert shapes == ([(2, 5, 32, 48)] if name == DEEP_STEM else [])
        assert getattr(model, "aux_weight", None) == (0.4 if name == DEEP_STEM else None)

    def test_one_image_in_training_mode(self, built):
        name, side, model = built
        model.train()
        if name == UPSAMPLING:  # no BatchNorm follows the mean over the image
            assert tuple(model(random_tensor(side, 1, 3, 32, 32)).logits.shape) == (1, 5, 32, 32)
        else:
            with pytest.raises(ValueError, match="train with two images or more"):
                model(random_tensor(side, 1, 3, 32, 32))


@pytest.mark.parametrize("package", SIDES)
def test_upsampling_can_be_left_out(package):
    side = SIDES[package]
    model = side.package.create_model(DEEP_STEM, 5, upsample=False)
    output = model.train()(random_tensor(side, 2, 3, 32, 48))
    shapes = [tuple(logits.shape) for logits in (output.logits, *output.aux_logits)]
    assert shapes == [(2, 5, 4, 6)] * 2


@pytest.mark.parametrize("package", SIDES)
def test_dropout_follows_each_step_back(package):
    side = SIDES[package]
    model = side.package.create_model(UPSAMPLING, 5)
    shapes = []
    model.drop_2.register_forward_pre_hook(
        lambda _, inputs: shapes.append(tuple(inputs[0].shape)) and None
    )
    model.eval()(random_tensor(side, 1, 3, 16, 16))
    assert shapes == [(1, 256, 4, 4), (1, 64, 8, 8), (1, 64, 16, 16)]


def _is_batch_norm_bias(name, state):
    owner, _, kind = name.rpartition(".")
    return kind == "bias" and f"{owner}.running_mean" in state


@pytest.mark.parametrize("name", DROPOUT)
def test_small_maps_are_the_same_in_both_packages(name):
    """Maps of 2x2 to 6x6 are resized to smaller ones, down to 1x1."""
    sides = SIDES.values()
    reference, ours = (s.package.create_model(name, 5) for s in sides)
    state = SIDES["torch_ref"].state(reference)
    weights = {n: a.copy() for n, a in state.items() if not n.endswith("_tracked")}
    SIDES["factseg_paddle"].load(ours, weights)
    for size in ((8, 40), (8, 8), (16, 8)):
        expected, logits = (
            side.array(model.eval()(random_tensor(side, 1, 3, *size)).logits)
            for side, model in zip(sides, (reference, ours), strict=True)
        )
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("align_corners", [False, True])
def test_interpolation_to_one_row_or_column_is_the_same_in_both_packages(align_corners):
    for shape, size in itertools.product([(6, 6), (3, 2), (1, 1)], [(1, 1), (1, 5), (5, 1)]):
        expected, ours = (
            side.array(
                import_module(f"{side.package.__name__}.models.layers").resize(
                    random_tensor(side, 2, 3, *shape), size, align_corners=align_corners
                )
            )
            for side in SIDES.values()
        )
        assert ours == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", [SERIAL, UPSAMPLING])
def test_backbone_layers_have_torchvisions_names(name):
    """The other one has none: torchvision has no weights for its stem."""
    layers = shapes_of_paddle(name).backbone_layers()
    named = {f"{p}.{n}": t.shape for p, la in layers.items() for n, t in la.state_dict().items()}
    assert named == {n: t.shape for n, t in resnet50().state_dict().items()}
