"""The measurement that set the tolerances, and the constants that came of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alignment import tolerances
from alignment.compare import TensorResult
from alignment.report.report import Report
from alignment.report.results import StepResult
from factseg_proof.calibration.__main__ import BINS, CONSTANTS, OUT, Calibration, PairSettings, main


def kept() -> dict:
    return json.loads((OUT / "calibration.json").read_text(encoding="utf-8"))


def test_kept_calibration_is_of_the_constants_in_force():
    content = kept()
    assert content["constants"] == dict(CONSTANTS.values())
    assert all(value == getattr(tolerances, name) for name, value in CONSTANTS.values())
    assert (OUT / "calibration.png").stat().st_size > 10_000


def test_kept_calibration_is_as_large_as_it_should_be_and_has_no_alarm():
    runs = kept()["runs"]
    assert len(runs) >= 60
    assert len({run["seed"] for run in runs}) >= 20
    assert all(run["passed"] for run in runs)
    for condition in ("size", "mode", "form", "input"):
        assert len({run[condition] for run in runs}) > 1
    assert runs == [
        {**vars(PairSettings.of(run["seed"], run["run"])), "passed": True, "first_divergence": None}
        for run in runs
    ]


def test_no_kind_of_comparison_comes_near_its_bound_unless_float64_settled_it():
    for kind, worst in kept()["worst"].items():
        assert worst["ratio"] < 0.7 or worst["status"] == "declared", kind


def report(*ratios: float, status: str = "passed", dtype: str = "float64") -> Report:
    tensors = [
        TensorResult(f"t{i}", "end_to_end", (1,), dtype, ratio * 0.5, 0.5, status)
        for i, ratio in enumerate(ratios)
    ]
    return Report("factseg", (StepResult("forward", tuple(tensors)),))


def test_ratios_are_gathered_by_kind():
    calibration = Calibration()
    calibration.add(PairSettings(5, 1, 64, "eval", "logits", "noise"), report(0.0, 1e-3, 0.25))
    calibration.add(PairSettings(6, 0, 64, "eval", "logits", "noise"), report(0.5, dtype="float32"))
    counts = calibration.counts["end to end, float64"]
    assert counts.sum() == 2
    assert calibration.zeros == {"end to end, float64": 1}
    assert BINS[np.flatnonzero(counts)[-1] - 1] <= 0.25 <= BINS[np.flatnonzero(counts)[-1]]
    worst = calibration.worst["end to end, float64"]
    assert (worst["ratio"], worst["tensor"], worst["seed"]) == (0.25, "t2", 5)
    assert calibration


def test_float32_in_training_mode_decides_nothing_and_is_left_out():
    calibration = Calibration()
    calibration.add(
        PairSettings(5, 1, 64, "train", "logits", "noise"),
        report(900.0, status="declared", dtype="float32"),
    )
    assert calibration.counts == {}


def test_alarm_is_told_with_its_conditions():
    calibration = Calibration()
    assert not calibration, "nothing was run"
    calibration.add(
        PairSettings(5, 1, 64, "eval", "literal", "noise"), report(2.0, status="failed")
    )
    assert not calibration
    assert "ALARM: {'seed': 5" in str(calibration)


def test_draws_depend_on_the_seed_and_the_run_alone():
    draws = [PairSettings.of(seed, run) for seed in range(20) for run in range(3)]
    assert draws == [PairSettings.of(seed, run) for seed in range(20) for run in range(3)]
    assert len({(d.size, d.mode, d.form, d.input) for d in draws}) > 15


def test_noise_has_no_scene_and_ignored_labels():
    draw = next(d for d in (PairSettings.of(seed, 0) for seed in range(50)) if d.input == "noise")
    pair = draw.pair()
    (pixels,), (labels,) = pair.inputs, pair.targets
    assert pixels.shape[2:] == labels.shape[1:] == (draw.size, draw.size)
    assert abs(float(pixels.std()) - 1) < 0.1
    assert (labels == 255).any()


@pytest.mark.parametrize("words", [["--seeds", "x"], ["--seeds", "5-3"], ["--runs", "0"]])
def test_bad_arguments_are_refused(words, capsys):
    with pytest.raises(SystemExit) as raised:
        main(words)
    assert raised.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
