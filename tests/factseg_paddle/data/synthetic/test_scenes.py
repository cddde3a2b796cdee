import hashlib
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from skimage.measure import label, regionprops

from factseg_paddle.data.images.files import read_pair
from factseg_paddle.data.images.palettes import ISAID_CLASSES
from factseg_paddle.data.synthetic.scenes import make_sample_dataset, paint_scene
from tests.paths import REPO

SCRIPT = REPO / "scripts" / "make_sample_data.py"


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run_script(*arguments):
    spec = importlib.util.spec_from_file_location("make_sample_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in arguments])


def test_scene_is_a_pure_function_of_size_seed_and_theme():
    first, again = paint_scene(128, 3), paint_scene(128, np.random.default_rng(3))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    for other in (paint_scene(128, 4), paint_scene(128, 3, theme=1)):
        assert (other.labels != first.labels).any()


@pytest.mark.parametrize("size", [64, 97, 128, 512])
def test_scene_has_the_promised_shapes_types_and_several_objects(size):
    for seed in range(3):
        scene = paint_scene(size, seed)
        assert scene.image.shape == (size, size, 3)
        assert scene.labels.shape == (size, size)
        assert scene.image.dtype == scene.labels.dtype == np.uint8
        assert scene.labels.max() <= 15
        objects = len(regionprops(label(scene.labels)))  # touching objects of one class are one
        assert objects >= (3 if size < 100 else 10)


def test_default_scene_holds_most_classes_as_small_objects_on_background():
    scene = paint_scene(512, 0)
    counts = np.bincount(scene.labels.ravel(), minlength=16)
    assert np.count_nonzero(counts) >= 14
    assert 0.6 < counts[0] / counts.sum() < 0.9
    for name, low, high in (("small_vehicle", 25, 75), ("large_vehicle", 75, 260)):
        mask = scene.labels == ISAID_CLASSES.index(name)
        areas = [region.area for region in regionprops(label(mask, connectivity=1))]
        assert len(areas) >= 10
        assert low < np.median(areas) < high


def test_image_is_a_scene_and_not_noise():
    image = paint_scene(256, 1).image.astype(np.float64)
    grey = image.mean(axis=2)
    across = np.corrcoef(grey[:, 1:].ravel(), grey[:, :-1].ravel())[0, 1]
    assert across > 0.8  # neighbours are alike
    assert grey.std() > 20  # and yet there is something to see
    assert (image.std(axis=(0, 1)) > 15).all()


def test_labels_lie_where_the_objects_were_painted():
    scene = paint_scene(512, 2)
    water = scene.image[scene.labels == ISAID_CLASSES.index("swimming_pool")].mean(axis=0)
    track = scene.image[scene.labels == ISAID_CLASSES.index("ground_track_field")].mean(axis=0)
    plane = scene.image[scene.labels == ISAID_CLASSES.index("plane")].mean(axis=0)
    assert water[2] > water[0] + 40  # blue
    assert track[0] > track[1] + 25  # red
    assert plane.min() > 150  # bright


@pytest.mark.parametrize(("size", "images"), [(64, 20), (128, 16), (512, 4)])
def test_all_sixteen_classes_are_reached(size, images):
    seen = set()
    for index in range(images):
        seen |= set(np.unique(paint_scene(size, (0, index), theme=index).labels).tolist())
    assert seen == set(range(16))


def test_sample_data_has_isaids_layout_and_reads_back(tmp_path):
    summary = make_sample_dataset(tmp_path, images=6, size=64, seed=1)
    assert summary.train == ("P0000", "P0002", "P0003", "P0004")
    assert summary.val == ("P0001", "P0005")
    expected = set()
    for split, names in (("train", summary.train), ("val", summary.val)):
        for name in names:
            expected |= {
                f"{split}/images/images/{name}.png",
                f"{split}/masks/images/{name}_instance_color_RGB.png",
            }
    assert set(hashes(tmp_path)) == expected
    total = np.zeros(16, np.int64)
    for index in range(6):
        split, name = ("val" if index in (1, 5) else "train"), f"P{index:04d}"
        image, labels = read_pair(
            tmp_path / split / "images" / "images" / f"{name}.png",
            tmp_path / split / "masks" / "images" / f"{name}_instance_color_RGB.png",
        )
        scene = paint_scene(64, (1, index), theme=index)
        np.testing.assert_array_equal(image, scene.image)
        np.testing.assert_array_equal(labels, scene.labels)
        total += np.bincount(labels.ravel(), minlength=16)
    np.testing.assert_array_equal(summary.pixels, total)


def test_second_run_and_larger_set_keep_every_byte(tmp_path):
    make_sample_dataset(tmp_path, images=3, size=64, seed=1)
    first = hashes(tmp_path)
    make_sample_dataset(tmp_path, images=3, size=64, seed=1)
    assert hashes(tmp_path) == first
    make_sample_dataset(tmp_path, images=5, size=64, seed=1)
    assert first.items() < hashes(tmp_path).items()
    make_sample_dataset(tmp_path, images=5, size=64, seed=2)
    assert not first.items() & hashes(tmp_path).items()


def test_other_peoples_files_are_not_mixed_with(tmp_path):
    other = tmp_path / "train" / "images" / "images" / "P0005.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"already holds 1 other files, such as .*P0005\.png"):
        make_sample_dataset(tmp_path, images=4, size=64)
    assert list(hashes(tmp_path)) == ["train/images/images/P0005.png"]


def test_temporary_file_of_a_killed_run_does_not_block_the_next(tmp_path):
    leftover = tmp_path / "train" / "images" / "images" / ".P0000.png.tmp.png"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    assert len(make_sample_dataset(tmp_path, images=2, size=64).train) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images 0 is not between 1 and 9999"),
        ({"images": 10000}, "images 10000 is not between"),
        ({"size": 63}, "size 63 is not between 64 and 8192"),
        ({"size": 9000}, "size 9000 is not between"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_bad_argument_is_one_sentence_and_leaves_nothing(tmp_path, options, message, capsys):
    with pytest.raises(ValueError, match=message):
        make_sample_dataset(tmp_path / "out", **options)
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    assert run_script("--output", tmp_path / "out", *flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_scene_of_bad_size_is_refused():
    with pytest.raises(ValueError, match="size 0 is not between 64 and 8192"):
        paint_scene(0, 0)


def test_output_that_is_or_lies_below_a_file_is_one_sentence(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    for output, message in (
        (file, "is a file; give a folder"),
        (file / "sub", "cannot write under"),
    ):
        assert run_script("--output", output, "--images", 2, "--size", 64) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert file.read_text() == "mine"


def test_script_runs_from_any_directory_and_says_what_it_made(tmp_path):
    command = [sys.executable, str(SCRIPT), "--output", "out", "--images", "2", "--size", "64"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("out: 1 training and 1 validation images, ")
    assert "of 16 classes" in done.stdout
    assert done.stdout.count("\n") == 1
    assert "painting" in done.stderr
    assert len(hashes(tmp_path / "out")) == 4
