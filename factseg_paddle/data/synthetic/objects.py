"""Painters of the objects of iSAID's 15 foreground classes, seen from above.

Every painter takes the canvas, where the object's centre lies, which way it points (radians) and
how large it is (pixels), and labels what it paints. Lengths are those that the classes have in
aerial images of about 0.3 m per pixel, shrunk where a true size would fill a small scene.
"""

import numpy as np

from factseg_paddle.data.images.palettes import ISAID_CLASSES
from factseg_paddle.data.synthetic.canvas import (
    Canvas,
    Color,
    Point,
    beside,
    ellipse,
    place,
    rectangle,
)

LABEL: dict[str, int] = {name: index for index, name in enumerate(ISAID_CLASSES)}

_WHITE: Color = (226, 226, 222)
_CAR_COLORS: tuple[Color, ...] = (
    (228, 228, 230),
    (205, 207, 210),
    (150, 155, 160),
    (60, 62, 68),
    (35, 36, 40),
    (150, 40, 36),
    (48, 70, 120),
    (190, 178, 140),
)
_CARGO_COLORS: tuple[Color, ...] = (
    (225, 225, 222),
    (200, 190, 170),
    (165, 70, 55),
    (70, 100, 140),
    (90, 125, 95),
)


def small_vehicle(canvas: Canvas, centre: Point, angle: float) -> None:
    """Paint a car, about 10 x 5 pixels."""
    length = canvas.rng.uniform(9, 11.5)
    color = _pick(canvas, _CAR_COLORS)
    body = rectangle(centre, length, length * 0.47, angle)
    canvas.polygon(body, color, label=LABEL["small_vehicle"], shadow=2)
    glass = beside(centre, angle, 0.12 * length)
    canvas.polygon(rectangle(glass, 1.8, length * 0.4, angle), (38, 44, 52))
    rear = beside(centre, angle, -0.3 * length)
    canvas.polygon(rectangle(rear, 1.2, length * 0.38, angle), (48, 54, 62))


def large_vehicle(canvas: Canvas, centre: Point, angle: float) -> None:
    """Paint a lorry or a bus, 18 to 30 pixels long."""
    length, width = canvas.rng.uniform(18, 30), canvas.rng.uniform(6, 7.5)
    outline = rectangle(centre, length, width, angle)
    canvas.polygon(outline, (70, 72, 76), label=LABEL["large_vehicle"], shadow=5)
    cargo = beside(centre, angle, -0.12 * length)
    canvas.polygon(rectangle(cargo, length * 0.74, width, angle), _pick(canvas, _CARGO_COLORS))
    cab = beside(centre, angle, 0.4 * length)
    canvas.polygon(rectangle(cab, length * 0.17, width * 0.9, angle), _pick(canvas, _CAR_COLORS))


def ship(canvas: Canvas, centre: Point, angle: float, length: float, *, wake: bool) -> None:
    """Paint a ship with its bow at `angle`; one under way draws a wake, which is background."""
    width = length * canvas.rng.uniform(0.26, 0.34)
    if wake:
        trail = [(-0.3, 0.3), (-1.9, 0.9), (-1.75, 0.35)]
        trail += [(-1.75, -0.35), (-1.9, -0.9), (-0.3, -0.3)]
        foam = place(np.array(trail) * (length, width), centre, angle)
        canvas.polygon(foam, (122, 146, 150), label=0, grain=0.3)
    hull = [(-0.5, -0.42), (0.15, -0.5), (0.36, -0.32), (0.5, 0), (0.36, 0.32), (0.15, 0.5)]
    hull += [(-0.5, 0.42)]
    hull_color = _pick(canvas, ((232, 232, 230), (206, 208, 205), (150, 62, 48), (66, 74, 86)))
    outline = place(np.array(hull) * (length, width), centre, angle)
    canvas.polygon(outline, hull_color, label=LABEL["ship"], shadow=0.12 * length)
    deck = place(np.array(hull) * (length * 0.82, width * 0.62), centre, angle)
    canvas.polygon(deck, _pick(canvas, ((176, 160, 132), (190, 190, 186), (120, 110, 98))))
    cabin = beside(centre, angle, -0.22 * length)
    canvas.polygon(rectangle(cabin, length * 0.2, width * 0.5, angle), _WHITE)
    if length > 32:
        for offset in (0.0, 0.14, 0.28):
            box = beside(centre, angle, offset * length)
            color = _pick(canvas, _CARGO_COLORS)
            canvas.polygon(rectangle(box, length * 0.11, width * 0.5, angle), color)


def plane(canvas: Canvas, centre: Point, angle: float, span: float) -> None:
    """Paint an airliner with its nose at `angle`."""
    color = _pick(canvas, ((236, 237, 238), (222, 224, 226), (206, 210, 214)))
    wings = [(0.1, -0.07), (-0.2, -0.5), (-0.28, -0.5), (-0.1, -0.06), (-0.1, 0.06)]
    wings += [(-0.28, 0.5), (-0.2, 0.5), (0.1, 0.07)]
    tail = [(-0.34, -0.02), (-0.46, -0.2), (-0.52, -0.2), (-0.46, 0), (-0.52, 0.2)]
    tail += [(-0.46, 0.2), (-0.34, 0.02)]
    body = [(0.52, 0), (0.46, -0.045), (0.3, -0.06), (-0.3, -0.05), (-0.52, -0.015)]
    body += [(-0.52, 0.015), (-0.3, 0.05), (0.3, 0.06), (0.46, 0.045)]
    parts = [place(np.array(part), centre, angle, span) for part in (wings, tail, body)]
    for part in parts:  # all shadows first: none falls on the plane itself
        canvas.shade(part, 0.1 * span)
    shades = (0.93, 0.9, 1.0)
    for part, shade in zip(parts, shades, strict=True):
        canvas.polygon(part, _scaled(color, shade), label=LABEL["plane"], grain=0.02)
    for side in (-0.2, 0.2):
        engine = beside(centre, angle, 0.03 * span, side * span)
        pod = rectangle(engine, 0.12 * span, 0.05 * span, angle)
        canvas.polygon(pod, (150, 154, 160), label=LABEL["plane"])
    stripe = _pick(canvas, ((176, 40, 46), (36, 70, 140), (60, 120, 80)))
    canvas.polygon(
        place(np.array([(-0.5, 0), (-0.36, -0.02), (-0.36, 0.02)]), centre, angle, span), stripe
    )


def helicopter(canvas: Canvas, centre: Point, angle: float, length: float) -> None:
    """Paint a helicopter with its nose at `angle`; rotor blades belong to it."""
    color = _pick(canvas, ((70, 84, 58), (190, 40, 36), (230, 228, 220), (52, 76, 130)))
    cockpit = beside(centre, angle, 0.16 * length)
    body = ellipse(cockpit, 0.55 * length, 0.24 * length, angle)
    boom = [(0, -0.05), (-0.55, -0.02), (-0.55, 0.02), (0, 0.05)]
    label = LABEL["helicopter"]
    canvas.polygon(body, color, label=label, shadow=3)
    canvas.polygon(place(np.array(boom), centre, angle, length), color, label=label, shadow=2)
    fin = beside(centre, angle, -0.52 * length)
    canvas.polygon(rectangle(fin, 0.06 * length, 0.26 * length, angle), color, label=label)
    hub = beside(centre, angle, 0.12 * length)
    first = canvas.rng.uniform(0, np.pi / 2)
    for blade in (first, first + np.pi / 2):
        canvas.polygon(rectangle(hub, 0.95 * length, 1.6, blade), (44, 44, 46), label=label)
    nose = beside(centre, angle, 0.34 * length)
    canvas.polygon(ellipse(nose, 0.14 * length, 0.16 * length, angle), (40, 48, 58))


def storage_tank(canvas: Canvas, centre: Point, radius: float) -> None:
    """Paint a tank with a lit rim, a darker far side and a stair."""
    tint = _pick(canvas, ((222, 222, 218), (202, 200, 192), (186, 190, 192), (170, 150, 128)))
    rim = ellipse(centre, 2 * radius, 2 * radius)
    canvas.polygon(rim, tint, label=LABEL["storage_tank"], shadow=0.7 * radius)
    away = canvas.sun_in_scene * radius
    for step, shade in ((0.1, 0.86), (0.0, 0.97)):
        middle = tuple(np.add(centre, away * step))
        canvas.polygon(ellipse(middle, 1.75 * radius, 1.75 * radius), _scaled(tint, shade))
    stair = beside(centre, canvas.rng.uniform(0, 6.28), 0.45 * radius)
    canvas.polygon(rectangle(stair, 0.9 * radius, 1.4, 0.0), _scaled(tint, 0.66))
    canvas.polygon(ellipse(centre, 0.3 * radius, 0.3 * radius), _scaled(tint, 0.78))


def roundabout(canvas: Canvas, centre: Point, radius: float) -> None:
    """Paint a roundabout: kerb, ring of asphalt, planted island."""
    label = LABEL["roundabout"]
    for share, color in ((1.0, (168, 166, 160)), (0.93, (98, 98, 100)), (0.52, (170, 168, 162))):
        canvas.polygon(ellipse(centre, 2 * radius * share, 2 * radius * share), color, label=label)
    canvas.polygon(
        ellipse(centre, 0.92 * radius, 0.92 * radius), (78, 112, 58), label=label, grain=0.2
    )
    canvas.polygon(
        ellipse(centre, 0.34 * radius, 0.34 * radius), (50, 82, 42), label=label, shadow=3
    )


def bridge(canvas: Canvas, start: Point, end: Point, width: float) -> None:
    """Paint a bridge with parapets and a centre line from bank to bank."""
    label = LABEL["bridge"]
    canvas.line(start, end, width + 5, (186, 184, 178), label=label, shadow=6)
    canvas.line(start, end, width, (104, 104, 106), label=label)
    canvas.line(start, end, 1.2, (214, 206, 160), label=label)


def pier(canvas: Canvas, start: Point, end: Point, width: float) -> None:
    """Paint a pier of a harbour with planks across."""
    label = LABEL["harbor"]
    canvas.line(start, end, width, (168, 158, 142), label=label, shadow=3)
    canvas.line(start, end, width * 0.4, (150, 140, 124), label=label)


def swimming_pool(canvas: Canvas, centre: Point, angle: float, length: float) -> None:
    """Paint a pool within its paved edge, which is background."""
    shape = canvas.rng.integers(3)
    outline = ellipse if shape == 0 else rectangle
    edge = outline(centre, length + 4, 0.55 * length + 4, angle)
    canvas.polygon(edge, (200, 194, 182), label=0)
    label = LABEL["swimming_pool"]
    canvas.polygon(outline(centre, length, 0.55 * length, angle), (84, 182, 204), label=label)
    shallow = beside(centre, angle, -0.2 * length)
    canvas.polygon(
        outline(shallow, 0.5 * length, 0.42 * length, angle), (120, 206, 220), label=label
    )


def tennis_court(canvas: Canvas, centre: Point, angle: float, length: float) -> None:
    """Paint a tennis court: apron, playing area, lines and net; all of it is the court."""
    colors = (
        ((72, 118, 84), (58, 92, 142)),
        ((150, 92, 70), (70, 122, 86)),
        ((64, 110, 76), (166, 92, 68)),
    )
    apron, area = colors[canvas.rng.integers(3)]
    label, width = LABEL["tennis_court"], 0.52 * length
    canvas.polygon(rectangle(centre, length, width, angle), apron, label=label)
    inner = (0.72 * length, 0.56 * width)
    canvas.polygon(rectangle(centre, *inner, angle), area, label=label)
    _outline(canvas, centre, angle, inner, label)
    for x in (-0.19 * length, 0.19 * length):
        _mark(canvas, centre, angle, (x, -inner[1] / 2), (x, inner[1] / 2), label)
    _mark(canvas, centre, angle, (-0.19 * length, 0), (0.19 * length, 0), label)
    _mark(canvas, centre, angle, (0, -0.38 * width), (0, 0.38 * width), label, (40, 44, 44))


def basketball_court(canvas: Canvas, centre: Point, angle: float, length: float) -> None:
    """Paint a basketball court with its two keys and the centre circle."""
    ground, key = (((176, 112, 74), (92, 106, 150)), ((110, 128, 142), (168, 84, 66)))[
        canvas.rng.integers(2)
    ]
    label, size = LABEL["basketball_court"], (0.9 * length, 0.48 * length)
    canvas.polygon(
        rectangle(centre, length, 0.57 * length, angle), _scaled(ground, 0.85), label=label
    )
    canvas.polygon(rectangle(centre, *size, angle), ground, label=label)
    for side in (-1, 1):
        middle = beside(centre, angle, side * 0.36 * length)
        canvas.polygon(rectangle(middle, 0.18 * length, 0.18 * length, angle), key, label=label)
    canvas.polygon(ellipse(centre, 0.17 * length, 0.17 * length), key, label=label)
    _outline(canvas, centre, angle, size, label)
    _mark(canvas, centre, angle, (0, -size[1] / 2), (0, size[1] / 2), label)


def soccer_ball_field(canvas: Canvas, centre: Point, angle: float, length: float) -> None:
    """Paint a soccer field with mown stripes and white lines."""
    label, width = LABEL["soccer_ball_field"], 0.62 * length
    stripes = 8
    for index in range(stripes):
        offset = ((index + 0.5) / stripes - 0.5) * length
        middle = beside(centre, angle, offset)
        color = (86, 132, 62) if index % 2 else (102, 148, 74)
        stripe = rectangle(middle, length / stripes + 1, width, angle)
        canvas.polygon(stripe, color, label=label, grain=0.1)
    size = (0.94 * length, 0.9 * width)
    _outline(canvas, centre, angle, size, label)
    _mark(canvas, centre, angle, (0, -size[1] / 2), (0, size[1] / 2), label)
    for side in (-1, 1):
        middle = beside(centre, angle, side * 0.4 * length)
        _outline(canvas, middle, angle, (0.13 * length, 0.5 * width), label)


def ground_track_field(canvas: Canvas, centre: Point, angle: float, length: float) -> None:
    """Paint a running track; the soccer field inside it is a class of its own."""
    label, width = LABEL["ground_track_field"], 0.6 * length
    for shrink, color in ((0.0, (172, 84, 66)), (0.055, (190, 104, 84)), (0.07, (166, 80, 64))):
        inset = shrink * length
        outline = _stadium(centre, angle, length - inset, width - inset)
        canvas.polygon(outline, color, label=label)
    infield = _stadium(centre, angle, 0.8 * length, width - 0.2 * length)
    canvas.polygon(infield, (96, 136, 66), label=label, grain=0.1)
    soccer_ball_field(canvas, centre, angle, 0.56 * length)


def baseball_diamond(canvas: Canvas, centre: Point, angle: float, length: float) -> None:
    """Paint a baseball diamond: a fan of grass, the skinned infield, bases and mound."""
    label = LABEL["baseball_diamond"]
    home = (-0.42, 0.0)
    for reach, color, grain in ((0.95, (98, 140, 68), 0.12), (0.6, (184, 142, 100), 0.06)):
        turn = np.linspace(-np.pi / 4, np.pi / 4, 14)
        arc = np.stack([home[0] + reach * np.cos(turn), reach * np.sin(turn)], 1)
        fan = np.concatenate([[home], arc])
        canvas.polygon(place(fan, centre, angle, length), color, label=label, grain=grain)
    grass = np.array([(-0.34, 0), (-0.12, -0.22), (0.1, 0), (-0.12, 0.22)])
    canvas.polygon(place(grass, centre, angle, length), (106, 150, 76), label=label, grain=0.1)
    for spot, radius in ((-0.12, 0.08), (-0.4, 0.11)):
        middle = beside(centre, angle, spot * length)
        dirt = ellipse(middle, radius * length, radius * length)
        canvas.polygon(dirt, (188, 148, 106), label=label)
    for along, across in (-0.38, 0), (-0.12, -0.25), (0.13, 0), (-0.12, 0.25):
        spot = beside(centre, angle, along * length, across * length)
        canvas.polygon(rectangle(spot, 1.6, 1.6, angle), _WHITE, label=label)


def _pick(canvas: Canvas, colors: tuple[Color, ...]) -> Color:
    return colors[canvas.rng.integers(len(colors))]


def _scaled(color: Color, shade: float) -> Color:
    return (color[0] * shade, color[1] * shade, color[2] * shade)


def _stadium(centre: Point, angle: float, length: float, width: float) -> np.ndarray:
    turn = np.linspace(-np.pi / 2, np.pi / 2, 16)
    bend = np.stack([np.cos(turn), np.sin(turn)], 1) * width / 2
    shift = np.array([(length - width) / 2, 0.0])
    return place(np.concatenate([bend + shift, -bend - shift]), centre, angle)


def _mark(
    canvas: Canvas,
    centre: Point,
    angle: float,
    start: Point,
    end: Point,
    label: int,
    color: Color = _WHITE,
) -> None:
    """Paint a line, a pixel wide, given in the coordinates of the object."""
    ends = place(np.array([start, end]), centre, angle)
    canvas.line(tuple(ends[0]), tuple(ends[1]), 1.0, color, label=label)


def _outline(canvas: Canvas, centre: Point, angle: float, size: Point, label: int) -> None:
    corners = rectangle((0, 0), size[0], size[1])
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        _mark(canvas, centre, angle, tuple(start), tuple(end), label)
