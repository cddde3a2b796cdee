"""A stopped evaluation goes on; damaged or foreign results are not believed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from factseg_paddle.config.schema import Evaluation
from factseg_paddle.engine.evaluation.evaluator import evaluate
from factseg_paddle.engine.evaluation.store import RESULTS, EvaluationStore
from tests.factseg_paddle.engine.fake_pairs import RAW, FakePairs, confusing, knowing
from tests.factseg_paddle.progress_notes import ProgressNotes
from tests.paths import REPO

SETTINGS = Evaluation(patch_size=64, stride=48)
ABOUT = {"weights": "abc", "settings": {"stride": 48, "scales": (1.0,)}}


class Counting:
    def __init__(self, fail_at=None):
        self.calls, self.fail_at = 0, fail_at

    def __call__(self, images):
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        return confusing(images)


def run(folder, predict, *, pairs=None, about=ABOUT):
    """The result and what was said."""
    progress = ProgressNotes()
    pairs = pairs or FakePairs()
    store = EvaluationStore(folder, pairs, about, progress)
    return evaluate(pairs, predict, SETTINGS, store=store, **RAW), progress.lines


@pytest.fixture
def whole():
    return evaluate(FakePairs(), confusing, SETTINGS, **RAW).confusion.matrix


def test_a_stopped_evaluation_goes_on_with_the_images_left(tmp_path, whole):
    # 4 windows, 1, and 3; it stops in the last image
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Counting(fail_at=6))
    assert sorted(p.name for p in (tmp_path / "per_image").iterdir()) == [
        "00000.json",
        "00001.json",
    ]
    predict = Counting()
    found, said = run(tmp_path, predict)
    assert predict.calls == 3
    assert said == [f"{tmp_path}: 2 of 3 images are done already"]
    np.testing.assert_array_equal(found.confusion.matrix, whole)
    again, _ = run(tmp_path, Counting(fail_at=0))
    np.testing.assert_array_equal(again.confusion.matrix, whole)


def test_predictions_are_kept_as_pictures(tmp_path):
    run(tmp_path, knowing)
    pairs = FakePairs()
    for index, labels in enumerate(pairs.labels):
        with Image.open(tmp_path / f"predictions/P000{index}.png") as picture:
            assert picture.mode == "P"
            np.testing.assert_array_equal(np.asarray(picture), labels)


@pytest.mark.parametrize(
    ("about", "sizes", "named"),
    [
        ({**ABOUT, "weights": "other"}, None, "weights"),
        ({**ABOUT, "settings": {"stride": 32, "scales": (1.0,)}}, None, "settings"),
        (ABOUT, ((70, 90), (40, 33), (130, 65)), "images"),
    ],
)
def test_other_weights_settings_or_images_start_anew(tmp_path, about, sizes, named):
    run(tmp_path, confusing)
    for name in RESULTS:
        (tmp_path / name).write_text("of the first")
    pairs = FakePairs(sizes=sizes) if sizes else FakePairs()
    found, said = run(tmp_path, knowing, pairs=pairs, about=about)
    assert said == [f"{tmp_path / 'run.json'} is of another evaluation ({named}): starting anew"]
    assert found.metrics.mean_iou == 1
    assert not any((tmp_path / name).exists() for name in RESULTS)


def test_another_evaluation_leaves_no_pictures_of_the_first(tmp_path):
    run(tmp_path, confusing)
    (tmp_path / "predictions" / "gone.png").write_bytes(b"of an image that is not evaluated now")
    run(tmp_path, confusing, about={"weights": "other"})
    assert len(list((tmp_path / "predictions").iterdir())) == 3


def test_what_a_killed_evaluation_left_is_removed(tmp_path):
    run(tmp_path, confusing)
    name = next((tmp_path / "predictions").iterdir()).stem
    (tmp_path / "predictions" / f".{name}.59ca230c.tmp.png").write_bytes(b"half")
    run(tmp_path, confusing)
    assert len(list((tmp_path / "predictions").iterdir())) == 3


def test_a_damaged_run_file_starts_anew(tmp_path):
    run(tmp_path, confusing)
    (tmp_path / "run.json").write_bytes(b'{"format": \xff')
    predict = Counting()
    _, said = run(tmp_path, predict)
    assert said == [f"{tmp_path / 'run.json'} is damaged: starting anew"]
    assert predict.calls == 8


def truncate(path):
    path.write_bytes(path.read_bytes()[:40])


def change_a_count(path):
    content = json.loads(path.read_text())
    content["matrix"][0][0] += 1
    path.write_text(json.dumps(content))


def empty(path):
    path.write_bytes(b"")


def no_object(path):
    path.write_text("[]")


@pytest.mark.parametrize("damage", [truncate, change_a_count, empty, no_object])
def test_a_damaged_result_is_done_again(tmp_path, whole, damage):
    run(tmp_path, confusing)
    path = tmp_path / "per_image/00001.json"
    damage(path)
    predict = Counting()
    found, said = run(tmp_path, predict)
    assert said[0] == f"{path} is damaged: P0001 is evaluated again"
    assert predict.calls == 1
    np.testing.assert_array_equal(found.confusion.matrix, whole)


def test_a_result_whose_picture_is_gone_is_done_again(tmp_path):
    run(tmp_path, confusing)
    (tmp_path / "predictions/P0001.png").unlink()
    predict = Counting()
    _, said = run(tmp_path, predict)
    assert "P0001.png is gone: P0001 is evaluated again" in said[0]
    assert predict.calls == 1


def test_a_result_of_another_run_that_was_left_behind_is_not_used(tmp_path, whole):
    """As after a kill between the two writes of starting anew."""
    run(tmp_path / "other", knowing, about={**ABOUT, "weights": "other"})
    run(tmp_path / "ours", Counting())
    foreign = (tmp_path / "other/per_image/00001.json").read_bytes()
    (tmp_path / "ours/per_image/00001.json").write_bytes(foreign)
    found, _ = run(tmp_path / "ours", Counting())
    np.testing.assert_array_equal(found.confusion.matrix, whole)


def test_files_that_are_not_the_evaluations_stay(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/mine.png").write_bytes(b"mine")
    (tmp_path / "notes.txt").write_text("mine")
    run(tmp_path, knowing)
    run(tmp_path, knowing, about={**ABOUT, "weights": "other"})
    assert (tmp_path / "images/mine.png").read_bytes() == b"mine"
    assert (tmp_path / "notes.txt").read_text() == "mine"


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.factseg_paddle.engine.evaluation.test_store import run, confusing
calls = 0
def predict(images):
    global calls
    calls += 1
    if calls == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return confusing(images)
run(Path(sys.argv[2]), predict)
"""


def test_killed_with_9_it_goes_on_to_the_same_numbers(tmp_path, whole):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(REPO), str(tmp_path)],
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    predict = Counting()
    found, said = run(tmp_path, predict)
    assert "2 of 3 images are done already" in said[0]
    assert predict.calls == 3
    np.testing.assert_array_equal(found.confusion.matrix, whole)
