import multiprocessing
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from factseg_paddle.config.data_section import Data
from factseg_paddle.config.loading import ConfigError, make_config
from factseg_paddle.data import pairs as pairs_module
from factseg_paddle.data.array_cache import ArrayCache
from factseg_paddle.data.images.files import write_png
from factseg_paddle.data.images.palettes import ISAID_CLASSES, ISAID_PALETTE, index_to_color
from factseg_paddle.data.layouts.pair_files import PairFiles, read_headers, read_names
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.pairs import DataError
from factseg_paddle.data.patches import Window, sliding_windows
from factseg_paddle.data.store.files import encode_raster, read_raster
from factseg_paddle.data.store.prepare import prepare_isaid
from tests.factseg_paddle.data.layouts.isaid_files import (
    SIZES,
    image_of,
    isaid,
    mask_of,
    write_isaid,
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("isaid")
    return root, write_isaid(root)


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared") / "store"
    prepare_isaid(raw[0], root, num_workers=0)
    return root


@pytest.fixture(params=["raw", "prepared"])
def root(request, raw, prepared):
    return raw[0] if request.param == "raw" else prepared


def test_isaid_is_read_as_it_was_written(root, raw):
    for split, names in (("train", ["P0000", "P0001", "P0002"]), ("val", ["P0003", "P0004"])):
        pairs = open_pairs(isaid(root), split)
        assert [pairs.name(index) for index in range(len(pairs))] == names
        assert [pairs.size(index) for index in range(len(pairs))] == SIZES[split]
        for index, name in enumerate(names):
            image, labels = pairs.read(index)
            assert image.dtype == labels.dtype == np.uint8
            np.testing.assert_array_equal(image, raw[1][split, name][0])
            np.testing.assert_array_equal(labels, raw[1][split, name][1])
    assert pairs.has_masks
    assert pairs.class_names == ISAID_CLASSES
    assert pairs.num_classes == 16
    assert pairs.ignore_index == 255
    np.testing.assert_array_equal(pairs.palette, ISAID_PALETTE)


def test_windows_are_bit_identical_raw_and_prepared(raw, prepared):
    one, two = open_pairs(isaid(raw[0]), "train"), open_pairs(isaid(prepared), "train")
    seen = 0
    for index in range(len(one)):
        for window in sliding_windows(*one.size(index), size=50, stride=37):
            top, left, height, width = window
            part = np.s_[top : top + height, left : left + width]
            image, labels = raw[1]["train", one.name(index)]
            for pairs in (one, two):
                np.testing.assert_array_equal(pairs.read_image(index, window), image[part])
                np.testing.assert_array_equal(pairs.read_labels(index, window), labels[part])
            seen += 1
    assert seen == 4 * 3 + 2 * 4 + 3 * 4


def test_real_windows_are_bit_identical_raw_and_prepared(shared_data, tmp_path):
    source = shared_data("isaid")
    prepare_isaid(source, tmp_path / "s", num_workers=0)
    for split, name, patches in (("train", "P0005", 2), ("val", "P0003", 4)):
        one, two = open_pairs(isaid(source), split), open_pairs(isaid(tmp_path / "s"), split)
        assert one.name(0) == two.name(0) == name
        assert one.size(0) == two.size(0)
        windows = sliding_windows(*one.size(0), size=896, stride=512)
        assert len(windows) == patches
        for window in windows:
            np.testing.assert_array_equal(one.read_image(0, window), two.read_image(0, window))
            np.testing.assert_array_equal(one.read_labels(0, window), two.read_labels(0, window))


def test_patch_of_the_store_does_not_decode_the_whole_image(tmp_path):
    # the original: 0.5 s for each patch of a 4000 x 4000 image
    noise = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    path = tmp_path / "large.tif"
    data = bytearray(encode_raster(noise))
    with rasterio.MemoryFile(bytes(data)) as memory, memory.open() as raster:
        last = int(raster.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", 1))
    data[last : last + 500] = bytes(500)
    path.write_bytes(data)
    part = Window(200, 100, 300, 400)
    np.testing.assert_array_equal(read_raster(path, part), noise[200:500, 100:500])
    with pytest.raises(DataError, match=r"large\.tif is damaged; delete it and run .*prepare"):
        read_raster(path)


def test_raw_image_is_decoded_once_while_the_cache_holds_it(raw, monkeypatch):
    decoded = []
    original = pairs_module.read_image
    monkeypatch.setattr(
        pairs_module, "read_image", lambda path: decoded.append(path.stem) or original(path)
    )
    pairs = open_pairs(isaid(raw[0], cache_mb=1), "train")
    for _ in range(3):
        pairs.read_image(1, Window(0, 0, 8, 8))
    assert decoded == ["P0001"]
    uncached = open_pairs(isaid(raw[0], cache_mb=0), "train")
    for _ in range(3):
        uncached.read_image(1, Window(0, 0, 8, 8))
    assert decoded == ["P0001"] * 4


def test_cache_forgets_what_was_used_longest_ago_and_keeps_its_bound():
    cache, made = ArrayCache(100), []

    def get(name, size):
        def make():
            made.append(name)
            return np.zeros(size, np.uint8)

        return cache.get(Path(name), make)

    for name in ("a", "b", "a", "c", "a", "b"):  # 40 each: two fit
        get(name, 40)
        assert cache.held <= 100
    assert made == ["a", "b", "c", "b"]
    get("large", 101)
    assert cache.held == 80
    with pytest.raises(ValueError, match="read-only"):
        get("a", 40)[0] = 1
    assert pickle.loads(pickle.dumps(cache)).held == 0  # noqa: S301 - our own object


def test_pairs_are_read_after_a_pickle(root):
    pairs = open_pairs(isaid(root), "train")
    pairs.read(0)
    copy = pickle.loads(pickle.dumps(pairs))  # noqa: S301 - our own object
    np.testing.assert_array_equal(copy.read_image(2), pairs.read_image(2))


def test_pairs_are_read_in_a_forked_process_after_the_parent_read(root):
    pairs = open_pairs(isaid(root), "train")
    expected = [int(pairs.read_image(index).sum()) for index in range(3)]
    context = multiprocessing.get_context("fork")
    received, sent = context.Pipe(duplex=False)
    process = context.Process(
        target=lambda: sent.send([int(pairs.read_image(index).sum()) for index in range(3)])
    )
    process.start()
    assert received.poll(30)
    assert received.recv() == expected
    process.join(30)
    assert process.exitcode == 0


@pytest.mark.parametrize(
    "window", [Window(-1, 0, 4, 4), Window(0, 93, 4, 4), Window(127, 0, 2, 1), Window(0, 0, 0, 4)]
)
def test_window_outside_is_refused_and_not_clipped(root, window):
    pairs = open_pairs(isaid(root), "train")
    with pytest.raises(ValueError, match="does not lie inside 128 x 96 pixels"):
        pairs.read_image(0, window)
    with pytest.raises(ValueError, match="does not lie inside"):
        pairs.read_labels(0, window)


def test_kind_of_reading_is_said(raw, prepared):
    assert "decoded whole; a cache of 7 MB" in str(open_pairs(isaid(raw[0], cache_mb=7), "val"))
    assert "2 images of the prepared store" in str(open_pairs(isaid(prepared), "val"))


def test_order_is_that_of_the_names_and_not_of_the_file_system(raw, monkeypatch):
    # the original's glob is unsorted, so the seed did not fix the order
    original = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(original(self), reverse=True))
    pairs = open_pairs(isaid(raw[0]), "train")
    assert [pairs.name(index) for index in range(3)] == ["P0000", "P0001", "P0002"]


def test_ai_studios_test_folder_means_val(tmp_path):
    written = write_isaid(tmp_path, {"val": "test"})
    pairs = open_pairs(isaid(tmp_path), "val")
    assert len(pairs) == 2
    np.testing.assert_array_equal(pairs.read_labels(0), written["val", "P0003"][1])


def test_isaids_own_test_folder_is_left_alone_where_there_is_val(tmp_path):
    write_isaid(tmp_path)
    (tmp_path / "test" / "images" / "images").mkdir(parents=True)
    write_png(image_of(tmp_path / "test", "P0099"), np.zeros((8, 8, 3), np.uint8))
    assert [open_pairs(isaid(tmp_path), "val").name(index) for index in (0, 1)] == [
        "P0003",
        "P0004",
    ]


def test_hidden_files_and_instance_masks_are_no_images(tmp_path):
    write_isaid(tmp_path)
    (tmp_path / "train" / "images" / "images" / "._P0000.png").write_bytes(b"macOS")
    (tmp_path / "train" / "masks" / "images" / "P0000_instance_id_RGB.png").write_bytes(b"other")
    assert len(open_pairs(isaid(tmp_path), "train")) == 3


def test_masks_may_hold_indices_and_255(tmp_path):
    labels = write_isaid(tmp_path)["train", "P0000"][1]
    labels[5:9] = 255
    write_png(mask_of(tmp_path / "train", "P0000"), labels)
    np.testing.assert_array_equal(open_pairs(isaid(tmp_path), "train").read_labels(0), labels)


def test_absent_isaid_is_three_lines(tmp_path):
    with pytest.raises(DataError) as error:
        open_pairs(isaid(tmp_path), "train")
    missing, source, instead = str(error.value).splitlines()
    assert f"{tmp_path}: no PNG images in train/images/images" in missing
    assert "https://captain-whu.github.io/iSAID" in source
    assert "{train,val}/images/images/P0000.png" in source
    assert "--config configs/quickstart.yml" in instead
    with pytest.raises(DataError, match="val/images/images or test/images/images"):
        open_pairs(isaid(tmp_path), "val")


def test_missing_mask_is_found_when_opened_and_counted(tmp_path):
    write_isaid(tmp_path)
    for name in ("P0001", "P0002"):
        mask_of(tmp_path / "train", name).unlink()
    with pytest.raises(
        DataError, match=r"P0001_instance_color_RGB\.png does not exist; .* and 1 more problems, "
    ):
        open_pairs(isaid(tmp_path), "train")


def test_images_without_masks_open_where_asked(tmp_path):
    write_isaid(tmp_path)
    mask_of(tmp_path / "val", "P0004").unlink()
    pairs = open_pairs(isaid(tmp_path), "val", require_masks=False)
    assert not pairs.has_masks
    assert pairs.read_labels(0) is not None
    assert pairs.read(1)[1] is None


def test_sizes_that_differ_are_found_when_opened(tmp_path):
    write_isaid(tmp_path)
    write_png(mask_of(tmp_path / "train", "P0001"), np.zeros((64, 127), np.uint8))
    with pytest.raises(
        DataError,
        match=r"P0001\.png is 64 x 128 .*P0001_instance_color_RGB\.png is 64 x 127; check",
    ):
        open_pairs(isaid(tmp_path), "train")


def test_sixteen_bits_are_found_when_opened(tmp_path):
    write_isaid(tmp_path)
    cv2.imwrite(str(image_of(tmp_path / "train", "P0001")), np.zeros((64, 128, 3), np.uint16))
    with pytest.raises(DataError, match=r"P0001\.png has 16 bits a channel; convert it to 8 bits"):
        open_pairs(isaid(tmp_path), "train")


def test_truncated_header_is_found_when_opened(tmp_path):
    write_isaid(tmp_path)
    path = image_of(tmp_path / "train", "P0002")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=r"P0002\.png is truncated or damaged; copy or download"):
        open_pairs(isaid(tmp_path), "train")
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"P0002\.png is not an image or is damaged"):
        open_pairs(isaid(tmp_path), "train")


def test_truncated_pixels_are_an_error_when_read_that_names_the_file(tmp_path):
    write_isaid(tmp_path)
    path = image_of(tmp_path / "train", "P0002")
    path.write_bytes(path.read_bytes()[:-100])
    pairs = open_pairs(isaid(tmp_path), "train")
    with pytest.raises(DataError, match=r"P0002\.png is truncated"):
        pairs.read_image(2, Window(0, 0, 8, 8))


def test_unknown_colours_do_not_become_background(tmp_path):
    colors = index_to_color(write_isaid(tmp_path)["train", "P0000"][1])
    colors[0, :7] = (63, 0, 0)  # BGR and RGB exchanged
    write_png(mask_of(tmp_path / "train", "P0000"), colors)
    pairs = open_pairs(isaid(tmp_path), "train")
    with pytest.raises(DataError, match=r"P0000_instance_color.*\(63, 0, 0\) in 7 pixels"):
        pairs.read_labels(0)


def test_colour_with_the_key_of_another_class_is_unknown(tmp_path):
    # the original's key R + 2G + 3B: (189, 0, 0) has that of ship, (0, 0, 63)
    colors = index_to_color(write_isaid(tmp_path)["train", "P0000"][1])
    colors[0, :7] = (189, 0, 0)
    write_png(mask_of(tmp_path / "train", "P0000"), colors)
    with pytest.raises(DataError, match=r"\(189, 0, 0\) in 7 pixels"):
        open_pairs(isaid(tmp_path), "train").read_labels(0)


def test_grey_palette_and_rgba_images_are_read_as_rgb(tmp_path):
    image = write_isaid(tmp_path)["train", "P0000"][0]
    folder = tmp_path / "train"
    cv2.imwrite(str(image_of(folder, "P0000")), np.dstack([image[..., ::-1], image[..., 0]]))
    grey = image[:64, :, :1].repeat(2, axis=1)[:, :128, 0]
    write_png(image_of(folder, "P0001"), grey)
    pairs = open_pairs(isaid(tmp_path), "train")
    np.testing.assert_array_equal(pairs.read_image(0), image)
    np.testing.assert_array_equal(pairs.read_image(1), np.dstack([grey] * 3))


def test_file_that_changes_its_size_after_opening_is_an_error(tmp_path):
    write_isaid(tmp_path)
    pairs = open_pairs(isaid(tmp_path), "train")
    write_png(image_of(tmp_path / "train", "P0000"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"P0000\.png has changed its size"):
        pairs.read_image(0, Window(0, 0, 4, 4))


def test_isaid_with_another_ignore_index_is_refused():
    with pytest.raises(ConfigError, match="ignore_index is 16, but iSAID's masks use 255"):
        make_config({"data": {"ignore_index": 16}}, "test")


def test_tiff_with_alpha_is_found_when_opened(tmp_path):
    """It stopped a training when its turn came."""
    for name, channels in (("a", 3), ("b", 4)):
        cv2.imwrite(str(tmp_path / f"{name}.tif"), np.zeros((32, 32, channels), np.uint8))
        write_png(tmp_path / f"{name}.png", np.zeros((32, 32), np.uint8))
    data = Data(
        kind="folder",
        dataset_root=str(tmp_path),
        train={"image_dir": ".", "mask_dir": "."},
        image_suffix=".tif",
    )
    with pytest.raises(DataError, match=r"b\.tif is a TIFF of 4 channels.*save it as RGB"):
        open_pairs(data, "train")


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_tiff_of_four_bits_is_found_when_opened(tmp_path, kind):
    """OpenCV can't decode it, of which training heard when its turn came."""
    for name in ("image", "mask"):
        with rasterio.open(
            tmp_path / f"{name}.tif",
            "w",
            **{"driver": "GTiff", "height": 32, "width": 32, "count": 1, "dtype": "uint8"},
            nbits=4 if name == kind else 8,
        ) as file:
            file.write(np.zeros((1, 32, 32), np.uint8))
    pair = PairFiles("a", tmp_path / "image.tif", tmp_path / "mask.tif")
    with pytest.raises(DataError, match=rf"{kind}\.tif has 4 bits a channel; convert it to 8"):
        read_headers([pair]).check()


def test_name_that_is_no_utf8_is_said_before_any_work(tmp_path):
    write_isaid(tmp_path)
    image = image_of(tmp_path / "train", "P0001")
    image.rename(image.with_name(os.fsdecode(b"P\xb2\xe2.png")))
    with pytest.raises(DataError, match="is not UTF-8; rename the file") as caught:
        open_pairs(isaid(tmp_path), "train")
    str(caught.value).encode()


def test_list_of_names_may_begin_with_windows_mark(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a\nb\n", encoding="utf-8-sig")
    assert read_names(path) == ["a", "b"]


def test_empty_val_does_not_hide_ai_studios_test(tmp_path):
    write_isaid(tmp_path, {"val": "test"})
    (tmp_path / "val/images/images").mkdir(parents=True)
    assert open_pairs(isaid(tmp_path), "val").name(0) == "P0003"
