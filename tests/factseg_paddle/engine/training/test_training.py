"""Whole training runs: what they leave, and that they end with the same bits after any stop.

Painted scenes of 128 pixels, a few iterations each, of a network that is small; FactSeg where a
test is about the network too, and in the slow form of kill and resume.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from factseg_paddle.config.data_section import Sample
from factseg_paddle.config.loading import load_config, make_config
from factseg_paddle.data.loader_worker import LoaderError
from factseg_paddle.data.synthetic.sample import paint_sample
from factseg_paddle.data.synthetic.scenes import make_sample_dataset
from factseg_paddle.engine.build import build_model
from factseg_paddle.engine.logs.format import parse_log
from factseg_paddle.engine.run_files import checkpoint_folder
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.signals import StopSignals
from factseg_paddle.engine.training.start import build_run, train
from factseg_paddle.engine.training.step import StepResult, TrainingError, TrainStep, step_seed
from factseg_paddle.engine.training.trainer import Trainer
from factseg_paddle.engine.training.validation import Validation
from factseg_paddle.engine.weights import load_weights
from factseg_paddle.files import sha256_of_file
from factseg_paddle.io import CheckpointError, load_plain
from factseg_paddle.metrics import compute_metrics
from tests.loader_workers import record_workers, worker_processes
from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs

ITERS = 6
SMALL = {"model": {"name": "unet_bilinear_w32"}, "loss": {"kind": "cross_entropy"}}
FACTSEG = {"model": {"name": "factseg_resnet18"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "sample"
    make_sample_dataset(folder, images=4, size=128, seed=0)
    return folder


def values(data: Path, save_dir: Path, network=SMALL, **train_section):
    """A configuration as plain values."""
    transforms = [{"name": name} for name in ("horizontal_flip", "rot90", "normalize")]
    return {
        "seed": 5,
        "device": "cpu",
        "data": {
            "dataset_root": str(data),
            "patch_size": 64,
            "stride": 64,
            "transforms": transforms,
        },
        **network,
        "train": {
            "iters": ITERS,
            "batch_size": 2,
            "num_workers": 0,
            "log_iters": 2,
            "save_interval": 2,
            "save_dir": str(save_dir),
        }
        | train_section,
        "eval": {"patch_size": 64, "stride": 64},
    }


def config(data: Path, save_dir: Path, network=SMALL, **train_section):
    return make_config(values(data, save_dir, network, **train_section), "test")


def command(data: Path, save_dir: Path, *arguments: str, network=SMALL) -> list[str]:
    """The command line that trains as `config` does."""
    import yaml

    path = save_dir.with_suffix(".yml")
    path.write_text(yaml.safe_dump(values(data, save_dir, network)))
    script = str(REPO / "scripts" / "train.py")
    return [sys.executable, script, "--config", str(path), *arguments]


def started(arguments: list[str], **options) -> subprocess.Popen:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(arguments, **streams | options)


def result_of(save_dir: Path) -> dict[str, object]:
    """Everything that has to be the same in the end, but for times."""
    folder = checkpoint_folder(save_dir, ITERS)
    log = parse_log(save_dir / "train.log")
    return {
        "weights": sha256_of_file(folder / "model.pdparams"),
        "optimizer": sha256_of_file(folder / "optimizer.pdopt"),
        "state": checkpoints.read_state(folder).losses,
        "log": [(t.epoch, t.iteration, t.loss, t.lr, t.grad_norm, t.skipped) for t in log.train],
        "evaluations": log.evaluations,
    }


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("run") / "uninterrupted"
    assert train(config(data, save_dir)) == 0
    return save_dir


@pytest.fixture(scope="module")
def uninterrupted_factseg(data, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("run") / "uninterrupted_factseg"
    assert train(config(data, save_dir, FACTSEG)) == 0
    return save_dir


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


class AtIteration:
    """Does something before a step; the step then goes on."""

    def __init__(self, monkeypatch, iteration, action):
        original, self.count = TrainStep.__call__, 0

        def call(step, images, labels):
            self.count += 1
            if self.count == iteration:
                action()
            return original(step, images, labels)

        monkeypatch.setattr(TrainStep, "__call__", call)


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


def test_resume_from_elsewhere_begins_with_a_checkpoint_of_its_own(data, tmp_path, uninterrupted):
    elsewhere, save_dir = uninterrupted / "iter_000004", tmp_path / "run"
    assert train(config(data, save_dir, do_eval=True, eval_interval=4), str(elsewhere)) == 0
    state = checkpoints.read_state(save_dir / "iter_000004")
    assert (state.iteration, state.evaluated) == (4, 4)
    assert checkpoints.read_state(elsewhere).evaluated == -1
    assert result_of(save_dir)["weights"] == result_of(uninterrupted)["weights"]


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


# The command line ----------------------------------------------------------------------------


def finished(arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **options)


def test_without_isaid_three_lines_say_what_is_missing_and_what_to_type(tmp_path):
    script = str(REPO / "scripts" / "train.py")
    done = finished(
        [sys.executable, script, "--amp", "--dataset_root", str(tmp_path / "isaid")],
        env=os.environ | {"OMP_NUM_THREADS": "2"},  # of which Paddle's import warns
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 3
    assert "isaid" in lines[0]
    assert "--config configs/quickstart.yml" in lines[-1]


def test_folder_of_another_run_is_not_overwritten(data, tmp_path, uninterrupted):
    done = finished(command(data, tmp_path / "x", "--save_dir", str(uninterrupted)))
    assert done.returncode == 2
    assert "holds a run already; go on with --resume auto" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_amp_on_a_cpu_says_that_it_goes_on_in_float32(data, tmp_path):
    done = finished(command(data, tmp_path / "run", "--amp", "--iters", "1"))
    assert done.returncode == 0, done.stderr
    assert "AMP O1 was asked for, but cpu has no float16: training in float32" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config", "absent.yml"], "absent.yml"),
        (["--opts", "train.itres=3"], "did you mean"),
        (["--resume", "nowhere"], "nowhere does not exist; give a checkpoint folder"),
        (["--device", "gpu:7"], "this Paddle sees"),
    ],
)
def test_bad_input_is_one_sentence(data, tmp_path, arguments, sentence):
    done = finished([*command(data, tmp_path / "run"), *arguments], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_two_processes_write_one_log(data, tmp_path):
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    launch += ["--log_dir", str(tmp_path / "launch")]
    save_dir = tmp_path / "run"
    images = tmp_path / "images"
    make_sample_dataset(images, images=12, size=64, seed=1)  # 3 to evaluate, by 2 processes
    options = ("--iters", "2", "--do_eval", "--dataset_root", str(images))
    arguments = command(data, save_dir, *options)[1:]
    done = finished([*launch, *arguments])
    assert done.returncode == 0, done.stdout + done.stderr
    log = parse_log(save_dir / "train.log")
    alone = config(images, save_dir, do_eval=True)
    network = build_model(alone.model, 16)
    load_weights(network, save_dir / "iter_000002")
    metrics = Validation(alone, network, Processes(), None).evaluate(StopSignals())
    np.testing.assert_allclose(log.evaluations[0].class_iou, metrics.class_iou, rtol=1e-6)
    assert [line.iteration for line in log.train] == [2]
    assert [record.iteration for record in log.evaluations] == [2]
    assert checkpoints.read_state(save_dir / "iter_000002").processes == 2


def test_launcher_that_is_told_to_stop_leaves_a_checkpoint(data, tmp_path):
    """It sends SIGTERM to its processes three times within a second."""
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    launch += ["--log_dir", str(tmp_path / "launch")]
    save_dir = tmp_path / "run"
    arguments = command(data, save_dir, "--opts", "train.iters=100000", "train.save_interval=0")
    process = started([*launch, *arguments[1:]])
    while "[TRAIN]" not in process.stdout.readline():
        assert process.poll() is None
    process.terminate()
    process.communicate()
    folder, reasons = checkpoints.newest_whole(save_dir)
    assert folder.name != "iter_000000"
    assert not reasons
    assert "told to stop after iteration" in (save_dir / "train.log").read_text()


def test_gradient_checkpointing_is_refused_for_several_processes(data, tmp_path):
    plain = values(data, tmp_path / "run", FACTSEG)
    plain["model"]["gradient_checkpointing"] = True
    with pytest.raises(ValueError, match="does not work with several processes"):
        build_run(make_config(plain, "test"), Processes(0, 2))


def test_a_second_opts_does_not_hide_the_first(data, tmp_path):
    options = ("--opts", "train.itres=3", "--opts", "train.iters=1", "seed=5")
    done = finished(command(data, tmp_path / "run", *options))
    assert done.returncode == 2
    assert "--opts train.itres=3: train.itres is not known" in done.stderr


def test_empty_folder_is_painted(tmp_path):
    (tmp_path / "sample").mkdir()
    paint_sample(tmp_path / "sample", Sample(images=2, size=64))
    assert (tmp_path / "sample" / "train").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def drawn(data, save_dir, *, seed: int, rank: int) -> np.ndarray:
    """What a network draws in each of four steps, [4, 8], in the process of that rank."""
    values_of_run = values(data, save_dir, iters=4, save_interval=0) | {"seed": seed}
    run = build_run(make_config(values_of_run, "test"), Processes(0, 1))
    found = []

    def step(*_):
        found.append(paddle.rand([8]).numpy())
        return StepResult(0.0, 0.1, 1.0, 1.0, skipped=False)

    def load_batches():
        yield from [(paddle.zeros([1]), paddle.zeros([1]))] * 4

    parts = {"processes": Processes(rank, 1), "step": step, "load_batches": load_batches}
    changed = replace(run, **parts, validation=None)
    assert Trainer(changed).run() == 0
    return np.stack(found)


def test_ranks_drew_the_same_dropout_masks_and_neighbouring_seeds_those_of_the_next_step(
    data, tmp_path
):
    keys = [(5, 0), (5, 1), (6, 0), (6, 1)]
    streams = [drawn(data, tmp_path / f"{s}_{r}", seed=s, rank=r) for s, r in keys]
    draws = np.concatenate(streams)
    assert len(np.unique(draws, axis=0)) == 16, "no two of the steps draw the same"
    np.testing.assert_array_equal(drawn(data, tmp_path / "again", seed=5, rank=1), streams[1])


def test_seeds_of_steps_differ_in_the_bits_that_paddles_generator_takes():
    """On a CPU it takes the lower 32 (3.3.1)."""
    seeds = [step_seed(s, i, r) for s in range(8) for i in range(50) for r in range(4)]
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)
