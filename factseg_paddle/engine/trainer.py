"""The training loop: what happens in an iteration, and what happens now and then.

A run goes on exactly where a checkpoint left it: batches, learning rate and what is drawn at random
depend on the seed and the number of the iteration alone. On a CPU it ends with the same bits.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import paddle

from factseg_paddle.config import as_plain, save_config
from factseg_paddle.config_schema import Config
from factseg_paddle.data.dataset import PatchDataset, PatchSampler
from factseg_paddle.data.pairs import DataError, ImagePairs, open_pairs
from factseg_paddle.engine import checkpoint as checkpoints
from factseg_paddle.engine.build import build_loss, build_model, build_optimizer
from factseg_paddle.engine.checkpoint import Best, TrainState
from factseg_paddle.engine.clock import Clock
from factseg_paddle.engine.loading import READER_DIED, Batches
from factseg_paddle.engine.log_format import TrainLine
from factseg_paddle.engine.parallel import Processes
from factseg_paddle.engine.reporting import Reporter
from factseg_paddle.engine.signals import StopSignals
from factseg_paddle.engine.step import (
    StepResult,
    TrainingError,
    TrainStep,
    build_scaler,
    usable_level,
)
from factseg_paddle.engine.validation import Validation
from factseg_paddle.engine.weights import load_backbone, load_weights

CONFIG_FILE = "config.yml"


class Trainer:
    """A training run.

    Args:
        config: the resolved configuration.
        save_dir: folder of the run; made where it does not exist.
        processes: this process among those of data parallel training.
        resume: checkpoint folder to go on from; None for a new run.

    Raises:
        DataError: the data are absent or unusable.
        CheckpointError: weights or the checkpoint do not fit.
        ValueError: the batch can't be divided among the processes.
        OSError: the folder can't be written.
    """

    def __init__(
        self, config: Config, save_dir: Path, processes: Processes, resume: Path | None = None
    ) -> None:
        self._config, self._save_dir, self._processes = config, save_dir, processes
        dataset = _open_patches(config)
        paddle.seed(config.seed)
        self._network = build_model(config.model, config.data.num_classes)
        notes = [] if resume else _load_start(self._network, config)
        self._level, note = usable_level(config.train.amp.level)
        self._optimizer = build_optimizer(self._network, config.optimizer, config.train.iters)
        if self._level == "O2":
            self._network, self._optimizer = paddle.amp.decorate(
                self._network, self._optimizer, level="O2", master_weight=True, master_grad=True
            )
        self._scaler = build_scaler(config.train.amp, self._level)
        state = TrainState(0, len(dataset), as_plain(config), processes.count)
        if resume:
            state = checkpoints.load_checkpoint(resume, self._network, self._optimizer)
            checkpoints.check_same_run(state, as_plain(config), len(dataset))
            self._scaler.load_state_dict(state.scaler)
            notes.append(f"going on after iteration {state.iteration} from {resume}")
        self._iteration, self._samples = state.iteration, len(dataset)
        self._losses, self._skipped, self._best = [*state.losses], state.skipped, state.best
        self._step = TrainStep(
            processes.wrap(self._network),
            build_loss(config.loss, config.data.ignore_index),
            self._optimizer,
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
            start=state.iteration,
        )
        self._epoch_length = sampler.batches_per_epoch
        self._batches = Batches(dataset, sampler, config.train.num_workers)
        self._validation, why_not = self._open_validation()
        save_dir.mkdir(parents=True, exist_ok=True)
        self._reporter = Reporter(config, save_dir, state.iteration, active=processes.is_first)
        notes += [note, *why_not, f"{len(dataset)} patches, {self._epoch_length} batches an epoch"]
        self._reporter.say("\n".join(notes))

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
            except (TrainingError, DataError, OSError, SystemError) as error:
                # Paddle raises a SystemError, from a signal handler, when a reading process dies.
                cause = READER_DIED if isinstance(error, SystemError) else error
                message = f"iteration {self._iteration + 1}: {cause}; {self._way_back()}"
                with suppress(OSError):  # the disk may be full; the caller shows it anyhow
                    self._reporter.say(message)
                raise TrainingError(message) from error

    def _run(self, stop: StopSignals) -> int:
        settings = self._config.train
        self._begin()
        if self._iteration >= settings.iters:
            self._reporter.say(f"nothing to do: all {settings.iters} iterations are done")
            return 0
        clock = Clock(settings.batch_size)
        for images, labels in self._batches:
            clock.batch_is_read()
            # Whatever the network draws depends on the iteration, not on what was drawn before.
            paddle.seed(self._config.seed + self._iteration)
            result = self._step(images, labels)
            clock.batch_is_done()
            self._iteration += 1
            self._losses.append(result.loss)
            self._skipped += result.skipped
            is_last = self._iteration == settings.iters
            if is_last or self._iteration % settings.log_iters == 0:
                self._write_line(result, clock)
            is_evaluated = settings.do_eval and (is_last or self._is_due(settings.eval_interval))
            if is_evaluated:
                self._evaluate()
            signal = self._processes.largest(stop.received)
            if is_evaluated or is_last or signal or self._is_due(settings.save_interval):
                self._save()
            if signal:
                self._reporter.say(f"told to stop after iteration {self._iteration}")
                return 128 + signal
            if is_last:
                break
            clock.next_batch()
        return 0

    def _open_validation(self) -> tuple[Validation | None, list[str]]:
        """Validation, and why there is none where a run can do without."""
        try:
            return Validation(self._config, self._network, self._processes, self._level), []
        except DataError as error:
            if self._config.train.do_eval:
                raise
            return None, [f"nothing is evaluated: {error}"]

    def _begin(self) -> None:
        """Do once at the start what would otherwise fail after hours."""
        if self._processes.is_first:
            checkpoints.remove_leftovers(self._save_dir)
            save_config(self._config, self._save_dir / CONFIG_FILE)
        if self._iteration == 0:
            if self._validation:
                self._reporter.say(self._validation.rehearse())
            self._save()

    def _is_due(self, interval: int) -> bool:
        return interval > 0 and self._iteration % interval == 0

    def _write_line(self, result: StepResult, clock: Clock) -> None:
        iters = self._config.train.iters
        line = TrainLine(
            epoch=(self._iteration - 1) // self._epoch_length + 1,
            iteration=self._iteration,
            iters=iters,
            loss=self._processes.mean(checkpoints.mean_of(self._losses)),
            lr=result.learning_rate,
            batch_cost=clock.batch_cost,
            reader_cost=clock.reader_cost,
            ips=clock.samples_per_second,
            eta=int((iters - self._iteration) * clock.batch_cost),
            grad_norm=result.gradient_norm,
            loss_scale=result.loss_scale if self._level else None,
            skipped=self._skipped,
        )
        self._reporter.interval(line)
        self._losses = []
        clock.restart()

    def _evaluate(self) -> None:
        metrics = self._validation.evaluate()
        if self._best is None or metrics.mean_iou > self._best.mean_iou:
            self._best = Best(self._iteration, metrics.mean_iou)
        self._reporter.evaluation(self._iteration, metrics, self._best)
        if self._reporter.wants_pictures:
            self._reporter.picture(self._iteration, self._validation.picture())

    def _save(self) -> None:
        self._processes.share_buffers(self._network)
        if not self._processes.is_first:
            return
        state = TrainState(
            self._iteration,
            self._samples,
            as_plain(self._config),
            self._processes.count,
            checkpoints.plain_scaler(self._scaler.state_dict()),
            self._losses,
            self._skipped,
            self._best,
        )
        folder = checkpoints.save_checkpoint(self._save_dir, self._network, self._optimizer, state)
        if self._best and self._best.iteration == self._iteration:
            checkpoints.point_at_best(self._save_dir, folder)
        checkpoints.prune(self._save_dir, self._config.train.keep, self._best)

    def _way_back(self) -> str:
        folders = checkpoints.checkpoints(self._save_dir)
        if not folders:
            return "there is no checkpoint yet"
        return f"the last checkpoint is {folders[0]}, go on from it with --resume auto"


def _open_patches(config: Config) -> PatchDataset:
    pairs: ImagePairs = open_pairs(config.data, "train")
    return PatchDataset(
        pairs,
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
        return [str(load_backbone(network.resencoder, config.model.pretrained))]
    return ["the network starts from random weights"]
