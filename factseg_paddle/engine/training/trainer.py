"""The training loop: what happens in an iteration, and what happens now and then.

A run goes on exactly where a checkpoint left it: batches, learning rate and what is drawn at random
depend on the seed and the number of the iteration alone. On a CPU it ends with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import paddle

from factseg_paddle.config.loading import save_config
from factseg_paddle.config.schema import Config
from factseg_paddle.data.pairs import DataError
from factseg_paddle.engine.logs.format import TrainLine
from factseg_paddle.engine.run_files import CONFIG_FILE, checkpoint_folder
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.checkpoint import Best, TrainState
from factseg_paddle.engine.training.clock import Clock
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.reporter import Reporter
from factseg_paddle.engine.training.signals import StopSignals
from factseg_paddle.engine.training.step import Learner, StepResult, TrainingError, step_seed
from factseg_paddle.engine.training.validation import InterruptedEvaluationError, Validation
from factseg_paddle.losses import set_step

STOPPING = (DataError, MemoryError, OSError, RuntimeError, SystemError, ValueError)
"""What data, disk, device and Paddle raise in the middle of a run; `TrainingError` is one of it."""


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """All that a training run works with; `start.prepare` builds it.

    Attributes:
        config: the resolved configuration.
        save_dir: folder of the run, which exists.
        processes: this process among those of data parallel training.
        learner: network, loss and optimizer.
        step: one training step on them.
        load_batches: begins to load those of this process, from the iteration of `state` on; what
            it returns is to be closed.
        epoch_length: iterations of an epoch.
        validation: None where a run does without.
        reporter: log and records.
        state: where the run stands.
        has_checkpoint: whether `save_dir` has a checkpoint of that iteration.
        notes: what to say first.
    """

    config: Config
    save_dir: Path
    processes: Processes
    learner: Learner
    step: Callable[[paddle.Tensor, paddle.Tensor], StepResult]
    load_batches: Callable[[], Generator[tuple[paddle.Tensor, paddle.Tensor], None, None]]
    epoch_length: int
    validation: Validation | None
    reporter: Reporter
    state: TrainState
    has_checkpoint: bool
    notes: Sequence[str]


class Trainer:
    """Runs a training run.

    Args:
        run: its parts.
    """

    def __init__(self, run: TrainingRun) -> None:
        self._config, self._save_dir, self._processes = run.config, run.save_dir, run.processes
        self._learner, self._step = run.learner, run.step
        self._load_batches, self._epoch_length = run.load_batches, run.epoch_length
        self._validation = run.validation
        self._reporter, self._state = run.reporter, run.state
        self._has_checkpoint, self._notes = run.has_checkpoint, list(run.notes)

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
                self._reporter.log(f"told to stop in the evaluation of {self._state.iteration}")
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
            self._reporter.log(f"nothing to do: all {settings.iters} iterations are done")
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
            paddle.seed(step_seed(self._config.seed, self._state.iteration, self._processes.rank))
            set_step(self._learner.loss, self._state.iteration + 1)
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
                self._reporter.log(f"told to stop after iteration {self._state.iteration}")
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
        self._reporter.log("\n".join(self._notes))
        is_new = self._state.iteration == 0
        if is_new and self._validation:
            self._reporter.log(self._validation.rehearse(stop))
            self._show_picture(0)
        if not self._has_checkpoint:
            self._save()
        if not is_new and self._owes_evaluation():
            self._evaluate(stop)

    def _is_due(self, interval: int) -> bool:
        return interval > 0 and self._state.iteration % interval == 0

    def _owes_evaluation(self) -> bool:
        """Return whether an evaluation belongs to this iteration that was not made yet."""
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
            loss_scale=result.loss_scale if self._learner.level else None,
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
        self._processes.share_buffers(self._learner.network)
        losses = np.array(self._state.losses) if self._state.losses else np.zeros(0)
        if losses.size:
            losses = self._processes.total(losses) / self._processes.count
        if not self._processes.is_first:
            return
        scaler = checkpoints.plain_scaler(self._learner.scaler.state_dict())
        state = replace(self._state, losses=losses.tolist(), scaler=scaler)
        checkpoints.save_checkpoint(
            self._save_dir, self._learner.network, self._learner.optimizer, state
        )
        self._tidy()

    def _tidy(self) -> None:
        self._link_best()
        checkpoints.prune(self._save_dir, self._config.train.keep, self._state.best)

    def _folder(self) -> Path:
        """Return the checkpoint of this iteration."""
        return checkpoint_folder(self._save_dir, self._state.iteration)

    def _link_best(self) -> None:
        best = self._state.best
        if self._can_link:
            folder = best and checkpoint_folder(self._save_dir, best.iteration)
            checkpoints.point_at_best(self._save_dir, folder)

    def _way_back(self) -> str:
        folders = checkpoints.checkpoints(self._save_dir)
        if not folders:
            return "there is no checkpoint yet"
        return f"the last checkpoint is {folders[0]}"
