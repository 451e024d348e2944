"""The styles of masks that can be drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openmfr.errors import UserError, nearest
from openmfr.masking.styles.cloth import draw_cloth
from openmfr.masking.styles.kn95 import draw_kn95
from openmfr.masking.styles.scarf import draw_scarf
from openmfr.masking.styles.surgical import draw_surgical
from openmfr.masking.template import MaskTemplate

_DRAW: dict[str, Callable[[np.random.Generator, int], MaskTemplate]] = {
    "surgical": draw_surgical,
    "kn95": draw_kn95,
    "cloth": draw_cloth,
    "scarf": draw_scarf,
}

#: Names of the styles.
STYLES: tuple[str, ...] = tuple(_DRAW)

#: Smallest and largest side of a sheet in texels.
SIZES = (32, 2048)


def draw_template(style: str, rng: np.random.Generator, size: int = 256) -> MaskTemplate:
    """Draw one mask at random.

    Args:
        style: One of `STYLES`.
        rng: Source of randomness: the same state gives the same mask.
        size: Texels along each side of the sheet, S.

    Raises:
        UserError: If there is no such style, or the size is out of range.

    Example:
        >>> template = draw_template("surgical", np.random.default_rng(5), 64)
        >>> template.style, template.rgba.shape
        ('surgical', (64, 64, 4))
    """
    check_style(style, "mask style")
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(
            where="mask template, size",
            found=str(size),
            allowed=f"{SIZES[0]} to {SIZES[1]} texels",
            next_step="256 suits faces of 112 pixels",
        )
    return _DRAW[style](rng, size)


def check_style(style: str, where: str) -> None:
    """Raise the one error that every place gives for an unknown style."""
    if style not in _DRAW:
        raise UserError(
            where=where,
            found=style,
            allowed=", ".join(STYLES),
            next_step=nearest(style, STYLES),
        )
