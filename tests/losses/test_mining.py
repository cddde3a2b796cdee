"""SOM, OHEM and the mean, on losses small enough to count by hand."""

import math

import numpy as np
import pytest

from . import references as ref
from .frameworks import relative_difference


def gradient_of(framework, function, losses):
    tensor = framework.tensor(losses)
    value = function(tensor)
    value.backward()
    return float(framework.array(value)), framework.array(tensor.grad)


def test_som_is_the_mean_of_the_largest(framework):
    losses = np.array([[[5.0, 1.0, 4.0, 2.0, 3.0]]])
    value, gradient = gradient_of(framework, lambda x: framework.losses.som(x, 0.4), losses)
    assert value == pytest.approx((5 + 4) / (2 + 1e-6), rel=1e-15)
    np.testing.assert_allclose(gradient.ravel(), np.array([1, 0, 1, 0, 0]) / (2 + 1e-6))


def test_som_counts_ignored_pixels_for_k_and_drops_zeros(framework):
    losses = np.zeros((1, 4, 5))
    losses[0, 0, :3] = 6.0, 2.0, 1.0
    value, _ = gradient_of(framework, lambda x: framework.losses.som(x, 0.1), losses)
    assert value == pytest.approx(8 / (2 + 1e-6))  # k = 2 of 20 pixels, not of 3
    value, gradient = gradient_of(framework, lambda x: framework.losses.som(x, 0.5), losses)
    assert value == pytest.approx(9 / (3 + 1e-6))  # k = 10, of which 7 are 0
    assert np.count_nonzero(gradient) == 3


def test_som_rounds_k_down(framework):
    losses = np.arange(1.0, 20.0).reshape(1, 1, 19)
    value, _ = gradient_of(framework, lambda x: framework.losses.som(x, 0.1), losses)
    assert value == pytest.approx(19 / (1 + 1e-6))  # 0.1 * 19 is 1


def test_som_takes_one_pixel_where_k_would_be_0(framework):
    losses = np.array([[[1.0, 3.0, 2.0]]])
    value, _ = gradient_of(framework, lambda x: framework.losses.som(x, 0.1), losses)
    assert value == pytest.approx(3 / (1 + 1e-6))


def test_som_is_not_0_over_0_when_nothing_is_kept(framework):
    """One of the original's two `som` functions divides by a count of 0."""
    value, gradient = gradient_of(
        framework, lambda x: framework.losses.som(x, 0.5), np.zeros((2, 3, 3))
    )
    assert value == 0
    assert not gradient.any()


def test_som_takes_k_of_tied_losses(framework):
    losses = np.full((1, 4, 5), 7.0)
    value, gradient = gradient_of(framework, lambda x: framework.losses.som(x, 0.25), losses)
    assert value == pytest.approx(7 * 5 / (5 + 1e-6), rel=1e-15)
    assert np.count_nonzero(gradient) == 5
    assert gradient.sum() == pytest.approx(5 / (5 + 1e-6))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_som_equals_a_sort_on_many_losses(framework, dtype):
    losses = np.random.RandomState(0).gamma(0.5, size=(2, 60, 70))
    losses[losses < 0.01] = 0
    tensor = framework.tensor(losses, dtype)
    for ratio in (0.1, 0.29, 1.0):
        value = framework.array(framework.losses.som(tensor, ratio))
        bound = 1e-12 if dtype == "float64" else 1e-6
        assert relative_difference(value, ref.som(losses, ratio)) < bound


def test_som_tells_float64_losses_apart_that_float32_does_not(framework):
    losses = 1 + 1e-12 * np.arange(100, dtype=np.float64).reshape(1, 10, 10)
    _, gradient = gradient_of(framework, lambda x: framework.losses.som(x, 0.1), losses)
    assert set(np.flatnonzero(gradient)) == set(range(90, 100))


def test_som_and_mean_do_not_hide_nan(framework):
    losses = np.array([[[math.nan, 1.0, 2.0, 3.0]]])
    valid = np.ones((1, 1, 4), dtype=bool)
    for sampler in (framework.losses.Sampler(name) for name in ("som", "ohem", "mean")):
        assert np.isnan(framework.array(sampler(framework.tensor(losses), framework.tensor(valid))))


@pytest.mark.parametrize(
    ("thresh", "min_kept", "kept"),
    [
        (0.7, 0, [0.1, 0.3, 0.6]),  # all below the threshold
        (0.2, 0, [0.1]),
        (0.2, 2, [0.1, 0.3]),  # those below the third smallest
        (0.7, 2, [0.1, 0.3, 0.6]),  # the threshold keeps more than min_kept
        (0.2, 100, [0.1, 0.3, 0.6, 0.8]),  # no more than all but the easiest
        (1.0, 0, [0.1, 0.3, 0.6, 0.8, 0.9]),
    ],
)
def test_ohem_keeps_what_is_below_the_larger_of_kth_and_threshold(
    framework, thresh, min_kept, kept
):
    probabilities = np.array([[[0.9, 0.1, 0.6, 0.5], [0.3, 0.5, 0.8, 0.5]]])
    valid = probabilities != 0.5
    losses = np.where(valid, -np.log(probabilities), 0)

    def ohem(tensor):
        return framework.losses.ohem(
            tensor, framework.tensor(valid), thresh=thresh, min_kept=min_kept
        )

    value, gradient = gradient_of(framework, ohem, losses)
    assert value == pytest.approx(np.mean(-np.log(kept)), rel=1e-12)
    expected = np.isin(probabilities, kept) / len(kept)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


def test_ohem_min_kept_is_per_image(framework):
    losses = np.arange(1.0, 13.0).reshape(3, 2, 2)
    valid = framework.tensor(np.ones((3, 2, 2), dtype=bool))
    value = framework.losses.ohem(framework.tensor(losses), valid, thresh=1e-9, min_kept=2)
    assert float(framework.array(value)) == pytest.approx(np.mean(range(7, 13)))  # 2 * 3 images


@pytest.mark.parametrize("probability", [0.9, 1.0])
def test_ohem_is_not_0_over_0_when_nothing_is_selected(framework, probability):
    losses = np.full((1, 2, 2), -math.log(probability))
    valid = framework.tensor(np.ones((1, 2, 2), dtype=bool))
    value, gradient = gradient_of(
        framework, lambda x: framework.losses.ohem(x, valid, thresh=0.7, min_kept=2), losses
    )
    assert value == 0
    assert not gradient.any()


def test_mean_of_no_pixel_is_0(framework):
    valid = framework.tensor(np.zeros((1, 2, 2), dtype=bool))
    value, gradient = gradient_of(
        framework, lambda x: framework.losses.valid_mean(x, valid), np.ones((1, 2, 2))
    )
    assert value == 0
    assert not gradient.any()


def test_som_keeps_losses_below_1e_8(framework):
    """Paddle calls floats equal that differ by less than 1e-8: `!= 0` dropped them."""
    losses = framework.tensor(np.array([[[4.0, 1e-9], [0.0, 1e-12]]]), "float64")
    value = framework.array(framework.losses.som(losses, 1.0))
    assert value == pytest.approx((4.0 + 1e-9 + 1e-12) / (3 + 1e-6), rel=1e-12)
