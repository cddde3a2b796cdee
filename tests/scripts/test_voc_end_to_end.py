"""PASCAL VOC and SBD from the archives' folders to metrics and pictures, by the FCN-8s recipe.

A small FactSeg stands in for the network: data, schedule and evaluation are what is looked at.
"""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from factseg_paddle.data.images.palettes import VOC_CLASSES, distinct_palette
from factseg_paddle.data.open import open_pairs
from factseg_paddle.metrics import confusion_matrix
from tests.factseg_paddle.data.layouts.voc_files import LISTS, voc, write_voc


def run(script, *arguments):
    main = importlib.import_module(f"scripts.{script}").main
    assert main([str(argument) for argument in arguments]) == 0


def configured(folder, root, **data):
    """The article's pipeline with smaller crops, and the other article's optimizer."""
    values = {
        "device": "cpu",
        "data": {
            "kind": "voc",
            "dataset_root": str(root),
            "num_classes": 21,
            "patch_size": 512,
            "stride": 512,
            "transforms": [
                {"name": "random_scale"},
                {
                    "name": "normalize",
                    "mean": [103.53, 116.28, 123.675],
                    "std": [57.375, 57.12, 58.395],
                    "channel_order": "bgr",
                },
                {"name": "random_crop", "size": 64},
                {"name": "horizontal_flip"},
            ],
            **data,
        },
        "model": {"name": "factseg_resnet18"},
        "optimizer": {"kind": "adam", "learning_rate": 1e-3, "schedule": "cosine"},
        "train": {
            "iters": 3,
            "batch_size": 2,
            "num_workers": 0,
            "log_iters": 1,
            "do_eval": True,
            "eval_images": 2,
            "save_dir": str(folder / "run"),
        },
        "eval": {"patch_size": 96, "stride": 96},
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(values))
    return path


def copied(folder, names, target):
    """A folder of some images."""
    target.mkdir()
    for name in names:
        (target / f"{name}.jpg").write_bytes((folder / f"{name}.jpg").read_bytes())
    return target


def check_results(folder, data, images, capsys):
    """Numbers, names and colours of an evaluation and a prediction."""
    weights = folder / "run" / "iter_000003"
    evaluation, predicted = folder / "evaluation", folder / "predicted"
    capsys.readouterr()
    run("evaluate", "--weights", weights, "--output", evaluation, "--worst", 1)
    printed = capsys.readouterr().out
    run("predict", "--weights", weights, "--input", images, "--output", predicted)
    pairs = open_pairs(data, "val")
    total = np.zeros((21, 21), int)
    for index in range(len(pairs)):
        name = pairs.name(index)
        with Image.open(evaluation / "predictions" / f"{name}.png") as picture:
            assert picture.mode == "P"
            found = np.asarray(picture)
            palette = np.array(picture.getpalette()).reshape(-1, 3)[:21]
        np.testing.assert_array_equal(palette, distinct_palette(21))
        assert found.shape == pairs.size(index)
        total += confusion_matrix(pairs.read_labels(index), found, 21, 255)
        with Image.open(predicted / "index" / f"{name}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), found)
        with Image.open(predicted / "color" / f"{name}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), distinct_palette(21)[found])
    content = json.loads((evaluation / "metrics.json").read_text())
    assert content["confusion_matrix"] == total.tolist()
    assert (content["channel_order"], content["mean"][0]) == ("bgr", 103.53)
    rows, columns, right = total.sum(axis=1), total.sum(axis=0), np.diag(total)
    known = rows > 0
    iou = right[rows + columns > 0] / (rows + columns - right)[rows + columns > 0]
    weighted = rows[known] / total.sum() * (right[known] / (rows + columns - right)[known])
    expected = {
        "pixel_accuracy": right.sum() / total.sum(),
        "mean_pixel_accuracy": (right[known] / rows[known]).mean(),
        "mean_iou": iou.mean(),
        "frequency_weighted_iou": weighted.sum(),
    }
    for key, value in expected.items():
        assert content[key] == pytest.approx(value, abs=1e-12), key
        assert f"{value:.6f}" in printed
    assert [row["name"] for row in content["classes"]] == list(VOC_CLASSES)
    assert all(name in printed for name in VOC_CLASSES)


def test_voc_and_sbd(tmp_path, capsys):
    """Images of 40 to 69 pixels, each of its own size, in a window of 96."""
    root = write_voc(tmp_path / "data")
    config = configured(tmp_path, root)
    run("prepare_isaid", "--check", "--config", config, "--num_workers", 0)
    assert "6 train and 2 val images: all fine" in capsys.readouterr().out
    run("train", "--config", config)
    log = capsys.readouterr().out
    assert "6 patches, 3 batches an epoch" in log
    assert "iter: 3/3" in log
    images = root / "VOCdevkit/VOC2012/JPEGImages"
    check_results(tmp_path, voc(root), copied(images, LISTS["val"], tmp_path / "val"), capsys)


@pytest.mark.slow
def test_real_images_in_the_layout_in_which_they_lie(tmp_path, shared_data, capsys):
    """44 to train on, 16 to evaluate; VOC2012's own folder without SBD."""
    section = {"voc_dir": ".", "train": "train"}
    root = shared_data("voc")
    config = configured(tmp_path, root, voc=section)
    run("train", "--config", config, "--opts", "eval.patch_size=512", "eval.stride=512")
    names = (root / "ImageSets/Segmentation/val.txt").read_text().split()
    images = copied(root / "JPEGImages", names, tmp_path / "val")
    check_results(tmp_path, voc(root, voc_section=section), images, capsys)


def test_missing_data_are_told_with_status_2(tmp_path, capsys):
    main = importlib.import_module("scripts.train").main
    assert main(["--config", str(configured(tmp_path, tmp_path / "nowhere"))]) == 2
    captured = capsys.readouterr()
    assert "PASCAL VOC 2012 is not complete at" in captured.err
    assert "Traceback" not in captured.err
