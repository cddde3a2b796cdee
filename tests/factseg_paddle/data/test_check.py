import importlib.util

import cv2
import numpy as np
import pytest
from PIL import Image

from factseg_paddle.config.data_section import Data
from factseg_paddle.data.check import check_data
from factseg_paddle.data.images.files import write_png
from factseg_paddle.data.images.palettes import ISAID_PALETTE, index_to_color
from factseg_paddle.data.pairs import DataError
from tests.factseg_paddle.data.images.png_writer import PALETTE, assemble, encode, take_apart
from tests.factseg_paddle.data.layouts.isaid_files import (
    image_of,
    isaid,
    mask_of,
    scene,
    write_isaid,
)
from tests.paths import REPO


def check(data, num_workers=0):
    return check_data(data, num_workers=num_workers)


def run_script(*arguments):
    path = REPO / "scripts" / "prepare_isaid.py"
    spec = importlib.util.spec_from_file_location("prepare_isaid", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in arguments])


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


HARMS = {
    "missing mask": (lambda _, mask: mask.unlink(), "{mask} does not exist; add it, or remove"),
    "missing image": (lambda image, _: image.unlink(), "{mask} has no image; add the image"),
    "truncated image": (lambda image, _: cut(image), "{image} is truncated or damaged"),
    "truncated mask": (lambda _, mask: cut(mask), "{mask} is truncated or damaged"),
    "text": (
        lambda image, _: image.write_text("no"),
        "{image} is not an image or is damaged; give a",
    ),
    "16 bits": (
        lambda image, _: cv2.imwrite(str(image), np.zeros((64, 128, 3), np.uint16)),
        "{image} has 16 bits a channel; convert it to 8 bits",
    ),
    "another size": (
        lambda _, mask: write_png(mask, np.zeros((63, 128), np.uint8)),
        "{mask} is 63 x 128; check that they are a pair",
    ),
    "unknown colour": (
        lambda _, mask: write_png(mask, np.full((64, 128, 3), 9, np.uint8)),
        "(9, 9, 9) in 8192 pixels",
    ),
    "unknown index": (
        lambda _, mask: write_png(mask, np.full((64, 128), 16, np.uint8)),
        "holds indices that are neither below 16 nor 255: 16 in 8192 pixels",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_each_kind_of_bad_data_is_found_and_named_once(tmp_path, harm):
    write_isaid(tmp_path)
    paths = image_of(tmp_path / "train", "P0001"), mask_of(tmp_path / "train", "P0001")
    do, message = HARMS[harm]
    do(*paths)
    checked = check(isaid(tmp_path))
    assert not checked
    (problem,) = checked.problems
    assert message.format(image=paths[0], mask=paths[1]) in problem
    assert "P0001" in problem
    assert "\n" not in problem


def test_all_problems_are_listed_a_line_each(tmp_path, capsys):
    write_isaid(tmp_path)
    mask_of(tmp_path / "train", "P0000").unlink()
    cut(image_of(tmp_path / "train", "P0000"))
    cut(image_of(tmp_path / "train", "P0001"))
    write_png(mask_of(tmp_path / "val", "P0004"), np.full((70, 64), 99, np.uint8))
    assert run_script("--check", "--dataset_root", tmp_path, "--num_workers", 2) == 1
    *problems, verdict = capsys.readouterr().out.splitlines()
    assert len(problems) == 4
    for problem, name in zip(problems, ("P0000", "P0000", "P0001", "P0004"), strict=True):
        assert name in problem
    assert "3 train and 2 val images: 4 problems" in verdict


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            b"PLTE",
            "cannot be decoded: it has no palette (PLTE), which its header announces",
        ),
        (b"IHDR", "is truncated or damaged; copy or download it again"),
    ],
)
def test_check_goes_on_after_a_png_without_ihdr_or_plte(tmp_path, capsys, kind, message):
    labels = write_isaid(tmp_path)["train", "P0000"][1]
    broken, cut_short = (mask_of(tmp_path / "train", f"P000{index}") for index in (0, 1))
    parts = take_apart(encode(labels, PALETTE, 8, palette=ISAID_PALETTE))
    broken.write_bytes(assemble(part for part in parts if part[0] != kind))
    cut(cut_short)
    assert run_script("--check", "--dataset_root", tmp_path, "--num_workers", 0) == 1
    first, second, verdict = capsys.readouterr().out.splitlines()
    assert first.startswith(f"mask {broken} {message}")
    assert str(cut_short) in second
    assert "2 problems" in verdict


def test_mask_of_another_size_is_still_read_for_its_colours(tmp_path):
    write_isaid(tmp_path)
    write_png(mask_of(tmp_path / "train", "P0001"), np.full((63, 128, 3), 9, np.uint8))
    colours, sizes = check(isaid(tmp_path)).problems
    assert "(9, 9, 9) in 8064 pixels" in colours
    assert "is 64 x 128 pixels" in sizes
    assert "is 63 x 128; check that they are a pair" in sizes


def test_good_data_are_fine_and_their_classes_are_counted(tmp_path, capsys):
    write_isaid(tmp_path)
    checked = check(isaid(tmp_path))
    assert checked
    expected = np.zeros(16, np.int64)
    shapes = [(128, 96), (64, 128), (100, 128), (128, 128), (70, 64)]
    for index, shape in enumerate(shapes):
        expected += np.bincount(scene(index, *shape)[1].ravel(), minlength=16)
    np.testing.assert_array_equal(checked.pixels, expected)
    assert run_script("--check", "--dataset_root", tmp_path, "--num_workers", 0) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert "3 train and 2 val images: all fine; pixels: background " in captured.out
    assert "5/5" in captured.err


def test_what_is_converted_where_that_is_right_is_no_problem(tmp_path):
    image, labels = write_isaid(tmp_path)["train", "P0000"]
    folder = tmp_path / "train"
    Image.fromarray(np.dstack([image, image[..., 0]])).save(image_of(folder, "P0000"))  # RGBA
    Image.fromarray(image[:64, :, 0].repeat(2, 1)[:, :128]).save(image_of(folder, "P0001"))  # grey
    Image.fromarray(scene(2, 100, 128)[0]).quantize(8).save(image_of(folder, "P0002"))  # palette
    labels[0] = 255
    write_png(mask_of(folder, "P0000"), labels)  # indices
    assert check(isaid(tmp_path))


def test_real_data_are_fine(shared_data):
    checked = check(isaid(shared_data("isaid")))
    assert checked
    assert checked.images == {"train": 1, "val": 2}
    assert set(np.flatnonzero(checked.pixels)) == {0, 8, 9, 12}


def folder_data(root, **options):
    split = {"image_dir": "images", "mask_dir": "masks"}
    values = {"kind": "folder", "num_classes": 2, "train": split, "dataset_root": str(root)}
    return Data.model_validate({**values, **options})


def test_binary_masks_of_0_and_255_without_a_palette_are_no_class(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9] = 255
    write_png(tmp_path / "images" / "a.png", np.zeros((20, 30, 3), np.uint8))
    write_png(tmp_path / "masks" / "a.png", mask)
    (problem,) = check(folder_data(tmp_path)).problems
    assert "all masks hold class 0 and pixels to ignore alone; look at data.palette" in problem
    assert check(folder_data(tmp_path, palette=[[0, 0, 0], [255, 255, 255]]))


def test_own_data_are_checked_by_their_configuration(shared_data, tmp_path, capsys):
    root = shared_data("gsi_roads")
    config = tmp_path / "roads.yml"
    config.write_text(
        "data:\n"
        "  kind: folder\n"
        f"  dataset_root: {root}\n"
        "  train: {image_dir: images, mask_dir: masks}\n"
        "  num_classes: 2\n"
        "  class_names: [background, road]\n"
        "  palette: [[0, 0, 0], [255, 120, 80]]\n"
    )
    assert run_script("--check", "--config", config, "--num_workers", 0) == 0
    assert (
        "36 train images: all fine; pixels: background 90.03%, road 9.97%\n"
        in capsys.readouterr().out
    )


def test_folder_without_masks_is_a_problem(tmp_path):
    (tmp_path / "images").mkdir()
    write_png(tmp_path / "images" / "a.png", np.zeros((20, 30, 3), np.uint8))
    (problem,) = check(folder_data(tmp_path, train={"image_dir": "images"})).problems
    assert "a.png has no mask: mask_dir is not configured" in problem


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--check", "--dataset_root", "nowhere"), "iSAID is not complete at "),
        (("--config", "x.yml"), "--config goes with --check"),
        (("--num_workers", "-1"), "--num_workers -1 is negative"),
        (("--check", "--config", "x.yml"), "the configuration x.yml does not exist"),
    ],
)
def test_what_can_not_start_is_told_with_status_2(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    try:
        status = run_script(*arguments)
    except SystemExit as left:
        status = left.code
    assert status == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_one_split_is_enough_but_none_is_an_error(tmp_path):
    write_isaid(tmp_path, sizes={"val": [(64, 64)]})
    assert check(isaid(tmp_path)).images == {"val": 1}
    with pytest.raises(DataError, match="no PNG images in train/images/images"):
        check(isaid(tmp_path / "none"))


def test_masks_of_one_class_alone_are_a_problem(tmp_path):
    write_isaid(tmp_path, sizes={"val": [(64, 64)]})
    write_png(mask_of(tmp_path / "val", "P0000"), index_to_color(np.full((64, 64), 9, np.uint8)))
    (problem,) = check(isaid(tmp_path)).problems
    assert "all masks hold class 9" in problem
