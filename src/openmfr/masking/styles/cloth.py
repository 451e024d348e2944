"""Masks sewn from cloth: with a seam down the middle, pleated, or one flat piece."""

from __future__ import annotations

import numpy as np

from openmfr.masking.chance import pick
from openmfr.masking.styles import fabric, folds, patterns
from openmfr.masking.template import EarLoops, MaskTemplate, Outline

_PATTERNS: dict[str, float] = {
    "plain": 0.27,
    "heather": 0.08,
    "logo": 0.14,
    "text": 0.11,
    "stripes": 0.05,
    "checks": 0.12,
    "dots": 0.04,
    "flowers": 0.11,
    "camouflage": 0.03,
    "blocks": 0.03,
    "spots": 0.02,
    "gradient": 0.01,
}
_COLOURS: dict[str, float] = {
    "black": 0.40,
    "navy": 0.14,
    "grey": 0.08,
    "white": 0.16,
    "dyed": 0.22,
}
_SHADES: dict[str, fabric.Colour] = {
    "black": (0.06, 0.06, 0.07),
    "navy": (0.10, 0.13, 0.25),
    "grey": (0.45, 0.46, 0.48),
    "white": (0.93, 0.93, 0.92),
}


def draw_cloth(rng: np.random.Generator, size: int = 256) -> MaskTemplate:
    """Draw a cloth mask.

    Args:
        rng: Source of randomness.
        size: Texels along each side of the sheet, S.
    """
    cut = pick(rng, {"seam": 0.58, "pleats": 0.18, "flat": 0.24})
    colour = _colour(rng)
    outline = Outline(
        nose=rng.normal(-0.22, 0.035),
        side=rng.normal(-0.08, 0.045),
        chin=rng.normal(0.90, 0.04),
        jaw=rng.normal(0.58, 0.06),
        half_angle=rng.uniform(1.0, 1.22),
    )
    canvas = fabric.blank(outline, size, colour)
    top = fabric.tent(canvas, rng.uniform(0.3, 1.6))
    fabric.cut(canvas, corner=rng.uniform(0.05, 0.2), pull=rng.uniform(0.0, 0.06), top=top)
    pattern = pick(rng, _PATTERNS)
    if pattern != "plain":
        patterns.print_pattern(canvas, rng, pattern)
    folds.jowls(canvas, rng.uniform(0.03, 0.11))
    if cut == "seam":
        _seam(canvas, rng)
    elif cut == "pleats":
        folds.bulge(canvas, rng.uniform(0.01, 0.04))
        depth = rng.uniform(0.018, 0.034)
        for at in (0.3, 0.5, 0.7):
            folds.pleat(canvas, rng, at=at, depth=depth, opening=rng.uniform(-0.1, 0.2))
    else:
        folds.bulge(canvas, rng.uniform(0.0, 0.03))
        folds.ridge(canvas, rng, rng.uniform(0.0, 0.06))
    folds.lean(canvas, rng)
    _hems(canvas, rng)
    weave(canvas, rng, rng.uniform(0.01, 0.06))
    folds.crumple(canvas, rng, int(rng.integers(2, 10)), rng.uniform(0.05, 0.2))
    depth, dirt = rng.uniform(0.007, 0.022), rng.uniform(0, 0.06)
    folds.use(canvas, rng, depth=depth, dirt=dirt, grain=rng.uniform(0.015, 0.06))
    folds.gape(canvas, rng.uniform(0.02, 0.14))
    loops = None if rng.random() < 0.08 else _loops(rng, colour)
    gloss = rng.uniform(0.1, 0.3) if rng.random() < 0.15 else 0.0  # satin
    return canvas.finish("cloth", loops, gloss)


def _colour(rng: np.random.Generator) -> fabric.Colour:
    name = pick(rng, _COLOURS)
    if name == "dyed":
        return fabric.dye(rng, saturation=0.6, value=0.5)
    return fabric.vary(rng, _SHADES[name], 0.03)


def _seam(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """Join two curved halves: a low ridge down the middle."""
    peak = rng.uniform(0.02, 0.09)
    angle = np.abs(canvas.u * np.float32(canvas.outline.half_angle))
    panel = np.maximum(1 - np.sqrt(angle * angle + np.float32(0.004)) / np.float32(0.9), 0)
    canvas.height += np.float32(peak) * panel * np.sin(np.pi * canvas.v)
    away = np.abs(canvas.across)
    # The halves look to different sides, more than a smooth light shows.
    halves = fabric.smooth(canvas.across, -0.012, 0.012) - np.float32(0.5)
    canvas.shade(np.float32(rng.normal(0, 0.12)) * halves)
    canvas.height -= np.float32(0.008) * fabric.line(away, 0.010)
    canvas.shade(0.16 * fabric.line(away, 0.007))
    if rng.random() < 0.5:
        marks = fabric.stitches(canvas, away - np.float32(0.03), length=0.03, width=0.006)
        canvas.shade(0.10 * marks)


def _hems(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """Sew the edges over, or bind them with a tape of another colour."""
    if rng.random() < 0.15:
        tape = fabric.dye(rng, saturation=0.4, value=0.4) if rng.random() < 0.5 else (0.1, 0.1, 0.1)
        canvas.tint(fabric.smooth(-canvas.rim, -0.045, -0.035), tape)
        canvas.height += np.float32(0.012) * fabric.line(canvas.rim - np.float32(0.02), 0.02)
        return
    fabric.hem(canvas, inset=rng.uniform(0.03, 0.06), sewn=rng.random() < 0.7)
    if rng.random() < 0.4:  # the channel of the loops at the sides
        side = canvas.outline.half_angle * fabric.RADIUS - np.abs(canvas.across) - np.float32(0.10)
        canvas.shade(0.12 * fabric.line(side, 0.007))
        canvas.height -= np.float32(0.006) * fabric.line(side, 0.012)


def weave(canvas: fabric.Canvas, rng: np.random.Generator, share: float) -> None:
    """Show the threads: woven across each other, or knitted in ribs.

    Args:
        canvas: The sheet.
        rng: Source of randomness.
        share: How much lighter and darker they make it.
    """
    texel = np.arange(canvas.size, dtype=np.float32)
    fine = np.float32(2 * np.pi / rng.uniform(2.6, 4.5) * 256 / canvas.size)
    if rng.random() < 0.35:
        threads = np.broadcast_to(np.sin(texel * fine), canvas.height.shape)
    else:
        threads = np.sin(texel * fine)[None] * np.sin(texel * fine)[:, None]
    canvas.shade(np.float32(share) * threads)


def _loops(rng: np.random.Generator, colour: fabric.Colour) -> EarLoops:
    light = pick(rng, {"same": 0.55, "white": 0.2, "black": 0.25})
    shades = {"same": colour, "white": (0.9, 0.9, 0.9), "black": (0.12, 0.12, 0.12)}
    red, green, blue = (round(255 * c) for c in shades[light])
    width = rng.uniform(0.02, 0.055)
    upper, lower = rng.uniform(0.05, 0.2), rng.uniform(0.82, 0.94)
    return EarLoops(colour=(red, green, blue), width=width, upper=upper, lower=lower)
