"""Drawing on a mask's sheet in lengths of the head: edges, hems, seams, the nose wire, dyes.

Lengths are eye spans (about 100 mm), so that a pleat is as deep and a stitch as long on every
style.
Colours are shares of white (0–1) under even light. Folds darken them by what they keep off that
light, and make them deeper; the rest of their shading is the renderer's, which lights the relief.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from openmfr.masking.template import EarLoops, MaskTemplate, Outline

# float32 throughout; the type checker cannot follow numpy's arithmetic with plain numbers.
Array = npt.NDArray[Any]

#: Distance of the cheeks from the head's axis: an angle times this is a length.
RADIUS = 0.75

#: How far loose fabric stands off in the middle of relief, so that the relief has room downwards.
THICKNESS = 0.012

Colour = tuple[float, float, float]

# How much more a colour shows where it is shaded.
_DYED = 2.2


@dataclass(eq=False)
class Canvas:
    """A sheet that is being drawn.

    Attributes:
        outline: Where its edges lie.
        colour: Shares of white, shape (S, S, 3), float32.
        cover: 0–1, shape (S, S).
        height: Eye spans, shape (S, S).
        u: −1 at the left end to 1 at the right end, shape (1, S).
        v: 0 at the upper edge to 1 at the lower, shape (S, 1).
        span: Length of every column, shape (1, S).
        level: Height of every texel on the head, shape (S, S).
        rim: Distance from the nearest edge, shape (S, S); set by `cut`.
        tone: How light the colour is left, shape (S, S); set by `shade`.
    """

    outline: Outline
    colour: Array
    cover: Array
    height: Array
    u: Array
    v: Array
    span: Array
    level: Array
    rim: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    tone: Array = field(init=False)

    def __post_init__(self) -> None:
        self.tone = np.ones_like(self.height)

    @property
    def size(self) -> int:
        """Texels along each side, S."""
        return len(self.height)

    @property
    def across(self) -> Array:
        """Length along the head from the middle, shape (1, S)."""
        return self.u * np.float32(self.outline.half_angle * RADIUS)

    def tint(self, share: Array, colour: Colour) -> None:
        """Mix a colour in; `share` is 0–1, shape (S, S) or one that broadcasts to it."""
        share = np.broadcast_to(share, self.height.shape)[..., None]
        self.colour += share * (np.asarray(colour, np.float32) - self.colour)

    def shade(self, share: Array) -> None:
        """Darken (or lighten, where negative) by a share of the colour."""
        self.tone *= 1 - share

    def finish(self, style: str, loops: EarLoops | None, gloss: float) -> MaskTemplate:
        """Round to a template."""
        rgba = np.empty((*self.height.shape, 4), np.uint8)
        rgba[..., :3] = np.clip(self._toned() * 255 + 0.5, 0, 255)
        rgba[..., 3] = np.clip(self.cover * 255 + 0.5, 0, 255)
        return MaskTemplate(
            style=style,
            rgba=rgba,
            height=np.maximum(self.height, 0).astype(np.float32),
            outline=self.outline,
            loops=loops,
            gloss=gloss,
        )

    def _toned(self) -> Array:
        """Darken the colours: light that leaves a fold was dyed more than once on its way."""
        brightest = self.colour.max(axis=2, keepdims=True) + np.float32(1e-3)
        paler = 1 - self.colour / brightest
        deeper = 1 - np.clip(1 - self.tone, -0.4, 0.6)[..., None] * np.float32(_DYED) * paler
        toned: Array = self.colour * self.tone[..., None] * deeper
        return toned


def blank(outline: Outline, size: int, colour: Colour) -> Canvas:
    """Lay out an even sheet.

    Args:
        outline: Where its edges lie.
        size: Texels along each side, S.
        colour: Shares of white.

    Example:
        >>> outline = Outline(nose=-0.2, side=0.0, chin=0.9, jaw=0.5, half_angle=1.2)
        >>> canvas = blank(outline, 64, (0.5, 0.5, 0.5))
        >>> canvas.colour.shape, float(canvas.span.max()) < 1.1
        ((64, 64, 3), True)
    """
    place = (np.arange(size, dtype=np.float32) + 0.5) / size
    u, v = 2 * place[None] - 1, place[:, None]
    ease = smooth(np.abs(u), 0, 1)
    top = outline.nose + (outline.side - outline.nose) * ease
    span = outline.chin + (outline.jaw - outline.chin) * ease - top
    return Canvas(
        outline=outline,
        colour=np.full((size, size, 3), colour, np.float32),
        cover=np.ones((size, size), np.float32),
        height=np.full((size, size), THICKNESS, np.float32),
        u=u,
        v=v,
        span=span,
        level=top + v * span,
    )


def smooth(x: Array, low: float, high: float) -> Array:
    """Step from 0 at `low` to 1 at `high` without a kink.

    Example:
        >>> smooth(np.float32([0, 1, 2]), 0, 2).tolist()
        [0.0, 0.5, 1.0]
    """
    share = np.clip((x - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    out: Array = share * share * (3 - 2 * share)
    return out


def line(distance: Array, width: float) -> Array:
    """A soft line: 1 where the distance is 0, falling as a bell.

    Example:
        >>> line(np.float32([0, 1]), 1.0).round(2).tolist()
        [1.0, 0.3700000047683716]
    """
    ratio = distance * np.float32(1 / width)
    out: Array = np.exp(-ratio * ratio)
    return out


def noise(rng: np.random.Generator, cells: tuple[int, int], shape: tuple[int, int]) -> Array:
    """Draw a smooth random field.

    Args:
        rng: Source of randomness.
        cells: Rows and columns of independent normal values.
        shape: Rows and columns of the field.

    Returns:
        float32, mean 0, standard deviation about 0.7.
    """
    grid = rng.standard_normal(cells, dtype=np.float32)
    picture = Image.fromarray(grid).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def cut(
    canvas: Canvas,
    *,
    corner: float,
    pull: float = 0.0,
    top: Array | float = 0.0,
    bottom: Array | float = 0.0,
) -> None:
    """Cut the sheet to its product's shape: sets `cover` and `rim`.

    Args:
        canvas: What to cut.
        corner: Radius of the corners.
        pull: How far the loops draw the side edges in, in their middle.
        top: What is cut off the upper edge, shape (1, S) or one number.
        bottom: What is cut off the lower edge.
    """
    bow = np.sin(np.pi * canvas.v)
    side = canvas.outline.half_angle * RADIUS - np.abs(canvas.across) - pull * bow * bow
    end = np.minimum(canvas.v * canvas.span - top, (1 - canvas.v) * canvas.span - bottom)
    nearest = np.minimum(side, end)
    in_corner = (side < corner) & (end < corner)
    round_ = corner - np.hypot(corner - side, corner - end)
    canvas.rim = np.where(in_corner, round_, nearest).astype(np.float32)
    # Half a texel from the edge there is nothing yet, so that the sheet itself does not show.
    canvas.cover = np.clip(canvas.rim * np.float32(canvas.size / 1.9) - np.float32(0.3), 0, 1)


def tent(canvas: Canvas, sharpness: float) -> Array:
    """What to cut off the upper edge so that it falls in a line from the nose, not as a dome.

    Args:
        canvas: The sheet, whose outline falls from the middle to the sides.
        sharpness: 0 leaves the dome; 1 falls straight; more falls steeply beside the nose.

    Returns:
        Eye spans, shape (1, S).
    """
    share = np.sqrt(canvas.u * canvas.u + np.float32(0.006)) - np.float32(0.0774)
    straight = np.maximum(share, 0) ** np.float32(1 / max(sharpness, 1))
    drop = canvas.outline.side - canvas.outline.nose
    cut_off: Array = np.maximum(straight - smooth(np.abs(canvas.u), 0, 1), 0)
    return cut_off * np.float32(max(drop, 0) * min(sharpness, 1))


def stitches(canvas: Canvas, distance: Array, *, length: float, width: float) -> Array:
    """Mark short stitches or welds where a distance is 0.

    Args:
        canvas: The sheet.
        distance: From the seam, shape (S, S).
        length: Of a stitch and the gap behind it.
        width: Of the seam.

    Returns:
        0–1, shape (S, S).
    """
    # A seam runs along or across: counting along both axes at once breaks either.
    along = np.sin((canvas.across + canvas.level) * np.float32(2 * np.pi / length)) > -0.2
    marks: Array = line(distance, width) * along
    return marks


def hem(canvas: Canvas, *, inset: float, sewn: bool) -> None:
    """Fold the edge over: a thicker border with a seam at its inner side."""
    seam = canvas.rim - np.float32(inset)
    mark = stitches(canvas, seam, length=0.035, width=0.006) if sewn else line(seam, 0.006)
    canvas.shade(0.12 * mark)
    canvas.height += np.float32(0.006) * smooth(-seam, 0, 0.008) - np.float32(0.006) * mark


def nose_wire(canvas: Canvas, rng: np.random.Generator, *, at: float = 0.045) -> None:
    """Show the wire at the nose: a flat bar with a dent where it is pinched."""
    reach = rng.uniform(0.36, 0.5)
    below = canvas.v * canvas.span - np.float32(at)
    long = 1 - smooth(np.abs(canvas.across), reach - 0.03, reach)
    bar = smooth(-np.abs(below), -0.024, -0.014) * long
    canvas.height += np.float32(0.007) * bar
    canvas.shade(0.05 * line(np.abs(below) - np.float32(0.02), 0.006) * long)
    pinch = line(np.abs(canvas.across) - np.float32(rng.uniform(0.06, 0.1)), 0.05)
    canvas.height -= np.float32(rng.uniform(0, 0.006)) * pinch * line(below, 0.05)


def vary(rng: np.random.Generator, colour: Colour, spread: float = 0.02) -> Colour:
    """Move a colour a little, mostly in lightness; the darker it is, the less its hue shows."""
    light = rng.normal(0, spread)
    hue = rng.normal(0, spread / 3, 3) * max(colour)
    red, green, blue = (
        float(np.clip(share + light + turn, 0.03, 0.96))
        for share, turn in zip(colour, hue, strict=True)
    )
    return red, green, blue


def dye(rng: np.random.Generator, *, saturation: float, value: float) -> Colour:
    """Draw a colour of any hue, about this saturation and value; few are as strong as both say."""
    strong = float(np.clip(saturation * rng.uniform(0.4, 1.3), 0, 0.9))
    bright = float(np.clip(rng.normal(value, 0.12), 0.12, 0.92))
    # Greens are rare in masks, blues and reds are not; strong limes and magentas are rarer.
    hue = rng.random()
    if 0.12 < hue < 0.45 and rng.random() < 0.6:
        hue = float(rng.normal(0.6, 0.05)) if rng.random() < 0.6 else rng.uniform(0, 0.05)
    if 0.12 < hue < 0.45 or 0.78 < hue < 0.9:
        strong *= 0.6
    return colorsys.hsv_to_rgb(hue, strong, bright)
