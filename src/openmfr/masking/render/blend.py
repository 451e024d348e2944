"""Laying a drawn mask over a photo: its blur, its grain, and the shadow that it casts on skin."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.code_cache import compiled
from openmfr.masking.render.draw import NOTHING
from openmfr.masking.render.light import BLUR, LIGHT, NOISE, light_readings, skin_likeness

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

# The shadow at a mask's very edge, and how far it reaches, in eye spans.
_SHADOW: Final = 0.45
_REACH: Final = 0.035
# How far it falls away from the light, in eye spans.
_FALL: Final = 0.03

# Of the picture's values and of covers, 0–1; a shadow below the least is none.
_PER_STEP: Final = np.float32(1 / 255)
_STEP: Final = np.float32(0.004)
_LEAST: Final = np.float32(0.01)
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)

# How blurred a layer is drawn, squared pixels: pixels are averages, and textures are interpolated.
_DRAWN_BLUR: Final = 0.15
# What cameras and scaling take off at edges, squared pixels: skin, from which a photo's blur is
# read, shows little of it.
_SHARPENED: Final = 0.24


@compiled
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
    _change_blur(layer, deviation * deviation)


@compiled
def _change_blur(layer: Float32Array, square: float) -> None:
    """Blur in place by this many squared pixels; below 0 it sharpens."""
    passes = max(1, int(np.ceil(square / 0.5)))
    side = np.float32(0.5 * square / passes)
    for _ in range(passes):
        _filter(layer, side)


@compiled
def _filter(layer: Float32Array, side: float) -> None:
    """Weigh each pixel's neighbours by `side`, along rows and columns; below 0 it sharpens."""
    height, width, depth = layer.shape
    size = width * depth
    # Rows as they lie in memory, between copies of their ends.
    rows, line = layer.reshape(height, size), np.empty(size + 2 * depth, np.float32)
    above = np.empty(size, np.float32)
    for y in range(height):
        for i in range(depth):
            line[i] = rows[y, i]
            line[depth + size + i] = rows[y, size - depth + i]
        for i in range(size):
            line[depth + i] = rows[y, i]
        _filter_row(line, rows[y], np.uintp(depth), side)
    above[:] = rows[0]
    for y in range(height):
        _filter_column(above, rows[y], rows[min(y + 1, height - 1)], side)


@compiled
def _filter_row(line: Float32Array, row: Float32Array, depth: int, side: float) -> None:
    middle = np.float32(1.0) - side - side
    for i in range(np.uintp(row.shape[0])):
        row[i] = side * line[i] + middle * line[i + depth] + side * line[i + depth + depth]


@compiled
def _filter_column(
    above: Float32Array, row: Float32Array, below: Float32Array, side: float
) -> None:
    """Filter a row across rows in place; `above` holds the last one as it was, then this one."""
    middle = np.float32(1.0) - side - side
    for i in range(np.uintp(row.shape[0])):
        here = row[i]
        row[i] = side * above[i] + middle * here + side * below[i]
        above[i] = here


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
    _change_blur(layer, max(photo[BLUR] * photo[BLUR] - _DRAWN_BLUR, 0.08) - _SHARPENED)
    shadow = layer[:, :, 3].copy()
    reach = max(int(np.floor(1.2 * _REACH * scale + 0.5)), 1)
    for _ in range(2):
        _spread(shadow, reach)
    fall_x = int(np.floor(0.5 - _FALL * scale * photo[LIGHT]))
    fall_y = int(np.floor(0.5 - _FALL * scale * (photo[LIGHT + 1] - 0.4)))
    lamp = light_readings(photo)
    strength, rough = np.float32(_SHADOW), np.float32(0.7 * photo[NOISE])
    for y in range(height):
        sy = min(max(y - fall_y, 0), height - 1)
        for x in range(width):
            # A cover below a step of the picture is no mask.
            cover = min(layer[y, x, 3], _ONE) if layer[y, x, 3] > _STEP else _ZERO
            dark = strength * shadow[sy, min(max(x - fall_x, 0), width - 1)] * (_ONE - cover)
            if cover <= _ZERO and dark <= _LEAST:
                continue
            px, py = box[0] + x, box[1] + y
            red, green, blue = image[py, px, 0], image[py, px, 1], image[py, px, 2]
            if dark > _LEAST:
                like = skin_likeness(lamp, red * _PER_STEP, green * _PER_STEP, blue * _PER_STEP)
                dark *= max(like, _HALF) if face[y, x] > NOTHING else like
            else:
                dark = _ZERO
            if cover <= _ZERO and dark <= _LEAST:
                continue
            # Grain is weaker where it is dark, and skin's own texture counts as grain in part.
            grainy = min(np.float32(0.3) * cover + layer[y, x, 1], cover)
            noise = rough * np.float32(grain(px, py)) * grainy
            # A sharpened cover passes 1 beside its edge, where lighter skin darkens the mask.
            under = _ONE - layer[y, x, 3] if cover > _ZERO else _ONE
            left = (_ONE - dark) * under * _PER_STEP
            for k in range(3):
                value = image[py, px, k] * left + noise
                if cover > _ZERO:
                    value += layer[y, x, k]
                steps = min(max(value, _ZERO), _ONE) * np.float32(255.0) + _HALF
                out[py, px, k] = np.uint8(steps)
            alpha[py, px] = cover
