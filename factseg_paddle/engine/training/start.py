"""Starting or resuming a training run: everything is opened, built and checked before it begins."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import paddle
from paddle import nn

from factseg_paddle.config.loading import as_plain
from factseg_paddle.config.schema import Config
from factseg_paddle.data.dataset import PatchDataset, PatchSampler
from factseg_paddle.data.loader import load_batches
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.pairs import DataError
from factseg_paddle.data.synthetic.sample import paint_configured_sample
from factseg_paddle.engine.build import build_loss, build_model, build_optimizer, select_device
from factseg_paddle.engine.run_files import checkpoint_folder
from factseg_paddle.engine.schedule import Schedule
from factseg_paddle.engine.training.checkpoint import TrainState
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.reporter import Reporter
from factseg_paddle.engine.training.resume import find_checkpoint, restore_run
from factseg_paddle.engine.training.step import Learner, TrainStep, build_scaler, usable_level
from factseg_paddle.engine.training.trainer import Trainer, TrainingRun
from factseg_paddle.engine.training.validation import Validation
from factseg_paddle.engine.weights import load_backbone, load_weights
from factseg_paddle.io import CheckpointError


def train(config: Config, resume: str | None = None) -> int:
    """Prepare and run; see `prepare` and `Trainer.run`."""
    return prepare(config, resume).run()


def prepare(config: Config, resume: str | None = None) -> Trainer:
    """Open and build all that a run needs, in this process of those that a launcher started.

    Args:
        config: the resolved configuration.
        resume: None for a new run, "auto" for the newest whole checkpoint of `train.save_dir` (a
            new run where it has none), or a checkpoint folder, or a run's folder for its newest.

    Raises:
        ConfigError, DataError, CheckpointError, DeviceError, ValueError, OSError: it can't start.
    """
    select_device(config.device)
    return Trainer(build_run(config, Processes.join(), resume))


def build_run(config: Config, processes: Processes, resume: str | None = None) -> TrainingRun:
    """Build the parts of a run on the current device; arguments and errors as `prepare`.

    What the configuration alone has wrong is found first; the folder of the run is made last.
    """
    _check_processes(config, processes)
    save_dir = Path(config.train.save_dir)
    folder, notes = find_checkpoint(save_dir, resume)
    paddle.seed(config.seed)
    network = build_model(config.model, config.data.num_classes)
    loss = build_loss(config.loss, config.data.ignore_index, network)
    share = processes.share_of(config.train.batch_size)
    paint_configured_sample(config.data)
    dataset = _open_patches(config)
    if folder is None:
        notes.append(_load_start(network, config))
    learner, precision = _build_learner(network, loss, config)
    state = TrainState(0, len(dataset), as_plain(config), processes.count)
    if folder is not None:
        state, more = restore_run(folder, save_dir, config, state, learner)
        notes += more
    has_checkpoint = _is_checkpoint_of(folder, checkpoint_folder(save_dir, state.iteration))
    sampler = PatchSampler(
        len(dataset),
        batch_size=share,
        seed=config.seed,
        rank=processes.rank,
        ranks=processes.count,
        start=state.iteration,
    )
    validation, more = _open_validation(config, learner, processes)
    epoch = sampler.batches_per_epoch
    notes += [*more, precision, f"{len(dataset)} patches, {epoch} batches an epoch"]
    save_dir.mkdir(parents=True, exist_ok=True)
    return TrainingRun(
        config=config,
        save_dir=save_dir,
        processes=processes,
        learner=learner,
        step=_build_step(learner, processes, config.optimizer.clip_norm),
        load_batches=partial(
            load_batches,
            dataset,
            sampler,
            num_workers=config.train.num_workers,
            to_tensor=paddle.to_tensor,
        ),
        epoch_length=epoch,
        validation=validation,
        reporter=Reporter(config, save_dir, state.iteration, processes),
        state=state,
        has_checkpoint=has_checkpoint,
        notes=notes,
    )


def _check_processes(config: Config, processes: Processes) -> None:
    if processes.count == 1:
        return
    if config.device and ":" in config.device:
        raise ValueError(f"device {config.device} would be that of all processes; give gpu")
    if config.model.gradient_checkpointing:
        raise ValueError(
            "model.gradient_checkpointing does not work with several processes in Paddle; leave "
            "it out"
        )


def _open_patches(config: Config) -> PatchDataset:
    return PatchDataset(
        open_pairs(config.data, "train"),
        patch_size=config.data.patch_size,
        stride=config.data.stride,
        transforms=config.data.transforms,
        seed=config.seed,
    )


def _load_start(network: nn.Layer, config: Config) -> str:
    """Load what a new run starts from, and say it."""
    if config.model.weights:
        return str(load_weights(network, config.model.weights))
    if config.model.pretrained:
        return str(load_backbone(network, config.model.pretrained))
    return "the network starts from random weights"


def _build_learner(network: nn.Layer, loss: nn.Layer, config: Config) -> tuple[Learner, str]:
    """Build what teaches the network, and say in which precision."""
    level, precision = usable_level(config.train.amp.level)
    schedule = Schedule(config.optimizer, config.train.iters)
    optimizer = build_optimizer(network, config.optimizer, schedule)
    if level == "O2":
        network, optimizer = paddle.amp.decorate(
            network, optimizer, level="O2", master_weight=True, master_grad=True
        )
    scaler = build_scaler(config.train.amp, level)
    return Learner(network, loss, optimizer, schedule, scaler, level), precision


def _build_step(learner: Learner, processes: Processes, clip_norm: float | None) -> TrainStep:
    return TrainStep(
        processes.wrap(learner.network),
        learner.loss,
        learner.optimizer,
        learner.schedule,
        scaler=learner.scaler,
        level=learner.level,
        clip_norm=clip_norm,
    )


def _is_checkpoint_of(resumed: Path | None, folder: Path) -> bool:
    """Return whether the run is resumed from the very checkpoint that it would write first."""
    if resumed is None or resumed.resolve() == folder.resolve():
        return resumed is not None
    if folder.exists():
        raise CheckpointError(
            f"{folder} lies where the run from {resumed} would begin; give another --save_dir"
        )
    return False


def _open_validation(
    config: Config, learner: Learner, processes: Processes
) -> tuple[Validation | None, list[str]]:
    """Open the validation data; None where a run can do without them, and why."""
    try:
        return Validation(config, learner.network, processes, learner.level), []
    except DataError as error:
        if config.train.do_eval:
            raise
        return None, [f"no evaluation: {error}".splitlines()[0]]
