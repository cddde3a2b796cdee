"""What a training run tells: log lines, VisualDL records and pictures."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from factseg_paddle.config.schema import Config
from factseg_paddle.engine.logs.format import TrainLine, format_evaluation, format_train_line
from factseg_paddle.engine.logs.train_log import TrainLog
from factseg_paddle.engine.logs.visualdl import VisualRecorder
from factseg_paddle.engine.training.checkpoint import Best
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.metrics import Metrics

LOG_FILE, VDL_FOLDER = "train.log", "vdl"


class Reporter:
    """Writes `train.log` and the VisualDL records; of several processes only the first one's does.

    Args:
        config: says whether VisualDL is wanted.
        save_dir: folder of the run.
        iteration: iterations that are done; later lines of an earlier attempt are dropped.
        processes: this one among all.
    """

    def __init__(
        self, config: Config, save_dir: Path, iteration: int, processes: Processes
    ) -> None:
        self._path, self._rank, active = save_dir / LOG_FILE, processes.rank, processes.is_first
        self._log: TrainLog | None = None
        self._recorder: VisualRecorder | None = None
        with ExitStack() as opened:
            if active:
                log = TrainLog(self._path, iteration, sys.stdout)
                self._log = opened.enter_context(log)
            if active and config.train.use_vdl:
                recorder = VisualRecorder(save_dir / VDL_FOLDER, iteration)
                self._recorder = opened.enter_context(recorder)
            self._opened = opened.pop_all()

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.__exit__(*error)

    def log(self, text: str) -> None:
        """Write a line for people."""
        if self._log:
            self._log.write(text)

    def fail(self, text: str) -> None:
        """Write what ended the run, from whichever process it happened in."""
        if self._log:
            self._log.write(text)
        else:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"process {self._rank}: {text}\n")

    def interval(self, line: TrainLine) -> None:
        """Report a training interval."""
        self.log(format_train_line(line))
        if self._recorder:
            values = {
                "train/loss": line.loss,
                "train/lr": line.lr,
                "train/batch_cost": line.batch_cost,
                "train/reader_cost": line.reader_cost,
                "train/grad_norm": line.grad_norm,
                "train/loss_scale": line.loss_scale,
                "train/skipped": line.skipped,
            }
            known = {tag: value for tag, value in values.items() if value is not None}
            self._recorder.scalars(line.iteration, known)

    def evaluation(self, iteration: int, metrics: Metrics, best: Best | None) -> None:
        """Report an evaluation, and the best one so far."""
        self.log(format_evaluation(iteration, metrics.class_iou, metrics.mean_iou))
        if best:
            self.log(f"best mIoU so far: {best.mean_iou:.4f} at iteration {best.iteration}")
        if self._recorder:
            values = {"eval/mIoU": metrics.mean_iou, "eval/accuracy": metrics.pixel_accuracy}
            for name, iou in zip(metrics.class_names, metrics.class_iou, strict=True):
                if np.isfinite(iou):
                    values[f"eval_iou/{name}"] = float(iou)
            self._recorder.scalars(iteration, values)

    @property
    def wants_pictures(self) -> bool:
        """Return whether a picture would be kept."""
        return self._recorder is not None

    def picture(self, iteration: int, pixels: np.ndarray) -> None:
        """Record an image, its labels and the prediction side by side, [H, W, 3] uint8."""
        if self._recorder:
            self._recorder.image("eval/image, labels, prediction", iteration, pixels)
