"""Colouring what is seen of a sheet: its texture and relief, in the light of the photo.

Layers hold red, green, blue and cover, 0–1, colours multiplied by the cover.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.code_cache import compiled
from openmfr.masking.render.camera import luminance
from openmfr.masking.render.draw import GROUP, GROUP_SIZE, SAMPLES
from openmfr.masking.render.light import (
    BLACK,
    CAST,
    EXPOSURE,
    LIGHT,
    SATURATION,
    irradiance,
    light_readings,
)

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

# How much steeper relief is drawn than it is: the fitted light is softer than any real one.
_RELIEF: Final = 1.4

# Pixels are lit in batches, in loops without branches that compile to vector instructions. A batch
# keeps of each pixel red, green, blue, cover and both slopes of the texture, then its normal, then
# its u: one list after the other, so that the compiler sees that they do not overlap.
_BATCH: Final = 128
_LISTS: Final = 10
_NORMAL: Final = 6
_ALONG: Final = 9

_SHOULDER: Final[Any] = np.float32(0.8)
_ABOVE: Final[Any] = np.float32(0.2)
_ZERO: Final[Any] = np.float32(0.0)
_HALF: Final[Any] = np.float32(0.5)
_ONE: Final[Any] = np.float32(1.0)
_TWO: Final[Any] = np.float32(2.0)


@compiled
def shade_sheet(
    canvas: Float32Array,
    core: Int64Array,
    sheet: Float32Array,
    texture: Float32Array,
    half_angle: float,
    gloss: float,
    rotation: Float64Array,
    photo: Float64Array,
    box: Int64Array,
) -> Float32Array:
    """Colour what is seen of a sheet, one sample of its texture per pixel.

    Args:
        canvas: Of `draw.draw_canvas`.
        core: Its box.
        sheet: Of `hull.place_sheet`.
        texture: Premultiplied red, green, blue, cover (0–1), and fine slope per u and per v in eye
            spans, shape (S, S, 6), float32; about one texel to a pixel.
        half_angle: Of the sheet, radians.
        gloss: 0–1.
        rotation: Of the face's pose.
        photo: Of `light.read_photo`.
        box: Of the layer; the core lies within.

    Returns:
        A layer, shape (height, width, 4), float32.
    """
    layer = np.zeros((box[3] - box[1], box[2] - box[0], 4), np.float32)
    batch, places = np.empty(_BATCH * _LISTS, np.float32), np.empty(_BATCH, np.int64)
    flat, points = layer.reshape(-1), canvas.reshape(-1)
    lamp = light_readings(photo)
    count = 0
    for y in range(core[3] - core[1]):
        place = (core[1] - box[1] + y) * layer.shape[1] + core[0] - box[0]
        for x in range(core[2] - core[0]):
            u, v, share = _mean_place(points, canvas.shape[1], x, y)
            if share > 0 and _sample(texture, u, v, share, batch, np.uintp(count)):
                _sample_normal(sheet, u, v, batch, np.uintp(count))
                places[count] = 4 * (place + x)
                count += 1
                if count == _BATCH:
                    _light(batch, np.uintp(count), half_angle, gloss, rotation, lamp)
                    _put_down(batch, places, count, flat)
                    count = 0
    _light(batch, np.uintp(count), half_angle, gloss, rotation, lamp)
    _put_down(batch, places, count, flat)
    return layer


@compiled
def _mean_place(
    points: Float32Array, groups: int, x: int, y: int
) -> tuple[np.float32, np.float32, np.float32]:
    """Average where a pixel's points lie on the sheet; last is the share of them that see it."""
    u, v, count = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    group, within = SAMPLES * x // GROUP, SAMPLES * x % GROUP
    for i in range(SAMPLES):
        start = np.uintp(((SAMPLES * y + i) * groups + group) * GROUP_SIZE + within)
        for j in range(SAMPLES):
            at = start + np.uintp(GROUP + j)
            if points[at] >= 0:
                u += points[at]
                v += points[at + np.uintp(GROUP)]
                count += np.float32(1.0)
    if count > 0:
        u, v = u / count, v / count
    return u, v, count * np.float32(1.0 / (SAMPLES * SAMPLES))


@compiled
def _sample(
    texture: Float32Array, u: float, v: float, share: float, batch: Float32Array, at: int
) -> bool:
    """Sample a texture bilinearly at a place given in shares of its sides; whether it covers."""
    size = texture.shape[0]
    end = np.float32(size - 1.001)
    x = min(max(u * np.float32(size) - _HALF, _ZERO), end)
    y = min(max(v * np.float32(size) - _HALF, _ZERO), end)
    column, row = np.uintp(int(x)), np.uintp(int(y))
    fx, fy = x - np.float32(int(x)), y - np.float32(int(y))
    cover = _between(texture, row, column, 3, fx, fy)
    if not cover * share > 0:
        return False
    for k in range(3):
        batch[at + np.uintp(k * _BATCH)] = _between(texture, row, column, k, fx, fy) / cover
    batch[at + np.uintp(3 * _BATCH)] = cover * share
    for k in range(4, 6):
        batch[at + np.uintp(k * _BATCH)] = _between(texture, row, column, k, fx, fy)
    return True


@compiled
def _between(field: Float32Array, row: int, column: int, k: int, fx: float, fy: float) -> float:
    """One channel of a map between four of its nodes."""
    one, channel = np.uintp(1), np.uintp(k)
    above, below = field[row, column, channel], field[row + one, column, channel]
    above += fx * (field[row, column + one, channel] - above)
    below += fx * (field[row + one, column + one, channel] - below)
    value: float = above + fy * (below - above)
    return value


@compiled
def _sample_normal(sheet: Float32Array, u: float, v: float, batch: Float32Array, at: int) -> None:
    """The sheet's normal between its vertices, not quite of unit length; and u."""
    x, y = u * np.float32(sheet.shape[1] - 1), v * np.float32(sheet.shape[0] - 1)
    column, row = min(int(x), sheet.shape[1] - 2), min(int(y), sheet.shape[0] - 2)
    fx, fy = x - np.float32(column), y - np.float32(row)
    for k in range(3):
        normal = _between(sheet, np.uintp(row), np.uintp(column), 3 + k, fx, fy)
        batch[at + np.uintp((_NORMAL + k) * _BATCH)] = normal
    batch[at + np.uintp(_ALONG * _BATCH)] = u


@compiled
def _light(
    batch: Float32Array,
    count: int,
    half_angle: float,
    gloss: float,
    rotation: Float64Array,
    lamp: Any,
) -> None:
    """Light a batch's colours in place, and multiply them by their cover."""
    r = rotation.astype(np.float32)
    xx, xy, xz = r[0, 0], r[0, 1], r[0, 2]
    yx, yy, yz = r[1, 0], r[1, 1], r[1, 2]
    zx, zy, zz = r[2, 0], r[2, 1], r[2, 2]
    per_u, per_v = np.float32(_RELIEF / (1.5 * half_angle)), np.float32(_RELIEF)
    angle, shine = np.float32(half_angle), np.float32(gloss)
    one, two, list_ = np.uintp(_BATCH), np.uintp(2 * _BATCH), np.uintp(3 * _BATCH)
    for i in range(count):
        cover = batch[i + list_]
        # Relief tilts the normal against its slope, along the sheet's two directions.
        along = per_u * batch[i + np.uintp(4 * _BATCH)]
        down = per_v * batch[i + np.uintp(5 * _BATCH)]
        cos, sin = _turn((batch[i + np.uintp(_ALONG * _BATCH)] - _HALF) * angle)
        nx = batch[i + np.uintp(_NORMAL * _BATCH)] - along * (xx * cos - xz * sin) - down * xy
        ny = batch[i + np.uintp((_NORMAL + 1) * _BATCH)] - along * (yx * cos - yz * sin) - down * yy
        nz = batch[i + np.uintp((_NORMAL + 2) * _BATCH)] - along * (zx * cos - zz * sin) - down * zy
        size = _ONE / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9))
        red, green, blue = light_colour(
            lamp, batch[i], batch[i + one], batch[i + two], nx * size, ny * size, nz * size, shine
        )
        batch[i] = red * cover
        batch[i + one] = green * cover
        batch[i + two] = blue * cover


@compiled
def _turn(half: float) -> tuple[float, float]:
    """Cosine and sine of twice an angle, within 0.01 for less than half a turn to either side."""
    square = half * half
    sine = half * (_ONE - square * np.float32(1 / 6) + square * square * np.float32(1 / 120))
    cosine = _ONE - square * _HALF + square * square * np.float32(1 / 24)
    return cosine * cosine - sine * sine, _TWO * sine * cosine


@compiled
def light_colour(
    lamp: Any, red: float, green: float, blue: float, x: float, y: float, z: float, gloss: float
) -> tuple[float, float, float]:
    """Turn a colour under even light into what the photo's camera would have recorded.

    Args:
        lamp: Of `light.light_readings`.
        red: 0–1, as green and blue; all numbers are float32.
        green: 0–1.
        blue: 0–1.
        x: Of the surface's unit normal, as y and z.
        y: Down.
        z: Towards the viewer.
        gloss: Strength of the highlight, 0–1.

    Returns:
        Red, green and blue, float32.
    """
    light = irradiance(lamp, x, y, z) * lamp[EXPOSURE]
    grey = luminance(red, green, blue)
    # Halfway between the light and the viewer.
    hx, hy, hz = lamp[LIGHT], lamp[LIGHT + 1], lamp[LIGHT + 2] + _ONE
    towards = max(_ZERO, (x * hx + y * hy + z * hz) / np.sqrt(hx * hx + hy * hy + hz * hz))
    towards = towards * towards * towards
    towards *= towards
    shine = _HALF * gloss * lamp[EXPOSURE] * towards * towards * towards * towards
    return (
        _record(lamp, grey, red, light * lamp[CAST], shine),
        _record(lamp, grey, green, light * lamp[CAST + 1], shine),
        _record(lamp, grey, blue, light * lamp[CAST + 2], shine),
    )


@compiled
def _record(lamp: Any, grey: float, value: float, light: float, shine: float) -> float:
    """What the camera makes of one channel."""
    value = (grey + lamp[SATURATION] * (value - grey)) * light + shine
    # A camera's shoulder: highlights flatten before they clip.
    over = max(value - _SHOULDER, _ZERO)
    value = min(value, _SHOULDER) + _ABOVE * over / (over + _ABOVE)
    recorded: float = lamp[BLACK] + (_ONE - lamp[BLACK]) * value
    return recorded


@compiled
def _put_down(batch: Float32Array, places: Int64Array, count: int, layer: Float32Array) -> None:
    for i in range(count):
        for k in range(4):
            layer[np.uintp(places[i] + k)] = batch[np.uintp(i + k * _BATCH)]
