"""Starting or resuming a training run."""

from __future__ import annotations

from pathlib import Path

from factseg_paddle.config import ConfigError, make_config
from factseg_paddle.config_schema import Config
from factseg_paddle.engine import checkpoint as checkpoints
from factseg_paddle.engine.build import select_device
from factseg_paddle.engine.parallel import Processes
from factseg_paddle.engine.trainer import Trainer
from factseg_paddle.io import CheckpointError

AUTO = "auto"


def train(config: Config, resume: str | None = None) -> int:
    """Train as configured.

    Args:
        config: the resolved configuration.
        resume: None for a new run, "auto" for the newest whole checkpoint of `train.save_dir` (a
            new run where it has none), or a checkpoint folder.

    Returns:
        0, or 130 or 143 where it was told to stop and wrote a checkpoint.

    Raises:
        ConfigError, DataError, CheckpointError, DeviceError, ValueError, OSError: it can't start.
        TrainingError: it had to stop.
    """
    save_dir = Path(config.train.save_dir)
    select_device(config.device)
    processes = Processes.join()
    folder = find_checkpoint(save_dir, resume)
    return Trainer(config, save_dir, processes, folder).run()


def find_checkpoint(save_dir: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from, None for a new run.

    Raises:
        CheckpointError: there is none where one is named, or the folder holds a run that a new one
            would overwrite.
    """
    if resume == AUTO:
        return checkpoints.newest_whole(save_dir)[0]
    if resume is not None:
        return Path(resume)
    if checkpoints.checkpoints(save_dir):
        raise CheckpointError(
            f"{save_dir} holds a run already; go on with --resume auto, or give another --save_dir"
        )
    return None


def config_of_checkpoint(folder: Path) -> Config:
    """The configuration that a checkpoint's run had, with the folder as it lies now.

    Raises:
        CheckpointError: it is no checkpoint, or damaged.
        ConfigError: this program knows other keys.
    """
    state = checkpoints.read_state(folder)
    values = dict(state.config)
    try:
        values["train"] = values["train"] | {"save_dir": str(folder.resolve().parent)}
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{folder}: its configuration has no section train") from error
    return make_config(values, str(folder))
