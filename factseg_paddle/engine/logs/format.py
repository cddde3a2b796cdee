"""The lines of a training log, written and read: ours and those that were published.

A log is text. A training interval is one line, in the published form with our fields after the
time that is left (readers of published logs find all they know):

    [TRAIN] epoch: 1, iter: 50/60000, loss: 1.6852, lr: 0.006995, batch_cost: 3.0193, \
reader_cost: 0.59019, ips: 2.6496 samples/sec | ETA 50:16:49 | grad_norm: 3.1416, \
loss_scale: 1024, skipped: 0

`grad_norm` is the L2 norm of all gradients before clipping, `loss_scale` stands there in mixed
precision, `skipped` counts the steps that an overflow has cost since the run began. An evaluation
is a line and the published table, as `format_evaluation` writes them together:

    [EVAL] iter: 5000, mIoU: 0.4589
    +-------+-------------+
    | class |     iou     |
    +-------+-------------+
    |   0   |  0.9843232  |
    ...
    |  mIoU |   0.458866  |
    +-------+-------------+

The published evaluation log has the iteration alone on a line in the place of the first. Anything
may stand before `[TRAIN]`, and any other line between the records.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


class LogError(ValueError):
    """A file is no log; the message is one sentence that names it."""


@dataclass(frozen=True)
class TrainLine:
    """What a line says of a training interval.

    Attributes:
        epoch: counted from 1.
        iteration: the last one of the interval, counted from 1.
        iters: iterations of the whole run.
        loss: mean over the interval.
        lr: learning rate of the last step.
        batch_cost: seconds per iteration.
        reader_cost: seconds per iteration that were spent waiting for samples.
        ips: samples per second.
        eta: seconds that are left.
        grad_norm: L2 norm of all gradients before clipping; None in published logs.
        loss_scale: None in float32 and in published logs.
        skipped: steps skipped since the run began; None in published logs.
    """

    epoch: int
    iteration: int
    iters: int
    loss: float
    lr: float
    batch_cost: float
    reader_cost: float
    ips: float
    eta: int
    grad_norm: float | None = None
    loss_scale: float | None = None
    skipped: int | None = None


@dataclass(frozen=True)
class EvaluationRecord:
    """An evaluation during training; shares from 0 to 1, NaN for a class that is absent."""

    iteration: int
    mean_iou: float
    class_iou: tuple[float, ...]


@dataclass(frozen=True)
class RunLog:
    """What a log holds, in the order of iterations.

    Attributes:
        path: the file.
        train: the training intervals.
        evaluations: the evaluations.
        notes: sentences on what was left out and why.
    """

    path: Path
    train: tuple[TrainLine, ...]
    evaluations: tuple[EvaluationRecord, ...]
    notes: tuple[str, ...] = ()


def format_train_line(line: TrainLine) -> str:
    """Format the line, without an end of line."""
    hours, seconds = divmod(line.eta, 3600)
    text = (
        f"[TRAIN] epoch: {line.epoch}, iter: {line.iteration}/{line.iters}, "
        f"loss: {line.loss:.4f}, lr: {line.lr:.6f}, batch_cost: {line.batch_cost:.4f}, "
        f"reader_cost: {line.reader_cost:.5f}, ips: {line.ips:.4f} samples/sec"
        f" | ETA {hours:02d}:{seconds // 60:02d}:{seconds % 60:02d}"
    )
    ours = []
    if line.grad_norm is not None:
        ours.append(f"grad_norm: {line.grad_norm:.4f}")
    if line.loss_scale is not None:
        ours.append(f"loss_scale: {line.loss_scale:.10g}")
    if line.skipped is not None:
        ours.append(f"skipped: {line.skipped}")
    return f"{text} | {', '.join(ours)}" if ours else text


def parse_train_line(text: str) -> TrainLine | None:
    """Return the line in a text of one line, None where there is none or only a part of one."""
    match = _TRAIN.search(text)
    if match is None:
        return None
    hours, minutes, seconds = (int(match[name]) for name in ("hours", "minutes", "seconds"))
    ours = dict(part.split(": ") for part in (match["ours"] or "").split(", ") if part)
    return TrainLine(
        **{name: int(match[name]) for name in ("epoch", "iteration", "iters")},
        **{name: float(match[name]) for name in _FLOATS},
        eta=3600 * hours + 60 * minutes + seconds,
        **{name: kind(ours[name]) for name, kind in _OURS.items() if name in ours},
    )


def class_table(class_iou: Sequence[float] | np.ndarray, mean_iou: float) -> str:
    """Format the published table: the float32 digits of each class's IoU, and of their mean.

    Args:
        class_iou: of each class, [C]; NaN for an absent one.
        mean_iou: the last row.
    """
    rows = [("class", "iou")]
    rows += [(str(index), _digits(value)) for index, value in enumerate(class_iou)]
    rows.append(("mIoU", _digits(mean_iou)))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    rule = "+".join(["", *("-" * (width + 2) for width in widths), ""])
    lines = [
        f"| {' | '.join(_centred(*cell) for cell in zip(row, widths, strict=True))} |"
        for row in rows
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def format_evaluation(
    iteration: int, class_iou: Sequence[float] | np.ndarray, mean_iou: float
) -> str:
    """Format an evaluation's lines, without the last end of line; arguments as `class_table`."""
    return f"[EVAL] iter: {iteration}, mIoU: {mean_iou:.4f}\n{class_table(class_iou, mean_iou)}"


def iteration_of(text: str) -> int | None:
    """Return the iteration of which a `[TRAIN]` or `[EVAL]` line speaks, whole or not."""
    match = _ITERATION.search(text)
    return int(match[1]) if match else None


def parse_log(path: str | Path) -> RunLog:
    """Read a log of ours or a published one.

    What was cut off by a kill, in the last line or before a resumed run went on, is left out and
    noted. Where iterations start again at an earlier one, the run was resumed there: what comes
    later counts.

    Raises:
        LogError: the file can't be read, or holds no whole record.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LogError(f"the log {path} can't be read: {error.strerror}") from error
    reader = _Reader()
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        reader.take(number, line.rstrip("\r"), is_last=number == len(lines))
    reader.close_table(len(lines))
    if not reader.train and not reader.evaluations:
        reasons = "; ".join(reader.notes) or "it has no [TRAIN] line and no table of class IoUs"
        raise LogError(f"{path} is no log of a training run: {reasons}")
    return RunLog(path, tuple(reader.train), tuple(reader.evaluations), tuple(reader.notes))


_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)"
_OURS = {"grad_norm": float, "loss_scale": float, "skipped": int}
_FLOATS = ("loss", "lr", "batch_cost", "reader_cost", "ips")
_TRAIN = re.compile(
    r"\[TRAIN\] epoch: (?P<epoch>\d+), iter: (?P<iteration>\d+)/(?P<iters>\d+), "
    + ", ".join(f"{name}: (?P<{name}>{_NUMBER})" for name in _FLOATS)
    + r" samples/sec \| ETA (?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d)"
    rf"(?: \| (?P<ours>\w+: {_NUMBER}(?:, \w+: {_NUMBER})*))?\s*$"
)
_ITERATION = re.compile(r"\[(?:TRAIN|EVAL)\].*?\biter: (\d+)")
_OUR_EVALUATION = re.compile(r"\[EVAL\] iter: (\d+), mIoU: ")
_ROW = re.compile(rf"^\|\s*(\d+|mIoU)\s*\|\s*({_NUMBER})\s*\|\s*$")
_HEAD = re.compile(r"^\|\s*class\s*\|\s*iou\s*\|\s*$")
_RULE = re.compile(r"^\+-+\+-+\+\s*$")


@dataclass
class _Reader:
    """Goes through the lines and keeps what is whole."""

    train: list[TrainLine] = field(default_factory=list)
    evaluations: list[EvaluationRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # The iteration that the next table is of; the rows of an open one, and where it began.
    iteration: int | None = None
    rows: list[float] | None = None
    began: int = 0

    def take(self, number: int, line: str, *, is_last: bool) -> None:
        if line.startswith("|") or _RULE.match(line):
            self._take_row(number, line)
            return
        if line.strip():
            self.close_table(number)
        if "[TRAIN]" in line:
            self._take_train(number, line, is_last=is_last)
        elif match := _OUR_EVALUATION.search(line):
            self.iteration = int(match[1])
        elif re.fullmatch(r"\d{1,12}\s*", line):
            self.iteration = int(line)

    def _take_train(self, number: int, line: str, *, is_last: bool) -> None:
        parsed = parse_train_line(line)
        # A part of our last field may look like the whole, 1 of 12, but we end every line.
        is_ours = parsed is not None and any(getattr(parsed, name) is not None for name in _OURS)
        if parsed is None or (is_last and is_ours):
            self.notes.append(f"line {number} is cut short and was left out")
            return
        self._append(self.train, parsed, number)

    def _take_row(self, number: int, line: str) -> None:
        if _HEAD.match(line):
            self.close_table(number)
            self.rows, self.began = [], number
            return
        row = _ROW.match(line)
        if self.rows is None or row is None:
            return
        if row[1] == "mIoU":
            self._finish_table(number, float(row[2]))
        elif int(row[1]) == len(self.rows):
            self.rows.append(float(row[2]))
        else:
            self.close_table(number)

    def _finish_table(self, number: int, mean_iou: float) -> None:
        if self.iteration is None:
            self.notes.append(f"line {self.began}: a table of no iteration was left out")
        elif self.rows:
            record = EvaluationRecord(self.iteration, mean_iou, tuple(self.rows))
            self._append(self.evaluations, record, number)
        self.rows = self.iteration = None

    def close_table(self, number: int) -> None:
        """Raise where a table that is still open lacks its end: what follows is no row."""
        if self.rows is not None:
            what = f"the table of iteration {self.iteration}"
            self.notes.append(f"line {number}: {what} is cut short and was left out")
        self.rows = None

    def _append(self, records: list, record: TrainLine | EvaluationRecord, number: int) -> None:
        later = [old for old in records if old.iteration >= record.iteration]
        if later:
            del records[-len(later) :]
            self.notes.append(
                f"line {number}: the run went on at iteration {record.iteration}; "
                f"{len(later)} earlier records from there on were left out"
            )
        records.append(record)


def _digits(value: float) -> str:
    return np.format_float_positional(np.float32(value), trim="0")


def _centred(text: str, width: int) -> str:
    """Centre as PrettyTable does: an odd space goes right of odd texts, left of even ones."""
    space = width - len(text)
    left = space // 2 + (space % 2 and not len(text) % 2)
    return " " * left + text + " " * (space - left)
