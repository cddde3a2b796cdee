"""Starting or resuming a training run."""

from __future__ import annotations

from pathlib import Path

from factseg_paddle.config.schema import Config
from factseg_paddle.data.synthetic.sample import paint_configured_sample
from factseg_paddle.engine.build import select_device
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.resume import find_checkpoint
from factseg_paddle.engine.training.trainer import Trainer


def prepare(config: Config, resume: str | None = None) -> Trainer:
    """Open and build all that a run needs.

    Args:
        config: the resolved configuration.
        resume: None for a new run, "auto" for the newest whole checkpoint of `train.save_dir` (a
            new run where it has none), or a checkpoint folder, or a run's folder for its newest.

    Raises:
        ConfigError, DataError, CheckpointError, DeviceError, ValueError, OSError: it can't start.
    """
    save_dir = Path(config.train.save_dir)
    select_device(config.device)
    processes = Processes.join()
    if processes.count > 1 and config.device and ":" in config.device:
        raise ValueError(f"device {config.device} would be that of all processes; give gpu")
    folder, notes = find_checkpoint(save_dir, resume)
    paint_configured_sample(config.data)
    return Trainer(config, save_dir, processes, folder, notes)


def train(config: Config, resume: str | None = None) -> int:
    """Prepare and run; see `prepare` and `Trainer.run`."""
    return prepare(config, resume).run()
