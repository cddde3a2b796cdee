"""The canvas of the synthetic scenes: an image and its labels, painted by the same strokes.

Shapes are given in the scene's own coordinates (pixels, x to the right, y down, origin in the
middle) and are turned by the canvas's angle. Image and labels are filled from one polygon without
anti-aliasing, so the labels are exact for what was painted.
"""

import cv2
import numpy as np

Color = tuple[float, float, float]
Point = tuple[float, float]

_SHIFT = 3  # polygons are drawn with 3 fractional bits
_SHADOW = 0.55  # brightness that is left in a shadow


class Canvas:
    """A square scene under the brush.

    Attributes:
        image: RGB, [size, size, 3] float32 on the scale 0 to 255.
        labels: class indices, [size, size] uint8.
        rng: the stream that all painters of this scene draw from.
        sun_in_scene: shadow of an object of height 1, [2] in scene coordinates.
    """

    def __init__(self, size: int, rng: np.random.Generator, angle: float) -> None:
        self.size = size
        self.rng = rng
        self.image = np.zeros((size, size, 3), dtype=np.float32)
        self.labels = np.zeros((size, size), dtype=np.uint8)
        azimuth = rng.uniform(0, 2 * np.pi)
        self.sun_in_scene = np.array([np.cos(azimuth), np.sin(azimuth)])
        self._turn = _rotation(angle)
        self._grain = fractal_noise(size, rng, coarsest=size / 24)

    def polygon(
        self,
        points: np.ndarray,
        color: Color,
        *,
        label: int | None = None,
        grain: float = 0.05,
        shadow: float = 0.0,
    ) -> None:
        """Fill a polygon.

        Args:
            points: corners in scene coordinates, [K, 2].
            color: RGB, 0 to 255.
            label: class index that the pixels get; None leaves the labels as they are, for
                details that lie within an object. Background over an object needs a 0.
            grain: strength of the surface's texture, relative to the colour.
            shadow: height of the object in pixels; its shadow is painted first.
        """
        if shadow > 0:
            self.shade(points, shadow)
        window, inside = self._inside(points)
        if inside is None:
            return
        texture = 1 + grain * self._grain[window][inside]
        self.image[window][inside] = np.asarray(color, np.float32) * texture[:, None]
        if label is not None:
            self.labels[window][inside] = label

    def shade(self, points: np.ndarray, height: float) -> None:
        """Darken what lies in the shadow of a polygon that stands `height` pixels high."""
        foot = np.asarray(points, dtype=np.float64)
        swept = np.concatenate([foot, foot + self.sun_in_scene * height])
        window, inside = self._inside(cv2.convexHull(swept.astype(np.float32))[:, 0])
        if inside is not None:
            self.image[window][inside] *= _SHADOW

    def line(
        self,
        start: Point,
        end: Point,
        width: float,
        color: Color,
        *,
        label: int | None = None,
        shadow: float = 0.0,
    ) -> None:
        """Paint a straight stripe from start to end; the rest is as in `polygon`."""
        along = np.subtract(end, start)
        length = float(np.hypot(*along))
        if length > 0:
            angle = float(np.arctan2(along[1], along[0]))
            middle = (np.add(start, end) / 2).tolist()
            stripe = rectangle(middle, length, width, angle)
            self.polygon(stripe, color, label=label, grain=0.03, shadow=shadow)

    def visible(self, point: Point, margin: float = 0.0) -> bool:
        """Return whether a point lies in the image, at least `margin` from its edge."""
        x, y = self._to_pixels(np.array([point]))[0]
        return margin <= x < self.size - margin and margin <= y < self.size - margin

    def field(self, color: Color, other: Color, coarsest: float, grain: float) -> None:
        """Cover the whole image with a soft mixture of two colours."""
        mix = np.clip(0.5 + 0.5 * fractal_noise(self.size, self.rng, coarsest), 0, 1)[..., None]
        texture = (1 + grain * self._grain)[..., None]
        self.image[:] = (np.float32(color) * mix + np.float32(other) * (1 - mix)) * texture

    def photograph(self, blur: float = 0.55, noise: float = 2.5) -> np.ndarray:
        """Return the image as a camera takes it: light, lens, sensor; [size, size, 3] uint8."""
        light = 1 + 0.06 * fractal_noise(self.size, self.rng, coarsest=self.size / 2)
        image = cv2.GaussianBlur(self.image * light[..., None], (0, 0), blur)
        image += self.rng.normal(0, noise, image.shape).astype(np.float32)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    def _to_pixels(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(points, dtype=np.float64) @ self._turn.T + self.size / 2

    def _inside(self, points: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray | None]:
        """Return the window around a polygon and, within it, the mask of its pixels."""
        pixels = self._to_pixels(points)
        low = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, self.size)
        high = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 1, 0, self.size)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        if (high <= low).any():
            return window, None
        mask = np.zeros((high - low)[::-1], dtype=np.uint8)
        corners = np.rint((pixels - low - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [corners], 1, cv2.LINE_8, _SHIFT)
        return window, mask.astype(bool)


def rectangle(centre: Point, length: float, width: float, angle: float = 0.0) -> np.ndarray:
    """Return the corners of a rectangle whose length lies along `angle`, [4, 2]."""
    corners = np.array([[-length, -width], [length, -width], [length, width], [-length, width]]) / 2
    return place(corners, centre, angle)


def ellipse(centre: Point, length: float, width: float, angle: float = 0.0) -> np.ndarray:
    """Return the corners of a 40-sided ellipse, [40, 2]."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return place(np.stack([length * np.cos(turn), width * np.sin(turn)], 1) / 2, centre, angle)


def place(points: np.ndarray, centre: Point, angle: float, scale: float = 1.0) -> np.ndarray:
    """Scale, turn and move points, [K, 2]."""
    return np.asarray(points, dtype=np.float64) * scale @ _rotation(angle).T + centre


def beside(centre: Point, angle: float, along: float, across: float = 0.0) -> Point:
    """Return the point that lies `along` the direction of `angle` and `across` it from a centre."""
    x, y = place(np.array([(along, across)]), centre, angle)[0]
    return x, y


def fractal_noise(size: int, rng: np.random.Generator, coarsest: float) -> np.ndarray:
    """Return smooth noise of several octaves with mean near 0 and deviation 1.

    Args:
        size: side of the result in pixels.
        rng: stream to draw from.
        coarsest: size of the largest patches in pixels; each octave halves it, down to 1.

    Returns:
        [size, size] float32.
    """
    total = np.zeros((size, size), dtype=np.float32)
    step, weight = max(coarsest, 1.0), 1.0
    while step >= 1:
        side = int(np.ceil(size / step)) + 3
        grid = rng.standard_normal((side, side)).astype(np.float32)
        scaled = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += weight * scaled[:size, :size]
        step, weight = step / 2, weight * 0.7
    return (total - total.mean()) / (total.std() + 1e-6)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
