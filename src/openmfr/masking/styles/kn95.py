"""KN95 and FFP2 respirators: two panels that meet in a beak, or a boat of two or three panels."""

from __future__ import annotations

import numpy as np

from openmfr.masking.chance import pick
from openmfr.masking.styles import fabric, folds, patterns
from openmfr.masking.template import EarLoops, MaskTemplate, Outline

_COLOURS: dict[str, float] = {"white": 0.68, "black": 0.16, "grey": 0.06, "pastel": 0.10}
_SHADES: dict[str, fabric.Colour] = {
    "white": (0.94, 0.94, 0.93),
    "black": (0.08, 0.08, 0.09),
    "grey": (0.58, 0.59, 0.61),
}


def draw_kn95(rng: np.random.Generator, size: int = 256) -> MaskTemplate:
    """Draw a respirator.

    Three of four are folded down the middle; the others across, as a boat. One of six has a valve.

    Args:
        rng: Source of randomness.
        size: Texels along each side of the sheet, S.
    """
    name = pick(rng, _COLOURS)
    shade = _SHADES[name] if name in _SHADES else fabric.dye(rng, saturation=0.2, value=0.85)
    is_boat = rng.random() < 0.25
    outline = Outline(
        nose=rng.normal(-0.27, 0.025),
        side=rng.normal(0.0, 0.03),
        chin=rng.normal(0.91, 0.03),
        jaw=rng.normal(0.53, 0.05),
        half_angle=rng.uniform(0.98, 1.14),
    )
    canvas = fabric.blank(outline, size, fabric.vary(rng, shade, 0.025))
    # The upper edge runs nearly straight from the bridge down the cheeks.
    top = fabric.tent(canvas, rng.uniform(0.6, 1.6))
    fabric.cut(canvas, corner=rng.uniform(0.05, 0.14), pull=rng.uniform(0.0, 0.03), top=top)
    contrast = -0.3 if name == "black" else rng.uniform(0.08, 0.2)
    (_boat if is_boat else _beak)(canvas, rng, contrast)
    folds.jowls(canvas, rng.uniform(0.02, 0.05))
    for inset in (0.03, 0.05):
        marks = fabric.stitches(canvas, canvas.rim - np.float32(inset), length=0.03, width=0.006)
        canvas.shade(contrast * marks)
        canvas.height -= np.float32(0.003) * marks
    fabric.nose_wire(canvas, rng, at=0.06)
    if rng.random() < 0.16:
        _valve(canvas, rng, is_light=name != "black")
    elif rng.random() < 0.6:
        _print(canvas, rng, is_light=name != "black")
    folds.lean(canvas, rng)
    dirt = rng.uniform(0, 0.08) if name != "black" else 0.0
    folds.crumple(canvas, rng, int(rng.integers(2, 7)), rng.uniform(0.04, 0.12))
    folds.use(canvas, rng, depth=rng.uniform(0.004, 0.012), dirt=dirt, grain=0.016)
    folds.gape(canvas, rng.uniform(0.0, 0.015))
    light = (0.92, 0.92, 0.91) if name != "black" or rng.random() < 0.2 else (0.14, 0.14, 0.15)
    red, green, blue = (round(255 * c) for c in light)
    loops = EarLoops(
        colour=(red, green, blue),
        width=rng.uniform(0.02, 0.042),
        upper=rng.uniform(0.08, 0.16),
        lower=rng.uniform(0.84, 0.92),
    )
    return canvas.finish("kn95", loops, rng.uniform(0.0, 0.05))


def _soft_abs(x: fabric.Array, radius: float) -> fabric.Array:
    """|x| with its kink rounded."""
    out: fabric.Array = np.sqrt(x * x + np.float32(radius * radius)) - np.float32(radius)
    return out


def _beak(canvas: fabric.Canvas, rng: np.random.Generator, contrast: float) -> None:
    """Raise a ridge down the middle, highest before nose and mouth."""
    peak = rng.uniform(0.15, 0.24)
    angle = canvas.u * np.float32(canvas.outline.half_angle)
    away = _soft_abs(angle, rng.uniform(0.03, 0.12))
    panel = np.maximum(1 - away * np.float32(1 / rng.uniform(0.8, 0.95)), 0)
    # From the bridge straight out past the tip of the nose, round, and back under the chin.
    tip = rng.uniform(0.46, 0.58)
    rise = np.clip(canvas.v / tip, 0, 1)
    fall = np.clip((1 - canvas.v) / (1 - tip), 0, 1)
    profile = np.sin(np.pi / 2 * rise) ** 1.25 * np.sin(np.pi / 2 * fall) ** 0.9
    canvas.height += np.float32(peak) * panel * profile.astype(np.float32)
    fold = np.abs(canvas.across)
    canvas.height += np.float32(0.006) * fabric.line(fold, 0.012)
    canvas.shade(contrast * fabric.line(fold - np.float32(0.02), 0.010))
    if rng.random() < 0.7:  # the weld that shapes the panels above the nose and under the chin
        bend = fold - np.float32(0.04) - 0.5 * np.abs(canvas.v - np.float32(tip)) ** 2
        marks = fabric.stitches(canvas, bend, length=0.025, width=0.006)
        canvas.shade(contrast * 0.8 * marks)
    if rng.random() < 0.5:  # a second crease on the cheeks, as those that fold flat have
        crease = np.abs(angle) - np.float32(rng.uniform(0.55, 0.75)) + 0.25 * (canvas.v - 0.5)
        canvas.height += np.float32(0.010) * fabric.line(crease, 0.025)
        canvas.shade(contrast * 0.4 * fabric.line(crease, 0.01))


def _boat(canvas: fabric.Canvas, rng: np.random.Generator, contrast: float) -> None:
    """Raise a box before nose and mouth whose panels meet in one or two creases across."""
    peak = rng.uniform(0.14, 0.22)
    upper = rng.uniform(0.34, 0.42)
    lower = rng.uniform(0.62, 0.72) if rng.random() < 0.6 else upper + 0.08
    # The creases droop towards the cheeks, where the panels meet.
    droop = 0.10 * canvas.u * canvas.u
    first = upper + droop
    last = lower + (0.5 - lower) * 0.5 * canvas.u * canvas.u
    rise = np.clip(canvas.v / first, 0, 1)
    fall = np.clip((1 - canvas.v) / (1 - last), 0, 1)
    sideways = np.clip(1 - np.abs(canvas.u / np.float32(0.95)) ** np.float32(2.2), 0, 1)
    profile = np.minimum(rise, fall)
    # A cloth drawn tight already reaches from the nose to the chin: the chin needs less.
    canvas.height += np.float32(peak) * sideways * profile
    for crease in (first, last):
        away = (canvas.v - crease) * canvas.span
        canvas.height += np.float32(0.008) * fabric.line(away, 0.016)
        canvas.shade(contrast * 0.6 * fabric.line(away - np.float32(0.012), 0.008))


def _valve(canvas: fabric.Canvas, rng: np.random.Generator, *, is_light: bool) -> None:
    """Set a round valve of plastic beside the nose: a rim, a lid, slits through it."""
    radius = rng.uniform(0.075, 0.11)
    aside = canvas.across - np.float32(rng.choice([-1.0, 1.0]) * rng.uniform(0.18, 0.29))
    down = canvas.level - np.float32(rng.uniform(0.36, 0.5))
    away = np.hypot(aside, down)
    lid = fabric.smooth(-away, -radius, -radius + 0.012)
    plastic = (0.85, 0.86, 0.87) if is_light and rng.random() < 0.7 else (0.13, 0.13, 0.14)
    canvas.tint(lid, plastic)
    rim = fabric.line(away - np.float32(radius - 0.02), 0.012)
    slits = fabric.line(np.mod(down, np.float32(0.045)) - np.float32(0.022), 0.008)
    inner = fabric.smooth(-away, -0.65 * radius, -0.55 * radius)
    canvas.shade(0.5 * slits * inner - 0.2 * rim)
    # Its shadow lies below it.
    canvas.shade(0.3 * fabric.line(np.hypot(aside, down - 0.015) - np.float32(radius), 0.018))
    canvas.height += np.float32(0.035) * lid + np.float32(0.008) * rim


def _print(canvas: fabric.Canvas, rng: np.random.Generator, *, is_light: bool) -> None:
    """Print the small grey lines that say which standard it meets: the names are made up."""
    side = rng.choice([-1.0, 1.0])
    ink = (0.45, 0.48, 0.52) if is_light else (0.6, 0.6, 0.6)
    angle, level = side * rng.uniform(0.4, 0.6), rng.uniform(0.32, 0.5)
    letters = "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVWXYZ"), 2))
    number, year = rng.integers(1000, 9999), rng.integers(18, 25)
    lines = (f"{letters}-{rng.integers(10, 99)}", f"{number}-20{year}")
    for row, words in enumerate(lines):
        patch = patterns.written(words)
        width = 0.022 * patch.shape[1] / patch.shape[0] * rng.uniform(0.9, 1.3)
        place = level + 0.045 * row
        letters_at = patterns.stamp(canvas, patch, angle=angle, level=place, width=width)
        canvas.tint(0.6 * letters_at, ink)
