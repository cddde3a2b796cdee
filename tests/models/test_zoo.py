"""Every classic network against its reference implementation's golden values, in both packages."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from factseg_paddle.models import list_models
from tests.models.golden import golden_networks
from tests.models.sides import SIDES

NETWORKS = {network.name: network for network in golden_networks()}

# Paddle's bilinear interpolation computes in float32 even where its input is float64.
ALLOWED = {"torch_ref": 1e-9, "factseg_paddle": 5e-6}


# Of the module, so that tests are ordered by network: some have half a gigabyte of weights.
@pytest.fixture(scope="module", params=itertools.product(NETWORKS, SIDES), ids="-".join)
def built(request):
    name, package = request.param
    network, side = NETWORKS[name], SIDES[package]
    model = side.package.create_model(network.model, network.num_classes, **network.options)
    return network, package, model


class TestGolden:
    def test_tensor_names_and_shapes(self, built):
        network, package, model = built
        state = SIDES[package].state(model)
        ours = {n: tuple(a.shape) for n, a in state.items() if not n.endswith("_tracked")}
        assert ours == dict(network.tensors)

    def test_parameter_counts(self, built):
        network, package, model = built
        parameters = SIDES[package].parameters(model).values()
        count = sum(int(np.prod(parameter.shape)) for parameter in parameters)
        assert count == network.parameters[network.num_classes]

    def test_logits(self, built):
        network, package, model = built
        side = SIDES[package]
        side.load(model, network.weights())
        side.double(model).eval()
        output = model(side.tensor(network.image()))
        logits = side.array(output.logits)
        assert logits.shape == network.out_shape
        assert output.aux_logits == ()
        error = np.abs(network.pick(logits) - network.logits).max() / network.largest
        assert error <= ALLOWED[package]


def test_both_packages_have_the_same_networks():
    assert SIDES["torch_ref"].package.list_models() == list_models()


def test_every_network_has_golden_values():
    names = {network.model for network in NETWORKS.values()}
    assert {n for n in list_models() if not n.startswith("factseg")} == names
