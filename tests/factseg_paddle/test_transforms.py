import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factseg_paddle import transforms
from factseg_paddle.data.images.files import read_image, read_mask
from factseg_paddle.data.synthetic.scenes import paint_scene
from torch_ref import data as reference


def scene(height=70, width=96, dtype=np.uint8):
    painted = paint_scene(96, 4)
    labels = painted.labels[:height, :width].astype(dtype)
    labels[:3, :5] = 255
    return painted.image[:height, :width], labels


INTEGER_STEPS = {
    "horizontal_flip": lambda m, i, y: m.horizontal_flip(i, y),
    "vertical_flip": lambda m, i, y: m.vertical_flip(i, y),
    **{f"rot90_{k}": lambda m, i, y, k=k: m.rot90(i, y, k) for k in range(4)},
    "crop": lambda m, i, y: m.crop(i, y, top=5, left=9, height=40, width=33),
    "pad_to": lambda m, i, y: m.pad_to(i, y, height=96, width=128),
    "pad_to_own_fill": lambda m, i, y: m.pad_to(
        i, y, height=70, width=97, image_fill=9, ignore_index=3
    ),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("step", INTEGER_STEPS)
def test_step_equals_the_reference_bit_by_bit(step, dtype):
    image, labels = scene(dtype=dtype)
    before = image.copy(), labels.copy()
    ours = INTEGER_STEPS[step](transforms, image, labels)
    expected = INTEGER_STEPS[step](reference, image, labels)
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.flags.c_contiguous
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("step", INTEGER_STEPS)
def test_normalised_image_goes_through_the_same_steps(step):
    image, labels = scene()
    after = INTEGER_STEPS[step](transforms, transforms.normalize(image), labels)
    before = INTEGER_STEPS[step](transforms, image, labels)
    assert after[0].dtype == np.float32
    np.testing.assert_array_equal(after[1], before[1])
    if not step.startswith("pad"):
        np.testing.assert_array_equal(after[0], transforms.normalize(before[0]))


def test_padding_after_normalising_is_zero_and_not_black():
    image, labels = scene(30, 40)
    padded = transforms.pad_to(transforms.normalize(image), labels, height=32, width=48)[0]
    assert not padded[30:].any()
    assert not padded[:, 40:].any()


def test_rot90_is_counter_clockwise():
    image = np.zeros((2, 3, 3), np.uint8)
    labels = np.array([[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(transforms.rot90(image, labels, 1)[1], [[3, 6], [2, 5], [1, 4]])


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 3))
def test_turns_and_flips_undo_themselves(height, width, k):
    image = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    labels = image[..., 0] % 16
    turned = transforms.rot90(*transforms.rot90(image, labels, k), (4 - k) % 4)
    across = transforms.horizontal_flip(*transforms.horizontal_flip(image, labels))
    down = transforms.vertical_flip(*transforms.vertical_flip(image, labels))
    half = transforms.horizontal_flip(*transforms.vertical_flip(image, labels))
    for one, two in (turned, across, down):
        np.testing.assert_array_equal(one, image)
        np.testing.assert_array_equal(two, labels)
    for one, two in zip(half, transforms.rot90(image, labels, 2), strict=True):
        np.testing.assert_array_equal(one, two)


def test_normalize_is_within_one_rounding_of_float64():
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    ours, exact = transforms.normalize(image), reference.normalize(image)
    assert ours.dtype == np.float32
    assert exact.dtype == np.float64
    # mean, difference and quotient are rounded once each, and the difference may cancel
    np.testing.assert_allclose(ours, exact, rtol=0, atol=2.0**-22)
    np.testing.assert_array_equal(transforms.normalize(image.astype(np.float32)), ours)


def test_normalize_uses_imagenet_statistics_on_the_scale_of_255():
    pixel = np.array([[[124, 0, 255]]], np.uint8)
    expected = [(124 - 123.675) / 58.395, -116.28 / 57.12, (255 - 103.53) / 57.375]
    np.testing.assert_allclose(transforms.normalize(pixel)[0, 0], expected, rtol=1e-5)


def test_training_padding_is_black_before_normalising():
    image, labels = transforms.pad_to(*scene(30, 40), height=32, width=48)
    black = -np.array(transforms.ISAID_MEAN) / transforms.ISAID_STD
    np.testing.assert_allclose(transforms.normalize(image)[31, 47], black, rtol=1e-6)
    assert (labels[30:] == 255).all()
    assert (labels[:, 40:] == 255).all()


@pytest.mark.parametrize(
    ("size", "padded"), [((32, 64), (32, 64)), ((33, 63), (64, 64)), ((1, 96), (32, 96))]
)
def test_pad_to_divisible_equals_the_reference(size, padded):
    normalized = transforms.normalize(scene(*size)[0])
    ours = transforms.pad_to_divisible(normalized)
    assert ours.shape == (*padded, 3)
    np.testing.assert_array_equal(ours, reference.pad_to_divisible(normalized))
    assert not ours[size[0] :].any()
    np.testing.assert_array_equal(ours[: size[0], : size[1]], normalized)


def test_to_chw_equals_the_reference_and_is_contiguous():
    image = scene()[0]
    ours = transforms.to_chw(image)
    np.testing.assert_array_equal(ours, reference.to_chw(image))
    assert ours.flags.c_contiguous
    assert ours.shape == (3, 70, 96)


@pytest.mark.parametrize("name", ["train/P0005", "val/P0003", "val/P0004"])
def test_real_pair_equals_the_reference(shared_data, name):
    split, stem = name.split("/")
    image_path = shared_data(f"isaid/{split}/images/images/{stem}.png")
    mask_path = shared_data(f"isaid/{split}/masks/images/{stem}_instance_color_RGB.png")
    image, labels = read_image(image_path), read_mask(mask_path)
    np.testing.assert_array_equal(image, reference.read_image(image_path))
    np.testing.assert_array_equal(labels, reference.read_mask(mask_path))
    assert labels.any()
    image, labels = image[:300, :400], labels[:300, :400]
    for step in (INTEGER_STEPS[name] for name in INTEGER_STEPS if not name.startswith("pad")):
        for ours, expected in zip(
            step(transforms, image, labels), step(reference, image, labels), strict=True
        ):
            np.testing.assert_array_equal(ours, expected)
    ours, exact = transforms.normalize(image), reference.normalize(image)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=2.0**-22)


GUARDS = [
    (
        lambda i, y: transforms.horizontal_flip(i.astype(np.float64), y),
        "uint8, or float32 .* this one is .*float64",
    ),
    (lambda i, y: transforms.vertical_flip(i[..., 0], y), r"an image is \[H, W, 3\] uint8"),
    (lambda i, y: transforms.rot90(i, y.astype(np.float64), 1), r"labels are \[H, W\] integers"),
    (lambda i, y: transforms.rot90(i, y[None], 1), r"labels are \[H, W\] integers"),
    (lambda i, y: transforms.rot90(i, y[1:], 1), r"image \[70, 96\] and labels \[69, 96\] differ"),
    (lambda i, y: transforms.rot90(i, y, 4), "k = 4 quarter turns; use 0, 1, 2 or 3"),
    (
        lambda i, y: transforms.crop(i, y, top=60, left=0, height=11, width=5),
        "window of 11 rows from 60 .* does not lie inside an image of 70 x 96",
    ),
    (lambda i, y: transforms.crop(i, y, top=-1, left=0, height=5, width=5), "does not lie inside"),
    (lambda i, y: transforms.crop(i, y, top=0, left=0, height=0, width=5), "does not lie inside"),
    (lambda i, y: transforms.pad_to(i, y, height=64, width=96), "height 70 is more than the 64"),
    (lambda i, y: transforms.pad_to(i, y, height=96, width=95), "width 96 is more than the 95"),
    (
        lambda i, y: transforms.pad_to(i, y.astype(np.int8), height=96, width=96),
        "int8 cannot hold ignore_index 255",
    ),
    (lambda i, _: transforms.normalize(i.astype(np.float64)), "uint8 or float32 .* float64"),
    (lambda i, _: transforms.normalize(i, std=(1.0, 0.0, 1.0)), "std positive"),
    (lambda i, _: transforms.pad_to_divisible(i), "normalise it first"),
    (lambda i, _: transforms.pad_to_divisible(i.astype(np.float32), 0), "divisor 0 is below 1"),
    (lambda _, y: transforms.to_chw(y), r"an image is \[H, W, 3\], this one is \[70, 96\]"),
]


@pytest.mark.parametrize(("call", "message"), GUARDS, ids=[message for _, message in GUARDS])
def test_guard_names_the_fault(call, message):
    with pytest.raises(ValueError, match=message):
        call(*scene())
