"""Contact sheets: many small images on one picture, for a quick look at a store or at errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from openmfr.errors import UserError

UInt8Array = npt.NDArray[np.uint8]

_GAP = 6
_TEXT = 11
_LINE = 15
_PAPER = (250, 250, 250)
_INK = (38, 38, 38)


def contact_sheet(
    images: Sequence[UInt8Array],
    *,
    columns: int = 8,
    cell: int = 112,
    captions: Sequence[str] | None = None,
) -> Image.Image:
    """Lay images out in rows.

    Args:
        images: RGB, uint8, each of any shape (H, W, 3); scaled to fit a square cell.
        columns: Images in a row.
        cell: Side of a cell in pixels.
        captions: One line under each image, cut to the cell's width; none by default.

    Returns:
        The sheet, as wide as its columns.

    Raises:
        UserError: If there is no image.

    Example:
        >>> images = [np.full((112, 112, 3), 90, np.uint8)] * 3
        >>> contact_sheet(images, columns=2).size
        (242, 242)
    """
    if not images:
        raise UserError(
            where="contact sheet",
            found="no images",
            allowed="at least one",
            next_step="check which images were selected",
        )
    columns = min(columns, len(images))
    height = cell + (_LINE if captions else 0)
    rows = math.ceil(len(images) / columns)
    size = (_GAP + columns * (cell + _GAP), _GAP + rows * (height + _GAP))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_TEXT)
    for i, image in enumerate(images):
        left = _GAP + i % columns * (cell + _GAP)
        top = _GAP + i // columns * (height + _GAP)
        _paste(sheet, image, left, top, cell)
        if captions:
            caption = _cut(captions[i], font, cell)
            draw.text((left, top + cell + 1), caption, font=font, fill=_INK)
    return sheet


def pair_strip(left: UInt8Array, right: UInt8Array, *, cell: int = 112) -> Image.Image:
    """Put the two images of a pair side by side, as `strip` does.

    Args:
        left: RGB, uint8, shape (H, W, 3).
        right: RGB, uint8, shape (H, W, 3).
        cell: Side of a cell in pixels.

    Example:
        >>> face = np.full((112, 112, 3), 90, np.uint8)
        >>> pair_strip(face, face).size
        (226, 112)
    """
    return strip((left, right), cell=cell)


def strip(images: Sequence[UInt8Array], *, cell: int = 112) -> Image.Image:
    """Put images side by side, each in a square cell, without a margin.

    Args:
        images: RGB, uint8, each of any shape (H, W, 3); at least one.
        cell: Side of a cell in pixels.

    Example:
        >>> face = np.full((112, 112, 3), 90, np.uint8)
        >>> strip([face] * 3, cell=20).size
        (64, 20)
    """
    canvas = Image.new("RGB", (len(images) * (cell + 2) - 2, cell), _PAPER)
    for i, image in enumerate(images):
        _paste(canvas, image, i * (cell + 2), 0, cell)
    return canvas


def _paste(canvas: Image.Image, image: UInt8Array, left: int, top: int, cell: int) -> None:
    """Scale an image to fit a square cell and put it into its middle."""
    picture = Image.fromarray(image)
    if picture.size != (cell, cell):
        scale = cell / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    middle = (left + (cell - picture.width) // 2, top + (cell - picture.height) // 2)
    canvas.paste(picture, middle)


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shorten a text from the left, where file paths are alike, until it fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text
