"""The training loop: what happens in an iteration, and what happens now and then.

A run goes on exactly where a checkpoint left it: batches, learning rate and what is drawn at random
depend on the seed and the number of the iteration alone. On a CPU it ends with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import paddle

from factseg_paddle.config.loading import as_plain, save_config
from factseg_paddle.config.schema import Config
from factseg_paddle.data.dataset import PatchDataset, PatchSampler
from factseg_paddle.data.loader import load_batches
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.pairs import DataError
from factseg_paddle.engine.build import build_loss, build_model, build_optimizer
from factseg_paddle.engine.logs.format import TrainLine
from factseg_paddle.engine.run_files import CONFIG_FILE, checkpoint_folder
from factseg_paddle.engine.schedule import Schedule
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.checkpoint import Best, TrainState
from factseg_paddle.engine.training.clock import Clock
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.reporter import Reporter
from factseg_paddle.engine.training.resume import check_same_run
from factseg_paddle.engine.training.signals import StopSignals
from factseg_paddle.engine.training.step import (
    StepResult,
    TrainingError,
    TrainStep,
    build_scaler,
    usable_level,
)
from factseg_paddle.engine.training.validation import InterruptedEvaluationError, Validation
from factseg_paddle.engine.weights import load_backbone, load_weights
from factseg_paddle.io import CheckpointError
from factseg_paddle.losses import set_step

STOPPING = (DataError, MemoryError, OSError, RuntimeError, SystemError, ValueError)
"""What data, disk, device and Paddle raise in the middle of a run; `TrainingError` is one of it."""


class Trainer:
    """A training run.

    Args:
        config: the resolved configuration.
        save_dir: folder of the run; made where it does not exist.
        processes: this process among those of data parallel training.
        resume: checkpoint folder to go on from; None for a new run.
        notes: what to say first.

    Raises:
        DataError: the data are absent or unusable.
        CheckpointError: weights or the checkpoint do not fit.
        ValueError: the batch can't be divided among the processes, or they can't do what is asked.
        OSError: the folder can't be written.
    """

    def __init__(
        self,
        config: Config,
        save_dir: Path,
        processes: Processes,
        resume: Path | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        if processes.count > 1 and config.model.gradient_checkpointing:
            raise ValueError(
                "model.gradient_checkpointing does not work with several processes in Paddle; "
                "leave it out"
            )
        self._config, self._save_dir, self._processes = config, save_dir, processes
        self._notes = list(notes)
        dataset = _open_patches(config)
        paddle.seed(config.seed)
        self._network = build_model(config.model, config.data.num_classes)
        if resume is None:
            self._notes += _load_start(self._network, config)
        self._level, note = usable_level(config.train.amp.level)
        schedule = Schedule(config.optimizer, config.train.iters)
        self._optimizer = build_optimizer(self._network, config.optimizer, schedule)
        if self._level == "O2":
            self._network, self._optimizer = paddle.amp.decorate(
                self._network, self._optimizer, level="O2", master_weight=True, master_grad=True
            )
        self._scaler = build_scaler(config.train.amp, self._level)
        self._state = TrainState(0, len(dataset), as_plain(config), processes.count)
        self._has_checkpoint = False
        if resume is not None:
            self._state = self._restored(resume)
            self._has_checkpoint = resume.resolve() == self._folder().resolve()
            if not self._has_checkpoint and self._folder().exists():
                raise CheckpointError(
                    f"{self._folder()} lies where the run from {resume} would begin; give another "
                    "--save_dir"
                )
        self._loss = build_loss(config.loss, config.data.ignore_index, self._network)
        self._step = TrainStep(
            processes.wrap(self._network),
            self._loss,
            self._optimizer,
            schedule,
            scaler=self._scaler,
            level=self._level,
            clip_norm=config.optimizer.clip_norm,
        )
        sampler = PatchSampler(
            len(dataset),
            batch_size=processes.share_of(config.train.batch_size),
            seed=config.seed,
            rank=processes.rank,
            ranks=processes.count,
            start=self._state.iteration,
        )
        self._epoch_length = sampler.batches_per_epoch
        self._load_batches = partial(
            load_batches,
            dataset,
            sampler,
            num_workers=config.train.num_workers,
            to_tensor=paddle.to_tensor,
        )
        self._validation = self._open_validation()
        self._notes += [note, f"{len(dataset)} patches, {self._epoch_length} batches an epoch"]
        save_dir.mkdir(parents=True, exist_ok=True)
        self._reporter = Reporter(config, save_dir, self._state.iteration, processes)

    def run(self) -> int:
        """Train to the end, or until told to stop.

        Returns:
            0, or 143 after SIGTERM and 130 after Ctrl-C, with a checkpoint.

        Raises:
            TrainingError: it can't go on; the message names the last checkpoint.
        """
        with self._reporter, StopSignals() as stop:
            try:
                return self._run(stop)
            except InterruptedEvaluationError:
                self._reporter.say(f"told to stop in the evaluation of {self._state.iteration}")
                return 128 + stop.received
            except STOPPING as error:
                message = f"after iteration {self._state.iteration}: {error}; {self._way_back()}"
                with suppress(OSError):  # the disk may be full; the caller shows it anyhow
                    self._reporter.fail(message)
                raise TrainingError(message) from error

    def _run(self, stop: StopSignals) -> int:
        settings = self._config.train
        self._begin(stop)
        if self._state.iteration >= settings.iters:
            self._reporter.say(f"nothing to do: all {settings.iters} iterations are done")
            return 0
        # Closed whatever happens, or reading would go on while an exception is shown.
        with closing(self._load_batches()) as batches:
            return self._train(batches, stop)

    def _train(
        self, batches: Iterable[tuple[paddle.Tensor, paddle.Tensor]], stop: StopSignals
    ) -> int:
        settings = self._config.train
        clock = Clock(settings.batch_size)
        for images, labels in batches:
            clock.batch_is_read()
            # Whatever the network draws depends on the iteration, not on what was drawn before.
            paddle.seed(self._config.seed + self._state.iteration)
            set_step(self._loss, self._state.iteration + 1)
            result = self._step(images, labels)
            clock.batch_is_done()
            self._note(result)
            is_last = self._state.iteration == settings.iters
            if is_last or self._state.iteration % settings.log_iters == 0:
                self._write_line(result, clock)
            signal = self._processes.largest(stop.received)
            if is_last or signal or self._is_due(settings.save_interval) or self._owes_evaluation():
                self._save()
            if signal:
                self._reporter.say(f"told to stop after iteration {self._state.iteration}")
                return 128 + signal
            if self._owes_evaluation():
                self._evaluate(stop)
            if is_last:
                break
            clock.next_batch()
        return 0

    def _begin(self, stop: StopSignals) -> None:
        """Do once at the start what would otherwise fail after hours."""
        if self._processes.is_first:
            checkpoints.remove_leftovers(self._save_dir)
            for folder in checkpoints.set_aside(self._save_dir, self._state.iteration):
                self._notes.append(f"{folder} is of an attempt that is given up here")
            save_config(self._config, self._save_dir / CONFIG_FILE)
            self._can_link = checkpoints.can_link(self._save_dir)
            if not self._can_link:
                self._notes.append("no links can be made here: best_model will be missing")
            self._link_best()
        self._reporter.say("\n".join(self._notes))
        is_new = self._state.iteration == 0
        if is_new and self._validation:
            self._reporter.say(self._validation.rehearse(stop))
            self._show_picture(0)
        if not self._has_checkpoint:
            self._save()
        if not is_new and self._owes_evaluation():
            self._evaluate(stop)

    def _is_due(self, interval: int) -> bool:
        return interval > 0 and self._state.iteration % interval == 0

    def _owes_evaluation(self) -> bool:
        """Whether an evaluation belongs to this iteration that was not made yet."""
        settings = self._config.train
        is_due = self._is_due(settings.eval_interval) or self._state.iteration == settings.iters
        return settings.do_eval and is_due and self._state.evaluated != self._state.iteration

    def _note(self, result: StepResult) -> None:
        self._state = replace(
            self._state,
            iteration=self._state.iteration + 1,
            losses=[*self._state.losses, result.loss],
            skipped=self._state.skipped + result.skipped,
        )

    def _write_line(self, result: StepResult, clock: Clock) -> None:
        iters = self._config.train.iters
        line = TrainLine(
            epoch=(self._state.iteration - 1) // self._epoch_length + 1,
            iteration=self._state.iteration,
            iters=iters,
            loss=self._processes.mean(checkpoints.mean_of(self._state.losses)),
            lr=result.learning_rate,
            batch_cost=clock.batch_cost,
            reader_cost=clock.reader_cost,
            ips=clock.samples_per_second,
            eta=int((iters - self._state.iteration) * clock.batch_cost),
            grad_norm=result.gradient_norm,
            loss_scale=result.loss_scale if self._level else None,
            skipped=self._state.skipped,
        )
        self._reporter.interval(line)
        self._state = replace(self._state, losses=[])
        clock.restart()

    def _evaluate(self, stop: StopSignals) -> None:
        """Evaluate, and write what was found into the checkpoint that there is already."""
        iteration, best = self._state.iteration, self._state.best
        metrics = self._validation.evaluate(stop)
        if math.isfinite(metrics.mean_iou) and (best is None or metrics.mean_iou > best.mean_iou):
            best = Best(iteration, metrics.mean_iou)
        self._reporter.evaluation(iteration, metrics, best)
        self._show_picture(iteration)
        self._state = replace(self._state, best=best, evaluated=iteration)
        if self._processes.is_first:
            checkpoints.save_evaluation(self._folder(), best, iteration)
            self._tidy()

    def _show_picture(self, iteration: int) -> None:
        if self._reporter.wants_pictures:
            self._reporter.picture(iteration, self._validation.picture())

    def _save(self) -> None:
        self._processes.share_buffers(self._network)
        losses = np.array(self._state.losses) if self._state.losses else np.zeros(0)
        if losses.size:
            losses = self._processes.total(losses) / self._processes.count
        if not self._processes.is_first:
            return
        scaler = checkpoints.plain_scaler(self._scaler.state_dict())
        state = replace(self._state, losses=losses.tolist(), scaler=scaler)
        checkpoints.save_checkpoint(self._save_dir, self._network, self._optimizer, state)
        self._tidy()

    def _tidy(self) -> None:
        self._link_best()
        checkpoints.prune(self._save_dir, self._config.train.keep, self._state.best)

    def _folder(self) -> Path:
        """The checkpoint of this iteration."""
        return checkpoint_folder(self._save_dir, self._state.iteration)

    def _link_best(self) -> None:
        best = self._state.best
        if self._can_link:
            folder = best and checkpoint_folder(self._save_dir, best.iteration)
            checkpoints.point_at_best(self._save_dir, folder)

    def _restored(self, folder: Path) -> TrainState:
        """Network, optimizer and scaler as they were; where the run stood."""
        state = checkpoints.load_checkpoint(folder, self._network, self._optimizer)
        check_same_run(state, self._config, self._state.samples)
        self._notes.append(f"going on after iteration {state.iteration} from {folder}")
        if state.scaler:
            self._scaler.load_state_dict(state.scaler)
        elif self._level:
            self._notes.append("the checkpoint is of a run in float32: the loss scale starts anew")
        if state.processes != self._processes.count:
            self._notes.append(
                f"{state.processes} processes trained so far, now {self._processes.count}: SOM "
                "chooses among other pixels"
            )
        # Intervals and places may have changed; the processes are these.
        return replace(
            state,
            best=self._best_at_hand(state),
            config=self._state.config,
            processes=self._processes.count,
        )

    def _best_at_hand(self, state: TrainState) -> Best | None:
        """The best evaluation so far, unless its model was pruned or lies with another run."""
        best = state.best
        if best is None or best.iteration == state.iteration:
            return best
        if checkpoint_folder(self._save_dir, best.iteration).is_dir():
            return best
        self._notes.append(
            f"the best model so far, of iteration {best.iteration}, is not in {self._save_dir}: "
            "the best one is looked for anew"
        )
        return None

    def _open_validation(self) -> Validation | None:
        """None where a run can do without; a note says why."""
        try:
            return Validation(self._config, self._network, self._processes, self._level)
        except DataError as error:
            if self._config.train.do_eval:
                raise
            self._notes.append(f"no evaluation: {error}".splitlines()[0])
            return None

    def _way_back(self) -> str:
        folders = checkpoints.checkpoints(self._save_dir)
        if not folders:
            return "there is no checkpoint yet"
        return f"the last checkpoint is {folders[0]}"


def _open_patches(config: Config) -> PatchDataset:
    return PatchDataset(
        open_pairs(config.data, "train"),
        patch_size=config.data.patch_size,
        stride=config.data.stride,
        transforms=config.data.transforms,
        seed=config.seed,
    )


def _load_start(network: paddle.nn.Layer, config: Config) -> list[str]:
    """Load what a new run starts from; what to say about it."""
    if config.model.weights:
        return [str(load_weights(network, config.model.weights))]
    if config.model.pretrained:
        return [str(load_backbone(network, config.model.pretrained))]
    return ["the network starts from random weights"]
