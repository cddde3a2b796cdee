"""Pictures of training logs: loss, learning rate, mIoU and each class's IoU, several runs in one.

They are drawn without pyplot, so that nothing is changed for a program that draws figures itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from factseg_paddle.engine.logs.format import EvaluationRecord, RunLog, TrainLine
from factseg_paddle.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind tell apart; yellow is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))  # for the runs after the seventh and the fourteenth
GREY = "#8a97a5"

FORMATS = (".png", ".svg", ".pdf")
WIDTH, TOP, CLASS = 12.0, 3.2, 1.45  # inches: of the picture, of its first row, of a row of classes
COLUMNS = 8
SMOOTHED = 20  # so many lines at least are smoothed, over a fortieth of them or over 5

# DejaVu Sans has no Chinese letters; these are tried where a label has some.
FONTS = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "SimHei", "PingFang SC")

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6e9ed",
    "axes.axisbelow": True,
    "text.parse_math": False,  # a label is a text, whatever it holds
    "text.usetex": False,
}


@dataclass(frozen=True)
class Run:
    """What is drawn in one colour.

    Attributes:
        label: its name in the picture.
        train: training intervals, in order.
        evaluations: in order.
    """

    label: str
    train: tuple[TrainLine, ...]
    evaluations: tuple[EvaluationRecord, ...]

    @property
    def best(self) -> EvaluationRecord | None:
        """Return the evaluation with the highest mIoU, the first of equals; None without any."""
        defined = [record for record in self.evaluations if not math.isnan(record.mean_iou)]
        return max(defined, key=lambda record: record.mean_iou, default=None)

    def __str__(self) -> str:
        text = f"{self.label} {len(self.train)} training lines, {len(self.evaluations)} evaluations"
        best = self.best
        return f"{text}, best mIoU {best.mean_iou:.4f} at {best.iteration}" if best else text


def gather_runs(logs: Sequence[RunLog], labels: Sequence[str] | None = None) -> list[Run]:
    """Gather one run a label: logs with the same one, a training and an evaluation log, are joined.

    Args:
        logs: at least one.
        labels: one for each log; None takes the folder's name of a `train.log`, else the file's.

    Raises:
        ValueError: the labels are not as many as the logs, or two logs of one run both have
            training lines, or both evaluations.
    """
    if labels is None:
        labels = [_label(log.path) for log in logs]
    if len(labels) != len(logs):
        raise ValueError(f"{len(labels)} labels for {len(logs)} logs; give each log one")
    runs: dict[str, Run] = {}
    for log, label in zip(logs, labels, strict=True):
        other = runs.get(label, Run(label, (), ()))
        for what in ("train", "evaluations"):
            if getattr(other, what) and getattr(log, what):
                raise ValueError(f"two logs are called {label}; tell them apart by --labels")
        runs[label] = Run(label, other.train + log.train, other.evaluations + log.evaluations)
    return list(runs.values())


def curves_figure(runs: Sequence[Run], class_names: Sequence[str] | None = None) -> Figure:
    """Draw runs; panels that none of them has values for are left out.

    Args:
        runs: at least one, with something to draw.
        class_names: of all classes of the logs; None shows their indices alone.

    Raises:
        ValueError: there are not as many class names as classes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    classes = max((len(e.class_iou) for run in runs for e in run.evaluations), default=0)
    if class_names is not None and len(class_names) != classes:
        raise ValueError(f"{len(class_names)} class names for {classes} classes in the logs")
    names = [f"{i} {class_names[i]}" if class_names else f"class {i}" for i in range(classes)]
    panels = [_draw_loss, _draw_rate] * any(run.train for run in runs)
    panels += [_draw_mean_iou] * bool(classes)
    rows = math.ceil(classes / COLUMNS)
    heights = [TOP] + [CLASS] * rows
    with matplotlib.rc_context(STYLE | {"font.family": ["DejaVu Sans", *_installed(FONTS)]}):
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.5), layout="constrained", facecolor="w")
        parts = figure.subfigures(1 + bool(rows), 1, height_ratios=_ratio(heights), squeeze=False)
        axes = parts[0, 0].subplots(1, len(panels), squeeze=False)[0]
        for draw, ax in zip(panels, axes, strict=True):
            draw(ax, runs)
            _iteration_axis(ax, runs)
            ax.set_xlabel("iteration")
        if rows:
            _draw_classes(parts[1, 0], runs, names)
        _legend(figure, runs)
    return figure


def save_curves(figure: Figure, path: str | Path) -> None:
    """Write a picture, whole or not at all; the suffix says of what kind.

    Raises:
        ValueError: a suffix other than those of `FORMATS`.
        OSError: it can't be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: pictures are written as {', '.join(FORMATS)}")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=130)


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean over a window around each value, smaller at the ends; NaN does not count.

    Args:
        values: [N] float64.
        window: number of values, odd.

    Returns:
        [N] float64; NaN where the window has nothing finite.
    """
    finite = np.isfinite(values)
    half = window // 2
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    number = counts[last] - counts[first]
    total = sums[last] - sums[first]
    return np.divide(total, number, out=np.full(len(values), np.nan), where=number > 0)


# Panels --------------------------------------------------------------------------------------


def _draw_loss(ax: Axes, runs: Sequence[Run]) -> None:
    is_smoothed = False
    for colour, dash, run in _coloured(runs):
        iterations = [line.iteration for line in run.train]
        losses = np.array([line.loss for line in run.train])
        losses[~np.isfinite(losses)] = np.nan
        if len(losses) < SMOOTHED:
            ax.plot(iterations, losses, color=colour, ls=dash, lw=1.4, marker="o", ms=2.5)
            continue
        is_smoothed = True
        ax.plot(iterations, losses, color=colour, lw=0.7, alpha=0.3)
        window = max(5, len(losses) // 40 | 1)
        ax.plot(iterations, smoothed(losses, window), color=colour, ls=dash, lw=1.6)
    ax.set_title("loss (pale: as logged, strong: moving mean)" if is_smoothed else "loss")
    _log_scale(ax, [line.loss for run in runs for line in run.train])


def _draw_rate(ax: Axes, runs: Sequence[Run]) -> None:
    for colour, dash, run in _coloured(runs):
        iterations = [line.iteration for line in run.train]
        # Runs often share a schedule: the earlier ones are seen beside the later.
        width = min(1.5 + 2.5 * (len(runs) - 1 - runs.index(run)), 9.0)
        ax.plot(iterations, [line.lr for line in run.train], color=colour, ls=dash, lw=width)
    ax.set_title("learning rate")
    ax.set_ylim(bottom=0)


def _draw_mean_iou(ax: Axes, runs: Sequence[Run]) -> None:
    for colour, dash, run in _coloured(runs):
        _plot_shares(ax, run, [e.mean_iou for e in run.evaluations], colour, dash)
        if best := run.best:
            ax.plot(best.iteration, best.mean_iou, "*", ms=9, color=colour, mec="w", mew=0.6)
    ax.set_title("mIoU (star: the best)")


def _draw_classes(figure: Figure, runs: Sequence[Run], names: Sequence[str]) -> None:
    rows = math.ceil(len(names) / COLUMNS)
    axes = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for index, ax in enumerate(axes.flat):
        if index >= len(names):
            ax.set_axis_off()
            continue
        for colour, dash, run in _coloured(runs):
            shares = [_of_class(evaluation, index) for evaluation in run.evaluations]
            _plot_shares(ax, run, shares, colour, dash)
        if all(math.isnan(_of_class(e, index)) for run in runs for e in run.evaluations):
            ax.text(0.5, 0.5, "absent", transform=ax.transAxes, ha="center", color=GREY)
        ax.set_title(_short(names[index], 22), fontsize=8, pad=3)
        ax.tick_params(labelsize=7.5, length=2)
        is_last = index + COLUMNS >= len(names)
        _iteration_axis(ax, runs, ticks=2)
        ax.tick_params(labelbottom=is_last)
    axes[0, 0].set_ylim(-0.03, 1.03)
    figure.supylabel("IoU", fontsize=9)


def _plot_shares(
    ax: Axes, run: Run, shares: Sequence[float], colour: str, dash: str | tuple
) -> None:
    marker = "o" if len(shares) <= 30 else ""
    iterations = [evaluation.iteration for evaluation in run.evaluations]
    ax.plot(iterations, shares, color=colour, ls=dash, lw=1.3, marker=marker, ms=2.2)


# Small things --------------------------------------------------------------------------------


def _of_class(evaluation: EvaluationRecord, index: int) -> float:
    """Return the IoU of a class; runs may have different numbers of classes."""
    return evaluation.class_iou[index] if index < len(evaluation.class_iou) else math.nan


def _coloured(runs: Sequence[Run]) -> Iterable[tuple[str, str | tuple, Run]]:
    for index, run in enumerate(runs):
        rounds = index // len(COLOURS) % len(DASHES)
        yield COLOURS[index % len(COLOURS)], DASHES[rounds], run


def _legend(figure: Figure, runs: Sequence[Run]) -> None:
    from matplotlib.lines import Line2D

    handles, labels = [], []
    for colour, dash, run in _coloured(runs):
        handles.append(Line2D([], [], color=colour, ls=dash, lw=2))
        best = run.best
        result = f": best mIoU {best.mean_iou:.4f} at {_thousands(best.iteration)}" if best else ""
        # matplotlib leaves labels out that begin with an underscore
        labels.append(f"\u200b{_short(run.label, 40)}{result}")
    columns = min(len(runs), 3)
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False)


def _iteration_axis(ax: Axes, runs: Sequence[Run], ticks: int = 4) -> None:
    """Give all panels the same iterations, so that a place in one is found in the others."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    last = max(record.iteration for run in runs for record in (*run.train, *run.evaluations))
    ax.set_xlim(-0.02 * last, 1.03 * last)
    ax.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10], integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _thousands(x)))


def _thousands(number: float) -> str:
    return f"{number / 1000:g}k" if abs(number) >= 1000 else f"{number:g}"


def _log_scale(ax: Axes, values: Sequence[float]) -> None:
    """Scale a loss by factors, as it falls; where it touches 0 a linear scale has to do."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if not values or min((v for v in values if math.isfinite(v)), default=0) <= 0:
        return
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _ratio(heights: Sequence[float]) -> list[float]:
    return [heights[0], sum(heights[1:])] if len(heights) > 1 else [1.0]


def _label(path: Path) -> str:
    return path.resolve().parent.name if path.name == "train.log" else path.stem


def _short(text: str, length: int) -> str:
    """Return a text that the fonts can write, its middle left out where it is long."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if not _installed(FONTS):
        text = text.encode("latin-1", errors="backslashreplace").decode("latin-1")
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-length // 2 + 1 :]}"


def _installed(fonts: Iterable[str]) -> list[str]:
    from matplotlib.font_manager import fontManager

    known = set(fontManager.get_font_names())
    return [font for font in fonts if font in known]
