"""Surgical masks: three pleats, a nose wire, welded edges, loops welded on at the corners."""

from __future__ import annotations

import numpy as np

from openmfr.masking.chance import pick
from openmfr.masking.styles import fabric, folds
from openmfr.masking.template import EarLoops, MaskTemplate, Outline

_COLOURS: dict[str, float] = {
    "light blue": 0.52,
    "white": 0.16,
    "black": 0.12,
    "green": 0.09,
    "teal": 0.04,
    "pink": 0.03,
    "lavender": 0.02,
    "grey": 0.02,
}
_SHADES: dict[str, fabric.Colour] = {
    "light blue": (0.58, 0.79, 0.94),
    "white": (0.94, 0.95, 0.96),
    "black": (0.09, 0.09, 0.10),
    "green": (0.68, 0.84, 0.78),
    "teal": (0.35, 0.70, 0.72),
    "pink": (0.93, 0.72, 0.77),
    "lavender": (0.74, 0.70, 0.86),
    "grey": (0.55, 0.57, 0.59),
}
_LINING: fabric.Colour = (0.92, 0.93, 0.94)


def draw_surgical(rng: np.random.Generator, size: int = 256) -> MaskTemplate:
    """Draw a surgical mask.

    Args:
        rng: Source of randomness.
        size: Texels along each side of the sheet, S.
    """
    name = pick(rng, _COLOURS)
    colour = fabric.vary(rng, _SHADES[name], 0.035)
    if name == "light blue":  # from nearly white to sky blue
        red, green, blue = colour
        faded = rng.uniform(-0.10, 0.16)
        colour = red + faded, green + 0.5 * faded, blue + 0.1 * faded
    outline = Outline(
        nose=rng.normal(-0.23, 0.025),
        side=rng.normal(-0.10, 0.035),
        chin=rng.normal(0.89, 0.035),
        jaw=rng.normal(0.58, 0.05),
        half_angle=rng.uniform(1.0, 1.18),
    )
    canvas = fabric.blank(outline, size, colour)
    top = fabric.tent(canvas, rng.uniform(0.3, 1.5))
    fabric.cut(canvas, corner=rng.uniform(0.025, 0.08), pull=rng.uniform(0.0, 0.07), top=top)
    folds.bulge(canvas, rng.uniform(0.01, 0.05))
    folds.ridge(canvas, rng, rng.uniform(0.0, 0.06))
    folds.jowls(canvas, rng.uniform(0.06, 0.15))
    _fold(canvas, rng)
    _weld(canvas, rng, is_light=name != "black")
    folds.lean(canvas, rng)
    fabric.nose_wire(canvas, rng, at=rng.uniform(0.035, 0.055))
    dirt = rng.uniform(0, 0.10) if name != "black" else 0.0
    folds.crumple(canvas, rng, int(rng.integers(2, 8)), rng.uniform(0.07, 0.20))
    folds.use(canvas, rng, depth=rng.uniform(0.006, 0.018), dirt=dirt, grain=0.02)
    folds.gape(canvas, rng.uniform(0.06, 0.18))
    loop = _SHADES["black"] if name == "black" and rng.random() < 0.9 else _LINING
    loops = _attach(canvas, rng, loop)
    return canvas.finish("surgical", loops, rng.uniform(0.03, 0.12))


def _fold(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """Lay three pleats, as far apart as the machine had them and as open as the wearer pulled."""
    first, last = rng.uniform(0.24, 0.34), rng.uniform(0.62, 0.74)
    depth, opening = rng.uniform(0.024, 0.042), rng.uniform(-0.1, 0.3)
    # Panels look up or down, as they hang: some lighter, some darker.
    panel = np.interp(canvas.v[:, 0], (0.1, first, 0.5, last, 0.95), rng.normal(0, 0.08, 5))
    canvas.shade(panel.astype(np.float32)[:, None] * (1 - 0.5 * canvas.u * canvas.u))
    for at in np.linspace(first, last, 3):
        at, opened = float(at) + rng.normal(0, 0.02), opening + rng.normal(0, 0.12)
        folds.pleat(canvas, rng, at=at, depth=depth * rng.uniform(0.6, 1.3), opening=opened)


def _weld(canvas: fabric.Canvas, rng: np.random.Generator, *, is_light: bool) -> None:
    """Bind the edges: the lining folded over the upper one, rows of welds along all."""
    below = canvas.v * canvas.span
    if rng.random() < 0.55:
        band = rng.uniform(0.05, 0.09)
        share = rng.uniform(0.4, 1.0) if is_light else 0.15
        canvas.tint(np.float32(share) * fabric.smooth(-below, -band, -band + 0.008), _LINING)
    for inset in (0.03, 0.055) if rng.random() < 0.6 else (0.04,):
        marks = fabric.stitches(canvas, canvas.rim - np.float32(inset), length=0.05, width=0.006)
        canvas.shade((0.16 if is_light else -0.25) * marks)
        canvas.height -= np.float32(0.004) * marks
    # The pleats are pressed flat where the side edges are welded.
    side = canvas.outline.half_angle * fabric.RADIUS - np.abs(canvas.across)
    canvas.height *= 1 - 0.7 * fabric.line(side, 0.05)


def _attach(canvas: fabric.Canvas, rng: np.random.Generator, colour: fabric.Colour) -> EarLoops:
    """Weld the loops on at the corners."""
    width = rng.uniform(0.022, 0.042)
    upper, lower = rng.uniform(0.04, 0.08), rng.uniform(0.92, 0.96)
    side = canvas.outline.half_angle * fabric.RADIUS - np.abs(canvas.across)
    if rng.random() < 0.6:
        for v in (upper, lower):
            off = np.abs(canvas.v - np.float32(v)) * canvas.span - np.float32(width / 2)
            end = fabric.smooth(-side, -0.11, -0.09) * fabric.smooth(-off, -0.006, 0.004)
            canvas.tint(end * canvas.cover, colour)
            canvas.height += np.float32(0.01) * end * canvas.cover
    red, green, blue = (round(255 * c) for c in colour)
    return EarLoops(colour=(red, green, blue), width=width, upper=upper, lower=lower)
