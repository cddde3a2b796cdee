"""What an evaluation leaves: numbers, a table of images, pictures."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from factseg_paddle.config.schema import Evaluation
from factseg_paddle.engine.evaluation.evaluator import EvaluationResult, ImageResult, evaluate
from factseg_paddle.engine.evaluation.report import (
    draw_confusion,
    worst_first,
    write_report,
    write_worst,
)
from factseg_paddle.engine.evaluation.store import EvaluationStore
from factseg_paddle.inference.visualize import ERROR_COLORS
from factseg_paddle.metrics import ConfusionMatrix
from tests.factseg_paddle.engine.fake_pairs import RAW, FakePairs, confusing

SETTINGS = Evaluation(patch_size=64, stride=48)


@pytest.fixture
def done(tmp_path):
    pairs = FakePairs()
    pairs.labels[1][:] = 255  # nothing counts in this one
    store = EvaluationStore(tmp_path, pairs, {})
    found = evaluate(pairs, confusing, SETTINGS, store=store, **RAW)
    return tmp_path, pairs, store, found


def test_metrics_json_holds_the_matrix_names_and_settings(done):
    folder, pairs, _, found = done
    write_report(folder, found, {"weights": {"sha256": "abc"}, "settings": SETTINGS.model_dump()})
    content = json.loads((folder / "metrics.json").read_text())
    matrix = np.array(content["confusion_matrix"])
    np.testing.assert_array_equal(matrix, found.confusion.matrix)
    # worked out again from the file alone
    iou = matrix.diagonal() / (matrix.sum(0) + matrix.sum(1) - matrix.diagonal())
    assert content["mean_iou"] == pytest.approx(iou.mean())
    assert [c["name"] for c in content["classes"]] == list(pairs.class_names)
    assert [c["iou"] for c in content["classes"]] == pytest.approx(iou.tolist())
    assert content["weights"]["sha256"] == "abc"
    assert content["settings"]["patch_size"] == 64
    assert content["images"] == 3


def test_what_is_undefined_is_null(tmp_path):
    matrix = ConfusionMatrix(3)
    matrix.add(np.array([[5, 0, 0], [1, 3, 0], [0, 0, 0]]))
    write_report(tmp_path, EvaluationResult(matrix, (), ("a", "b", "c")), {})
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["classes"][2]["iou"] is None
    assert content["mean_iou"] > 0.5


def test_per_image_results_come_worst_first(done):
    folder, _, _, found = done
    write_report(folder, found, {})
    with (folder / "per_image.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ious = [image.metrics.mean_iou for image in found.images]
    order = sorted((0, 2), key=lambda i: ious[i])
    assert [row["name"] for row in rows] == [f"P000{i}" for i in order] + ["P0001"]
    assert float(rows[0]["mean_iou"]) == pytest.approx(min(ious[0], ious[2]), abs=1e-6)
    assert rows[2]["mean_iou"] == ""
    assert rows[2]["counted_pixels"] == "0"
    worst = found.images[order[0]].matrix
    assert int(rows[0]["wrong_pixels"]) == worst.sum() - worst.trace()
    assert rows[0]["iou_background"] == "1.000000"


def test_missed_and_false_alarm_pixels_are_counted(tmp_path):
    matrix = np.array([[50, 3, 4], [5, 20, 0], [6, 1, 30]])
    confusion = ConfusionMatrix(3)
    confusion.add(matrix)
    image = ImageResult(0, "x", 7, 17, matrix)
    write_report(tmp_path, EvaluationResult(confusion, (image,), ("a", "b", "c")), {})
    with (tmp_path / "per_image.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["missed_pixels"], row["false_alarm_pixels"]) == ("11", "7")
    assert (row["wrong_pixels"], row["counted_pixels"]) == ("19", "119")


def test_error_maps_of_the_worst_images_are_drawn_from_the_kept_predictions(done):
    folder, pairs, store, found = done
    (folder / "worst").mkdir()
    (folder / "worst/01_old.png").write_bytes(b"of an earlier run")
    written = write_worst(folder, found, pairs, store, 2)
    ranked = worst_first(found)
    assert [p.name for p in written] == [f"{i + 1:02d}_{ranked[i].name}.png" for i in (0, 1)]
    assert sorted((folder / "worst").iterdir()) == sorted(written)
    first = ranked[0]
    with Image.open(written[0]) as picture:
        pixels = np.asarray(picture)[: first.height, : first.width]
    labels = pairs.labels[first.index]
    wrong = (labels == 3) & (pairs.images[first.index][..., 1] > 128)
    assert wrong.any()
    assert (pixels[wrong] == ERROR_COLORS[3]).all()
    assert (pixels[(labels > 0) & ~wrong] == ERROR_COLORS[0]).all()
    assert write_worst(folder, found, pairs, store, 0) == []


def test_a_damaged_prediction_is_said(done):
    folder, pairs, store, found = done
    path = store.prediction(worst_first(found)[0].index)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"is damaged .* remove it and evaluate again"):
        write_worst(folder, found, pairs, store, 1)


def test_the_confusion_picture_names_and_numbers_the_classes(done):
    *_, found = done
    axes = draw_confusion(found.metrics, found.confusion.matrix).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(found.class_names)
    numbers = {t.get_position(): t.get_text() for t in axes.texts}
    assert numbers[0, 0] == "100"
    row = found.confusion.matrix[3]
    assert numbers[1, 3] == f"{100 * row[1] / row.sum():.0f}"
