"""What the golden values of SegNet can't see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from factseg_paddle.engine.weights import load_backbone
from factseg_paddle.io import save_pdparams
from tests.models.sides import SIDES, built_model, random_tensor
from tests.models.starts import assert_starts, kaiming_normal, torch_default
from tests.models.test_fcn8s import VGG16_BN

pytestmark = pytest.mark.usefixtures("without_gradients")

NAMES = ("segnet_vgg16_bn", "segnet_vgg16_bn_relu")


@pytest.fixture(scope="module", params=itertools.product(NAMES, SIDES), ids="-".join)
def built(request):
    return built_model(*request.param)


class TestSegNet:
    def test_initial_values(self, built):
        name, side, model = built
        state = side.state(model)
        if name == "segnet_vgg16_bn":
            shifts = [n for n in state if n.endswith(".1.bias")]
            assert len(shifts) == 25
            for shift in shifts:
                assert np.all(state[shift] == np.float32(0.001))
                state[shift] = np.zeros_like(state[shift])

        def expected(tensor, fan_in, _):
            if name == "segnet_vgg16_bn_relu":
                return torch_default(fan_in)
            return 0.0 if tensor.endswith("bias") else kaiming_normal(fan_in)

        assert_starts(state, expected)

    def test_sizes(self, built):
        name, side, model = built
        model.eval()
        if name == "segnet_vgg16_bn":
            sizes = ((1, 3), (45, 71))
        else:
            sizes = ((32, 33), (45, 71))
            with pytest.raises(ValueError, match="height 31 is too small; use 32 or more"):
                model(random_tensor(side, 1, 3, 31, 64))
        for size in sizes:
            output = model(random_tensor(side, 1, 3, *size))
            assert tuple(output.logits.shape) == (1, 5, *size)
            assert output.aux_logits == ()

    def test_the_authors_poolings_round_up_and_the_others_down(self, built):
        name, side, model = built
        model.eval()
        layer = model.conv2_1 if name == "segnet_vgg16_bn" else model.down2.conv1
        seen = []
        hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
        model(random_tensor(side, 1, 3, 45, 71))
        hook.remove()
        expected = (23, 36) if name == "segnet_vgg16_bn" else (22, 35)
        assert tuple(seen[0]) == expected

    def test_only_the_one_that_ends_with_relu_has_no_negative_logits(self, built):
        name, side, model = built
        model.eval()
        logits = side.array(model(random_tensor(side, 1, 3, 32, 32)).logits)
        assert logits.max() > 0
        assert (logits.min() < 0) == (name == "segnet_vgg16_bn")


@pytest.mark.parametrize("package", SIDES)
@pytest.mark.parametrize("ceil_mode", [True, False])
def test_maxima_return_to_where_they_were(package, ceil_mode):
    side, layers = SIDES[package], SIDES[package].package.models.layers
    maps = (
        np.random.RandomState(0).permutation(2 * 3 * 5 * 7).reshape(2, 3, 5, 7).astype(np.float32)
    )
    pooled, indices = layers.pool_with_indices(side.tensor(maps), ceil_mode=ceil_mode)
    returned = side.array(layers.unpool(pooled, indices, (5, 7)))
    expected = np.zeros_like(maps)
    for top, left in itertools.product(range(0, 5, 2), range(0, 7, 2)):
        window = maps[:, :, top : top + 2, left : left + 2]
        if ceil_mode or window.shape[2:] == (2, 2):
            largest = window == window.max(axis=(2, 3), keepdims=True)
            expected[:, :, top : top + 2, left : left + 2] = np.where(largest, window, 0)
    assert np.array_equal(returned, expected)


@pytest.mark.parametrize("package", SIDES)
def test_of_equal_values_the_first_is_taken(package):
    """ReLU leaves many zeros: both frameworks must choose the same of them."""
    side, layers = SIDES[package], SIDES[package].package.models.layers
    _, indices = layers.pool_with_indices(
        side.tensor(np.zeros((1, 1, 4, 4), np.float32)), ceil_mode=True
    )
    assert side.array(indices).ravel().tolist() == [0, 2, 8, 10]


@pytest.mark.parametrize("name", NAMES)
def test_vgg16_bn_is_loaded_with_its_biases(name, tmp_path):
    network = SIDES["factseg_paddle"].package.create_model(name, 5)
    ours = {
        f"{prefix}.{n}": tensor
        for prefix, layer in network.backbone_layers().items()
        for n, tensor in layer.state_dict().items()
    }
    norm = ("weight", "bias", "_mean", "_variance")
    expected = {f"features.{i}.{n}" for i in VGG16_BN for n in ("weight", "bias")}
    expected |= {f"features.{i + 1}.{n}" for i in VGG16_BN for n in norm}
    assert set(ours) == expected
    rng = np.random.default_rng(4)
    arrays = {n: rng.random(t.shape, dtype=np.float32) for n, t in ours.items()}
    save_pdparams(tmp_path / "vgg16_bn.pdparams", arrays)
    assert set(load_backbone(network, tmp_path / "vgg16_bn.pdparams").used) == expected
    for n, tensor in ours.items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[n])
