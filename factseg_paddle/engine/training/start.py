"""Starting or resuming a training run."""

from __future__ import annotations

from pathlib import Path

from factseg_paddle.config.loading import ConfigError, make_config
from factseg_paddle.config.schema import Config
from factseg_paddle.data.synthetic.sample import paint_configured_sample
from factseg_paddle.engine.build import select_device
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.trainer import Trainer
from factseg_paddle.io import CheckpointError

AUTO = "auto"


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


def find_checkpoint(save_dir: Path, resume: str | None) -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from, None for a new run; and why newer ones were passed over.

    Raises:
        CheckpointError: there is none where one is named, or the folder holds a run that this one
            would overwrite.
    """
    if resume == AUTO:
        return newest_of(save_dir)
    folders = checkpoints.checkpoints(save_dir)
    if resume is None:
        if folders:
            raise CheckpointError(
                f"{save_dir} holds a run already; go on with --resume auto, or give another "
                "--save_dir"
            )
        return None, []
    named = Path(resume).resolve()
    if not named.is_dir():
        raise CheckpointError(f"{named} does not exist; give a checkpoint folder or auto")
    folder, notes = newest_of(named) if checkpoints.checkpoints(named) else (named, [])
    if folders and folder.parent != save_dir.resolve():
        raise CheckpointError(
            f"{save_dir} holds a run already, and {folder} is of another one; give another "
            "--save_dir"
        )
    return folder, notes


def newest_of(save_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, and why newer ones were passed over."""
    folder, reasons = checkpoints.newest_whole(save_dir)
    return folder, [f"passed over: {reason}" for reason in reasons]


def config_of_checkpoint(folder: Path) -> Config:
    """The configuration that a checkpoint's run had, with the folder as it lies now.

    Raises:
        CheckpointError: it is no checkpoint, or damaged.
        ConfigError: this program knows other keys.
    """
    if checkpoints.checkpoints(folder):
        folder = newest_of(folder)[0]
    state = checkpoints.read_state(folder)
    values = dict(state.config)
    try:
        values["train"] = values["train"] | {"save_dir": str(folder.resolve().parent)}
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{folder}: its configuration has no section train") from error
    return make_config(values, str(folder))
