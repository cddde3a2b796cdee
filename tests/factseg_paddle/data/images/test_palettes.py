import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from factseg_paddle.data.images.palettes import (
    ISAID_CLASSES,
    ISAID_PALETTE,
    color_to_index,
    index_to_color,
)
from torch_ref import data as reference

LABELS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 15)
)


def test_palette_is_the_originals_in_its_order():
    assert ISAID_PALETTE.shape == (16, 3)
    assert {tuple(c): i for i, c in enumerate(ISAID_PALETTE.tolist())} == reference.ISAID_COLORS


def test_names_of_roundabout_and_storage_tank_follow_the_devkit():
    assert tuple(ISAID_PALETTE[ISAID_CLASSES.index("storage_tank")]) == (0, 63, 63)
    assert tuple(ISAID_PALETTE[ISAID_CLASSES.index("roundabout")]) == (0, 191, 127)
    assert ISAID_CLASSES.index("storage_tank") == 12
    assert len(set(ISAID_CLASSES)) == 16


def test_palette_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        ISAID_PALETTE[0] = 1


@given(LABELS)
def test_colors_and_indices_translate_both_ways(labels):
    colors = index_to_color(labels)
    assert colors.dtype == np.uint8
    np.testing.assert_array_equal(colors, reference.index_to_color(labels))
    indices = color_to_index(colors)
    assert indices.dtype == np.uint8
    np.testing.assert_array_equal(indices, labels)
    np.testing.assert_array_equal(reference.color_to_index(colors), labels)


def test_color_to_index_reads_views_of_other_memory_order():
    colors = index_to_color(np.arange(16, dtype=np.uint8).reshape(4, 4))
    mirrored = np.asfortranarray(colors)[::-1, ::-1]
    expected = np.arange(16)[::-1].reshape(4, 4)
    np.testing.assert_array_equal(color_to_index(mirrored), expected)


def test_unknown_colors_are_listed_with_their_pixel_counts():
    mask = np.zeros((4, 5, 3), np.uint8)
    mask[0, :3] = (7, 8, 9)
    mask[3, 4] = (255, 255, 255)
    pattern = r"4 of 20 pixels .*\(7, 8, 9\) in 3 pixels, \(255, 255, 255\) in 1 pixels"
    with pytest.raises(ValueError, match=pattern):
        color_to_index(mask)


def test_many_unknown_colors_are_counted_not_all_listed():
    mask = np.full((1, 20, 3), 200, np.uint8)
    mask[0, :, 0] = np.arange(20)
    with pytest.raises(ValueError, match="and 12 more colours"):
        color_to_index(mask)


def test_color_with_the_originals_key_of_a_ship_is_not_a_ship():
    # the original's key R + 2G + 3B maps both to 189
    assert 0 + 2 * 0 + 3 * 63 == 189 + 2 * 0 + 3 * 0
    with pytest.raises(ValueError, match=r"\(189, 0, 0\) in 1 pixels"):
        color_to_index(np.array([[[189, 0, 0]]], np.uint8))


def test_no_neighbour_of_a_class_color_is_accepted():
    known = {tuple(color) for color in ISAID_PALETTE.tolist()}
    for color in known:
        for channel in range(3):
            for step in (-1, 1):
                other = list(color)
                other[channel] += step
                if 0 <= other[channel] <= 255:
                    assert tuple(other) not in known
                    with pytest.raises(ValueError, match="not in the palette"):
                        color_to_index(np.array([[other]], np.uint8))


def test_ignore_label_has_no_color_and_says_what_to_do():
    with pytest.raises(ValueError, match=r"\[255\] have no colour .*index mask"):
        index_to_color(np.array([[0, 255]], np.uint8))


def test_negative_label_does_not_wrap_around():
    with pytest.raises(ValueError, match=r"\[-1\] have no colour"):
        index_to_color(np.array([[0, -1]]))


@pytest.mark.parametrize(
    "mask",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_mask_of_wrong_shape_or_dtype_is_named(mask):
    with pytest.raises(ValueError, match=r"colour mask is \[H, W, 3\] uint8, this one is"):
        color_to_index(mask)


def test_labels_of_wrong_dtype_are_named():
    with pytest.raises(ValueError, match=r"these are .* float64"):
        index_to_color(np.zeros((2, 2)))


def test_palette_guards():
    mask = np.zeros((1, 1, 3), np.uint8)
    with pytest.raises(ValueError, match="one colour to two classes"):
        color_to_index(mask, np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="1 to 255 colours, this one has 256"):
        color_to_index(mask, np.arange(768).reshape(256, 3).astype(np.uint8))
    with pytest.raises(ValueError, match=r"a palette is \[C, 3\] uint8"):
        color_to_index(mask, np.zeros((2, 3)))
