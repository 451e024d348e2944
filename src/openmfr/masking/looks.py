"""What a mask looks like, in the words that results are broken down by: its colour, what it covers.

Source:
    Ngan, Grother & Hanaoka, NISTIR 8311 and 8331, 2020: false non-matches by a mask's shape, its
    colour and how much of the nose it covers.
"""

from __future__ import annotations

from colorsys import rgb_to_hsv
from typing import Final

import numpy as np

from openmfr.masking.template import MaskTemplate

#: Columns of a store whose faces were given masks, beside `data.store.MASK_STYLE`; null without a
#: mask, and for an erased half of a face.
MASK_COLOUR: Final = "mask_colour"
MASK_COVERAGE: Final = "mask_coverage"

# Below this value a colour is black, below this saturation white or grey.
_BLACK, _PALE = 0.25, 0.12
_WHITE = 0.72
# Where a hue ends, in degrees, and its name.
_HUES: Final = ((15, "red"), (42, "orange"), (68, "yellow"), (170, "green"), (255, "blue"),
                (320, "purple"), (360, "red"))  # fmt: skip

# Texels apart: a colour needs no more.
_STEP = 4


def mask_colour(template: MaskTemplate) -> str:
    """Name the colour that a mask mostly has, under even light.

    Args:
        template: The mask. Of a pattern, the median of what covers the face is named.

    Returns:
        As `colour_name`.

    Example:
        >>> from openmfr.masking.styles import draw_template
        >>> mask_colour(draw_template("surgical", np.random.default_rng(5), 64)) in COLOURS
        True
    """
    texels = template.rgba[::_STEP, ::_STEP]
    covering = texels[texels[..., 3] >= 128]
    red, green, blue = np.median(covering if covering.size else texels.reshape(-1, 4), axis=0)[:3]
    return colour_name((float(red) / 255, float(green) / 255, float(blue) / 255))


def colour_name(rgb: tuple[float, float, float]) -> str:
    """Name a colour.

    Args:
        rgb: Each 0–1, as displayed (sRGB).

    Returns:
        One of `COLOURS`.

    Example:
        >>> colour_name((0.63, 0.80, 0.92)), colour_name((0.1, 0.1, 0.3)), colour_name((0.9,) * 3)
        ('light blue', 'blue', 'white')
    """
    hue, saturation, value = rgb_to_hsv(*rgb)
    if value < _BLACK:
        return "black"
    if saturation < _PALE:
        return "white" if value > _WHITE else "grey"
    name = next(name for end, name in _HUES if 360 * hue <= end)
    is_light = value > 0.7 and saturation < 0.5
    if name == "blue" and is_light:
        return "light blue"
    if name == "red" and is_light:
        return "pink"
    if name == "orange" and (value < 0.65 or saturation < 0.5):
        return "brown" if value < 0.8 else "beige"
    return name


#: What `colour_name` may answer.
COLOURS: Final = ("black", "white", "grey", "light blue", "blue", "green", "yellow", "orange",
                  "brown", "beige", "red", "pink", "purple")  # fmt: skip
