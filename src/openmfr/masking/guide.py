"""A picture that shows how a mask's sheet lies on the face, to draw one's own template over."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from openmfr.errors import UserError
from openmfr.faces.geometry import face_model
from openmfr.masking.render.surface import border_loops, cylinder
from openmfr.masking.template import USUAL_OUTLINE, EarLoops, Outline

#: Sides that a guide may have, pixels.
GUIDE_SIDES: Final = (256, 4096)

_GRID: Final = (120, 120, 120, 90)
_FACE: Final = (200, 60, 40, 200)
_INK: Final = (30, 30, 30, 255)
_EDGE: Final = (30, 60, 160, 255)

# Vertices of the face whose names tell a person where they are.
_VERTICES: Final[dict[str, int]] = {
    "bridge of the nose": 6,
    "tip of the nose": 1,
    "base of the nose": 2,
    "corner of the mouth, left": 61,
    "corner of the mouth, right": 291,
    "upper lip": 0,
    "lower lip": 17,
    "chin": 152,
    "cheek, left": 50,
    "cheek, right": 280,
    "jaw, left": 148,
    "jaw, right": 377,
}

# Lines that draw a nose and lips.
_NOSE: Final = (193, 198, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 420, 417)
_LIPS: Final = (
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146, 61),
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 78),
)


def guide_marks(outline: Outline = USUAL_OUTLINE) -> dict[str, tuple[float, float]]:
    """Say where points of the mean face lie on a sheet.

    Args:
        outline: Where the sheet's edges lie; that of a user's own templates by default.

    Returns:
        u and v by name; outside 0–1 where the sheet does not reach.

    Example:
        >>> u, v = guide_marks()["tip of the nose"]
        >>> abs(u - 0.5) < 0.01, 0.2 < v < 0.5
        (True, True)
    """
    places = _on_sheet(np.array(list(_VERTICES.values())), outline)
    return {
        name: (float(u), float(v)) for name, (u, v) in zip(_VERTICES, places.tolist(), strict=True)
    }


def guide_picture(
    size: int = 1024, *, outline: Outline = USUAL_OUTLINE, is_transparent: bool = True
) -> Image.Image:
    """Draw the guide: a grid, the face that lies under the sheet, where the ear loops hold it.

    Args:
        size: Width and height, pixels; a template may have another size than its guide.
        outline: Where the sheet's edges lie; that of a user's own templates by default.
        is_transparent: Lines on nothing, as a layer over which to draw in an image editor;
            otherwise on white.

    Returns:
        RGBA.

    Raises:
        UserError: If the size is out of range.

    Example:
        >>> picture = guide_picture(512)
        >>> picture.mode, picture.size
        ('RGBA', (512, 512))
    """
    low, high = GUIDE_SIDES
    if not low <= size <= high:
        raise UserError(
            where="guide, size",
            found=str(size),
            allowed=f"{low} to {high} pixels",
            next_step="leave it out for 1024",
        )
    picture = Image.new("RGBA", (size, size), (255, 255, 255, 0 if is_transparent else 255))
    draw = ImageDraw.Draw(picture)
    _draw_grid(draw, size)
    _draw_face(draw, size, outline)
    _draw_edges(draw, size)
    font = ImageFont.load_default(max(10, size // 52))
    for name, (u, v) in guide_marks(outline).items():
        x, y, r = u * size, v * size, size / 150
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_INK)
        is_left = u < 0.45
        place = (x - 1.6 * r, y) if is_left else (x + 1.6 * r, y)
        draw.text(place, name, font=font, fill=_INK, anchor="rm" if is_left else "lm")
    return picture


def _on_sheet(vertices: npt.NDArray[np.integer], outline: Outline) -> npt.NDArray[np.float32]:
    """Place on the sheet of vertices of the mean face, shape (…, 2)."""
    angle, height, _ = np.moveaxis(cylinder(face_model().mean[vertices]), -1, 0)
    u, v = outline.sheet(angle, height)
    return np.stack([u, v], axis=-1)


def _draw_grid(draw: ImageDraw.ImageDraw, size: int) -> None:
    for k in range(1, 10):
        place, width = k * size / 10, 3 if k == 5 else 1
        draw.line((place, 0, place, size), fill=_GRID, width=width)
        draw.line((0, place, size, place), fill=_GRID, width=width)


def _draw_face(draw: ImageDraw.ImageDraw, size: int, outline: Outline) -> None:
    loops = border_loops(face_model().triangles)
    oval = max(loops, key=len)
    for chain in ([*oval, oval[0]], _NOSE, *_LIPS):
        points = _on_sheet(np.array(chain), outline) * size
        draw.line([(x, y) for x, y in points.tolist()], fill=_FACE, width=max(2, size // 340))


def _draw_edges(draw: ImageDraw.ImageDraw, size: int) -> None:
    """Say which edge is which, and where the ear loops are fixed."""
    font = ImageFont.load_default(max(11, size // 44))
    width = max(2, size // 256)
    draw.rectangle((0, 0, size - 1, size - 1), outline=_EDGE, width=width)
    loops = EarLoops(colour=(0, 0, 0))
    for v in (loops.upper, loops.lower):
        for left, right in ((0, size * 0.03), (size * 0.97, size)):
            draw.line((left, v * size, right, v * size), fill=_EDGE, width=3 * width)
        draw.text((size * 0.04, v * size), "ear loop", font=font, fill=_EDGE, anchor="lm")
        draw.text((size * 0.96, v * size), "ear loop", font=font, fill=_EDGE, anchor="rm")
    gap = size * 0.012
    draw.text((size / 4, gap), "upper edge: over the nose", font=font, fill=_EDGE, anchor="ma")
    words = "lower edge: under the chin"
    draw.text((size / 4, size - gap), words, font=font, fill=_EDGE, anchor="md")
    sides = ("left, to the ear", "right, to the ear")
    for words, x, anchor in zip(sides, (gap, size - gap), ("lm", "rm"), strict=True):
        draw.text((x, size * 0.47), words, font=font, fill=_EDGE, anchor=anchor)
