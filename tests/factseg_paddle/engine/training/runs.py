"""Small training runs: painted scenes of 128 pixels, a few iterations of a small network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from factseg_paddle.config.loading import make_config
from factseg_paddle.engine.logs.format import parse_log
from factseg_paddle.engine.run_files import checkpoint_folder
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.step import TrainStep
from factseg_paddle.files import sha256_of_file
from tests.paths import REPO

ITERS = 6
SMALL = {"model": {"name": "unet_bilinear_w32"}, "loss": {"kind": "cross_entropy"}}
FACTSEG = {"model": {"name": "factseg_resnet18"}}


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


def finished(arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **options)


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
