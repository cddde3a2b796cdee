"""Whole training runs: what they leave, and what stops them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from factseg_paddle.config.loading import load_config, make_config
from factseg_paddle.data.loader_worker import LoaderError
from factseg_paddle.data.synthetic.scenes import make_sample_dataset
from factseg_paddle.engine.logs.format import parse_log
from factseg_paddle.engine.run_files import checkpoint_folder
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.start import train
from factseg_paddle.engine.training.step import TrainingError
from factseg_paddle.engine.training.validation import Validation
from factseg_paddle.io import load_plain
from factseg_paddle.metrics import compute_metrics
from tests.factseg_paddle.engine.training.runs import (
    FACTSEG,
    ITERS,
    AtIteration,
    config,
    values,
)
from tests.loader_workers import record_workers, worker_processes

pytestmark = pytest.mark.timeout(600)  # starts whole runs


def test_run_leaves_checkpoints_a_log_and_its_configuration(uninterrupted, data):
    names = sorted(path.name for path in uninterrupted.iterdir())
    assert names == ["config.yml", "iter_000002", "iter_000004", "iter_000006", "train.log"]
    assert load_config(uninterrupted / "config.yml") == config(data, uninterrupted)
    log = parse_log(uninterrupted / "train.log")
    assert [line.iteration for line in log.train] == [2, 4, 6]
    rates = [0.007 * (1 - (line.iteration - 1) / ITERS) ** 0.9 for line in log.train]
    assert [line.lr for line in log.train] == pytest.approx(rates, abs=5e-7)
    said = (uninterrupted / "train.log").read_text()
    assert "training in float32" in said
    assert "rehearsal on P0001: mIoU" in said
    state = checkpoints.read_state(uninterrupted / "iter_000006")
    assert (state.iteration, state.processes) == (6, 1)
    optimizer = load_plain(uninterrupted / "iter_000006" / "optimizer.pdopt")
    assert optimizer["step"] == 6
    assert optimizer["scheduler"]["last_epoch"] == 6


@pytest.mark.parametrize("error", [ValueError("probabilities are not finite"), MemoryError("full")])
def test_failure_in_an_evaluation_is_no_bad_start(data, tmp_path, monkeypatch, error):
    def evaluate(*_):
        raise error

    monkeypatch.setattr(Validation, "evaluate", evaluate)
    with pytest.raises(TrainingError, match=rf"after iteration 2: {error}; the last .*000002"):
        train(config(data, tmp_path / "run", do_eval=True, eval_interval=2, iters=2))
    assert str(error) in (tmp_path / "run" / "train.log").read_text()


def test_undefined_mean_iou_is_never_the_best(data, tmp_path, monkeypatch):
    def evaluate(*_):
        return compute_metrics(np.zeros((16, 16), np.int64))

    monkeypatch.setattr(Validation, "evaluate", evaluate)
    assert train(config(data, tmp_path / "run", do_eval=True, iters=1)) == 0
    assert checkpoints.read_state(tmp_path / "run" / "iter_000001").best is None


def test_loss_that_is_not_finite_names_the_iteration_and_the_way_back(data, tmp_path):
    plain = values(data, tmp_path / "run", FACTSEG) | {"optimizer": {"learning_rate": 1e30}}
    with pytest.raises(TrainingError) as caught:
        train(make_config(plain, "test"))
    assert re.match(r"after iteration [12]: the loss is (nan|inf)", str(caught.value))
    assert "start a new run with model.weights set to a checkpoint" in str(caught.value)
    assert "the last checkpoint is" in str(caught.value)
    folder, reasons = checkpoints.newest_whole(tmp_path / "run")
    assert not reasons
    weights = load_plain(folder / "model.pdparams")
    assert all(np.isfinite(array).all() for array in weights.values())
    assert str(caught.value) in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_sample_that_can_not_be_read_stops_and_names_the_file(tmp_path, workers):
    data = tmp_path / "sample"
    make_sample_dataset(data, images=4, size=128, seed=0)
    broken = sorted((data / "train/images/images").iterdir())[1]
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises((TrainingError, ValueError), match=re.escape(broken.name)):
        train(config(data, tmp_path / "run", num_workers=workers))


def test_worker_that_dies(data, tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGCHLD)
    AtIteration(monkeypatch, 2, lambda: worker_processes()[0].kill())
    with pytest.raises(TrainingError, match="a process that reads samples died") as caught:
        train(config(data, tmp_path / "run", num_workers=2, iters=200, save_interval=0))
    assert isinstance(caught.value.__cause__, LoaderError), "the cause is kept"
    assert checkpoints.newest_whole(tmp_path / "run")[0].name == "iter_000000"
    assert worker_processes() == []
    # Paddle's handler remembered the dead one, and the next process that was started paid for it.
    assert signal.getsignal(signal.SIGCHLD) == handler
    subprocess.run([sys.executable, "-c", ""], check=True)


def test_worker_that_is_stopped(data, tmp_path, monkeypatch):
    """Training waited for it forever."""
    started = record_workers(monkeypatch)

    def stop_one():
        worker_processes()[0].suspend()
        for worker in started:
            worker.timeout = 2

    AtIteration(monkeypatch, 6, stop_one)
    with pytest.raises(TrainingError, match="samples gave none for 2 seconds"):
        train(config(data, tmp_path / "run", num_workers=2, iters=200, save_interval=0))
    assert checkpoints.newest_whole(tmp_path / "run")[0].name == "iter_000000"
    assert worker_processes() == []


@pytest.mark.parametrize(("number", "status"), [(None, 0), (signal.SIGINT, 130)])
def test_end_of_training_ends_the_workers(data, tmp_path, monkeypatch, number, status):
    """They were waited for in silence for 30 seconds."""
    seen = []

    def look():
        seen.extend(worker_processes())
        if number:
            os.kill(os.getpid(), number)

    AtIteration(monkeypatch, 1, look)
    assert train(config(data, tmp_path / "run", num_workers=2, iters=2)) == status
    assert len(seen) == 2
    assert not any(process.is_running() for process in seen)


def test_evaluation_keeps_the_best(data, tmp_path):
    save_dir = tmp_path / "run"
    settings = config(data, save_dir, do_eval=True, eval_interval=3, eval_images=1, keep=1)
    assert train(settings) == 0
    log = parse_log(save_dir / "train.log")
    assert [record.iteration for record in log.evaluations] == [3, 6]
    state = checkpoints.read_state(save_dir / "iter_000006")
    best = max(log.evaluations, key=lambda record: record.mean_iou)
    assert state.best.iteration == best.iteration
    assert (save_dir / "best_model").resolve() == checkpoint_folder(save_dir, best.iteration)
    assert "rehearsal on P" in (save_dir / "train.log").read_text()


def test_visualdl_records_can_be_read_back(data, tmp_path):
    from visualdl import LogReader

    settings = config(data, tmp_path / "run", use_vdl=True, iters=2, do_eval=True)
    assert train(settings) == 0
    (record,) = (tmp_path / "run" / "vdl").iterdir()
    reader = LogReader(file_path=str(record))
    loss = reader.get_data("scalar", "train/loss")
    assert [item.id for item in loss] == [2]
    (line,) = parse_log(tmp_path / "run" / "train.log").train
    assert loss[0].value == pytest.approx(line.loss, abs=1e-4)
    pictures = reader.get_data("image", reader.get_tags()["image"][0])
    assert [picture.id for picture in pictures] == [0, 2], "the rehearsal's and the evaluation's"
    pixels = cv2.imdecode(np.frombuffer(pictures[1].image.encoded_image_string, np.uint8), 1)
    assert pixels.shape == (64, 3 * 64, 3)
