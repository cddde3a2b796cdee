"""Runs that are killed, told to stop or resumed: they end with the same bits.

FactSeg where a test is about the network too, and in the slow form of kill and resume.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from factseg_paddle.config.loading import make_config
from factseg_paddle.engine.logs.format import parse_log
from factseg_paddle.engine.run_files import checkpoint_folder
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.start import train
from factseg_paddle.engine.training.step import TrainingError
from factseg_paddle.engine.training.validation import Validation
from factseg_paddle.io import CheckpointError
from factseg_paddle.metrics import compute_metrics
from tests.factseg_paddle.engine.training.runs import (
    FACTSEG,
    ITERS,
    SMALL,
    AtIteration,
    command,
    config,
    result_of,
    started,
    values,
)

pytestmark = pytest.mark.timeout(600)  # starts whole runs


def kill_after_lines(process: subprocess.Popen, count: int, rng: random.Random) -> None:
    """Kill with -9 somewhere after the process has said `count` lines."""
    for _ in range(count):
        process.stdout.readline()
    for _ in range(rng.randrange(3_000_000)):  # anywhere, and no clock
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def killed_and_resumed(data, save_dir, workers, lines, seed, network=SMALL):
    options = ("--num_workers", str(workers), "--resume")
    arguments = command(data, save_dir, *options, network=network)
    rng = random.Random(seed)
    for count in lines:
        kill_after_lines(started(arguments), count, rng)
    assert train(config(data, save_dir, network, num_workers=workers), "auto") == 0
    # Or the bits would be the same because all was done once more from the start.
    assert re.search(r"going on after iteration [1-9]", (save_dir / "train.log").read_text())


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_ends_with_the_same_bits(data, tmp_path, uninterrupted, workers):
    """The first kill falls before or into the first checkpoint, the second into training."""
    save_dir = tmp_path / "run"
    killed_and_resumed(data, save_dir, workers, [1, 6], seed=workers)
    assert result_of(save_dir) == result_of(uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_many_moments(data, tmp_path, uninterrupted_factseg, seed):
    """Three times at any moment, and once when there are checkpoints."""
    save_dir, rng = tmp_path / "run", random.Random(seed)
    lines = [*sorted(rng.choices(range(1, 8), k=3)), rng.choice((6, 7))]
    killed_and_resumed(data, save_dir, seed % 3, lines, seed, FACTSEG)
    assert result_of(save_dir) == result_of(uninterrupted_factseg)


def test_resume_that_loaded_nothing_would_be_seen(data, tmp_path, uninterrupted, monkeypatch):
    """The comparison above can fail: a load that does nothing gives other bits."""
    save_dir = tmp_path / "run"
    assert train(config(data, save_dir, keep=9)) == 0
    for iteration in (4, 6):
        checkpoint_folder(save_dir, iteration).rename(tmp_path / f"{iteration}")
    monkeypatch.setattr(
        checkpoints, "load_checkpoint", lambda folder, *_: checkpoints.read_state(folder)
    )
    assert train(config(data, save_dir, keep=9), "auto") == 0
    assert result_of(save_dir) != result_of(uninterrupted)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_told_to_stop(data, tmp_path, uninterrupted, monkeypatch, number, status):
    save_dir = tmp_path / "run"
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        AtIteration(patched, 3, lambda: os.kill(os.getpid(), number))
        assert train(config(data, save_dir)) == status
    assert signal.getsignal(number) == before
    assert checkpoints.newest_whole(save_dir)[0].name == "iter_000003"
    assert train(config(data, save_dir), "auto") == 0
    assert "going on after iteration 3 from" in (save_dir / "train.log").read_text()
    assert result_of(save_dir) == result_of(uninterrupted)


@pytest.mark.slow
def test_adam_with_cosine_and_fast_heads_ends_with_the_same_bits(data, tmp_path, monkeypatch):
    optimizer = {"kind": "adam", "learning_rate": 1e-3, "schedule": "cosine", "warmup_iters": 2}
    optimizer |= {"head_lr_factor": 10.0, "end_learning_rate": 1e-5}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    one, other = (
        make_config(
            values(data, folder, FACTSEG, save_interval=ITERS) | {"optimizer": optimizer}, "test"
        )
        for folder in (whole, stopped)
    )
    assert train(one) == 0
    with monkeypatch.context() as patched:
        AtIteration(patched, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train(other) == 143
    assert train(other, "auto") == 0
    assert "going on after iteration 3 from" in (stopped / "train.log").read_text()
    assert result_of(stopped) == result_of(whole)
    rates = [line.lr for line in parse_log(whole / "train.log").train]
    expected = [2 / 3 * 1e-3, *(1e-5 + 0.99e-3 * (1 + np.cos(np.pi * p)) / 2 for p in (0.25, 0.75))]
    assert rates == pytest.approx(expected, abs=1e-6)  # as the log writes them


def test_resume_from_an_older_checkpoint_sets_the_newer_ones_aside(data, tmp_path, uninterrupted):
    """They would count as the newest, and what is saved from here on would be pruned."""
    save_dir = tmp_path / "run"
    shutil.copytree(uninterrupted, save_dir)
    older = save_dir / "iter_000002"
    assert train(config(data, save_dir, keep=2), str(older)) == 0
    names = sorted(path.name for path in save_dir.glob("iter_*"))
    assert names == [
        "iter_000004",
        "iter_000004.abandoned",
        "iter_000006",
        "iter_000006.abandoned",
    ]
    assert result_of(save_dir) == result_of(uninterrupted)
    again = str(save_dir / "iter_000004.abandoned")
    with pytest.raises(CheckpointError, match=r"iter_000004 lies where the run from"):
        train(config(data, save_dir), again)
    assert sorted(path.name for path in save_dir.glob("iter_*")) == names
    with pytest.raises(CheckpointError, match="nowhere does not exist; give a checkpoint folder"):
        train(config(data, save_dir), str(tmp_path / "nowhere"))


def test_attempt_that_is_given_up_takes_its_best_model_along(data, tmp_path):
    """The link led to nothing, and later to a checkpoint that was never evaluated."""
    save_dir = tmp_path / "run"
    options = {"iters": 2, "save_interval": 1, "eval_images": 1}
    assert train(config(data, save_dir, do_eval=True, eval_interval=2, **options)) == 0
    assert (save_dir / "best_model").resolve().name == "iter_000002"
    assert train(config(data, save_dir, **options), str(save_dir / "iter_000001")) == 0
    assert not (save_dir / "best_model").is_symlink()


def test_best_model_that_was_pruned_is_looked_for_anew(data, tmp_path, monkeypatch):
    """It stayed the one to beat, and the run ended without any."""
    found = iter([0.1, 0.5, 0.3, 0.2])
    metrics = compute_metrics(np.eye(16, dtype=np.int64))
    monkeypatch.setattr(Validation, "evaluate", lambda *_: replace(metrics, mean_iou=next(found)))
    options = {"do_eval": True, "eval_interval": 1, "save_interval": 1, "keep": 2}
    save_dir = tmp_path / "run"
    assert train(config(data, save_dir, iters=2, **options)) == 0
    elsewhere = tmp_path / "elsewhere"
    # of iteration 2 the best is 2 itself; what lies elsewhere has not that of iteration 1
    assert train(config(data, elsewhere, iters=2, **options), str(save_dir / "iter_000001")) == 0
    assert (elsewhere / "best_model").resolve().name == "iter_000002"
    assert checkpoints.read_state(elsewhere / "iter_000002").best.mean_iou == 0.3


def test_resume_from_elsewhere_begins_with_a_checkpoint_of_its_own(data, tmp_path, uninterrupted):
    elsewhere, save_dir = uninterrupted / "iter_000004", tmp_path / "run"
    assert train(config(data, save_dir, do_eval=True, eval_interval=4), str(elsewhere)) == 0
    state = checkpoints.read_state(save_dir / "iter_000004")
    assert (state.iteration, state.evaluated) == (4, 4)
    assert checkpoints.read_state(elsewhere).evaluated == -1
    assert result_of(save_dir)["weights"] == result_of(uninterrupted)["weights"]


def test_interrupted_evaluation_is_made_up_for(data, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = {"do_eval": True, "eval_interval": 3, "iters": 4}
    assert train(config(data, whole, **options)) == 0
    original = Validation.evaluate

    def evaluate(validation, stop):
        stop.received = signal.SIGTERM
        return original(validation, stop)

    with monkeypatch.context() as patched:
        patched.setattr(Validation, "evaluate", evaluate)
        assert train(config(data, stopped, **options)) == 143
    assert checkpoints.newest_whole(stopped)[0].name == "iter_000003"
    assert train(config(data, stopped, **options), "auto") == 0
    logs = [parse_log(folder / "train.log") for folder in (whole, stopped)]
    assert repr(logs[0].evaluations) == repr(logs[1].evaluations), "repr, as nan is not nan"
    assert [record.iteration for record in logs[1].evaluations] == [3, 4]


def test_at_no_moment_is_the_last_checkpoint_gone(data, tmp_path, monkeypatch):
    """Evaluated iterations were saved again: renamed away, then replaced; a kill in between lost
    the only checkpoint of a run that keeps one."""
    save_dir, seen = tmp_path / "run", []

    def watched(change):
        def changed(*arguments, **options):
            result = change(*arguments, **options)
            folder, reasons = checkpoints.newest_whole(save_dir)
            assert not reasons
            seen.append(folder.name if folder else "")
            return result

        return changed

    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))
    options = {"do_eval": True, "eval_interval": 1, "eval_images": 1, "keep": 1, "iters": 2}
    assert train(config(data, save_dir, **options)) == 0
    assert train(config(data, save_dir, **options), "auto") == 0
    assert seen == sorted(seen)
    assert seen[-1] == "iter_000002"


def test_full_disk_stops_with_the_last_checkpoint_whole(data, tmp_path, monkeypatch):
    """A limit on the size of files stands in for the full disk; Python reports both as OSError."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    AtIteration(
        monkeypatch, 3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    )
    try:
        with pytest.raises(TrainingError, match=r"File too large; the last checkpoint is .*000002"):
            train(config(data, tmp_path / "run"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder, reasons = checkpoints.newest_whole(tmp_path / "run")
    assert (folder.name, reasons) == ("iter_000002", [])
