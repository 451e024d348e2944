"""What is printed on masks: stripes, checks, dots, flowers, camouflage, blocks, emblems, words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from openmfr.masking.styles import fabric

_SYLLABLES = ("ka", "lo", "mi", "ru", "ten", "so", "va", "ni", "bel", "or", "da", "fi", "ex", "um")
_WORDS = ("HELLO", "SMILE", "STAY SAFE", "TEAM", "LOVE", "2020", "HOPE", "COFFEE", "GO")


def print_pattern(canvas: fabric.Canvas, rng: np.random.Generator, name: str) -> None:
    """Print one of `PATTERNS` all over or in one place.

    Args:
        canvas: A plain sheet.
        rng: Source of randomness.
        name: Which pattern.
    """
    PATTERNS[name](canvas, rng)


def written(words: str, *, height: int = 48) -> fabric.Array:
    """Set words in Pillow's own font.

    Args:
        words: One line.
        height: Of the letters, pixels.

    Returns:
        0–1, shape (h, w).
    """
    font = ImageFont.load_default(height)
    left, upper, right, lower = font.getbbox(words)
    size = (int(right - left) + 4, int(lower - upper) + 4)
    picture = Image.new("L", size)
    ImageDraw.Draw(picture).text((2 - left, 2 - upper), words, font=font, fill=255)
    return np.asarray(picture, np.float32) / 255


def stamp(
    canvas: fabric.Canvas, patch: fabric.Array, *, angle: float, level: float, width: float
) -> fabric.Array:
    """Place a small picture on the sheet, undistorted on the head.

    Args:
        canvas: The sheet.
        patch: 0–1, shape (h, w).
        angle: Of its middle, radians.
        level: Of its middle, eye spans.
        width: Eye spans.

    Returns:
        0–1, shape (S, S); what would lie beyond the sheet is cut off.
    """
    size, half = canvas.size, canvas.outline.half_angle
    column = round((angle / half + 1) / 2 * size)
    near = min(max(column, 0), size - 1)
    span = float(canvas.span[0, near])
    row = round((level - float(canvas.level[0, near])) / span * size)
    wide = max(1, round(width / (2 * half * fabric.RADIUS) * size))
    tall = max(1, round(width * patch.shape[0] / patch.shape[1] / span * size))
    small = Image.fromarray(patch).resize((wide, tall), Image.Resampling.BOX)
    whole = Image.new("F", (size, size))
    whole.paste(small, (column - wide // 2, row - tall // 2))
    return np.asarray(whole)


def _ink(rng: np.random.Generator) -> fabric.Colour:
    if rng.random() < 0.42:
        grey = float(rng.choice([0.10, 0.92], p=[0.4, 0.6]))
        return grey, grey, grey
    return fabric.dye(rng, saturation=0.8, value=rng.uniform(0.35, 0.85))


def _turned(canvas: fabric.Canvas, slant: float) -> fabric.Array:
    """Distance along a direction of the head, shape (S, S)."""
    return canvas.across * np.float32(np.cos(slant)) + canvas.level * np.float32(np.sin(slant))


def _band(place: fabric.Array, period: float, share: float) -> fabric.Array:
    """Stripes with soft edges: 1 on `share` of every period."""
    phase = np.abs((place / np.float32(period)) % 1 - np.float32(0.5)) * 2
    return fabric.smooth(-phase, -share - 0.06, -share + 0.06)


def _stripes(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    slant = float(rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]))
    stripes = _band(_turned(canvas, slant), rng.uniform(0.035, 0.15), rng.uniform(0.2, 0.6))
    canvas.tint(0.9 * stripes, _ink(rng))


def _checks(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """Gingham or tartan: two sets of stripes that mix where they cross."""
    slant, period = float(rng.choice([0.0, np.pi / 4])), rng.uniform(0.04, 0.13)
    share = float(rng.choice([0.5, rng.uniform(0.1, 0.4)]))
    first, second = _ink(rng), _ink(rng)
    weft = first if rng.random() < 0.6 else second
    for turn, colour in ((slant, first), (slant + np.pi / 2, weft)):
        canvas.tint(0.5 * _band(_turned(canvas, turn), period, share), colour)
        if rng.random() < 0.5:
            canvas.tint(0.4 * _band(_turned(canvas, turn) + 0.03, period, 0.07), second)


def _dots(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    period, radius = rng.uniform(0.045, 0.13), rng.uniform(0.2, 0.36)
    x = _turned(canvas, np.pi / 4) / np.float32(period) % 1 - np.float32(0.5)
    y = _turned(canvas, -np.pi / 4) / np.float32(period) % 1 - np.float32(0.5)
    canvas.tint(0.95 * fabric.smooth(-np.hypot(x, y), -radius - 0.06, -radius + 0.06), _ink(rng))


def _camouflage(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    hue = fabric.dye(rng, saturation=0.35, value=0.45)
    for lightness in (0.5, 1.4, 0.2):
        red, green, blue = (min(c * lightness, 0.95) for c in hue)
        field = fabric.noise(rng, (11, 16), canvas.height.shape)
        canvas.tint(fabric.smooth(field, 0.38, 0.42), (red, green, blue))


def _flowers(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """Scatter blossoms and leaves, drawn once at twice the size and laid over the sheet."""
    colours = [_ink(rng) for _ in range(3)]
    scale = rng.uniform(0.035, 0.10)
    for colour in colours:
        petals, count = int(rng.integers(4, 8)), int(rng.integers(14, 34))
        canvas.tint(_scatter(canvas, rng, _blossom(petals), scale, count), colour)
    canvas.tint(_scatter(canvas, rng, _blossom(2), scale, 18), (0.2, 0.42, 0.25))


def _blossom(petals: int) -> Image.Image:
    picture = Image.new("L", (64, 64))
    draw = ImageDraw.Draw(picture)
    for turn in np.arange(petals) * (2 * np.pi / petals):
        x, y = 32 + 17 * np.cos(turn), 32 + 17 * np.sin(turn)
        draw.ellipse((x - 12, y - 12, x + 12, y + 12), fill=255)
    if petals > 2:
        draw.ellipse((26, 26, 38, 38), fill=60)
    return picture


def _scatter(
    canvas: fabric.Canvas, rng: np.random.Generator, motif: Image.Image, radius: float, count: int
) -> fabric.Array:
    """Lay copies of a motif over the sheet at random places and turns."""
    whole = Image.new("L", (canvas.size, canvas.size))
    column = 2 * canvas.outline.half_angle * fabric.RADIUS / canvas.size
    row = float(canvas.span.mean()) / canvas.size
    for _ in range(count):
        turned = motif.rotate(rng.uniform(0, 360))
        reach = radius * rng.uniform(0.6, 1.3)
        size = (max(2, round(2 * reach / column)), max(2, round(2 * reach / row)))
        small = turned.resize(size, Image.Resampling.BILINEAR)
        place = rng.integers(-size[0], canvas.size), rng.integers(-size[1], canvas.size)
        whole.paste(255, (int(place[0]), int(place[1])), small)
    return np.asarray(whole, np.float32) / 255


def _blocks(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """Patchwork: large fields of a few strong colours, as on flags."""
    colours = np.array([_ink(rng) for _ in range(4)], np.float32)
    rows, columns = int(rng.integers(6, 18)), int(rng.integers(8, 26))
    chosen = rng.integers(4, size=(rows, columns))
    shift = np.float32(rng.uniform(-0.3, 0.3))
    row = ((canvas.v + shift * canvas.u) * rows).astype(np.intp) % rows
    column = ((canvas.u + shift * canvas.v + 1) / 2 * columns).astype(np.intp) % columns
    canvas.colour[:] = colours[chosen[row, column]]


def _spots(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """An animal's coat: rings about the crests of a field."""
    field = fabric.noise(rng, (20, 30), canvas.height.shape)
    canvas.tint(0.8 * fabric.smooth(field, 0.55, 0.7), _ink(rng))
    canvas.tint(fabric.line(field - np.float32(0.55), 0.13), (0.1, 0.08, 0.07))


def _gradient(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    along = _turned(canvas, rng.uniform(0, 2 * np.pi))
    canvas.tint(fabric.smooth(along, -0.8, 0.9), _ink(rng))


def _heather(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """Mottled yarn."""
    for cells in ((canvas.size // 2, 40), (48, canvas.size // 2)):
        strength = np.float32(rng.uniform(0.02, 0.07))
        canvas.shade(strength * fabric.noise(rng, cells, canvas.height.shape))


def _logo(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """One made-up emblem: a few shapes in two inks, on a cheek or in the middle."""
    side = float(rng.choice([0.0, -1.0, 1.0], p=[0.2, 0.4, 0.4]))
    place = {
        "angle": side * rng.uniform(0.4, 0.65),
        "level": rng.uniform(0.25, 0.55),
        "width": rng.uniform(0.14, 0.3) if side else rng.uniform(0.2, 0.5),
    }
    for reach in np.linspace(44, 16, int(rng.integers(1, 4))):
        patch = np.asarray(_emblem(rng, float(reach)), np.float32) / 255
        canvas.tint(stamp(canvas, patch, **place), _ink(rng))


def _emblem(rng: np.random.Generator, reach: float) -> Image.Image:
    """A ring, a disc, a star, a polygon or a bar about the middle of a small picture."""
    picture = Image.new("L", (96, 96))
    draw = ImageDraw.Draw(picture)
    kind = rng.integers(5)
    box = (48 - reach, 48 - reach, 48 + reach, 48 + reach)
    if kind == 0:
        draw.ellipse(box, outline=255, width=int(rng.integers(6, 14)))
    elif kind == 1:
        draw.ellipse(box, fill=255)
    elif kind == 2:
        half = reach * rng.uniform(0.25, 0.5)
        draw.rectangle((48 - reach, 48 - half, 48 + reach, 48 + half), fill=255)
    else:
        points = int(rng.integers(3, 8))
        inner = rng.uniform(0.35, 0.6) if kind == 3 else np.cos(np.pi / points)
        turn = rng.uniform(0, 2 * np.pi) + np.arange(2 * points) * (np.pi / points)
        radius = np.where(np.arange(2 * points) % 2, inner, 1.0) * reach
        corners = zip(48 + radius * np.cos(turn), 48 + radius * np.sin(turn), strict=True)
        draw.polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return picture


def _text(canvas: fabric.Canvas, rng: np.random.Generator) -> None:
    """A word of English or one that means nothing."""
    made_up = "".join(rng.choice(_SYLLABLES, int(rng.integers(2, 4)))).upper()
    patch = written(str(rng.choice(_WORDS)) if rng.random() < 0.5 else made_up)
    is_large = rng.random() < 0.5
    angle = 0.0 if is_large else float(rng.choice([-1.0, 1.0])) * rng.uniform(0.35, 0.6)
    width = rng.uniform(0.5, 0.9) if is_large else rng.uniform(0.2, 0.4)
    level = rng.uniform(0.25, 0.6)
    canvas.tint(stamp(canvas, patch, angle=angle, level=level, width=width), _ink(rng))


#: What can be printed.
PATTERNS: dict[str, Callable[[fabric.Canvas, np.random.Generator], None]] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "camouflage": _camouflage,
    "flowers": _flowers,
    "blocks": _blocks,
    "spots": _spots,
    "gradient": _gradient,
    "heather": _heather,
    "logo": _logo,
    "text": _text,
}
