"""Training steps in a record: the same verdict as live, and what damage is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from alignment import AlignmentError
from alignment.__main__ import main
from alignment.recording.reference import HEADER
from alignment.recording.reference_files import load_reference
from alignment.recording.train_record import StepSensitivity, TrainRecord, TrainStep
from alignment.recording.train_record_files import load_steps, save_steps
from alignment.recording.value_key import Kind, ValueKey
from tests.alignment.test_sides import on_pair, refused, without

pytestmark = pytest.mark.timeout(600)  # starts whole runs

STEP = "record_torch_train_01.npz"


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Path:
    """A record of torch, made where Paddle can't be imported."""
    folder = tmp_path_factory.mktemp("training")
    done = without("paddle", *on_pair("training"), "--side", "torch", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {p.name for p in folder.glob("record_torch_train*")} == {
        "record_torch_train_00.npz",
        STEP,
    }
    return folder


@pytest.fixture
def damaged(record, tmp_path) -> Path:
    shutil.copytree(record, tmp_path / "record")
    return tmp_path / "record"


def reported(out: Path) -> dict:
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def verdicts(report: dict) -> list:
    """Without errors: torch's own sums differ in the last bit between processes."""
    tensors = [tensor for step in report["steps"] for tensor in step["tensors"]]
    same = ("name", "comparison", "shape", "dtype", "status")
    return [tuple(tensor[key] for key in same) for tensor in tensors]


def test_record_gives_the_results_of_the_live_run(record, tmp_path):
    for name, options in {"live": (), "record": ("--torch-records", str(record))}.items():
        options = [*on_pair("training"), *options, "--out", str(tmp_path / name)]
        assert main(options) == 0
    live, recorded = reported(tmp_path / "live"), reported(tmp_path / "record")
    assert live["steps"][-1]["step"] == "train"
    names = [tensor["name"] for tensor in live["steps"][-1]["tensors"]]
    assert "step 1: 1.weight (moment2)" in names
    assert verdicts(live) == verdicts(recorded)


def test_record_is_compared_where_torch_is_missing(record, tmp_path):
    done = without("torch", *on_pair("training"), "--torch-records", record, "--out", tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    assert "ALIGNED: user, 7 steps" in done.stdout


def test_curves_come_from_the_record(record):
    curves = load_reference(record).training.curves
    assert {key: len(losses) for key, losses in curves.items()} == {
        "torch": 2,
        "lowest": 2,
        "highest": 2,
    }


def test_fault_is_found_against_a_record(record, tmp_path, capsys):
    options = ["--torch-records", str(record), "--out", str(tmp_path)]
    assert main([*on_pair("training_without_decay"), *options]) == 1
    assert "first divergence at train:step 0: 0.0.weight (update)\n" in capsys.readouterr().out


def test_record_without_training_is_refused(tmp_path, capsys):
    options = [*on_pair("training"), "--out", str(tmp_path)]
    assert main([*options, "--side", "torch", "--steps", "forward"]) == 0
    err = refused(
        capsys, *on_pair("training"), "--torch-records", tmp_path, "--out", tmp_path / "o"
    )
    assert "the torch record lacks the step" in err


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: shutil.copyfile(path.with_name("record_torch_train_00.npz"), path),
    ],
    ids=["missing", "empty", "cut short", "another step"],
)
def test_damaged_step_is_refused_in_a_sentence(damaged, damage, tmp_path, capsys):
    damage(damaged / STEP)
    options = (*on_pair("training"), "--torch-records", damaged, "--out", tmp_path / "o")
    assert f"{damaged / STEP} is missing or was changed; record again" in refused(capsys, *options)


def test_damaged_step_is_refused_where_something_else_is_wrong_too(damaged, tmp_path):
    (damaged / STEP).unlink()
    options = [*on_pair("training_without_decay"), "--torch-records", str(damaged)]
    assert main([*options, "--steps", "train", "--out", str(tmp_path / "o")]) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda train: train.pop("steps"),
        lambda train: train.update(steps=3),
        lambda train: train["steps"][0].pop("names"),
        lambda train: train["steps"][0].update(names=[["gradients", "x"]] * 999),
        lambda train: train["steps"][0].update(file=3),
        lambda train: train["steps"][0].update(names=[["strange", "x"]]),
    ],
    ids=["no steps", "a number", "no names", "too many names", "no file", "unknown group"],
)
def test_nonsense_in_the_header_is_one_sentence(damaged, change, tmp_path, capsys):
    header = json.loads((damaged / HEADER).read_text(encoding="utf-8"))
    change(header["train"])
    (damaged / HEADER).write_text(json.dumps(header), encoding="utf-8")
    options = (*on_pair("training"), "--torch-records", damaged, "--out", tmp_path / "o")
    assert f"the torch record in {damaged} is damaged: " in refused(capsys, *options)


def test_file_name_in_a_header_leads_nowhere_else(tmp_path):
    """Only the last part of a path is used."""
    headers = save_steps(tmp_path, [TrainStep(TrainRecord(0), {})])
    (tmp_path / "inner").mkdir()
    for stored in ("../record_torch_train_00.npz", "/record_torch_train_00.npz"):
        with pytest.raises(AlignmentError, match=r"inner/record_torch_train_00.npz is missing"):
            list(load_steps(tmp_path / "inner", [headers[0] | {"file": stored}]))


def test_steps_come_back_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)

    def arrays(*names):
        return {name: rng.normal(size=(2, 3)).astype(np.float32) for name in names}

    record = TrainRecord(
        step=3,
        rate=0.1,
        loss=1.0 / 3,
        norm=2.0**0.5,
        clipped_norm=0.5,
        gradients=arrays("a", "b/c"),
        updates=arrays("a"),
        buffers={"m": rng.normal(size=4), "n": np.array(7)},
        biased={"v": rng.normal(size=4)},
        sensitivity=StepSensitivity(1e-9, 2e-9, {"a": 3e-9, "b/c": 4e-9}, {"m": 5e-9}),
        calls=["c", "c#2"],
        samples={"v": 12},
        slots={"a.b/c": arrays("moment1", "moment2"), "d": arrays("velocity")},
    )
    activations = {
        ValueKey(Kind.OUTPUT, "c"): rng.normal(size=(1, 3)),
        ValueKey(Kind.MODEL_OUTPUT, "output"): rng.normal(size=2),
    }
    headers = json.loads(json.dumps(save_steps(tmp_path, [TrainStep(record, activations)])))
    ((read, activations_read),) = load_steps(tmp_path, headers)
    for key in ("step", "rate", "loss", "norm", "clipped_norm", "samples", "calls", "sensitivity"):
        assert getattr(read, key) == getattr(record, key)
    for kind in ("gradients", "updates", "buffers", "biased"):
        assert_equal(getattr(read, kind), getattr(record, kind))
    assert_equal(activations_read, activations)
    assert list(read.slots) == list(record.slots)
    for name, own in record.slots.items():
        assert_equal(read.slots[name], own)


def assert_equal(read, written):
    assert list(read) == list(written)
    for name, array in written.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)
