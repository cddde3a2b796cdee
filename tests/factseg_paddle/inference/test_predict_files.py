"""From image files to picture files, with a predictor of known answer."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from factseg_paddle.data.images.files import read_image, read_mask, write_png
from factseg_paddle.data.images.palettes import ISAID_CLASSES, ISAID_PALETTE
from factseg_paddle.inference import predict_files as module
from factseg_paddle.inference.predict_files import (
    Masks,
    find_images,
    iter_predictions,
    output_names,
)
from factseg_paddle.inference.sliding_window import SlidingWindow
from factseg_paddle.inference.visualize import ERROR_COLORS, Classes
from factseg_paddle.transforms import Normalization
from tests.factseg_paddle.progress_notes import ProgressNotes

RAW = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CLASSES = Classes(ISAID_CLASSES, ISAID_PALETTE)


def red_is_class_5(images):
    """Background and 15 classes; 5 where red is above 128."""
    n, _, height, width = images.shape
    scores = np.zeros((n, 16, height, width), np.float32)
    scores[:, 0] = 0.5
    scores[:, 5] = images[:, 0] > 128
    return scores


ENGINE = SlidingWindow(red_is_class_5, 64, 48, normalization=RAW)


def scene(seed=0, height=90, width=110):
    image = np.random.RandomState(seed).randint(60, 90, (height, width, 3)).astype(np.uint8)
    image[20:40, 30:70, 0] = 200
    labels = np.zeros((height, width), np.uint8)
    labels[20:40, 30:70] = 5
    return image, labels


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    write_png(images / "a.png", scene(0)[0])
    Image.fromarray(scene(1)[0]).save(images / "b.tif")
    Image.fromarray(scene(2)[0]).save(images / "c.jpg", quality=95, subsampling=0)
    (images / "notes.txt").write_text("no image")
    return images


def run(folder, output, **options):
    return list(iter_predictions(find_images(folder), output, ENGINE, CLASSES, **options))


def opened(path):
    with Image.open(path) as picture:
        picture.load()
        return picture


def test_every_format_gives_three_pictures(folder, tmp_path):
    progress = ProgressNotes()
    results = run(folder, tmp_path / "out", progress=progress)
    assert [result.path.name for result in results] == ["a.png", "b.tif", "c.jpg"]
    assert all(results)
    assert progress.counts == [[result.path.name, 2 * 2, 0] for result in results]
    for name in "abc":
        index = opened(tmp_path / f"out/index/{name}.png")
        assert index.mode == "P"
        np.testing.assert_array_equal(np.asarray(index), scene()[1])
        np.testing.assert_array_equal(
            np.array(index.getpalette()).reshape(-1, 3)[:16], ISAID_PALETTE
        )
        color = read_image(tmp_path / f"out/color/{name}.png")
        np.testing.assert_array_equal(color, ISAID_PALETTE[scene()[1]])
        overlay = read_image(tmp_path / f"out/overlay/{name}.png")
        np.testing.assert_array_equal(
            overlay[:15, :110], read_image(next(folder.glob(f"{name}.*")))[:15]
        )
        assert overlay.shape[0] > 90
    assert not (tmp_path / "out/error").exists()
    assert {p.name for p in (tmp_path / "out").rglob("*.png")} == {"a.png", "b.png", "c.png"}
    assert [result.pixels[5] for result in results] == [800] * 3


def test_an_error_map_is_drawn_where_a_mask_exists(folder, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    truth = scene()[1].copy()
    truth[20:25] = 0  # ours there: false alarms
    truth[60:70, 10:20] = 3  # missed
    truth[0] = 255
    write_png(masks / "a_instance_color_RGB.png", ISAID_PALETTE[np.where(truth == 255, 0, truth)])
    write_png(masks / "b.png", truth)
    results = run(folder, tmp_path / "out", masks=Masks(masks, read_mask))
    assert [len(result.pictures) for result in results] == [4, 4, 3]
    assert sorted(p.name for p in (tmp_path / "out/error").iterdir()) == ["a.png", "b.png"]
    error = read_image(tmp_path / "out/error/b.png")
    found, missed, false_alarm, _ = ERROR_COLORS
    assert (error[25:40, 30:70] == found).all()
    assert (error[60:70, 10:20] == missed).all()
    assert (error[20:25, 30:70] == false_alarm).all()
    assert (error[0, :110] == 128).all()


def test_one_bad_file_is_reported_and_the_rest_go_on(folder, tmp_path):
    bad = folder / "b.tif"
    bad.write_bytes(bad.read_bytes()[:200])
    (folder / "aa.png").write_bytes(b"")
    results = run(folder, tmp_path / "out")
    assert [bool(result) for result in results] == [True, False, False, True]
    assert str(bad) in results[2].problem
    assert "aa.png cannot be decoded" in results[1].problem
    assert {p.name for p in (tmp_path / "out").rglob("*.*")} == {"a.png", "c.png"}


def test_a_damage_that_shows_late_leaves_nothing_half_written(folder, tmp_path):
    calls = []

    def failing(images):
        calls.append(1)
        if len(calls) > 5:  # in the second image
            raise ValueError("image is damaged in rows 40 to 90")
        return red_is_class_5(images)

    engine = SlidingWindow(failing, 64, 48, normalization=RAW)
    files = find_images(folder)[:2]
    results = list(iter_predictions(files, tmp_path / "out", engine, CLASSES))
    assert [bool(result) for result in results] == [True, False]
    assert results[1].problem == f"{files[1]}: image is damaged in rows 40 to 90"
    left = [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert left == ["a.png"] * 3


def test_a_full_disk_fails_the_file_and_leaves_nothing(folder, tmp_path, file_size_limit):
    with file_size_limit(1000):
        results = run(folder, tmp_path / "out")
    assert not any(results)
    assert [str(result.path) in result.problem for result in results] == [True] * 3
    assert "File too large" in results[0].problem
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert all(run(folder, tmp_path / "out"))


def test_an_image_too_large_for_memory_fails_alone(folder, tmp_path, monkeypatch):
    opened = module.open_image

    def full(path):
        if path.name == "b.tif":
            raise MemoryError
        return opened(path)

    monkeypatch.setattr(module, "open_image", full)
    results = run(folder, tmp_path / "out")
    assert [bool(result) for result in results] == [True, False, True]
    assert results[1].problem == f"{folder / 'b.tif'} does not fit into memory"


def test_a_mask_of_another_size_or_with_foreign_colours_fails_its_file(folder, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    write_png(masks / "a.png", np.zeros((90, 111), np.uint8))
    write_png(masks / "b.png", np.full((90, 110, 3), 77, np.uint8))
    results = run(folder, tmp_path / "out", masks=Masks(masks, read_mask))
    assert [bool(result) for result in results] == [False, False, True]
    assert "90 x 110 pixels (rows x columns) but mask" in results[0].problem
    assert "does not fit the palette" in results[1].problem


def test_files_of_one_stem_do_not_overwrite_each_other(folder, tmp_path):
    write_png(folder / "b.png", scene(3)[0])
    files = find_images(folder)
    assert output_names(files) == ["a.png", "b.png", "b.tif", "c.jpg"]
    assert output_names(files[:2]) == ["a", "b"]
    run(folder, tmp_path / "out")
    assert len(list((tmp_path / "out/index").iterdir())) == 4


def test_a_single_file_is_taken_whatever_its_suffix(folder):
    file = (folder / "a.png").rename(folder / "a.img")
    assert find_images(file) == [file]


def test_no_images_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no image"):
        find_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_images(tmp_path / "nowhere")


def test_hidden_files_are_no_images(folder):
    (folder / "._a.png").write_bytes(b"of macOS")
    assert [path.name for path in find_images(folder)] == ["a.png", "b.tif", "c.jpg"]


def test_photographs_are_not_replaced_by_their_results(folder, tmp_path):
    place = folder.rename(tmp_path / "color")
    before = (place / "a.png").read_bytes()
    with pytest.raises(ValueError, match=r"color/a\.png is read, and a result would replace it"):
        run(place, tmp_path)
    assert (place / "a.png").read_bytes() == before
    assert list(tmp_path.iterdir()) == [place]


def test_masks_are_not_replaced_by_results(folder, tmp_path):
    masks = tmp_path / "index"
    masks.mkdir()
    write_png(masks / "a.png", scene(0)[1])
    before = (masks / "a.png").read_bytes()
    with pytest.raises(ValueError, match=r"index/a\.png is read"):
        run(folder, tmp_path, masks=Masks(masks, read_mask))
    assert (masks / "a.png").read_bytes() == before


def test_images_in_a_folder_called_error_are_predicted_without_masks(folder, tmp_path):
    assert all(run(folder.rename(tmp_path / "error"), tmp_path))


def test_masks_follow_images_with_a_suffix_of_their_own(folder, tmp_path):
    (folder / "a.png").rename(folder / "a_rgb.png")
    masks = tmp_path / "masks"
    masks.mkdir()
    write_png(masks / "a_lab.png", scene(0)[1])
    found = Masks(masks, read_mask, ("_lab.png",), image_suffix="_rgb.png")
    assert found.of_image(folder / "a_rgb.png") == masks / "a_lab.png"
    assert found.of_image(folder / "b.tif") is None


def test_name_that_is_no_utf8_fails_its_file_alone(folder, tmp_path):
    odd = folder / os.fsdecode(b"b\xb2\xe2.png")
    (folder / "a.png").rename(odd)
    results = run(folder, tmp_path / "out")
    assert [bool(result) for result in results] == [True, False, True]
    assert "is not UTF-8; rename the file" in results[1].problem
    results[1].problem.encode()


def test_what_a_killed_run_left_is_removed(folder, tmp_path):
    index = tmp_path / "out" / "index"
    index.mkdir(parents=True)
    (index / ".a.59ca230c.tmp.png").write_bytes(b"half")
    (index / ".z.59ca230c.tmp.png").write_bytes(b"of another run, which may go on")
    run(folder, tmp_path / "out")
    assert sorted(path.name for path in index.iterdir()) == [
        ".z.59ca230c.tmp.png",
        "a.png",
        "b.png",
        "c.png",
    ]
