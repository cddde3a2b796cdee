"""Prepare, train, evaluate and predict, one after the other, as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.paths import REPO
from tests.scripts import small


def run(script, *arguments):
    """What a script says; it has to succeed."""
    done = subprocess.run(
        [sys.executable, str(REPO / "scripts" / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def configured(folder, dataset_root, *, patch_size, iters):
    """A configuration of a small network, at its path."""
    values = {
        "device": "cpu",
        "data": {"dataset_root": str(dataset_root), "patch_size": patch_size, "stride": patch_size},
        "model": {"name": "factseg_resnet18"},
        "train": {
            "iters": iters,
            "batch_size": 2,
            "num_workers": 0,
            "log_iters": 1,
            "save_dir": str(folder / "run"),
        },
        "eval": {"patch_size": patch_size, "stride": patch_size * 3 // 4},
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(values))
    return path


def check_chain(tmp_path, raw, *, patch_size, iters):
    """The whole chain; the folder of the raw data has a val split with masks."""
    store = tmp_path / "store"
    run("prepare_isaid.py", "--dataset_root", raw, "--output", store, "--num_workers", 2)
    run("prepare_isaid.py", "--dataset_root", store, "--check", "--num_workers", 0)
    config = configured(tmp_path, store, patch_size=patch_size, iters=iters)
    log = run("train.py", "--config", config)
    assert f"iter: {iters}/{iters}" in log
    weights = tmp_path / "run" / f"iter_{iters:06}"
    run("evaluate.py", "--weights", weights, "--output", tmp_path / "evaluation")
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    images = raw / "val" / "images" / "images"
    run("predict.py", "--weights", weights, "--input", images, "--output", tmp_path / "predicted")
    found = {path.stem for path in (tmp_path / "predicted" / "index").iterdir()}
    assert found == {path.stem for path in images.iterdir()}
    return metrics


@pytest.mark.slow  # in the suite the README's commands go the same way, in test_readme.py
def test_painted_images(tmp_path):
    raw = small.make_sample(tmp_path / "raw")
    metrics = check_chain(tmp_path, raw, patch_size=64, iters=2)
    assert len(metrics["confusion_matrix"]) == 16


@pytest.mark.slow
def test_real_isaid_images(tmp_path, shared_data):
    """P0005 for training, P0003 and P0004 for validation; patches of 256 of a small network."""
    raw = tmp_path / "raw"
    for split, names in (("train", ["P0005"]), ("val", ["P0003", "P0004"])):
        for kind, suffix in (("images", ""), ("masks", "_instance_color_RGB")):
            target = raw / split / kind / "images"
            target.mkdir(parents=True)
            for name in names:
                source = f"isaid/{split}/{kind}/images/{name}{suffix}.png"
                shutil.copy(shared_data(source), target)
    metrics = check_chain(tmp_path, raw, patch_size=256, iters=3)
    assert sum(map(sum, metrics["confusion_matrix"])) == 1147 * 1023 + 824 * 1464


def test_training_runs_where_torch_can_not_be_imported(tmp_path):
    raw = small.make_sample(tmp_path / "raw")
    config = configured(tmp_path, raw, patch_size=64, iters=1)
    done = small.without("torch", "scripts.train", "--config", config, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "iter_000001" / "model.pdparams").is_file()
