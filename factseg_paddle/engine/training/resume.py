"""Which checkpoint a run goes on from, and whether it is this run's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from factseg_paddle.config.loading import ConfigError, make_config
from factseg_paddle.config.same_run import differences
from factseg_paddle.config.schema import Config
from factseg_paddle.engine.run_files import checkpoint_folder
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.checkpoint import TrainState
from factseg_paddle.engine.training.step import Learner
from factseg_paddle.io import CheckpointError

AUTO = "auto"


def find_checkpoint(save_dir: Path, resume: str | None) -> tuple[Path | None, list[str]]:
    """Return the checkpoint to go on from, None for a new run, and why newer ones were passed over.

    Args:
        save_dir: folder of the run.
        resume: None for a new run, AUTO for the newest whole checkpoint of `save_dir` (a new run
            where it has none), or a checkpoint folder, or a run's folder for its newest.

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
    """Return the newest whole checkpoint, and why newer ones were passed over."""
    folder, reasons = checkpoints.newest_whole(save_dir)
    return folder, [f"passed over: {reason}" for reason in reasons]


def config_of_checkpoint(folder: Path) -> Config:
    """Return the configuration that a checkpoint's run had, with the folder as it lies now.

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


def restore_run(
    folder: Path, save_dir: Path, config: Config, fresh: TrainState, learner: Learner
) -> tuple[TrainState, list[str]]:
    """Bring network, optimizer and scaler to where a checkpoint's run stood.

    Args:
        folder: the checkpoint.
        save_dir: folder of the run that goes on.
        config: of that run.
        fresh: what a new run would begin with.
        learner: is changed in place.

    Returns:
        Where the run stands, with the configuration and the processes of `fresh`, since intervals
        and places may have changed; and what to say.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another run.
    """
    state = checkpoints.load_checkpoint(folder, learner.network, learner.optimizer)
    check_same_run(state, config, fresh.samples)
    notes = [f"going on after iteration {state.iteration} from {folder}"]
    if state.scaler:
        learner.scaler.load_state_dict(state.scaler)
    elif learner.level:
        notes.append("the checkpoint is of a run in float32: the loss scale starts anew")
    if state.processes != fresh.processes:
        notes.append(
            f"{state.processes} processes trained so far, now {fresh.processes}: SOM chooses among "
            "other pixels"
        )
    best = state.best
    is_here = best is None or best.iteration == state.iteration
    if not is_here and not checkpoint_folder(save_dir, best.iteration).is_dir():
        # it was pruned, or lies with another run
        notes.append(
            f"the best model so far, of iteration {best.iteration}, is not in {save_dir}: the best "
            "one is looked for anew"
        )
        best = None
    return replace(state, best=best, config=fresh.config, processes=fresh.processes), notes


def check_same_run(state: TrainState, config: Config, samples: int) -> None:
    """Refuse to go on with a run that was another one.

    A key that an older program did not know had its default.

    Args:
        state: of the checkpoint.
        config: of the run that would go on.
        samples: patches of its training set.

    Raises:
        CheckpointError: the keys that differ, with both values.
        ConfigError: this program does not know the checkpoint's keys.
    """
    then = make_config(state.config, "the configuration in the checkpoint")
    differing = differences(then, config)
    if state.samples != samples:
        differing.append(f"the data had {state.samples} patches, have {samples}")
    if differing:
        raise CheckpointError(
            f"the checkpoint is of another run ({'; '.join(differing)}); set these as they were, "
            "or start a new run with model.weights"
        )
