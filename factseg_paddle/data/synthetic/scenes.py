"""Synthetic aerial scenes with the 16 iSAID classes, and sample data in iSAID's layout.

A scene is a town at a waterway: a grid of roads, bridges and a roundabout, blocks filled by
districts (`districts.py`), a harbour front and ships. It is a pure function of its size
and seed; its labels are exact for what was painted.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factseg_paddle.data.images.files import write_png
from factseg_paddle.data.images.palettes import ISAID_CLASSES, index_to_color
from factseg_paddle.data.synthetic import districts, objects
from factseg_paddle.data.synthetic.canvas import Canvas
from factseg_paddle.data.synthetic.districts import Block
from factseg_paddle.progress import NO_PROGRESS, Progress

MIN_SIZE, MAX_SIZE = 64, 8192

# in the order in which the blocks of a scene are filled, beginning at its theme
DISTRICTS: tuple[Callable[[Canvas, Block], None], ...] = (
    districts.sports_ground,
    districts.airfield,
    districts.residential,
    districts.tank_farm,
    districts.ball_park,
    districts.parking,
    districts.depot,
)

_ASPHALT = (98, 98, 100)
_WATER, _SHALLOWS = (44, 74, 88), (64, 98, 104)


@dataclass(frozen=True)
class Scene:
    """An image and its labels.

    Attributes:
        image: RGB, [size, size, 3] uint8.
        labels: class indices 0 to 15, [size, size] uint8.
    """

    image: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class SampleSummary:
    """Names and class pixels of the images that `make_sample_dataset` wrote.

    Attributes:
        train: names of the training images, without suffix.
        val: names of the validation images, without suffix.
        pixels: number of pixels of each class over all images, [16] int64.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    pixels: np.ndarray

    def __str__(self) -> str:
        absent = [ISAID_CLASSES[index] for index in np.flatnonzero(self.pixels == 0)]
        count = len(ISAID_CLASSES) - len(absent)
        missing = f" (not {', '.join(absent)})" if absent else ""
        return (
            f"{len(self.train)} training and {len(self.val)} validation images, "
            f"{count} of {len(ISAID_CLASSES)} classes{missing}"
        )


def paint_scene(
    size: int, seed: int | Iterable[int] | np.random.Generator, *, theme: int | None = None
) -> Scene:
    """Paint a scene.

    Args:
        size: side in pixels, MIN_SIZE to MAX_SIZE.
        seed: non-negative integer or integers, or the generator to draw from.
        theme: number of the district in the middle, taken modulo their count; None draws it.

    Returns:
        The scene; the same arguments give the same scene.

    Raises:
        ValueError: the size is out of range or the seed is negative.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size {size} is not between {MIN_SIZE} and {MAX_SIZE} pixels")
    rng = np.random.default_rng(seed)
    canvas = Canvas(size, rng, angle=rng.uniform(-np.pi, np.pi))
    town = _plan(size, rng)
    canvas.field((106, 124, 76), (142, 132, 94), coarsest=size / 3, grain=0.16)
    _paint_water(canvas, town)
    _paint_roads(canvas, town)
    start = int(rng.integers(len(DISTRICTS))) if theme is None else theme
    for number, block in enumerate(town.blocks):
        DISTRICTS[(start + number) % len(DISTRICTS)](canvas, block)
    _paint_harbour(canvas, town)
    _paint_traffic(canvas, town)
    return Scene(canvas.photograph(), canvas.labels)


def make_sample_dataset(
    output: str | Path,
    *,
    images: int = 8,
    size: int = 512,
    seed: int = 0,
    progress: Progress = NO_PROGRESS,
) -> SampleSummary:
    """Write scenes in iSAID's layout and file names; every fourth image is for validation.

    Image i depends on seed, size and i only, so more images continue a smaller set and a second
    run writes the same bytes. Files are whole or absent.

    Args:
        output: folder to make or to complete: `{train,val}/images/images/P####.png` and
            `{train,val}/masks/images/P####_instance_color_RGB.png`.
        images: number of images; the first is for training, the second for validation.
        size: side of the images in pixels.
        seed: non-negative integer.
        progress: counts the images.

    Returns:
        Names and class pixels.

    Raises:
        ValueError: an argument is out of range, or output holds images that are not of this set.
        OSError: the folder cannot be written.
    """
    if not 1 <= images <= 9999:
        raise ValueError(f"images {images} is not between 1 and 9999")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size {size} is not between {MIN_SIZE} and {MAX_SIZE} pixels")
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; use 0 or more")
    names: dict[str, list[str]] = {"train": [], "val": []}
    for index in range(images):
        names[_split(index)].append(f"P{index:04d}")
    folder = Path(output)
    _refuse_foreign(folder, names)
    pixels = np.zeros(len(ISAID_CLASSES), dtype=np.int64)
    for split in names:
        for path in _paths(folder, split, ""):
            path.parent.mkdir(parents=True, exist_ok=True)
    progress.start(images, "painting")
    for index in range(images):
        scene = paint_scene(size, (seed, index), theme=index)
        image_path, mask_path = _paths(folder, _split(index), f"P{index:04d}")
        write_png(image_path, scene.image)
        write_png(mask_path, index_to_color(scene.labels))
        pixels += np.bincount(scene.labels.ravel(), minlength=len(pixels))
        progress.advance()
    return SampleSummary(tuple(names["train"]), tuple(names["val"]), pixels)


@dataclass(frozen=True)
class _Town:
    """The plan of a town, in scene coordinates; the waterway runs along y."""

    reach: float  # how far the plan extends from the middle
    road: float  # width of a road
    west: float  # x of the two banks
    east: float
    avenues: tuple[float, ...]  # x of the roads along y
    streets: tuple[float, ...]  # y of the roads along x, which cross the water as bridges
    blocks: tuple[Block, ...]  # nearest to the middle first


def _plan(size: int, rng: np.random.Generator) -> _Town:
    reach, road = 0.75 * size + 30, 15.0
    pitch = float(np.clip(0.42 * size, 76, 190))
    span = float(np.clip(0.2 * size, 34, 96))
    west = rng.uniform(-0.36, 0.24) * size
    if size < 128 and rng.random() < 0.35:
        west += size  # a waterway in the middle would leave a small scene no room for crossings
    east = west + span
    streets, rows = _divide(-reach, reach, pitch, road, rng)
    blocks, avenues = [], []
    # the front of the harbour lies between the western bank and the blocks
    for start, end, mirrored in ((-reach, west - 9, True), (east + 10, reach, False)):
        lines, columns = _divide(start, end, pitch, road, rng, from_end=mirrored)
        avenues += lines
        blocks += [
            Block(left, top, right, bottom) for left, right in columns for top, bottom in rows
        ]
    blocks.sort(key=lambda block: np.hypot(*block.centre))
    return _Town(reach, road, west, east, tuple(avenues), tuple(streets), tuple(blocks))


def _divide(
    start: float,
    end: float,
    pitch: float,
    road: float,
    rng: np.random.Generator,
    *,
    from_end: bool = False,
) -> tuple[list[float], list[tuple[float, float]]]:
    """Divide a stretch into blocks with roads between them; return road middles and blocks."""
    roads, blocks, position = [], [], 0.0
    while position < end - start:
        width = pitch * rng.uniform(0.85, 1.2) - road
        blocks.append((position, position + width))
        roads.append(position + width + road / 2)
        position += width + road
    if from_end:
        return [end - x for x in roads], [(end - b, end - a) for a, b in blocks]
    return [start + x for x in roads], [(start + a, start + b) for a, b in blocks]


def _paint_water(canvas: Canvas, town: _Town) -> None:
    """Paint a straight quay in the west and a sandy shore in the east."""
    y = np.linspace(-town.reach, town.reach, 160)
    phase = canvas.rng.uniform(0, 6.28, 2)
    wave = 2.5 * np.sin(y / 23 + phase[0]) + 1.5 * np.sin(y / 9 + phase[1])
    for inset, color, grain in (
        (-7.0, (196, 182, 144), 0.1),
        (0.0, _SHALLOWS, 0.12),
        (6.0, _WATER, 0.2),
    ):
        shore = np.stack([town.east - 4 - inset + wave, y], 1)
        quay = np.array([(town.west, town.reach), (town.west, -town.reach)])
        canvas.polygon(np.concatenate([shore, quay]), color, grain=grain)


def _paint_roads(canvas: Canvas, town: _Town) -> None:
    ends = (-town.reach, town.reach)
    lines = [((x, ends[0]), (x, ends[1])) for x in town.avenues]
    for y in town.streets:
        lines += [((ends[0], y), (town.west, y)), ((town.east, y), (ends[1], y))]
    for width, color in ((town.road + 3, (158, 156, 148)), (town.road, _ASPHALT)):
        for start, end in lines:
            canvas.line(start, end, width, color)
    for start, end in lines:
        along = np.subtract(end, start)
        count = int(np.hypot(*along) // 11)
        for dash in range(count):
            first, last = (np.add(start, along * (dash + part) / count) for part in (0.0, 0.45))
            canvas.line(tuple(first), tuple(last), 1.0, (206, 204, 192))


def _paint_harbour(canvas: Canvas, town: _Town) -> None:
    """Paint the quay, piers with boats, and ships under way; bridges lie over them."""
    rng, span = canvas.rng, town.east - town.west
    quay = (town.west - 3, -town.reach), (town.west - 3, town.reach)
    objects.pier(canvas, *quay, 6)
    step, length = 34.0, 0.36 * span
    for y in np.arange(-town.reach, town.reach, step):
        if rng.random() < 0.7 and _distance(y, town.streets) > 16:
            objects.pier(canvas, (town.west, y), (town.west + length, y), 4)
            for side in (-1, 1):
                for x in np.arange(town.west + 7, town.west + length - 2, 7.5):
                    if rng.random() < 0.7:
                        boat = rng.uniform(9, 12)
                        spot = (x, y + side * (3 + boat / 2))
                        objects.ship(canvas, spot, side * np.pi / 2, boat, wake=False)
    lane = town.west + 0.68 * span
    y = -town.reach + rng.uniform(0, 50)
    while y < town.reach:
        size = rng.uniform(0.16, 0.62) * span + 8
        heading = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.06)
        spot = (lane + rng.uniform(-0.06, 0.06) * span, y)
        objects.ship(canvas, spot, heading, size, wake=size < 40 or rng.random() < 0.5)
        y += 1.6 * size + rng.uniform(20, 70)


def _paint_traffic(canvas: Canvas, town: _Town) -> None:
    """Paint bridges, one roundabout and the vehicles on the roads."""
    rng = canvas.rng
    for y in town.streets:
        objects.bridge(canvas, (town.west - 5, y), (town.east + 5, y), town.road - 3)
    crossings = [(x, y) for x in town.avenues for y in town.streets]
    seen = [spot for spot in crossings if canvas.visible(spot)]
    circle = min(seen, key=lambda spot: np.hypot(*spot)) if seen else None
    radius = 1.55 * town.road
    if circle:
        objects.roundabout(canvas, circle, radius)
    quarter = town.road / 4
    for lane in (-quarter, quarter):
        heading = 0.0 if lane > 0 else np.pi
        places = [((along, y + lane), heading) for y in town.streets for along in _gaps(town, rng)]
        places += [
            ((x - lane, along), heading + np.pi / 2)
            for x in town.avenues
            for along in _gaps(town, rng)
        ]
        for spot, angle in places:
            if circle and np.hypot(*np.subtract(spot, circle)) < radius + 14:
                continue
            paint = objects.large_vehicle if rng.random() < 0.22 else objects.small_vehicle
            paint(canvas, spot, angle + rng.normal(0, 0.02))


def _gaps(town: _Town, rng: np.random.Generator) -> Iterator[float]:
    """Draw the positions of vehicles along a lane, which do not touch."""
    position = -town.reach
    while position < town.reach:
        position += 32 + rng.exponential(38)
        yield position


def _distance(value: float, others: Iterable[float]) -> float:
    return min((abs(value - other) for other in others), default=np.inf)


def _split(index: int) -> str:
    return "val" if index % 4 == 1 else "train"


def _paths(folder: Path, split: str, name: str) -> tuple[Path, Path]:
    return (
        folder / split / "images" / "images" / f"{name}.png",
        folder / split / "masks" / "images" / f"{name}_instance_color_RGB.png",
    )


def _refuse_foreign(folder: Path, names: dict[str, list[str]]) -> None:
    """Refuse a folder that holds other files: the data set would silently be a mixture.

    Hidden files don't count; a killed run may have left a temporary one.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder} is a file; give a folder")
    ours = {
        path for split in names for name in names[split] for path in _paths(folder, split, name)
    }
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    foreign = [path for path in files if path not in ours and not path.name.startswith(".")]
    if foreign:
        raise ValueError(
            f"output {folder} already holds {len(foreign)} other files, such as "
            f"{foreign[0].relative_to(folder)}; give a new or empty folder"
        )
