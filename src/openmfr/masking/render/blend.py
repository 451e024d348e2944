"""Laying a drawn mask over a photo: its blur, its grain, and the shadow that it casts on skin."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.rasteriser import compiled
from openmfr.masking.render.draw import NOTHING
from openmfr.masking.render.light import BLUR, LIGHT, NOISE, skin_likeness

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

# The shadow at a mask's very edge, and how far it reaches, in eye spans.
_SHADOW: Final = 0.45
_REACH: Final = 0.035
# How far it falls away from the light, in eye spans.
_FALL: Final = 0.03

# How blurred a layer is drawn, squared pixels: pixels are averages, and textures are interpolated.
_DRAWN_BLUR: Final = 0.15


def margin(scale: float) -> int:
    """How far beyond a mask's edge the picture may change, pixels.

    Args:
        scale: Pixels per eye span.
    """
    return 4 + int(3 * _REACH * scale + _FALL * scale)


@compiled
def soften(layer: Float32Array, deviation: float) -> None:
    """Blur a layer in place by a Gaussian, as repeated three-tap filters.

    Args:
        layer: Shape (H, W, C), float32.
        deviation: Pixels.
    """
    height, width, depth = layer.shape
    passes = max(1, int(np.ceil(deviation * deviation / 0.5)))
    side = np.float32(0.5 * deviation * deviation / passes)
    middle = np.float32(1.0) - side - side
    for _ in range(passes):
        for y in range(height):
            for k in range(depth):
                before = layer[y, 0, k]
                for x in range(width):
                    here = layer[y, x, k]
                    after = layer[y, min(x + 1, width - 1), k]
                    layer[y, x, k] = side * before + middle * here + side * after
                    before = here
        row = np.zeros((width, depth), np.float32)
        row[:] = layer[0]
        for y in range(height):
            below = min(y + 1, height - 1)
            for x in range(width):
                for k in range(depth):
                    here = layer[y, x, k]
                    layer[y, x, k] = side * row[x, k] + middle * here + side * layer[below, x, k]
                    row[x, k] = here


@compiled
def _spread(field: Float32Array, reach: int) -> None:
    """Average over squares of 2 · reach + 1 pixels, in place."""
    height, width = field.shape
    part = np.float32(1.0 / (2 * reach + 1))
    line = np.zeros(width, np.float32)
    for y in range(height):
        total = np.float32(0.0)
        for x in range(-reach, reach + 1):
            total += field[y, min(max(x, 0), width - 1)]
        for x in range(width):
            line[x] = total * part
            total += field[y, min(x + reach + 1, width - 1)] - field[y, max(x - reach, 0)]
        field[y] = line
    other = field.copy()
    for x in range(width):
        line[x] = 0.0
    for y in range(-reach, reach + 1):
        line += other[min(max(y, 0), height - 1)]
    for y in range(height):
        after, before = min(y + reach + 1, height - 1), max(y - reach, 0)
        for x in range(width):
            field[y, x] = line[x] * part
            line[x] += other[after, x] - other[before, x]


@compiled
def grain(x: int, y: int) -> float:
    """Noise of unit deviation that depends on the pixel alone.

    Args:
        x: Column of the picture.
        y: Row.

    Returns:
        −1.73 … 1.73, evenly spread.
    """
    value = np.uint32(x) * np.uint32(0x9E3779B1) ^ np.uint32(y) * np.uint32(0x85EBCA77)
    value ^= value >> np.uint32(15)
    value = np.uint32(value * np.uint32(0x2C1B3C6D))
    value ^= value >> np.uint32(12)
    value = np.uint32(value * np.uint32(0x297A2D39))
    value ^= value >> np.uint32(15)
    return (np.float64(value) / 4294967296.0 - 0.5) * 3.4641016


@compiled
def blend(
    image: UInt8Array,
    layer: Float32Array,
    face: Float32Array,
    photo: Float64Array,
    scale: float,
    box: Int64Array,
    out: UInt8Array,
    alpha: Float32Array,
) -> None:
    """Lay a mask's layer over a photo.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        layer: Premultiplied colour and cover in the box, float32; blurred in place.
        face: Of `draw.draw_face`.
        photo: Of `light.read_photo`.
        scale: Pixels per eye span.
        box: Left, top, right, bottom; the last two exclusive.
        out: A copy of the image; changed where the mask or its shadow lies.
        alpha: Receives the mask's cover, shape (H, W), float32.
    """
    height, width = layer.shape[:2]
    soften(layer, np.sqrt(max(photo[BLUR] * photo[BLUR] - _DRAWN_BLUR, 0.08)))
    shadow = layer[:, :, 3].copy()
    reach = max(int(np.floor(1.2 * _REACH * scale + 0.5)), 1)
    for _ in range(2):
        _spread(shadow, reach)
    fall_x = int(np.floor(0.5 - _FALL * scale * photo[LIGHT]))
    fall_y = int(np.floor(0.5 - _FALL * scale * (photo[LIGHT + 1] - 0.4)))
    for y in range(height):
        for x in range(width):
            px, py = box[0] + x, box[1] + y
            # A cover below a step of the picture is no mask.
            cover = min(float(layer[y, x, 3]), 1.0) if layer[y, x, 3] > 0.004 else 0.0
            sx, sy = min(max(x - fall_x, 0), width - 1), min(max(y - fall_y, 0), height - 1)
            dark = _SHADOW * shadow[sy, sx] * (1.0 - cover)
            if dark > 0.01:
                like = skin_likeness(
                    photo,
                    image[py, px, 0] / 255.0,
                    image[py, px, 1] / 255.0,
                    image[py, px, 2] / 255.0,
                )
                on_face = face[y, x] > NOTHING
                dark *= max(like, 0.5) if on_face else like
            else:
                dark = 0.0
            if cover <= 0.0 and dark <= 0.01:
                continue
            # Grain is weaker where it is dark, and skin's own texture counts as grain in part.
            noise = 0.7 * photo[NOISE] * grain(px, py) * min(0.3 * cover + layer[y, x, 1], cover)
            for k in range(3):
                under = image[py, px, k] / 255.0 * (1.0 - dark)
                over = layer[y, x, k] if cover > 0.0 else 0.0
                value = under * (1.0 - cover) + over + noise
                out[py, px, k] = np.uint8(min(max(value, 0.0), 1.0) * 255.0 + 0.5)
            alpha[py, px] = cover
