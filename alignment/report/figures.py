"""The figures of report.html, as SVG: error along the depth, ratios, and the curves of training.

They are drawn without pyplot, so that nothing is changed for a program that draws figures itself.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alignment.compare import TensorResult
from alignment.report.ratios import (
    BY_ITSELF,
    FLOAT32,
    FLOAT64,
    MEANINGLESS,
    SERIES,
    ratio,
    series_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from alignment.report.results import StepResult

TITLES = {
    BY_ITSELF: "by itself: given torch's own values",
    FLOAT64: "end to end in float64",
    FLOAT32: "end to end in float32",
}

GOOD, BAD, ALLOWED, GREY, DECLARED = "#2f6f9f", "#c0272d", "#18794e", "#8a97a5", "#c98a00"

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.formatter.use_mathtext": False,
    "svg.fonttype": "path",
    "text.usetex": False,
}

LARGEST = 1
"""Errors of 10 and more are drawn as one: the values have nothing to do with each other."""

WIDTH = 11.5
LABELS = 14
"""So many places along the depth carry a name."""


def depth_svg(step: StepResult) -> str:
    """Draw error and what is allowed by tensor, in the order in which a divergence spreads."""
    order = depth_order(step.tensors)
    drawn = [tensor for tensor in step.tensors if on_scale(tensor)] or list(step.tensors)
    used = [series for series in SERIES if any(series_of(t) == series for t in drawn)]
    figure = _figure(1.75 * len(used) + 1.3)
    with _style():
        axes = figure.subplots(len(used), 1, sharex=True, squeeze=False)[:, 0]
        for series, ax in zip(used, axes, strict=True):
            _draw_depth(ax, [t for t in drawn if series_of(t) == series], order)
            ax.set_title(TITLES[series])
        if step.first_failure is not None:
            _mark_first(axes, order[step.first_failure.name], len(order), step.first_divergence)
        _name_places(axes[-1], list(order))
        return _svg(figure)


def ratios_svg(tensors: Iterable[TensorResult]) -> str:
    """Return how many tensors come how near to what is allowed, for each comparison."""
    ratios: dict[str, list[tuple[float, str]]] = {series: [] for series in SERIES}
    for tensor in tensors:
        value = ratio(tensor)
        if value is not None and tensor.allowed:
            ratios[series_of(tensor)].append((value, tensor.status))
    used = [series for series in SERIES if ratios[series]]
    figure = _figure(2.7)
    with _style():
        axes = figure.subplots(1, max(1, len(used)), sharex=True, squeeze=False)[0]
        low, high = _decades([v for series in used for v, _ in ratios[series]] + [1.0])
        for series, ax in zip(used, axes, strict=False):
            _draw_ratios(ax, ratios[series], low, high)
            ax.set_title(TITLES[series])
        axes[0].set_ylabel("comparisons")
        return _svg(figure)


def curves_svg(curves: Mapping[str, Sequence[float]]) -> str:
    """Draw the loss of a free run of training, on both sides."""
    figure = _figure(3.2)
    with _style():
        ax = figure.subplots()
        values = {name: np.asarray(list(curve), float) for name, curve in curves.items()}
        if {"lowest", "highest"} <= values.keys():
            steps = range(len(values["lowest"]))
            label = "torch, its weights moved by their last bit"
            ax.fill_between(
                steps, values["lowest"], values["highest"], color=GREY, alpha=0.35, label=label
            )
        marker = "." if max(map(len, values.values()), default=0) <= 60 else None
        for name, colour, line in (("torch", "#1c2733", "-"), ("paddle", "#d95f02", "--")):
            if name in values:
                ax.plot(values[name], line, color=colour, marker=marker, label=name, lw=1.4)
        finite = np.concatenate([v[np.isfinite(v)] for v in values.values()] or [np.ones(1)])
        if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
            ax.set_yscale("log")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("step")
        ax.set_ylabel("loss")
        ax.legend(frameon=False)
        return _svg(figure)


def on_scale(tensor: TensorResult) -> bool:
    """Return whether a tensor is drawn along the depth: zero but for rounding would hide it."""
    return tensor.failed or tensor.allowed <= MEANINGLESS


def depth_order(tensors: Iterable[TensorResult]) -> dict[str, int]:
    """Return {name: position}: comparisons end to end, fitted into the order of those by itself.

    The former have tensors that the latter lack (a container's output) and the other way round (a
    layer's input); one follows the tensor that it follows in its own order.
    """
    tensors = list(tensors)
    first = dict.fromkeys(t.name for t in tensors if series_of(t) == BY_ITSELF)
    keys = {name: (position, 0) for position, name in enumerate(first)}
    anchor, offset = -1, 0
    for name in dict.fromkeys(t.name for t in tensors if series_of(t) != BY_ITSELF):
        if name in first:
            anchor, offset = keys[name][0], 0
        else:
            offset += 1
            keys[name] = (anchor, offset)
    return {name: position for position, name in enumerate(sorted(keys, key=keys.__getitem__))}


def distribution(
    path: Path,
    bins: np.ndarray,
    counts: Mapping[str, np.ndarray],
    constants: Mapping[str, tuple[str, float]],
) -> None:
    """Draw how often which ratio error / allowed was seen, a panel for each kind, as PNG.

    Args:
        path: the file to write.
        bins: edges of the ratios' bins.
        counts: {kind: count of each bin; one more at either end}.
        constants: {kind: (name of the constant that bounds it, value)}.
    """
    figure = _figure(1.6 * len(counts) + 0.8)
    with _style():
        axes = figure.subplots(len(counts), 1, sharex=True, squeeze=False)[:, 0]
        for (kind, heights), ax in zip(counts.items(), axes, strict=True):
            name, value = constants[kind]
            ax.bar(bins[:-1], heights[1:-1], np.diff(bins), align="edge", color=GOOD)
            ax.axvline(1.0, color=BAD)
            ax.set(xscale="log", yscale="log", title=f"{kind}: {name} = {value:g}", ylabel="count")
        axes[-1].set_xlabel("error / allowed (1 is the bound)")
        figure.savefig(path, format="png", dpi=110, bbox_inches="tight")


def _draw_depth(ax: Axes, tensors: Sequence[TensorResult], order: Mapping[str, int]) -> None:
    errors = [t.error for t in tensors if t.error is not None]
    low, high = _decades([*errors, *(t.allowed for t in tensors)])
    low, high = min(low, LARGEST - 1), min(high, LARGEST)
    nothing = low - max(1.0, 0.13 * (high - low))  # where exact zeros are drawn
    unknown = high + 0.22 * (high - low)  # where what has no number is drawn
    limits = sorted(
        (order[t.name], min(high, math.log10(t.allowed))) for t in tensors if t.allowed > 0
    )
    if limits:
        line = {"lw": 1.1} if len(limits) > 1 else {"marker": "_", "ms": 18}
        ax.plot(*zip(*limits, strict=True), color=ALLOWED, label="allowed", **line)
    many = len(order) > 100
    for status, colour, marker, size in (
        ("passed", GOOD, "o", 9 if many else 22),
        ("declared", DECLARED, "D", 16),
        ("failed", BAD, "X", 34),
    ):
        points = [
            (order[t.name], unknown if t.error is None else _height(t.error, nothing, high))
            for t in tensors
            if t.status == status
        ]
        if points:
            x, y = zip(*points, strict=True)
            ax.scatter(x, y, s=size, c=colour, marker=marker, label=status, lw=0, zorder=3)
    ticks = dict.fromkeys(range(high, low - 1, -max(1, math.ceil((high - low) / 5))), "1e{}")
    ticks = {tick: label.format(tick) for tick, label in ticks.items()}
    if max(errors, default=0.0) > 10**LARGEST:
        ticks[high] = "≥ 10"
    bottom, top = low - 0.5, high + 0.07 * (high - low)
    if not all(errors):
        ax.axhline(nothing, color=GREY, lw=0.4, zorder=0)
        ticks[nothing], bottom = "0", nothing - 0.05 * (high - low)
    if len(errors) < len(tensors):
        ticks[unknown], top = "no number", unknown + 0.07 * (high - low)
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.set_ylim(bottom, top)
    ax.set_ylabel("error")
    ax.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 0.98), borderpad=0)


def _mark_first(axes: Sequence[Axes], place: int, count: int, name: str | None) -> None:
    for ax in axes:
        ax.axvline(place, color=BAD, lw=0.8, ls=":", zorder=0)
    right = place < count / 2
    axes[0].annotate(
        f"first divergence: {_short(name or '', 60)}",
        (place, 0.62),
        (6 if right else -6, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left" if right else "right",
        color=BAD,
        parse_math=False,
        bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1},
        zorder=4,
    )


def _name_places(ax: Axes, names: Sequence[str]) -> None:
    count = min(len(names), LABELS)
    places = sorted({round(place) for place in np.linspace(0, len(names) - 1, count)})
    labels = [_short(names[place], 30) for place in places]
    ax.set_xticks(places, labels, rotation=25, ha="right", fontsize=7.5, parse_math=False)
    ax.set_xlim(-0.02 * len(names) - 0.5, 1.02 * len(names) - 0.5)


def _draw_ratios(ax: Axes, ratios: Sequence[tuple[float, str]], low: int, high: int) -> None:
    """Draw two bins a decade, and one of its own for what is equal to the bit."""
    edges = np.linspace(low, high, 2 * (high - low) + 1)
    edges[0] -= 1e-6  # below it lies what is equal, and that alone
    centres = [low - 0.5, *(edges[1:] - 0.25)]
    bottom = np.zeros(len(edges), int)
    for status, colour in (("passed", GOOD), ("declared", DECLARED), ("failed", BAD)):
        heights = [_height(v, low - 1, high) for v, s in ratios if s == status]
        if heights:
            # Exactly what is allowed is still allowed: an edge belongs to the bin at its left.
            bins = np.bincount(np.searchsorted(edges, heights), minlength=len(edges))
            ax.bar(centres, bins, 0.44, bottom, color=colour, label=f"{len(heights)} {status}")
            bottom += bins
    ax.axvline(0, color=ALLOWED, lw=1.2)
    ax.axvspan(0, high + 0.5, color=BAD, alpha=0.06, lw=0)
    apart = math.ceil((high - low) / 6)
    ticks = [tick for tick in range(low, high + 1) if not tick % apart and tick > low]
    labels = ["1" if tick == 0 else f"1e{tick}" for tick in ticks]
    ax.set_xticks([low - 0.5, *ticks], ["0", *labels])
    ax.set_xlim(low - 1, high + 0.5)
    ax.set_yscale("log")  # one that failed is seen beside a thousand that passed
    ax.yaxis.set_major_formatter("{x:.0f}")
    ax.set_ylim(0.6, 5 * max(bottom))  # room for the legend
    ax.set_xlabel("error / allowed")
    ax.legend(frameon=False, loc="upper left", ncols=3, columnspacing=1, handlelength=1)


def _decades(values: Iterable[float]) -> tuple[int, int]:
    """Return the powers of ten between which all positive finite values lie."""
    logs = [math.log10(v) for v in values if 0 < v < math.inf]
    low, high = math.floor(min(logs, default=-1)), math.ceil(max(logs, default=0))
    return low, max(high, low + 1)


def _height(value: float, nothing: float, highest: float) -> float:
    if not value:
        return nothing
    return min(highest, math.log10(value)) if math.isfinite(value) else highest


def _short(name: str, length: int) -> str:
    """Return a name that the font can write, its middle left out where it is long."""
    name = name.encode("ascii", "backslashreplace").decode()
    name = "".join(c if c.isprintable() else "?" for c in name)
    half = length // 2
    return name if len(name) <= length else f"{name[: half - 1]}…{name[-half:]}"


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")


def _style():
    import matplotlib

    return matplotlib.rc_context(STYLE)


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
