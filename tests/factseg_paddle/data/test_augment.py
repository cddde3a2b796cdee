import colorsys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factseg_paddle.config import transforms as schema
from factseg_paddle.data.augment import apply_transforms, output_size
from factseg_paddle.transforms import ISAID_MEAN, ISAID_STD
from tests.factseg_paddle.data.layouts.isaid_files import scene, transforms
from torch_ref import data as reference


def apply(image, labels, given, seed=0, ignore_index=255):
    rng = np.random.default_rng(seed)
    return apply_transforms(image, labels, transforms(*given), rng, ignore_index)


def pair(height=48, width=64):
    return scene(0, height, width)


RECIPE = (
    {"name": "horizontal_flip"},
    {"name": "vertical_flip"},
    {"name": "rot90"},
    {"name": "pad", "size": 96},
    {"name": "normalize"},
)


@pytest.mark.parametrize("seed", range(12))
def test_recipe_is_the_originals_steps_in_its_order(seed):
    image, labels = pair()
    ours = apply(image, labels, RECIPE, seed)
    rng = np.random.default_rng(seed)
    expected = image, labels
    if rng.random() < 0.5:
        expected = reference.horizontal_flip(*expected)
    if rng.random() < 0.5:
        expected = reference.vertical_flip(*expected)
    expected = reference.rot90(*expected, int(rng.integers(4)))
    expected = reference.pad_to(*expected, height=96, width=96)
    np.testing.assert_array_equal(ours[1], expected[1])
    np.testing.assert_allclose(ours[0], reference.normalize(expected[0]), rtol=0, atol=2.0**-22)
    assert ours[0].dtype == np.float32
    assert ours[1].dtype == np.uint8
    # padded before normalising: black is negative
    black = -np.array(ISAID_MEAN) / ISAID_STD
    np.testing.assert_allclose(ours[0][95, 95], black, rtol=1e-6)


def test_recipe_reaches_all_eight_orientations_equally():
    image, labels = pair(32, 32)
    image = image + np.arange(32, dtype=np.uint8)[:, None, None]  # no symmetry
    counts = {}
    for seed in range(800):
        turned = apply(image, labels, RECIPE[:3], seed)[0].tobytes()
        counts[turned] = counts.get(turned, 0) + 1
    assert len(counts) == 8
    assert min(counts.values()) > 65  # 100 expected, 9.4 the standard deviation


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_probability_of_a_flip_is_as_configured(probability):
    image, labels = pair()
    for seed in range(8):
        for name, turned in (
            ("horizontal_flip", image[:, ::-1]),
            ("vertical_flip", image[::-1]),
        ):
            ours = apply(image, labels, [{"name": name, "probability": probability}], seed)[0]
            np.testing.assert_array_equal(ours, turned if probability else image)


def test_padding_after_normalising_is_zero():
    image, labels = pair()
    image, labels = apply(
        image, labels, [{"name": "normalize"}, {"name": "pad", "size": 80}], ignore_index=99
    )
    assert not image[48:].any()
    assert (labels[48:] == 99).all()
    assert (labels[:, 64:] == 99).all()


@pytest.mark.parametrize("factor", [0.5, 0.6, 0.77, 1.0, 1.3, 1.9, 2.0])
def test_scaled_labels_are_those_of_the_nearest_centres(factor):
    given = [{"name": "random_scale", "minimum": factor, "maximum": factor}]
    row_of, column_of = np.indices((48, 64), dtype=np.uint8)
    for positions, side, axis in ((row_of, 48, 0), (column_of, 64, 1)):
        image, labels = apply(np.dstack([positions] * 3), positions, given)
        assert image.shape == (*labels.shape, 3) == (int(48 * factor), int(64 * factor), 3)
        picked = labels[:, 0] if axis == 0 else labels[0]
        looked_at = (np.arange(len(picked)) + 0.5) * side / len(picked)
        assert np.abs(picked + 0.5 - looked_at).max() < 0.501
        # bicubic looks at the same places; on a ramp it is right to the rounding
        along = image[:, 0, 0] if axis == 0 else image[0, :, 0]
        assert np.abs(along[3:-3] + 0.5 - looked_at[3:-3]).max() < 0.51


def test_scale_is_drawn_between_the_bounds_and_never_vanishes():
    image, labels = pair()
    given = [{"name": "random_scale", "minimum": 0.5, "maximum": 2.0}]
    heights = [apply(image, labels, given, seed)[1].shape[0] for seed in range(60)]
    assert min(heights) < 32
    assert max(heights) > 84
    assert all(24 <= height <= 96 for height in heights)
    tiny = apply(image[:1, :1], labels[:1, :1], [{**given[0], "maximum": 0.5}])
    assert tiny[1].shape == (1, 1)


@pytest.mark.parametrize("shape", [(48, 64), (20, 64), (48, 20), (10, 10), (32, 32)])
def test_crop_is_a_window_of_the_padded_image(shape):
    image, labels = pair(*shape)
    height, width = max(shape[0], 32), max(shape[1], 32)
    padded = np.zeros((height, width, 3), np.uint8)
    padded[: shape[0], : shape[1]] = image
    padded_labels = np.full((height, width), 255, np.uint8)
    padded_labels[: shape[0], : shape[1]] = labels
    corners = set()
    for seed in range(40):
        cut, cut_labels = apply(image, labels, [{"name": "random_crop", "size": 32}], seed)
        corner = next(
            (top, left)
            for top in range(height - 31)
            for left in range(width - 31)
            if (padded[top : top + 32, left : left + 32] == cut).all()
            and (padded_labels[top : top + 32, left : left + 32] == cut_labels).all()
        )
        corners.add(corner)
    if shape == (32, 32) or max(shape) < 32:
        assert corners == {(0, 0)}
    else:
        assert len(corners) > 5


ARTICLE = (
    {"name": "random_scale", "minimum": 0.5, "maximum": 2.0},
    {
        "name": "normalize",
        "mean": [103.53, 116.28, 123.675],
        "std": [57.375, 57.12, 58.395],
        "channel_order": "bgr",
    },
    {"name": "random_crop", "size": 64},
    {"name": "horizontal_flip"},
)


@pytest.mark.parametrize("seed", range(8))
def test_recipe_of_the_fcn_article_is_its_steps_in_its_order(seed):
    """cv2's BGR; padding after normalising, so it has the mean colour; then crop, then flip."""
    image, labels = pair(40, 52)
    ours = apply(image, labels, ARTICLE, seed)
    rng = np.random.default_rng(seed)
    factor = rng.uniform(0.5, 2.0)
    size = int(40 * factor), int(52 * factor)
    given = cv2.resize(image[..., ::-1], size[::-1], interpolation=cv2.INTER_CUBIC)
    mean, std = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    padded = np.zeros((max(size[0], 64), max(size[1], 64), 3))
    padded[: size[0], : size[1]] = (given - mean) / std
    marks = np.full(padded.shape[:2], 255)
    # the reference's INTER_NEAREST would shift labels against the image by half a pixel
    marks[: size[0], : size[1]] = cv2.resize(
        labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT
    )
    top, left = (int(rng.integers(side - 63)) for side in padded.shape[:2])
    expected = padded[top : top + 64, left : left + 64], marks[top : top + 64, left : left + 64]
    if rng.random() < 0.5:
        expected = expected[0][:, ::-1], expected[1][:, ::-1]
    np.testing.assert_allclose(ours[0], expected[0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours[1], expected[1])


def jitter(image, seed=0, **reach):
    labels = np.zeros(image.shape[:2], np.uint8)
    return apply(image, labels, [{"name": "color_jitter", **reach}], seed)


def test_jitter_without_reach_changes_nothing():
    image = pair()[0]
    np.testing.assert_array_equal(jitter(image)[0], image)


def drawn(seed, **reach):
    """The factors in the order in which they are drawn."""
    rng = np.random.default_rng(seed)
    factors = [
        rng.uniform(1 - reach.get(name, 0.0), 1 + reach.get(name, 0.0))
        for name in ("brightness", "contrast", "saturation")
    ]
    return [*factors, rng.uniform(-reach.get("hue", 0.0), reach.get("hue", 0.0))]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "reach",
    [
        {"brightness": 0.5},
        {"contrast": 0.8},
        {"saturation": 1.0},
        {"hue": 0.5},
        {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1},
    ],
    ids=lambda reach: "+".join(reach),
)
def test_jitter_equals_its_definition_in_float64(reach, seed):
    image = pair(24, 32)[0]
    ours = jitter(image, seed, **reach)[0]
    brightness, contrast, saturation, turns = drawn(seed, **reach)
    grey = np.array([0.299, 0.587, 0.114])
    colors = np.clip(image * brightness, 0, 255)
    mean = (colors @ grey).mean()
    colors = np.clip(contrast * colors + (1 - contrast) * mean, 0, 255)
    own = (colors @ grey)[..., None]
    colors = np.clip(saturation * colors + (1 - saturation) * own, 0, 255)
    for row in colors:
        for index, (red, green, blue) in enumerate(row):
            hue, chroma, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
            row[index] = np.multiply(colorsys.hsv_to_rgb((hue + turns) % 1, chroma, value), 255)
    assert ours.dtype == np.uint8
    assert np.abs(ours - colors).max() < 0.51  # one rounding to whole numbers
    assert (ours != image).any()


def test_jitter_leaves_the_labels():
    image, labels = pair()
    ours = apply(image, labels, [{"name": "color_jitter", "brightness": 0.5, "hue": 0.2}])
    np.testing.assert_array_equal(ours[1], labels)


def test_jitter_after_normalising_is_refused():
    given = [{"name": "normalize"}, {"name": "color_jitter", "brightness": 0.1}]
    with pytest.raises(ValueError, match=r"color_jitter .* put it before normalize"):
        apply(*pair(), given)
    with pytest.raises(ValueError, match=r"color_jitter .* put it before normalize"):
        output_size(transforms(*given), [(8, 8)])


ANY = st.sampled_from(
    [
        {"name": "horizontal_flip"},
        {"name": "vertical_flip"},
        {"name": "rot90"},
        {"name": "random_scale", "minimum": 0.6, "maximum": 1.5},
        {"name": "random_crop", "size": 24},
        {"name": "color_jitter", "brightness": 0.3, "hue": 0.1},
    ]
)


@given(st.lists(ANY, max_size=5), st.integers(0, 2**32))
def test_any_order_is_a_function_of_the_generator_and_changes_no_input(given, seed):
    image, labels = pair(30, 40)
    before = image.copy(), labels.copy()
    steps = [*given, {"name": "normalize"}, {"name": "random_crop", "size": 16}]
    one, two = apply(image, labels, steps, seed), apply(image, labels, steps, seed)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])
    assert one[0].shape == (16, 16, 3)
    assert one[0].dtype == np.float32
    assert one[1].shape == (16, 16)
    assert set(np.unique(one[1])) <= {*np.unique(labels).tolist(), 255}
    assert output_size(transforms(*steps), [(30, 40)]) == (16, 16)


def test_recipe_gives_one_size():
    sizes = [(884, 896), (896, 896), (824, 700)]
    recipe = transforms(*RECIPE[:3], {"name": "pad", "size": 896}, {"name": "normalize"})
    assert output_size(recipe, sizes) == (896, 896)
    assert output_size(transforms(), [(8, 9)]) == (8, 9)


@pytest.mark.parametrize(
    ("given", "sizes", "message"),
    [
        ((), [(8, 8), (8, 9)], "would be 8 x 8 to 9 pixels, .* add pad or random_crop"),
        (({"name": "rot90"},), [(8, 9)], "would be 8 to 9 x 8 to 9 pixels"),
        (({"name": "random_scale"},), [(8, 8)], "would be 4 to 16 x 4 to 16 pixels"),
        (
            ({"name": "pad", "size": 8},),
            [(9, 8)],
            "pad to 8 is smaller than patches of up to 9 .* pad to 9",
        ),
        (
            ({"name": "random_scale", "maximum": 2.0}, {"name": "pad", "size": 15}),
            [(8, 8)],
            "pad to 15 is smaller than patches of up to 16 pixels",
        ),
    ],
)
def test_patches_of_different_sizes_are_an_error_before_training(given, sizes, message):
    with pytest.raises(ValueError, match=message):
        output_size(transforms(*given), sizes)


def test_every_transform_of_the_configuration_is_known():
    from typing import get_args

    from factseg_paddle.data.augment import _APPLY

    assert set(_APPLY) == set(get_args(get_args(schema.Transform)[0]))
