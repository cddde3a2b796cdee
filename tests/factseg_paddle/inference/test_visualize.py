"""Overlays, error maps, legends and their colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from factseg_paddle.data.images.palettes import ISAID_CLASSES, ISAID_PALETTE
from factseg_paddle.inference import visualize
from factseg_paddle.inference.legend import Entry, legend, picture_width, share_text
from factseg_paddle.inference.pictures import error_picture, overlay_picture
from factseg_paddle.inference.visualize import (
    ERROR_COLORS,
    Classes,
    distinct_colors,
    error_kinds,
    error_rows,
    overlay_colors,
    overlay_rows,
)

CLASSES = Classes(ISAID_CLASSES, ISAID_PALETTE)
BLACK_RED = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)


def lightness_and_distance(colors):
    lab = cv2.cvtColor(colors[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(lab) for b in lab[:i]]
    return lab[:, 0].min(), min(pairs)


def test_isaids_dark_blues_are_replaced_by_colours_that_can_be_told_apart():
    lightness, distance = lightness_and_distance(ISAID_PALETTE[1:])
    assert lightness < 4
    assert distance < 12
    lightness, distance = lightness_and_distance(overlay_colors(ISAID_PALETTE)[1:])
    assert lightness > 40
    assert distance > 25


def test_colours_that_can_be_told_apart_stay():
    road = np.array([(0, 0, 0), (255, 120, 80)], np.uint8)
    assert overlay_colors(road) is road
    dark = np.array([(0, 0, 0), (20, 0, 0)], np.uint8)
    assert overlay_colors(dark)[1].tolist() != [20, 0, 0]
    alike = np.array([(0, 0, 0), (255, 120, 80), (255, 120, 90)], np.uint8)
    assert overlay_colors(alike)[2].tolist() != [255, 120, 90]


@pytest.mark.parametrize("count", [2, 21, 22, 200])
def test_there_are_colours_for_any_number_of_classes(count):
    colors = distinct_colors(count)
    assert colors.shape == (count, 3)
    assert colors.dtype == np.uint8
    assert len(np.unique(colors, axis=0)) == count
    assert colors[0].tolist() == [0, 0, 0]
    if count > 2:
        assert lightness_and_distance(colors[1:])[0] > 25


def test_overlay_tints_objects_and_outlines_them_and_leaves_the_rest():
    image = np.full((8, 8, 3), 100, np.uint8)
    labels = np.zeros((8, 8), np.uint8)
    labels[2:6, 2:6] = 1
    shown = overlay_rows(image, labels, BLACK_RED, None)
    assert shown[0, 0].tolist() == [100, 100, 100]
    share = visualize.SHARE
    tint = [round(100 * (1 - share) + 255 * share), *[round(100 * (1 - share))] * 2]
    assert shown[4, 4].tolist() == tint
    for row, column in ((2, 3), (6, 3), (3, 2), (3, 6)):
        assert shown[row, column].tolist() == [255, 0, 0]


def test_error_kinds_of_each_pair():
    truth = np.array([[0, 0, 1, 1, 1, 255]])
    labels = np.array([[0, 2, 1, 0, 2, 2]])
    v = visualize
    expected = [[-1, v.FALSE_ALARM, v.RIGHT, v.MISSED, v.WRONG_CLASS, -2]]
    assert error_kinds(labels, truth, 255).tolist() == expected
    shown = error_rows(np.full((1, 6, 3), 200, np.uint8), error_kinds(labels, truth, 255))
    assert shown[0, 1:5].tolist() == ERROR_COLORS[[2, 0, 1, 3]].tolist()
    assert shown[0, 5].tolist() == [128, 128, 128]
    assert shown[0, 0].tolist() == [120, 120, 120]


@pytest.mark.parametrize("kind", ["overlay", "error"])
def test_a_picture_in_strips_equals_the_picture_at_once(tmp_path, kind):
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (50, 400, 3)).astype(np.uint8)
    labels = np.kron(rng.randint(0, 16, (10, 80)), np.ones((5, 5), int)).astype(np.uint8)
    truth = np.roll(labels, 7, axis=1)
    truth[:4, :9] = 255

    def draw(name, step):
        make = overlay_picture if kind == "overlay" else error_picture
        with make(tmp_path / name, 400, CLASSES) as add:
            for top in range(0, 50, step):
                rows = [a[top : top + step] for a in (image, labels, truth)]
                add(*rows[: 2 if kind == "overlay" else 3])
        return np.asarray(Image.open(tmp_path / name))

    at_once = draw("a.png", 50)
    np.testing.assert_array_equal(draw("b.png", 7), at_once)
    assert at_once.shape[1] == 400
    legend_rows = at_once[50:]
    colors = overlay_colors(ISAID_PALETTE)[1:] if kind == "overlay" else ERROR_COLORS
    for color in colors:
        assert (legend_rows == color).all(axis=2).sum() > 100


def test_a_narrow_picture_is_widened_so_that_its_legend_is_whole(tmp_path):
    with overlay_picture(tmp_path / "a.png", 10, CLASSES) as add:
        add(np.zeros((10, 10, 3), np.uint8), np.full((10, 10), 6, np.uint8))
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape[1] == picture_width(ISAID_CLASSES, 10) > 150
    assert (picture[:10, 10:] == 255).all()
    # the text ends before the edge
    assert (picture[10:, -5:] == 255).all()
    assert (picture[10:] < 100).any()


def test_a_picture_without_objects_says_so(tmp_path):
    with overlay_picture(tmp_path / "a.png", 300, CLASSES) as add:
        add(np.zeros((10, 300, 3), np.uint8), np.zeros((10, 300), np.uint8))
    assert np.asarray(Image.open(tmp_path / "a.png")).shape[0] > 25


def test_legend_names_any_script_that_its_font_has_and_fits_its_columns():
    names = ("Straße", "дорога", "x")
    entries = [Entry((255, 0, 0), name, "1.00 %") for name in names]
    panel = legend(entries, names, 1000)
    assert panel.shape[1] == 1000
    assert (panel == (255, 0, 0)).all(axis=2).sum() > 3 * 15 * 15
    assert legend(entries, names, 100).shape[0] > panel.shape[0]


@pytest.mark.parametrize(
    ("part", "text"), [(0, "0.00 %"), (1, "< 0.01 %"), (31, "0.31 %"), (10000, "100.00 %")]
)
def test_shares_as_texts(part, text):
    assert share_text(part, 10000 if part != 1 else 10**6) == text
