"""Ear loops: bands in space from a sheet's side edges over the cheeks to the ears.

Their ends at the ear are not on the mesh, so a band runs along the hull towards where ears are. It
fades out where the picture shows no skin: hair lies over the ear there.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.code_cache import compiled
from openmfr.masking.render.hull import look_up
from openmfr.masking.render.light import light_readings, skin_likeness
from openmfr.masking.render.shade import light_colour
from openmfr.masking.template import AXIS_Z

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

#: Points of a band's curve.
POINTS: Final = 12

# Where bands meet the ear's root, upper and lower: angle and height on the mean head.
_EAR_ANGLE: Final = (1.74, 1.72)
_EAR_HEIGHT: Final = (-0.36, 0.04)


@compiled
def place_loops(
    maps: Float32Array,
    places: Float32Array,
    sheet: Float32Array,
    ends: Float64Array,
    scale: float,
    rotation: Float64Array,
    shift: Float64Array,
) -> Float32Array:
    """Lay the four bands upon the hull.

    Args:
        maps: Of `hull.lay_hull`.
        places: Of `surface.sheet_places`.
        sheet: Of `hull.place_sheet`.
        ends: v of the upper and the lower end on the sheet's side edges.
        scale: Pixels per eye span.
        rotation: Of the pose.
        shift: Of the pose.

    Returns:
        Vertices in pixels and normals, shape (4, POINTS, 6), float32: left upper, left lower, right
        upper, right lower.
    """
    curves = np.zeros((4, POINTS, 6), np.float32)
    rows, columns = sheet.shape[:2]
    r = rotation
    for k in range(4):
        sign = -1.0 if k < 2 else 1.0
        edge = 0 if k < 2 else columns - 1
        at = min(max(ends[k % 2], 0.0), 1.0) * (rows - 1)
        row = min(int(at), rows - 2)
        share = at - row
        start = (1 - share) * places[row, edge] + share * places[row + 1, edge]
        ear_angle, ear_height = sign * _EAR_ANGLE[k % 2], _EAR_HEIGHT[k % 2]
        for p in range(POINTS):
            t = p / (POINTS - 1)
            angle = start[0] + t * (ear_angle - start[0])
            level = start[1] + t * (ear_height - start[1])
            moved = angle + look_up(maps[1], angle, level)
            height = level + look_up(maps[2], angle, level)
            radius = look_up(maps[0], moved, height) + 0.015
            nx, nz = np.sin(moved), np.cos(moved)
            x, z = radius * nx, radius * nz + AXIS_Z
            for i in range(3):
                curves[k, p, i] = scale * (r[i, 0] * x + r[i, 1] * height + r[i, 2] * z) + shift[i]
                curves[k, p, 3 + i] = r[i, 0] * nx + r[i, 2] * nz
        # It starts where the sheet ends, whatever the sheet's height there.
        for i in range(3):
            gap = (1 - share) * sheet[row, edge, i] + share * sheet[row + 1, edge, i]
            gap -= curves[k, 0, i]
            for p in range(4):
                curves[k, p, i] += gap * (1 - p / 4)
    return curves


@compiled
def draw_loops(
    curves: Float32Array,
    colour: Float64Array,
    width: float,
    image: UInt8Array,
    photo: Float64Array,
    box: Int64Array,
    face: Float32Array,
    layer: Float32Array,
) -> None:
    """Draw the bands under a sheet's layer, in place.

    Args:
        curves: Of `place_loops`.
        colour: Red, green, blue, 0–1.
        width: Pixels; below 1 a band becomes fainter, not jagged.
        image: RGB, uint8, shape (H, W, 3).
        photo: Of `light.read_photo`.
        box: As in `draw.draw_face`.
        face: Of `draw.draw_face`.
        layer: Of `draw.shade_sheet`.
    """
    lamp = light_readings(photo)
    red, green, blue = np.float32(colour[0]), np.float32(colour[1]), np.float32(colour[2])
    cover = np.zeros(layer.shape[:2], np.float32)
    for k in range(curves.shape[0]):
        middle = curves[k, POINTS // 2]
        if not middle[5] > -0.5:
            continue
        strength = _strength(curves[k], image, photo)
        left, top, right, bottom = layer.shape[1], layer.shape[0], 0, 0
        for p in range(POINTS - 1):
            if strength[p] > 0.02:
                drawn = _draw_segment(curves[k], p, strength, width, box, face, cover)
                left, top = min(left, drawn[0]), min(top, drawn[1])
                right, bottom = max(right, drawn[2]), max(bottom, drawn[3])
        lit = light_colour(lamp, red, green, blue, middle[3], middle[4], middle[5], np.float32(0.0))
        for y in range(top, bottom):
            for x in range(left, right):
                if cover[y, x] > 0:
                    under = cover[y, x] * (1 - layer[y, x, 3])
                    for i in range(3):
                        layer[y, x, i] += under * lit[i]
                    layer[y, x, 3] += under
                    cover[y, x] = 0


@compiled
def _strength(curve: Float32Array, image: UInt8Array, photo: Float64Array) -> Float64Array:
    """How much of a band is in sight at each of its points: once hidden it stays so."""
    strength = np.zeros(POINTS)
    height, width = image.shape[:2]
    left = 1.0
    for p in range(POINTS):
        x, y = int(np.floor(curve[p, 0] + 0.5)), int(np.floor(curve[p, 1] + 0.5))
        if p > 0 and 0 <= x < width and 0 <= y < height:
            like = skin_likeness(
                photo, image[y, x, 0] / 255.0, image[y, x, 1] / 255.0, image[y, x, 2] / 255.0
            )
            left *= min(1.0, 0.3 + 1.4 * like)
        # A band that turns away goes round the head.
        towards = min(max(4.0 * (curve[p, 5] + 0.25), 0.0), 1.0)
        strength[p] = left * towards
    return strength


@compiled
def _draw_segment(
    curve: Float32Array,
    p: int,
    strength: Float64Array,
    width: float,
    box: Int64Array,
    face: Float32Array,
    cover: Float32Array,
) -> tuple[int, int, int, int]:
    """Draw one straight piece of a band; return left, top, right, bottom of what it may touch."""
    height, columns = cover.shape
    ax, ay, az = curve[p, 0] - box[0], curve[p, 1] - box[1], curve[p, 2]
    bx, by, bz = curve[p + 1, 0] - box[0], curve[p + 1, 1] - box[1], curve[p + 1, 2]
    reach = max(width, 1.0) / 2 + 0.5
    faint = min(width, 1.0)
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy + 1e-9
    left, right = max(0, int(min(ax, bx) - reach)), min(columns, int(max(ax, bx) + reach) + 2)
    top, bottom = max(0, int(min(ay, by) - reach)), min(height, int(max(ay, by) + reach) + 2)
    for y in range(top, bottom):
        for x in range(left, right):
            t = min(max(((x - ax) * dx + (y - ay) * dy) / length, 0.0), 1.0)
            away = np.sqrt((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2)
            if away >= reach or face[y, x] > az + t * (bz - az):
                continue
            shown = strength[p] + t * (strength[p + 1] - strength[p])
            value = np.float32(min(reach - away, 1.0) * faint * shown)
            cover[y, x] = max(cover[y, x], value)
    return left, top, right, bottom
