"""`scripts/bench_evaluation.py`: both sides agree, and ours holds less."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scripts import bench_evaluation
from scripts.bench_evaluation import SIDES, main


def by_colour(images):
    return np.repeat(images, 6, axis=1)[:, :16] + np.linspace(0, 0.5, 16)[:, None, None]


def test_both_sides_give_the_same_labels():
    image = np.random.RandomState(0).randint(0, 256, (950, 1000, 3), np.uint8)
    ours, naive = (SIDES[side](by_colour, image) for side in ("ours", "naive"))
    assert ours == naive
    assert ours[1] == 4


@pytest.mark.parametrize(
    ("peak", "labels", "status"), [(1.0, "a", 0), (2.5, "a", 1), (1.0, "b", 1)]
)
def test_the_exit_status_says_whether_it_is_equal_and_smaller(
    monkeypatch, capsys, peak, labels, status
):
    naive = {"windows": 4, "seconds": 2.0, "peak_gb": 2.0, "labels": "a"}
    sides = {"naive": naive, "ours": naive | {"peak_gb": peak, "labels": labels}}
    monkeypatch.setattr(bench_evaluation, "_in_a_process", lambda _, side: sides[side])
    assert main([]) == status
    assert f"1.00 of the time and {peak / 2:.2f} of the memory" in capsys.readouterr().out
    assert main(["--json"]) == status
    assert json.loads(capsys.readouterr().out)["sides"] == sides


def test_the_largest_image_is_held_to_3_gb(monkeypatch, capsys):
    found = {"windows": 208, "seconds": 1.0, "peak_gb": 2.9, "labels": "a"}
    monkeypatch.setattr(bench_evaluation, "_in_a_process", lambda *_: found)
    assert main(["--largest"]) == 0
    assert "4000 x 13383, FactSeg on resnet50, 208 windows" in capsys.readouterr().out
    found["peak_gb"] = 3.1
    assert main(["--largest"]) == 1


def test_a_failed_process_is_one_sentence(capsys):
    assert main(["--backbone", "resnet7", "--height", "64", "--width", "64"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
