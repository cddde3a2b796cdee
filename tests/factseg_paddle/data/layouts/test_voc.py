"""PASCAL VOC 2012 with SBD: which images a split has, what their masks hold, what is refused."""

import importlib
import re

import numpy as np
import pytest
from PIL import Image

from factseg_paddle.config.loading import ConfigError, load_config, make_config
from factseg_paddle.data.check import check_data
from factseg_paddle.data.dataset import PatchDataset
from factseg_paddle.data.images import sbd_masks as sbd
from factseg_paddle.data.images.files import read_mask
from factseg_paddle.data.images.palettes import VOC_CLASSES
from factseg_paddle.data.open import coding_of, find_pairs, open_pairs
from factseg_paddle.data.pairs import DataError
from factseg_paddle.engine.prediction import classes_of
from tests.factseg_paddle.data.layouts.isaid_files import transforms
from tests.factseg_paddle.data.layouts.voc_files import (
    AUGMENTED,
    LISTS,
    mat_of,
    scene,
    voc,
    with_void,
    write_palette_png,
    write_voc,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("voc"))


def names_of(pairs):
    return [pairs.name(index) for index in range(len(pairs))]


def check(data):
    return check_data(data, num_workers=0)


# Splits -------------------------------------------------------------------------------------------


def test_augmented_list_has_no_image_of_val_and_vocs_own_masks_for_train(whole):
    pairs = open_pairs(voc(whole), "train")
    assert names_of(pairs) == AUGMENTED
    assert not set(AUGMENTED) & set(LISTS["val"])
    for index, name in enumerate(AUGMENTED):
        image, labels = scene(name)
        # 2008_000008 is in SBD's list too; VOC's mask with its void border is taken
        expected = with_void(labels) if name in LISTS["train"] else labels
        np.testing.assert_array_equal(pairs.read_labels(index), expected, err_msg=name)
        found = pairs.read_image(index).astype(int)
        assert np.abs(found - image).mean() < 4, "or it is another image"
    assert pairs.class_names == VOC_CLASSES
    assert pairs.ignore_index == 255
    assert (pairs.palette[[1, 15, 20]] == [(128, 0, 0), (192, 128, 128), (0, 64, 128)]).all()


@pytest.mark.parametrize("split", ["train", "val", "trainval"])
def test_vocs_own_lists(whole, split):
    expected = sorted(LISTS["train"] + LISTS["val"]) if split == "trainval" else LISTS[split]
    assert names_of(open_pairs(voc(whole, voc_section={"train": split}), "train")) == expected
    assert names_of(open_pairs(voc(whole, voc_section={"val": split}), "val")) == expected


def test_sizes_of_the_published_lists(tmp_path):
    """1464 + (8498 + 2857 - 2237 that are VOC's train and val) = 10582."""
    numbers = [f"2000_{number:06}" for number in range(20_000)]
    train, val, new = numbers[:1464], numbers[1464:2913], numbers[2913 : 2913 + 10582 - 1464]
    sbd_names = [*new, *(train + val)[:2237]]
    lists = {
        "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": train,
        "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": val,
        "benchmark_RELEASE/dataset/train.txt": sbd_names[:8498],
        "benchmark_RELEASE/dataset/val.txt": sbd_names[8498:],
    }
    for path, names in lists.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("\n".join(names))
    assert len(find_pairs(voc(tmp_path), "train")) == 10582
    assert len(find_pairs(voc(tmp_path), "val")) == 1449


def test_patches_are_whole_images_of_one_size(whole):
    given = transforms(
        {"name": "random_scale"},
        {"name": "normalize", "channel_order": "bgr"},
        {"name": "random_crop", "size": 64},
        {"name": "horizontal_flip"},
    )
    pairs = open_pairs(voc(whole), "train")
    patches = PatchDataset(pairs, patch_size=512, stride=512, transforms=given, seed=3)
    assert len(patches) == len(AUGMENTED)
    for index in range(len(patches)):
        image, labels = patches[0, index]
        assert (image.shape, labels.shape) == ((3, 64, 64), (64, 64))
        assert set(np.unique(labels)) <= {*range(21), 255}
        # padded after normalising: 0 is the mean colour, and its labels count for nothing
        padded = (image == 0).all(axis=0)
        assert (labels[padded] == 255).all()


# Masks --------------------------------------------------------------------------------------------


def test_masks_are_read_as_indices(tmp_path):
    indices = np.array([[0, 1, 20, 255]], np.uint8)
    write_palette_png(tmp_path / "a.png", indices)
    coding = coding_of(voc(tmp_path))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", coding), indices)
    # what cv2's greyscale makes of the colours: 38 for an aeroplane, 220 for void
    luma = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    assert {38, 220} <= set(luma.ravel().tolist())
    Image.fromarray(luma).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png holds indices .*below 21 nor 255: 38 in 1"):
        read_mask(tmp_path / "b.png", coding)
    Image.open(tmp_path / "a.png").convert("RGB").save(tmp_path / "c.png")
    with pytest.raises(ValueError, match=r"c\.png has 3 channels .*; save it as indices"):
        read_mask(tmp_path / "c.png", coding)


def test_predictions_have_vocs_names_and_colours(tmp_path):
    classes = classes_of(voc(tmp_path))
    assert classes.names == VOC_CLASSES
    assert len(VOC_CLASSES) == len(set(VOC_CLASSES)) == 21
    assert classes.names[15] == "person"
    assert classes.palette[15].tolist() == [192, 128, 128]


LABELS = scene("2008_000001")[1]


def uncompressed():
    return mat_of(LABELS, compressed=False)


def of_another_version():
    return mat_of(LABELS).replace(b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file", 1)


def flipped():
    data = bytearray(mat_of(LABELS))
    data[len(data) // 2] ^= 1
    return bytes(data)


BAD_MATS = {
    "cut": (lambda: mat_of(LABELS)[:-9], "is damaged or truncated; copy it again"),
    "header alone": (lambda: mat_of(LABELS)[:128], "is damaged or truncated"),
    "short header": (lambda: mat_of(LABELS)[:60], "is damaged or truncated"),
    "a bit": (flipped, "is damaged or truncated"),
    "more behind": (lambda: mat_of(LABELS) + b"abc", "is damaged or truncated"),
    "without a checksum": (uncompressed, "saved without compression and so without a checksum"),
    "version 7.3": (of_another_version, "cannot be decoded"),
    "instances": (lambda: mat_of(LABELS, "GTinst"), "has no GTcls with a Segmentation; give SBD's"),
    "other numbers": (lambda: mat_of(LABELS.astype(float)), "float64; [H, W] uint8 is expected"),
    "void": (lambda: mat_of(LABELS + 21), "holds indices that are neither below 21 nor 255: "),
    "no MATLAB file": (lambda: b"no", "cannot be decoded"),
}


@pytest.mark.parametrize("harm", BAD_MATS)
def test_bad_mask_of_sbd_is_refused_by_name(tmp_path, harm):
    make, message = BAD_MATS[harm]
    root = write_voc(tmp_path)
    path = root / "benchmark_RELEASE/dataset/cls/2008_000001.mat"
    path.write_bytes(make())
    pairs = open_pairs(voc(root), "train")
    index = AUGMENTED.index("2008_000001")
    with pytest.raises(DataError, match=f"^mask {re.escape(str(path))} .*{re.escape(message)}"):
        pairs.read_labels(index)
    (problem,) = check(voc(root)).problems
    assert problem.startswith(f"mask {path} ")
    assert message in problem
    assert "\n" not in problem


def test_any_damage_is_an_error_and_never_other_labels():
    """SciPy alone dies of a segmentation fault on one in some hundred of these."""
    data = mat_of(LABELS)
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(400):
        harmed = bytearray(data)
        if trial % 4 == 0:
            harmed = harmed[: int(rng.integers(len(data)))]
        else:
            harmed[int(rng.integers(116, len(data)))] ^= 1 << int(rng.integers(8))
        try:
            found = sbd.decode_segmentation(bytes(harmed))
        except ValueError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, LABELS)
    assert refused > 390


# What is absent or does not fit ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "mask", "mat"])
def test_missing_file_is_found_when_opened(tmp_path, kind):
    root = write_voc(tmp_path)
    file = {
        "image": "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg",
        "mask": "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png",
        "mat": "benchmark_RELEASE/dataset/cls/2008_000001.mat",
    }[kind]
    (root / file).unlink()
    with pytest.raises(DataError, match=rf"{re.escape(file)} does not exist; add it"):
        open_pairs(voc(root), "train")


def test_sbd_mask_of_another_size_is_named_with_both_sizes(tmp_path):
    root = write_voc(tmp_path)
    path = root / "benchmark_RELEASE/dataset/cls/2008_000001.mat"
    path.write_bytes(mat_of(LABELS[:-1]))
    height, width = LABELS.shape
    message = rf"is {height} x {width} pixels .*{path.name} is {height - 1} x {width}; check that"
    with pytest.raises(DataError, match=message):
        open_pairs(voc(root), "train").read_labels(AUGMENTED.index("2008_000001"))
    (problem,) = check(voc(root)).problems
    assert re.search(message, problem)


def test_what_is_not_there_is_told_with_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"VOC 2012 is not complete at .*\n.*VOCtrainval_11-May"):
        open_pairs(voc(tmp_path), "val")
    root = write_voc(tmp_path, sbd=False)
    assert len(open_pairs(voc(root), "val")) == 2
    with pytest.raises(DataError, match=r"needs SBD.*\n.*benchmark\.tgz .*\n.*voc\.train=train"):
        open_pairs(voc(root), "train")
    assert len(open_pairs(voc(root, voc_section={"train": "train"}), "train")) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n", r"train\.txt is empty"),
        ("a\na\n", r"train\.txt names a more than once"),
        (b"\xff\xfe", r"train\.txt is not UTF-8 text"),
    ],
)
def test_list_that_does_not_fit_is_named(tmp_path, content, message):
    root = write_voc(tmp_path)
    path = root / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        open_pairs(voc(root), "train")


def test_check_counts_the_classes_of_all_splits(whole, tmp_path, capsys):
    checked = check(voc(whole))
    assert checked
    assert checked.images == {"train": 6, "val": 2}
    expected = np.zeros(21, int)
    own = LISTS["train"] + LISTS["val"]
    for name in {*AUGMENTED, *LISTS["val"]}:
        labels = scene(name)[1]
        marked = with_void(labels) if name in own else labels
        expected += np.bincount(marked.ravel(), minlength=256)[:21]
    np.testing.assert_array_equal(checked.pixels, expected)
    config = tmp_path / "voc.yml"
    config.write_text(f"data: {{kind: voc, dataset_root: {whole}, num_classes: 21}}\n")
    main = importlib.import_module("scripts.prepare_isaid").main
    assert main(["--check", "--config", str(config), "--num_workers", "0"]) == 0
    assert "6 train and 2 val images: all fine; pixels: background" in capsys.readouterr().out
    config.write_text(f"data: {{kind: voc, dataset_root: {tmp_path}, num_classes: 21}}\n")
    assert main(["--check", "--config", str(config), "--num_workers", "0"]) == 2
    assert "PASCAL VOC 2012 is not complete" in capsys.readouterr().err


# Configuration --------------------------------------------------------------------------------


def test_configuration_needs_a_kind_and_the_number_of_classes_alone(tmp_path):
    data = make_config({"data": {"kind": "voc", "num_classes": 21}}, "here").data
    assert data.voc.model_dump() == {
        "voc_dir": "VOCdevkit/VOC2012",
        "sbd_dir": "benchmark_RELEASE/dataset",
        "train": "trainaug",
        "val": "val",
    }
    path = tmp_path / "a.yml"
    path.write_text("data: {kind: voc, num_classes: 21, voc: {train: train}}")
    changed = load_config(path, ["data.voc.val=trainval"]).data.voc
    assert (changed.train, changed.val) == ("train", "trainval")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "voc"}, "num_classes is 16, but VOC has 21 classes"),
        ({"kind": "voc", "num_classes": 21, "ignore_index": 254}, "VOC's masks use 255"),
        ({"kind": "voc", "num_classes": 21, "mask_suffix": ".bmp"}, "kind voc has mask_suffix bui"),
        ({"kind": "voc", "num_classes": 21, "sample": {}}, "a sample is painted as iSAID"),
        ({"voc": {}}, "voc belongs to kind voc, and kind is isaid"),
        (
            {"kind": "voc", "num_classes": 21, "voc": {"train": "sbd"}},
            "data.voc.train should be 'train', 'val', 'trainval' or 'trainaug' (it is 'sbd')",
        ),
    ],
)
def test_what_does_not_fit_the_kind_is_named(data, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_config({"data": data}, "here")


# Real images ----------------------------------------------------------------------------------


def real(shared_data):
    """Their layout is VOC2012's own folder, without SBD."""
    return voc(shared_data("voc"), voc_section={"voc_dir": ".", "train": "train"})


def test_real_images_are_fine(shared_data):
    checked = check(real(shared_data))
    assert checked
    assert checked.images == {"train": 44, "val": 16}
    assert (checked.pixels > 0).all()
