"""The command that trains: its messages, and several processes."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from factseg_paddle.config.data_section import Sample
from factseg_paddle.config.loading import make_config
from factseg_paddle.data.synthetic.sample import paint_sample
from factseg_paddle.data.synthetic.scenes import make_sample_dataset
from factseg_paddle.engine.build import build_model
from factseg_paddle.engine.logs.format import parse_log
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.signals import StopSignals
from factseg_paddle.engine.training.start import build_run
from factseg_paddle.engine.training.validation import Validation
from factseg_paddle.engine.weights import load_weights
from tests.factseg_paddle.engine.training.runs import (
    FACTSEG,
    command,
    config,
    finished,
    started,
    values,
)
from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs


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
