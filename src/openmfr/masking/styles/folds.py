"""How cloth falls and folds: pleats, ridges, gaps at the jaw, wrinkles, creases, signs of use.

Folds change the relief, which the renderer lights, and the tone, by the light that they keep off:
photos of masked faces show more of the second than of the first.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from openmfr.masking.styles.fabric import RADIUS, Array, Canvas, line, noise, smooth

_PROFILE = 1024


def pleat(
    canvas: Canvas, rng: np.random.Generator, *, at: float, depth: float, opening: float
) -> None:
    """Lay one fold across the sheet whose edge points down and that opens towards the middle.

    Args:
        canvas: The sheet.
        rng: Source of randomness.
        at: v of its edge at the sides.
        depth: How far the upper layer stands off the lower.
        opening: Share by which it moves away from the sheet's middle, in the middle.
    """
    arch = 1 - canvas.u * canvas.u
    wander = noise(rng, (1, 6), (1, canvas.size)) * np.float32(0.025)
    edge = at + ((at - 0.5) * opening + wander) * arch
    below = (canvas.v - edge) * canvas.span
    # Where the fold is opened there is less of a step, and more of it on one half than the other.
    lean = np.maximum(1 + 0.5 * noise(rng, (1, 4), (1, canvas.size)), 0.15)
    step = depth * lean * (1 - np.float32(rng.uniform(0.1, 0.7)) * arch)
    soft = rng.uniform(0.008, 0.016)
    is_below = smooth(below, -soft, soft)
    # The upper layer rises slowly to its edge; what lies below comes out from under it.
    above = np.exp(np.minimum(below, 0) * np.float32(1 / 0.11))
    under = np.exp(-np.maximum(below, 0) * np.float32(1 / 0.05))
    canvas.height += step * (above * (1 - is_below) - np.float32(0.45) * under * is_below)
    shadow = line(np.maximum(below, 0), 0.03) + 0.5 * line(np.maximum(below, 0), 0.11)
    canvas.shade(np.float32(7.0) * step * is_below * shadow)
    canvas.shade(np.float32(-0.05) * lean * (1 - is_below) * line(np.minimum(below, 0), 0.05))


def bulge(canvas: Canvas, amount: float, *, across: float = 0.75) -> None:
    """Let the sheet stand off in its middle and lie on the face at its edges."""
    sideways = 1 - smooth(np.abs(canvas.u), 0, across)
    canvas.height += np.float32(amount) * sideways * np.sin(np.pi * canvas.v)


def ridge(canvas: Canvas, rng: np.random.Generator, amount: float) -> None:
    """Hang the sheet from the nose: it falls to both sides of a line from its tip to the chin."""
    bent = np.float32(rng.normal(0, 0.06)) * np.sin(np.pi * canvas.v)
    aside = canvas.across - np.float32(rng.normal(0, 0.02)) - bent
    away = np.sqrt(aside * aside + np.float32(0.0006)) - np.float32(0.0245)
    fall = np.maximum(1 - away * np.float32(1 / rng.uniform(0.3, 0.6)), 0)
    canvas.height += (
        np.float32(amount) * fall * smooth(canvas.v, 0.1, 0.4) * smooth(-canvas.v, -1, -0.6)
    )


def jowls(canvas: Canvas, amount: float) -> None:
    """Let the lower half span from the chin to the jaw, off the hollow between them."""
    aside = np.abs(canvas.u)
    beside = line(aside - np.float32(0.55), 0.4) * smooth(-aside, -1, -0.75)
    canvas.height += np.float32(amount) * beside * line(canvas.v - np.float32(0.8), 0.3)


def lean(canvas: Canvas, rng: np.random.Generator) -> None:
    """Let the upper part look up to the light and the lower down: it is tucked under the chin."""
    above = np.float32(rng.uniform(0.0, 0.10)) * smooth(-canvas.v, -0.55, -0.1)
    below = np.float32(rng.uniform(0.0, 0.18)) * smooth(canvas.v, 0.35, 0.75)
    under = np.float32(rng.uniform(0.0, 0.25)) * smooth(canvas.v, 0.72, 1.0)
    # One side is nearer to the light, however the head is turned.
    aside = np.float32(rng.normal(0, 0.06)) * np.sin(np.float32(np.pi / 2) * canvas.u)
    canvas.shade(below + under + aside - above)


def gape(canvas: Canvas, amount: float) -> None:
    """Let the side edges stand off the jaw, where stiff cloth does not follow the face."""
    lower = smooth(canvas.v, 0.1, 0.8)
    canvas.height += np.float32(amount) * smooth(np.abs(canvas.u), 0.25, 0.95) * lower


@cache
def _rays(size: int) -> list[tuple[npt.NDArray[np.intp], Array]]:
    """For each corner: which ray every texel lies on, 0–1023, and how weak the pull is there."""
    place = (np.arange(size, dtype=np.float32) + 0.5) / size
    rays = []
    for right in (False, True):
        for low in (False, True):
            x = (1 - place if right else place)[None]
            y = (1 - place if low else place)[:, None]
            ray = np.arctan2(y, x) * np.float32((_PROFILE - 1) * 2 / np.pi)
            far = np.hypot(x, y)
            rays.append((ray.astype(np.intp), line(far, 0.42) * smooth(far, 0.02, 0.14)))
    return rays


def wrinkles(canvas: Canvas, rng: np.random.Generator, depth: float) -> None:
    """Add folds that run from where the loops pull, and the soft unevenness of loose fabric."""
    for ray, pull in _rays(canvas.size):
        folds = noise(rng, (1, int(rng.integers(9, 20))), (1, _PROFILE))[0]
        relief = folds[ray] * pull
        canvas.height += np.float32(depth) * relief
        canvas.shade(np.float32(-0.06) * relief)
    shape = canvas.height.shape
    for cells, share in (((4, 6), 0.9), ((9, 12), 0.45), ((20, 26), 0.2)):
        lumps = noise(rng, cells, shape)
        canvas.height += np.float32(share * depth) * lumps
        canvas.shade(np.float32(-0.015) * lumps)


def creases(canvas: Canvas, rng: np.random.Generator, count: int, depth: float) -> None:
    """Add straight folds as left by a pocket or a packet."""
    for _ in range(count):
        slant = rng.uniform(0, np.pi)
        x, y = rng.uniform(-0.5, 0.5), rng.uniform(0.0, 0.7)
        off = (canvas.across - np.float32(x)) * np.float32(np.cos(slant))
        away = off + (canvas.level - np.float32(y)) * np.float32(np.sin(slant))
        canvas.height += np.float32(rng.choice([-1, 1]) * depth) * line(away, 0.02)
        canvas.shade(0.03 * line(away, 0.006))


def crumple(canvas: Canvas, rng: np.random.Generator, count: int, strength: float) -> None:
    """Crush the sheet: sharp creases of any direction, light on one side and dark on the other.

    Args:
        canvas: The sheet.
        rng: Source of randomness.
        count: Number of creases.
        strength: Share by which their sides differ from the rest in lightness; about 0.1.
    """
    reach = canvas.outline.half_angle * RADIUS
    # Black cloth's folds show by their sheen, which its dye does not weaken.
    dark = 1 - min(float(canvas.colour[::8, ::8].mean()), 0.7) / 0.7
    strength *= 1 + 2.5 * dark * dark
    for _ in range(count):
        # Many run rather across than down, as the loops pull.
        slant = rng.normal(np.pi / 2, 0.5) if rng.random() < 0.5 else rng.uniform(0, np.pi)
        x, y = rng.uniform(-0.9, 0.9) * reach, rng.uniform(-0.1, 0.85)
        right, down = canvas.across - np.float32(x), canvas.level - np.float32(y)
        away = right * np.float32(np.cos(slant)) + down * np.float32(np.sin(slant))
        along = down * np.float32(np.cos(slant)) - right * np.float32(np.sin(slant))
        bent = away + np.float32(rng.normal(0, 0.35)) * along * along
        off = np.abs(bent)
        ridge = np.exp(off * np.float32(-1 / rng.uniform(0.03, 0.09)))
        ridge *= line(along, rng.uniform(0.12, 0.4))
        share = strength * rng.uniform(0.4, 1.2)
        canvas.height += np.float32(0.1 * share * rng.choice([-1, 1])) * ridge
        canvas.shade(np.float32(share * rng.choice([-1, 1])) * ridge * np.sign(bent))


def use(
    canvas: Canvas,
    rng: np.random.Generator,
    *,
    depth: float,
    dirt: float,
    grain: float,
    rise: float = 0.05,
) -> None:
    """Add what wearing does, and bring the edges down to the face.

    Args:
        canvas: A sheet that has been cut.
        rng: Source of randomness.
        depth: Of wrinkles.
        dirt: Share of discolouring.
        grain: Share by which threads differ.
        rise: Length over which the sheet leaves the face behind its edge.
    """
    wrinkles(canvas, rng, depth)
    creases(canvas, rng, int(rng.integers(0, 3)), 0.6 * depth)
    shape = canvas.height.shape
    if dirt > 0:
        spots = smooth(noise(rng, (7, 9), shape), 0.2, 2.2)
        canvas.tint(np.float32(dirt) * spots, (0.45, 0.38, 0.30))
    canvas.shade(np.float32(grain) * rng.standard_normal(shape, dtype=np.float32))
    # Threads' unevenness that is seen from afar: about a millimetre.
    coarse = canvas.size * 3 // 8
    canvas.shade(np.float32(1.5 * grain) * noise(rng, (coarse, coarse), shape))
    canvas.shade(np.float32(rng.uniform(0.05, 0.25)) * line(canvas.rim, 0.015))
    canvas.height *= smooth(canvas.rim, -0.004, rise)
