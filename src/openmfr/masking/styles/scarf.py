"""Scarves, bandanas and gaiters: no loops; from the nose over the chin, round to the ears."""

from __future__ import annotations

import numpy as np

from openmfr.masking.chance import pick
from openmfr.masking.styles import fabric, folds, patterns
from openmfr.masking.styles.cloth import weave
from openmfr.masking.template import MaskTemplate, Outline

_KINDS: dict[str, float] = {"gaiter": 0.45, "bandana": 0.30, "scarf": 0.25}
_PATTERNS: dict[str, float] = {
    "plain": 0.40,
    "heather": 0.12,
    "stripes": 0.10,
    "checks": 0.12,
    "dots": 0.05,
    "flowers": 0.08,
    "camouflage": 0.06,
    "gradient": 0.07,
}


def draw_scarf(rng: np.random.Generator, size: int = 256) -> MaskTemplate:
    """Draw a scarf, a bandana or a gaiter.

    Args:
        rng: Source of randomness.
        size: Texels along each side of the sheet, S.
    """
    kind = pick(rng, _KINDS)
    colour = (
        fabric.vary(rng, (0.08, 0.08, 0.095), 0.03)
        if rng.random() < 0.4
        else fabric.dye(rng, saturation=0.45, value=0.5)
    )
    outline = Outline(
        nose=rng.normal(-0.16, 0.05),
        side=rng.normal(-0.02, 0.06),
        chin=rng.uniform(1.18, 1.4),
        jaw=rng.uniform(0.95, 1.1),
        half_angle=rng.uniform(1.5, 1.62),
    )
    canvas = fabric.blank(outline, size, colour)
    wave = 0.5 + 0.5 * fabric.noise(rng, (1, 9), (1, size))
    top = np.clip(np.float32(rng.uniform(0.0, 0.05)) * wave, 0, 0.1)
    bottom = np.abs(canvas.u) * np.float32(0.3) if kind == "bandana" else 0.0
    fabric.cut(canvas, corner=0.02, top=top, bottom=bottom)
    pattern = pick(rng, _PATTERNS)
    if pattern != "plain":
        patterns.print_pattern(canvas, rng, pattern)
    if kind == "bandana" and pattern in ("plain", "dots", "flowers"):
        _border(canvas, rng)
    # Under the chin it hangs free of the neck.
    hollow = fabric.line(canvas.v - np.float32(0.74), 0.26)
    canvas.height += np.float32(rng.uniform(0.16, 0.28)) * hollow
    _folds(canvas, rng, kind)
    if kind == "scarf" or (kind == "gaiter" and rng.random() < 0.4):
        _rib(canvas, rng)
    else:
        weave(canvas, rng, rng.uniform(0.01, 0.03))
        fabric.hem(canvas, inset=0.05, sewn=True)
    folds.lean(canvas, rng)
    folds.crumple(canvas, rng, int(rng.integers(3, 10)), rng.uniform(0.06, 0.18))
    folds.use(canvas, rng, depth=rng.uniform(0.006, 0.016), dirt=0.0, grain=0.03, rise=0.12)
    return canvas.finish("scarf", None, 0.0)


def _folds(canvas: fabric.Canvas, rng: np.random.Generator, kind: str) -> None:
    """Hang swags from ear to ear: curved folds, deep in a thick scarf, shallow in a gaiter."""
    depth = {"gaiter": 0.02, "bandana": 0.035, "scarf": 0.06}[kind] * rng.uniform(0.6, 1.3)
    canvas.height += np.float32(depth)
    arch = 1 - canvas.u * canvas.u
    wander = fabric.noise(rng, (3, 6), canvas.height.shape) * np.float32(0.05)
    sag = rng.uniform(0.05, 0.2)
    place = canvas.v - np.float32(sag) * arch + wander
    count = int(rng.integers(5, 12))
    profile = fabric.noise(rng, (1, count), (1, 1024))[0]
    # Folds begin below the nose: above, the cloth is drawn tight.
    loose = fabric.smooth(canvas.v, 0.12, 0.5)
    relief = profile[np.clip((place + 0.3) * 760, 0, 1023).astype(np.intp)] * loose
    canvas.height += np.float32(depth) * relief
    canvas.shade(np.float32(-0.05) * np.minimum(relief, 0.5))


def _rib(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """Knit ribs that run down."""
    ribs = np.sin(canvas.across * np.float32(2 * np.pi / rng.uniform(0.03, 0.06)))
    canvas.height += np.float32(0.003) * ribs
    canvas.shade(np.float32(-0.05) * ribs)


def _border(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """Print the lines and dots that run along a bandana's edge."""
    ink = (0.9, 0.9, 0.88) if rng.random() < 0.7 else (0.1, 0.1, 0.1)
    for inset in (0.08, 0.18):
        canvas.tint(0.9 * fabric.line(canvas.rim - np.float32(inset), 0.008), ink)
    dots = fabric.stitches(canvas, canvas.rim - np.float32(0.13), length=0.06, width=0.014)
    canvas.tint(0.9 * dots, ink)
