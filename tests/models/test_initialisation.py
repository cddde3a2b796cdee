"""Both packages start where the original starts: each tensor's distribution is tested.

The published port left Paddle's defaults in place: its own convolutions started 2.5 times too wide.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tests.models.sides import SIDES


@pytest.fixture(scope="module", params=SIDES)
def state(request):
    side = SIDES[request.param]
    side.seed(2333)
    return side.state(side.package.FactSeg())


def uniform(bound):
    return stats.uniform(-bound, 2 * bound)


def expected_distribution(name, state):
    """What the original gives the tensor, as a scipy distribution, or a constant."""
    array = state[name]
    owner, _, kind = name.rpartition(".")
    if kind in ("running_mean", "num_batches_tracked"):
        return 0.0
    if kind == "running_var":
        return 1.0
    if f"{owner}.running_mean" in state:
        return {"weight": 1.0, "bias": 0.0}[kind]
    fan_in = math.prod(state[f"{owner}.weight"].shape[1:])
    if name.startswith("resencoder"):  # kaiming_normal, fan_out
        return stats.norm(0, math.sqrt(2 / (array.shape[0] * math.prod(array.shape[2:]))))
    if "fpn" in name:  # kaiming_uniform with a = 1, bias 0
        return 0.0 if kind == "bias" else uniform(math.sqrt(3 / fan_in))
    return uniform(1 / math.sqrt(fan_in))  # torch's default for decoders and heads


def test_every_tensor_follows_its_distribution(state):
    tested = 0
    for name, array in state.items():
        expected = expected_distribution(name, state)
        if isinstance(expected, float):
            assert np.all(array == expected), name
            continue
        values = array.ravel()[:50_000]
        assert abs(values.mean()) < 5 * expected.std() / math.sqrt(values.size), name
        # 200 tensors are tested: by chance one in 10^4 runs of other seeds would fall below.
        assert stats.kstest(values, expected.cdf).pvalue > 1e-6, name
        tested += 1
    assert tested == 53 + 16 + 14 + 4  # encoder, FPNs, decoders, heads with biases


def test_decoder_convolutions_do_not_start_2_5_times_too_wide(state):
    deviation = state["fg_decoder.blocks.0.0.0.weight"].std()
    assert deviation == pytest.approx(0.0120, rel=0.02)
    assert state["fg_cls.bias"].std() > 0
