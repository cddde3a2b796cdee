"""PNG files written strip by strip, read back by two other readers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from factseg_paddle.data.images.palettes import ISAID_PALETTE
from factseg_paddle.files import atomic_write
from factseg_paddle.inference.png_strips import png_strips


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("png") / "a.png"


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.lists(st.integers(0, 9), min_size=1).filter(any), st.booleans())
def test_any_strips_come_back(path, width, heights, indexed):
    rng = np.random.RandomState(width)
    shape = (sum(heights), width) if indexed else (sum(heights), width, 3)
    pixels = rng.randint(0, 16 if indexed else 256, shape).astype(np.uint8)
    with png_strips(path, width, ISAID_PALETTE if indexed else None) as write:
        for strip in np.split(pixels, np.cumsum(heights)[:-1]):
            write(strip)
    with Image.open(path) as read:
        read.load()
        assert read.mode == ("P" if indexed else "RGB")
        np.testing.assert_array_equal(np.asarray(read), pixels)
        shown = np.asarray(read.convert("RGB"))
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], shown)
    np.testing.assert_array_equal(shown, ISAID_PALETTE[pixels] if indexed else pixels)


def write_all(target, *strips):
    with atomic_write(target) as temporary, png_strips(temporary, 4, ISAID_PALETTE) as write:
        for strip in strips:
            write(strip)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, 5), np.uint8),
        np.zeros((2, 4, 3), np.uint8),
        np.zeros((2, 4), np.int64),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_leave_no_file(tmp_path, rows):
    target = tmp_path / "a.png"
    with pytest.raises(ValueError, match=r"rows for .* are \[n, 4\] uint8"):
        write_all(target, np.zeros((3, 4), np.uint8), rows)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no rows were written to"):
        write_all(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
