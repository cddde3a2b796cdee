import numpy as np
import pytest
from PIL import Image

from factseg_paddle.config.data_section import Data
from factseg_paddle.data.images.files import write_png
from factseg_paddle.data.images.palettes import distinct_palette
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.pairs import DataError

ROADS = {
    "kind": "folder",
    "num_classes": 2,
    "class_names": ["background", "road"],
    "palette": [[0, 0, 0], [255, 120, 80]],
}


def folder(root, **options):
    split = {"image_dir": "pictures", "mask_dir": "labels"}
    given = {"kind": "folder", "num_classes": 3, "train": split, **options}
    return Data.model_validate({"dataset_root": str(root), **given})


def write(root, count=3, suffix=".png", mask_suffix="_gt.png"):
    for name in ("pictures", "labels"):
        (root / name).mkdir()
    rng = np.random.default_rng(0)
    written = []
    for index in range(count):
        image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        labels = rng.integers(0, 3, (20, 30), dtype=np.uint8)
        Image.fromarray(image).save(root / "pictures" / f"tile{index}{suffix}")
        write_png(root / "labels" / f"tile{index}{mask_suffix}", labels)
        written.append((image, labels))
    return written


def test_own_data_need_a_configuration_alone(tmp_path):
    written = write(tmp_path, mask_suffix="_gt.png")
    pairs = open_pairs(folder(tmp_path, mask_suffix="_gt.png", ignore_index=9), "train")
    assert [pairs.name(index) for index in range(3)] == ["tile0", "tile1", "tile2"]
    assert pairs.class_names == ("class_0", "class_1", "class_2")
    assert pairs.ignore_index == 9
    assert pairs.palette.tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    for index, (image, labels) in enumerate(written):
        np.testing.assert_array_equal(pairs.read_image(index), image)
        np.testing.assert_array_equal(pairs.read_labels(index), labels)


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".jpg"])
def test_other_formats_are_opened_by_their_headers(tmp_path, suffix):
    image = write(tmp_path, 1, suffix, ".png")[0][0]
    pairs = open_pairs(folder(tmp_path, image_suffix=suffix), "train")
    assert pairs.size(0) == (20, 30)
    error = np.abs(pairs.read_image(0).astype(int) - image)
    assert error.max() == 0 or suffix == ".jpg"


def test_roads_are_read_by_their_palette(shared_data):
    root = shared_data("gsi_roads")
    split = {"image_dir": "images", "mask_dir": "masks"}
    data = Data.model_validate({**ROADS, "dataset_root": str(root), "train": split})
    pairs = open_pairs(data, "train")
    assert len(pairs) == 36
    assert pairs.class_names == ("background", "road")
    index = next(index for index in range(36) if pairs.name(index) == "945")
    labels = pairs.read_labels(index)
    assert np.bincount(labels.ravel()).tolist() == [135963, 191221]
    # a palette without the road's colour is no silent background
    other = data.model_copy(update={"palette": [[0, 0, 0], [255, 120, 81]]})
    with pytest.raises(
        DataError, match=r"945\.png does not fit .*\(255, 120, 80\) in 191221 pixels"
    ):
        open_pairs(other, "train").read_labels(index)
    # and colours are no indices
    indices = data.model_copy(update={"palette": None})
    with pytest.raises(DataError, match=r"945\.png has 3 channels .*data\.palette"):
        open_pairs(indices, "train").read_labels(index)


def test_list_of_names_selects(tmp_path):
    written = write(tmp_path, mask_suffix=".png")
    (tmp_path / "train.txt").write_text("tile2\n\ntile0\n")
    data = folder(
        tmp_path,
        train={"image_dir": "pictures", "mask_dir": "labels", "names": str(tmp_path / "train.txt")},
    )
    pairs = open_pairs(data, "train")
    assert [pairs.name(index) for index in range(len(pairs))] == ["tile0", "tile2"]
    np.testing.assert_array_equal(pairs.read_image(1), written[2][0])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("tile0\ntile7\n", r"lists tile7, but .*pictures has no tile7\.png"),
        ("tile0\ntile0\n", "names tile0 more than once"),
        ("\n", "is empty; give one name a line"),
        (None, r"the list .*train\.txt does not exist; data\.train\.names names it"),
    ],
)
def test_list_that_does_not_fit_is_named(tmp_path, names, message):
    write(tmp_path)
    if names is not None:
        (tmp_path / "train.txt").write_text(names)
    split = {"image_dir": "pictures", "mask_dir": "labels", "names": str(tmp_path / "train.txt")}
    with pytest.raises(DataError, match=message):
        open_pairs(folder(tmp_path, train=split), "train")


def test_folder_that_does_not_fit_is_named(tmp_path):
    with pytest.raises(DataError, match=r"pictures does not exist; data\.train\.image_dir names"):
        open_pairs(folder(tmp_path), "train")
    write(tmp_path)
    with pytest.raises(DataError, match=r"labels.tile0\.png does not exist"):
        open_pairs(folder(tmp_path), "train")
    with pytest.raises(DataError, match=r"ending in \.jpg, but 3 of \.png; set data\.image_suffix"):
        open_pairs(folder(tmp_path, image_suffix=".jpg"), "train")
    with pytest.raises(DataError, match=r"the configuration has no data\.val"):
        open_pairs(folder(tmp_path), "val")
    no_masks = folder(tmp_path, train={"image_dir": "pictures"})
    with pytest.raises(DataError, match=r"data\.train has no mask_dir"):
        open_pairs(no_masks, "train")
    pairs = open_pairs(no_masks, "train", require_masks=False)
    assert not pairs.has_masks
    assert pairs.read(0)[1] is None


def test_white_class_in_a_grey_mask_is_not_ignored(tmp_path):
    write(tmp_path, 1, mask_suffix=".png")
    mask = np.zeros((20, 30), np.uint8)
    mask[3:7] = 255
    write_png(tmp_path / "labels" / "tile0.png", mask)
    data = folder(tmp_path, num_classes=2, palette=[[0, 0, 0], [255, 255, 255]])
    labels = open_pairs(data, "train").read_labels(0)
    np.testing.assert_array_equal(labels, mask // 255)


def test_jpeg_mask_is_found_when_opened(tmp_path):
    write(tmp_path, 1)
    Image.new("L", (30, 20)).save(tmp_path / "labels" / "tile0.jpg")
    with pytest.raises(DataError, match=r"tile0\.jpg is a JPEG, which changes colours and indices"):
        open_pairs(folder(tmp_path, mask_suffix=".jpg"), "train")


def test_index_above_the_classes_is_an_error(tmp_path):
    write(tmp_path, mask_suffix=".png")
    with pytest.raises(DataError, match=r"tile0\.png holds indices .*below 2 nor 255: 2 in \d+"):
        open_pairs(folder(tmp_path, num_classes=2), "train").read_labels(0)


def test_generated_colours_are_vocs_and_distinct():
    palette = distinct_palette(255)
    assert palette[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert palette[20].tolist() == [0, 64, 128]
    assert len(np.unique(palette, axis=0)) == 255
