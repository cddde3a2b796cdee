"""The networks side by side: a Markdown table, plain values, and a picture of mIoU and FLOPs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factseg_paddle.data.images.palettes import ISAID_CLASSES
from factseg_paddle.engine.logs.curves import COLOURS, GREY, STYLE, save_curves
from factseg_paddle.files import atomic_write
from factseg_proof.costs.measure import Cost, Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PUBLISHED = Path(__file__).with_name("published_miou.yml")
COLUMNS = (
    "parameters, M",
    "GFLOP",
    "torch, ms",
    "Paddle, ms",
    "Paddle / torch",
    "torch, MB",
    "Paddle, MB",
    "published mIoU",
    "our mIoU",
)
NOTHING = "–"
BEGIN = "<!-- table.md of scripts/compare_models.py: begin -->"
END = "<!-- table.md of scripts/compare_models.py: end -->"


@dataclass(frozen=True)
class Published:
    """mIoU on iSAID's validation images in % that others reported, and where it stands."""

    miou: float
    source: str


@dataclass(frozen=True)
class Row:
    """A network's line; what could not be found out is None.

    Attributes:
        name: of the network.
        size: parameters and FLOPs.
        costs: of both frameworks; empty where the network could not be run.
        published: the mIoU that others reported.
        ours: the mIoU of an evaluation of ours, in %.
        failure: why it could not be run, a sentence; empty where it could.
    """

    name: str
    size: Size | None = None
    costs: Mapping[str, Cost] | None = None
    published: Published | None = None
    ours: float | None = None
    failure: str = ""


def read_published() -> dict[str, Published]:
    """Return what `published_miou.yml` holds, by network."""
    import yaml  # the rest of this file works without

    content = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    return {
        name: Published(entry["miou"], content["sources"][entry["source"]])
        for name, entry in content["networks"].items()
    }


def read_miou(path: Path) -> float:
    """Return the mIoU of a `metrics.json` of `scripts/evaluate.py` on iSAID, in %.

    Raises:
        ValueError: the file is no such file, its mIoU is not defined, or its classes are others.
        OSError: the file can't be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        miou, names = content["mean_iou"], [entry["name"] for entry in content["classes"]]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is no metrics.json of evaluate.py ({error!r})") from error
    if not isinstance(miou, float) or not 0 <= miou <= 1:
        raise ValueError(f"{path}: its mean_iou is {miou!r}, which is no mIoU from 0 to 1")
    if tuple(names) != ISAID_CLASSES:
        raise ValueError(f"{path}: its classes are {', '.join(map(str, names))}, not iSAID's")
    return 100 * miou


class MarkdownTable:
    """The lines of a Markdown table, whose columns are as wide as can be told beforehand.

    Args:
        names: of all networks.
        published: figures of others, by network; their sources get letters.
    """

    def __init__(self, names: Sequence[str], published: Mapping[str, Published]) -> None:
        self._width = max(map(len, ("network", *names)))
        sources = dict.fromkeys(published[name].source for name in names if name in published)
        self._letters = {source: chr(ord("a") + i) for i, source in enumerate(sources)}

    def header(self) -> str:
        """Return the first two lines."""
        dashes = [f"{'-' * (len(column) - 1)}:" for column in COLUMNS]
        return f"{self._line('network', COLUMNS)}\n{self._line('-' * self._width, dashes)}"

    def line(self, row: Row) -> str:
        """Return a network's line."""
        cells = [NOTHING] * len(COLUMNS)
        if row.size:
            cells[0] = f"{row.size.parameters / 1e6:.2f}"
            cells[1] = f"{row.size.flops / 1e9:.1f}"
        if row.costs:
            torch, paddle = row.costs["torch"], row.costs["paddle"]
            times = torch.median_seconds, paddle.median_seconds
            cells[2:4] = [f"{1e3 * seconds:.0f}" for seconds in times]
            cells[4] = f"{times[1] / times[0]:.2f}"
            cells[5:7] = [f"{cost.memory_bytes / 1e6:.0f}" for cost in (torch, paddle)]
        if row.failure:
            cells[2] = f"failed: {' '.join(row.failure.split()).replace('|', '/')}"
        if row.published:
            cells[7] = f"{row.published.miou:.2f} [{self._letters[row.published.source]}]"
        if row.ours is not None:
            cells[8] = f"{row.ours:.2f}"
        return self._line(row.name, cells)

    def sources(self) -> list[str]:
        """Return a line for each letter."""
        return [f"- [{letter}] {source}" for source, letter in self._letters.items()]

    def _line(self, name: str, cells: Sequence[str]) -> str:
        padded = [f"{cell:>{len(column)}}" for cell, column in zip(cells, COLUMNS, strict=True)]
        return f"| {' | '.join([f'{name:<{self._width}}', *padded])} |"


def plain_row(row: Row) -> dict[str, Any]:
    """Return a row as JSON holds it; what is not known is null."""
    return {
        "name": row.name,
        "parameters": row.size and row.size.parameters,
        "flops": row.size and row.size.flops,
        **{
            framework: {
                "seconds": cost.median_seconds,
                "passes": list(cost.seconds),
                "memory_bytes": cost.memory_bytes,
            }
            for framework, cost in (row.costs or {}).items()
        },
        "published_miou": row.published and row.published.miou,
        "published_source": row.published and row.published.source,
        "our_miou": row.ours,
        "failure": row.failure or None,
    }


def write(
    folder: Path, table: MarkdownTable, rows: Sequence[Row], about: Mapping[str, Any]
) -> list[str]:
    """Write `table.md`, `table.json` and, where a row has FLOPs and an mIoU, `miou.png`.

    Args:
        folder: that exists; its older picture goes where there is none to draw.
        table: of these rows.
        rows: in order.
        about: `size`, `num_classes`, `threads` and `environment` of the run.

    Returns:
        A line to print for each file.

    Raises:
        OSError: a file can't be written.
    """
    content = dict(about) | {"networks": [plain_row(row) for row in rows]}
    with atomic_write(folder / "table.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    text = [BEGIN, table.header(), *map(table.line, rows), "", _conditions(about)]
    text += ["", *sources, END] if (sources := table.sources()) else [END]
    with atomic_write(folder / "table.md") as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
    written = [str(folder / "table.md"), str(folder / "table.json")]
    picture = folder / "miou.png"
    if figure := cost_figure(rows):
        save_curves(figure, picture)
        return [*written, str(picture)]
    picture.unlink(missing_ok=True)
    return [*written, "no picture: no network here has a known mIoU"]


def _conditions(about: Mapping[str, Any]) -> str:
    side, versions = about["size"], about["environment"]
    paddle = versions.get("paddlepaddle") or versions.get("paddlepaddle-gpu")
    return (
        f"One image of {side} x {side}, {about['num_classes']} classes, evaluation mode, on a CPU, "
        f"threads: {about['threads']}, torch {versions['torch']}, Paddle {paddle}. Times are "
        "medians and compare within this run only; memory is the growth of the process's peak "
        "after its imports; a multiply-add counts as 2 FLOP."
    )


# The picture ----------------------------------------------------------------------------------


def cost_figure(rows: Iterable[Row]) -> Figure | None:
    """Draw mIoU against GFLOP; None where no row has both.

    Args:
        rows: those without FLOPs or without any mIoU are left out.
    """
    import matplotlib
    from matplotlib.figure import Figure

    points = [
        (row.size.flops / 1e9, miou, kind, row.name)
        for row in rows
        if row.size
        for kind, miou in (("published", row.published and row.published.miou), ("ours", row.ours))
        if miou is not None
    ]
    if not points:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 5.5), layout="constrained", facecolor="w")
        axes = figure.add_subplot()
        for kind, marker, colour in (("published", "o", COLOURS[0]), ("ours", "D", COLOURS[1])):
            points_of_kind = [point for point in points if point[2] == kind]
            if points_of_kind:
                flops, mious, _, _ = zip(*points_of_kind, strict=True)
                axes.plot(flops, mious, marker, color=colour, ms=6, label=kind)
        _scale(axes, [point[0] for point in points])
        axes.set_xlabel("GFLOP of a forward pass, 2 per multiply-add")
        axes.set_title("mIoU on iSAID val, %, against cost")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
        _name(axes, points)
    return figure


def _scale(axes: Axes, flops: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_xlim(min(flops) / 1.3, max(flops) * 1.6)  # names stand to the right of their points
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write the names beside their points, higher or lower where they would cover something."""
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()  # so that it is known where the points come to lie
    places = axes.transData.transform([point[:2] for point in points])
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in places]
    for flops, miou, _, name in sorted(points, key=lambda point: -point[1]):
        at = {"xy": (flops, miou), "textcoords": "offset points"}
        label = axes.annotate(name, xytext=(10, 0), va="center", fontsize=8, **at)
        for shift in sorted(range(-120, 121, 6), key=abs):
            label.set_position((10, shift))
            box = label.get_window_extent()
            if not box.count_overlaps(taken):
                break
        taken.append(box)
        if shift:
            line = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkB": 4}
            axes.annotate("", xytext=(10, shift), arrowprops=line, **at)
