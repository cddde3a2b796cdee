"""Checks of a pair: what they may give, and those of our own pair with planted errors."""

from __future__ import annotations

import numpy as np
import pytest

import factseg_paddle.data.images.files as image_files
import factseg_paddle.data.images.palettes as palettes
import factseg_paddle.losses as losses
import factseg_paddle.transforms as transforms
from alignment import AlignmentError, Pair, align
from factseg_paddle.data.synthetic.scenes import paint_scene
from factseg_paddle.metrics import ConfusionMatrix
from factseg_proof.pairs import loss_checks, metric_checks, preprocess_checks


def never():
    raise AssertionError("no model is run by checks")


def pair_of(step: str, function) -> Pair:
    return Pair(
        name="checks",
        torch_model=never,
        paddle_model=never,
        inputs=(np.ones(1),),
        checks={step: function},
    )


def failures(step: str, function) -> dict[str, str]:
    """Reasons by name of the checks that fail, both sides computed here."""
    from alignment.judging import checks

    pair = pair_of(step, function)
    results = checks.judged(checks.reference_values(pair, step), *checks.our_values(pair, step))
    return {result.name: result.reason for result in results if not result}


def test_equal_values_pass_and_others_fail_by_name():
    def checks():
        yield "same", 1.0, 1.0
        yield "functions", lambda: np.ones(2), lambda: np.ones(2)
        yield "other", 1.0, 1.1
        yield "shape", np.ones((1, 2)), np.ones(2)
        yield "dtype", np.ones(2), np.ones(2, np.float32)
        yield "integer", 3, 4
        yield "nan", np.nan, 1.0

    assert list(failures("metric", checks)) == ["other", "shape", "dtype", "integer", "nan"]


def test_name_that_one_side_lacks_fails():
    from alignment.judging.checks import judged

    one, two = {"a": np.ones(1), "b": np.ones(1)}, {"a": np.ones(1), "c": np.ones(1)}
    assert {r.name: r.reason for r in judged(one, two, {}) if not r} == {
        "b": "ours gives no such value",
        "c": "the reference gives no such value",
    }


def test_only_the_side_that_runs_is_computed():
    from alignment.judging import checks

    pair = pair_of("metric", lambda: [("a", 1, never), ("b", 2, never)])
    assert set(checks.reference_values(pair, "metric")) == {"a", "b"}
    pair = pair_of("metric", lambda: [("a", never, 1), ("b", never, 2)])
    assert set(checks.our_values(pair, "metric")[0]) == {"a", "b"}
    with pytest.raises(AlignmentError, match="the check 'a' of step metric raised AssertionError"):
        checks.reference_values(pair, "metric")


def test_ours_that_raises_has_failed_and_a_missing_package_is_no_verdict():
    from alignment.judging import checks

    found = failures("metric", lambda: [("a", 1, lambda: 1 / 0), ("b", 1, 1)])
    assert found == {"a": "ours raised ZeroDivisionError: division by zero"}
    pair = pair_of("metric", lambda: [("a", 1, lambda: __import__("not_installed"))])
    with pytest.raises(AlignmentError, match="the check 'a' of step metric can't run: No module"):
        checks.our_values(pair, "metric")


def raising():
    yield "first", 1, 1
    raise ValueError("no\nluck")


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (raising, "the checks of step metric raised ValueError: no$"),
        (lambda: 3, "the checks of step metric raised TypeError: 'int' object is not iterable"),
        (lambda: [("a", 1)], r"give \('a', 1\); give \(name, reference, ours\)"),
        (lambda: [(1, 2, 3)], r"give \(1, 2, 3\); give \(name, reference, ours\)"),
        (lambda: [("a", 1, 1), ("a", 2, 2)], "the check 'a' of step metric occurs twice"),
    ],
)
def test_checks_that_make_no_sense_end_with_a_sentence(function, sentence):
    from alignment.judging import checks

    with pytest.raises(AlignmentError, match=sentence):
        checks.reference_values(pair_of("metric", function), "metric")


def test_step_whose_checks_give_nothing_has_failed():
    import torch
    from paddle import nn

    pair = Pair(
        name="nothing",
        torch_model=lambda: torch.nn.Linear(1, 1),
        paddle_model=lambda: nn.Linear(1, 1),
        inputs=(np.ones((1, 1), np.float32),),
        checks={"metric": lambda: []},
    )
    assert align(pair, ["metric"]).first_divergence == "metric:nothing was compared"


# Our own pair's checks ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene():
    painted = paint_scene(size=64, seed=3)
    labels = painted.labels.copy()
    labels[-6:] = 255
    return painted.image, labels


@pytest.fixture(scope="module")
def batch(scene):
    return np.stack([scene[1], scene[1][::-1]]).astype(np.int64)


def preprocess(scene):
    return failures("preprocess", lambda: preprocess_checks.values(*scene, None, None))


def metric(batch):
    return failures("metric", lambda: metric_checks.values(batch, 0))


def loss(batch):
    return failures("loss", lambda: loss_checks.values(batch, 0))


def test_every_step_of_our_own_pair_yields_its_names_and_passes(scene, batch, tmp_path):
    from cv2 import imwrite

    image, mask = tmp_path / "i.png", tmp_path / "m.png"
    imwrite(str(image), np.ascontiguousarray(scene[0][..., ::-1]))
    known = np.where(scene[1] == 255, 0, scene[1])
    imwrite(str(mask), np.ascontiguousarray(palettes.index_to_color(known)[..., ::-1]))
    names = [check[0] for check in preprocess_checks.values(*scene, image, mask)]
    of_both = [f"rot90 k={k}" for k in range(4)]
    of_both += ["horizontal flip", "vertical flip", "pad before normalising", "crop"]
    assert set(names) == {
        "decode image", "decode mask", "index to colour", "colour to index",
        "every colour to index", "normalise",
        "pad after normalising", "to [C, H, W]",
    } | {f"{name}, {part}" for name in of_both for part in ("image", "labels")}  # fmt: skip
    assert not failures("preprocess", lambda: preprocess_checks.values(*scene, image, mask))
    names = [check[0] for check in metric_checks.values(batch, 0)]
    assert len(names) == len(set(names)) == 12 + 10 + 1 + 4
    for word in ("plain", "scikit-learn", "paddleseg"):
        assert sum(name.endswith(word) for name in names) >= 4
    assert not metric(batch)
    names = [check[0] for check in loss_checks.values(batch, 0)]
    classes = {name.partition("(")[0] for name in names} - {"joint_probability"}
    # A weighted sum of another loss: the training steps of networks with such heads compare it.
    offered = {name for name in losses.__all__ if name.endswith("Loss")} - {"AuxiliaryLoss"}
    assert classes == offered
    assert sum("torch's literal = Paddle's logits" in name for name in names) == 3
    assert not loss(batch)


def test_bgr_in_normalising_is_found(scene, monkeypatch):
    right = transforms.normalize
    monkeypatch.setattr(transforms, "normalize", lambda image: right(image[..., ::-1]))
    assert "normalise" in preprocess(scene)


def test_rotation_the_other_way_is_found(scene, monkeypatch):
    right = transforms.rot90
    monkeypatch.setattr(transforms, "rot90", lambda i, m, k: right(i, m, -k % 4))
    assert set(preprocess(scene)) == {
        f"rot90 k={k}, {part}" for k in (1, 3) for part in ("image", "labels")
    }


def test_padding_of_labels_with_background_is_found(scene, monkeypatch):
    right = transforms.pad_to

    def wrong(image, labels, **size):
        image, padded = right(image, labels, **size)
        padded = padded.copy()
        padded[labels.shape[0] :] = 0
        return image, padded

    monkeypatch.setattr(transforms, "pad_to", wrong)
    assert set(preprocess(scene)) == {"pad before normalising, labels"}


def test_other_palette_is_found(scene, monkeypatch):
    right = palettes.index_to_color
    monkeypatch.setattr(palettes, "index_to_color", lambda labels: right(labels)[..., ::-1])
    assert set(preprocess(scene)) == {"index to colour", "colour to index", "every colour to index"}


def test_bgr_in_decoding_is_found(scene, tmp_path, monkeypatch):
    from cv2 import imwrite

    file = tmp_path / "i.png"
    imwrite(str(file), scene[0])
    right = image_files.read_image
    monkeypatch.setattr(image_files, "read_image", lambda path: right(path)[..., ::-1])
    monkeypatch.setattr(image_files, "read_mask", lambda path: path)
    found = [
        check
        for check in preprocess_checks.values(*scene, file, file)
        if check[0] == "decode image"
    ]
    assert set(failures("preprocess", lambda: found)) == {"decode image"}


def test_ignored_pixels_that_count_are_found(batch, monkeypatch):
    right = ConfusionMatrix.update

    def wrong(self, labels, predictions):
        return right(self, np.where(labels == 255, 0, labels), predictions)

    monkeypatch.setattr(ConfusionMatrix, "update", wrong)
    found = metric(batch)
    assert {"confusion matrix, plain", "mean_iou, plain", "confusion matrix, scikit-learn"} <= set(
        found
    )
    assert "IoU per class, paddleseg" in found


def test_transposed_confusion_matrix_is_found(batch, monkeypatch):
    right = ConfusionMatrix.update

    def swapped(self, labels, predictions):
        valid = labels != 255
        return right(self, predictions[valid], labels[valid])

    monkeypatch.setattr(ConfusionMatrix, "update", swapped)
    found = metric(batch)
    assert "confusion matrix, scikit-learn" in found
    assert "precision per class, scikit-learn" in found


@pytest.mark.parametrize("name", ["DiceLoss", "FocalLoss", "JointLoss"])
def test_loss_off_by_a_ten_thousandth_is_found(name, batch, monkeypatch):
    right = getattr(losses, name)

    class Wrong(right):
        def forward(self, *args):
            return super().forward(*args) * 1.0001

    monkeypatch.setattr(losses, name, Wrong)
    found = loss(batch)
    assert found
    assert all(check.startswith(f"{name}(") for check in found)
