"""Painters of the blocks of a synthetic scene, between its roads and its water.

Each district fills one block with background (houses, trees, paving) and with objects of some
classes. A block that is too small for a district's objects holds fewer of them, or trees.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from factseg_paddle.data.synthetic import objects
from factseg_paddle.data.synthetic.canvas import Canvas, Point, ellipse, rectangle

_ROOFS = ((150, 84, 66), (128, 74, 62), (110, 104, 100), (164, 150, 134), (90, 88, 92))
_ALONG_X, _ALONG_Y = 0.0, np.pi / 2


@dataclass(frozen=True)
class Block:
    """A rectangle of land in scene coordinates."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Return extent along x in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Return extent along y in pixels."""
        return self.bottom - self.top

    @property
    def centre(self) -> Point:
        """Return middle of the block."""
        return ((self.left + self.right) / 2, (self.top + self.bottom) / 2)

    @property
    def along(self) -> float:
        """Return direction of the longer side in radians."""
        return _ALONG_X if self.width >= self.height else _ALONG_Y

    def corners(self, inset: float = 0.0) -> np.ndarray:
        """Return the corners, moved inwards, [4, 2]."""
        return rectangle(self.centre, self.width - 2 * inset, self.height - 2 * inset)

    def part(self, left: float, top: float, right: float, bottom: float) -> "Block":
        """Cut out a part given in shares of width and height."""
        return Block(
            self.left + left * self.width,
            self.top + top * self.height,
            self.left + right * self.width,
            self.top + bottom * self.height,
        )


def residential(canvas: Canvas, block: Block) -> None:
    """Paint houses in gardens, with pools, cars and trees."""
    rng = canvas.rng
    canvas.polygon(block.corners(2), (104, 124, 78), grain=0.16)
    for x, y in _grid(block, 42, 40):
        angle = rng.choice([_ALONG_X, _ALONG_Y])
        _house(canvas, (x - 6 + rng.uniform(-2, 2), y - 5 + rng.uniform(-2, 2)), angle)
        kind = rng.random()
        if kind < 0.5:
            objects.swimming_pool(canvas, (x + 12, y + 8), angle, rng.uniform(9, 14))
        elif kind < 0.8:
            canvas.polygon(rectangle((x + 13, y), 8, 26), (150, 148, 144), label=0)
            objects.small_vehicle(canvas, (x + 13, y + rng.uniform(-5, 6)), _ALONG_Y)
        _trees(canvas, Block(x - 20, y + 12, x + 4, y + 19), 3)


def parking(canvas: Canvas, block: Block) -> None:
    """Paint a parking lot with marked bays, most of them taken, and lorries along one side."""
    rng = canvas.rng
    canvas.polygon(block.corners(3), (112, 112, 114), grain=0.07)
    lorries, lot = block.part(0.05, 0.0, 0.95, 0.25), block.part(0.04, 0.24, 0.96, 1.0)
    for x, y in _grid(lorries, 36, 14):
        if rng.random() < 0.7:
            objects.large_vehicle(canvas, (x, y), _turned(canvas, _ALONG_X))
    for row, y in enumerate(_steps(lot.top, lot.bottom, 19)):
        for x in _steps(lot.left, lot.right, 8):
            canvas.line((x - 4, y - 6), (x - 4, y + 6), 0.9, (186, 186, 182))
            if rng.random() < (0.8 if row % 2 else 0.6):
                spot = (x + rng.uniform(-0.5, 0.5), y + rng.uniform(-1, 1))
                objects.small_vehicle(canvas, spot, _turned(canvas, _ALONG_Y))


def depot(canvas: Canvas, block: Block) -> None:
    """Paint warehouses with lorries at their ramps."""
    rng = canvas.rng
    canvas.polygon(block.corners(2), (138, 136, 130), grain=0.09)
    hall, yard = block.part(0.08, 0.06, 0.92, 0.46), block.part(0.06, 0.5, 0.94, 0.98)
    roof = _ROOFS[2 + rng.integers(2)]
    canvas.polygon(hall.corners(), roof, grain=0.03, shadow=9)
    for x in _steps(hall.left, hall.right, 9):
        canvas.line((x, hall.top), (x, hall.bottom), 1.0, (roof[0] * 0.88,) * 3)
    for x, y in _grid(yard, 12, 34):
        if rng.random() < 0.75:
            objects.large_vehicle(canvas, (x, y), _turned(canvas, _ALONG_Y))


def tank_farm(canvas: Canvas, block: Block) -> None:
    """Paint storage tanks on bare ground, joined by pipes."""
    rng = canvas.rng
    canvas.polygon(block.corners(2), (158, 146, 122), grain=0.12)
    step = float(np.clip(min(block.width, block.height) / 3, 26, 48))
    spots = list(_grid(block, step, step))
    for x, y in spots:
        canvas.line((x, y), (x + step, y), 1.6, (116, 112, 106))
        canvas.line((x, y), (x, y + step), 1.6, (116, 112, 106))
    for spot in spots:
        if rng.random() < 0.88:
            objects.storage_tank(canvas, spot, step * rng.uniform(0.22, 0.4))


def airfield(canvas: Canvas, block: Block) -> None:
    """Paint an apron with planes at their stands and helicopters on their pads."""
    rng = canvas.rng
    canvas.polygon(block.corners(1), (158, 158, 154), grain=0.05)
    for x in _steps(block.left, block.right, 24):
        canvas.line((x, block.top + 1), (x, block.bottom - 1), 0.8, (138, 138, 136))
    span = float(np.clip(min(block.width, block.height) * 0.42, 24, 52))
    share = _share(canvas, block, 0.68)
    stands, pads = block.part(0, 0, 1, share), block.part(0, share, 1, 1)
    lane = stands.top + 0.93 * stands.height
    canvas.line((block.left, lane), (block.right, lane), 1.4, (208, 178, 60))
    heading = rng.choice([-np.pi / 2, np.pi / 2]) + rng.normal(0, 0.12)
    for x, y in _grid(stands, span * 1.15, span * 1.1):
        canvas.line((x, y), (x, lane), 1.2, (208, 178, 60))
        objects.plane(canvas, (x, y), heading, span * rng.uniform(0.8, 1.0))
    for x, y in _grid(pads, 34, 28):
        canvas.polygon(ellipse((x, y), 26, 26), (128, 128, 128))
        canvas.polygon(ellipse((x, y), 23, 23), (146, 146, 144))
        if rng.random() < 0.85:
            objects.helicopter(canvas, (x, y), rng.uniform(0, 2 * np.pi), rng.uniform(18, 24))


def sports_ground(canvas: Canvas, block: Block) -> None:
    """Paint a running track around a soccer field, and tennis and basketball courts beside it."""
    canvas.polygon(block.corners(2), (118, 140, 88), grain=0.14)
    upright = block.along == _ALONG_Y
    share = _share(canvas, block, 0.64)
    main = block.part(0, 0, share, 1) if upright else block.part(0, 0, 1, share)
    side = block.part(share, 0, 1, 1) if upright else block.part(0, share, 1, 1)
    length = 0.93 * min(max(main.width, main.height), min(main.width, main.height) / 0.6)
    if length > 0:
        objects.ground_track_field(canvas, main.centre, block.along, length)
    court = float(np.clip(0.8 * min(side.width, side.height), 22, 42))
    across = _ALONG_X if upright else _ALONG_Y
    step = (court + 6, 0.62 * court + 3) if upright else (0.62 * court + 3, court + 6)
    for index, spot in enumerate(_grid(side, *step)):
        paint = objects.basketball_court if index % 3 == 1 else objects.tennis_court
        paint(canvas, spot, across, court)


def ball_park(canvas: Canvas, block: Block) -> None:
    """Paint a baseball diamond and a soccer field between trees."""
    rng = canvas.rng
    canvas.polygon(block.corners(2), (112, 134, 80), grain=0.18)
    upright = block.along == _ALONG_Y
    first = block.part(0, 0, 1, 0.52) if upright else block.part(0, 0, 0.52, 1)
    second = block.part(0, 0.54, 1, 1) if upright else block.part(0.54, 0, 1, 1)
    reach = 0.95 * min(first.width, first.height, 84)
    heading = rng.choice([0, 1, 2, 3]) * np.pi / 2 + rng.uniform(-0.3, 0.3)
    objects.baseball_diamond(canvas, first.centre, heading, reach)
    length = 0.9 * min(max(second.width, second.height), min(second.width, second.height) / 0.62)
    objects.soccer_ball_field(canvas, second.centre, second.along, min(length, 96))
    _trees(canvas, block.part(0.02, 0.02, 0.98, 0.1), 6)


def _house(canvas: Canvas, centre: Point, angle: float) -> None:
    rng = canvas.rng
    length, width = rng.uniform(16, 21), rng.uniform(11, 14)
    roof = _ROOFS[rng.integers(len(_ROOFS))]
    canvas.polygon(rectangle(centre, length, width, angle), roof, label=0, grain=0.06, shadow=6)
    lit = np.array([-np.sin(angle), np.cos(angle)]) * width / 4
    bright = tuple(min(255.0, channel * 1.22) for channel in roof)
    side = tuple(np.subtract(centre, lit * np.sign(lit @ canvas.sun_in_scene or 1.0)))
    canvas.polygon(rectangle(side, length, width / 2, angle), bright, grain=0.06)


def _trees(canvas: Canvas, block: Block, count: int) -> None:
    rng = canvas.rng
    for _ in range(count):
        spot = (rng.uniform(block.left, block.right), rng.uniform(block.top, block.bottom))
        radius, green = rng.uniform(3, 6), rng.uniform(0.75, 1.1)
        color = (58 * green, 88 * green, 46 * green)
        crown = ellipse(spot, 2 * radius, 1.8 * radius)
        canvas.polygon(crown, color, label=0, grain=0.35, shadow=4)


def _share(canvas: Canvas, block: Block, usual: float) -> float:
    """Return the first part's share of a block; a small block goes to one part as a whole."""
    if min(block.width, block.height) >= 90:
        return usual
    return float(canvas.rng.integers(2))


def _turned(canvas: Canvas, angle: float) -> float:
    """Point one way or the other, never quite straight."""
    return angle + np.pi * canvas.rng.integers(2) + canvas.rng.normal(0, 0.03)


def _steps(start: float, end: float, step: float) -> list[float]:
    """Return the middles of as many whole steps as fit between start and end, centred."""
    count = int((end - start) // step)
    first = (start + end - (count - 1) * step) / 2
    return [first + index * step for index in range(count)]


def _grid(block: Block, step_x: float, step_y: float) -> Iterator[Point]:
    """Yield the middles of the whole cells that fit in a block, row by row."""
    for y in _steps(block.top, block.bottom, step_y):
        for x in _steps(block.left, block.right, step_x):
            yield (x, y)
