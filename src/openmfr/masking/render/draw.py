"""Drawing a mask's sheet: what hides it, and which part of it each point of the picture sees.

All buffers cover one box of the picture, `SAMPLES` points to a pixel and side. Most of the sheet's
triangles are a few points wide, where a branch at every point costs more than the arithmetic. So a
*canvas* keeps the points of a row in groups of eight, and a triangle writes whole groups: each
point gets the new value or its old one, which compiles to vector instructions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.code_cache import compiled

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

#: Points of a pixel along each side.
SAMPLES: Final = 2

#: Depth where there is nothing.
NOTHING: Final = np.float32(-1e9)

#: Points of a group, and its numbers: eight depths, eight u, eight v.
GROUP: Final = 8
GROUP_SIZE: Final = 3 * GROUP
_U: Final = np.uintp(GROUP)
_V: Final = np.uintp(2 * GROUP)

# How much nearer, in eye spans, a face must be to hide a mask: hull and face are two meshes.
_BIAS: Final = 0.05

# How far outside a triangle a point still belongs to it, in barycentric units.
_EDGE: Final = np.float32(-1e-4)


@compiled
def draw_face(
    vertices: Float32Array, triangles: Int32Array, scale: float, box: Int64Array
) -> Float32Array:
    """Depth of the face's skin in a box, drawn back by a little.

    Args:
        vertices: Shape (V, 3), float32, pixels.
        triangles: `surface.skin().closed`.
        scale: Pixels per eye span.
        box: Left, top, right, bottom in pixels; the last two exclusive.

    Returns:
        Shape (height, width) of the box, float32; `NOTHING` beside the face. One point per pixel
        will do: what hides a mask is far in front of it.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    depth = np.full((height, width), NOTHING, np.float32)
    back = np.float32(_BIAS * scale)
    zero = np.float32(0.0)
    shift_x, shift_y = np.float32(box[0]), np.float32(box[1])
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = vertices[a, 0] - shift_x, vertices[a, 1] - shift_y, vertices[a, 2]
        by, cy = vertices[b, 1] - shift_y - ay, vertices[c, 1] - shift_y - ay
        top = max(0, int(np.ceil(ay + min(zero, by, cy))))
        bottom = min(height - 1, int(np.floor(ay + max(zero, by, cy))))
        bx, cx = vertices[b, 0] - shift_x - ax, vertices[c, 0] - shift_x - ax
        area = bx * cy - cx * by
        if top > bottom or not area > np.float32(1e-5):
            continue
        left = max(0, int(np.ceil(ax + min(zero, bx, cx))))
        right = min(width - 1, int(np.floor(ax + max(zero, bx, cx))))
        bz, cz = (vertices[b, 2] - az) / area, (vertices[c, 2] - az) / area
        edge = _EDGE * area
        for y in range(top, bottom + 1):
            py = np.float32(y) - ay
            for x in range(left, right + 1):
                px = np.float32(x) - ax
                wb, wc = px * cy - cx * py, bx * py - px * by
                if wb >= edge and wc >= edge and area - wb - wc >= edge:
                    depth[y, x] = max(depth[y, x], az + wb * bz + wc * cz - back)
    return depth


def draw_sheet(sheet: Float32Array, box: Int64Array, face: Float32Array) -> Float32Array:
    """What of a sheet each point sees.

    Args:
        sheet: Of `hull.place_sheet`.
        box: As in `draw_face`.
        face: Of `draw_face`.

    Returns:
        u and v, −1 where the sheet is not seen, shape (SAMPLES · height, SAMPLES · width, 2),
        float32.
    """
    canvas = draw_canvas(sheet, box, face, box, GROUP)
    height, groups = canvas.shape[:2]
    numbers = canvas.reshape(height, groups, GROUP_SIZE // GROUP, GROUP)[:, :, 1:]
    seen: Float32Array = numbers.transpose(0, 1, 3, 2).reshape(height, groups * GROUP, 2)
    return seen[:, : SAMPLES * face.shape[1]]


@compiled
def draw_canvas(
    sheet: Float32Array, box: Int64Array, face: Float32Array, face_box: Int64Array, group: int
) -> Float32Array:
    """What of a sheet each point of a box sees.

    Args:
        sheet: Of `hull.place_sheet`.
        box: As in `draw_face`.
        face: Of `draw_face`.
        face_box: The box in which the face was drawn; the other lies within.
        group: `GROUP`. As an argument, not a constant, since the compiler unrolls a loop of known
            length instead of vectorising it.

    Returns:
        The canvas: depths, u and v of the points of each row in groups, shape (SAMPLES · height, ·,
        GROUP_SIZE), float32; u is −1 where the sheet is not seen.
    """
    rows, columns = sheet.shape[:2]
    height, width = SAMPLES * (box[3] - box[1]), SAMPLES * (box[2] - box[0])
    groups = (width + GROUP - 1) // GROUP
    canvas = np.full((height, groups, GROUP_SIZE), np.float32(-1.0), np.float32)
    down, along = box[1] - face_box[1], box[0] - face_box[0]
    for y in range(height):
        for x in range(box[2] - box[0]):
            hidden = face[down + y // SAMPLES, along + x]
            at = SAMPLES * x % GROUP
            canvas[y, SAMPLES * x // GROUP, at] = hidden
            canvas[y, SAMPLES * x // GROUP, at + 1] = hidden
    points = np.empty((rows, columns, 3), np.float32)
    for row in range(rows):
        for column in range(columns):
            points[row, column, 2] = sheet[row, column, 2]
            for i in range(2):
                place = (np.float64(sheet[row, column, i]) - box[i] + 0.5) * SAMPLES - 0.5
                points[row, column, i] = place
    flat = canvas.reshape(-1)
    for row in range(rows - 1):
        for column in range(columns - 1):
            _draw_triangle(points, row, column, 0, 1, 1, 1, width, np.uintp(group), flat)
            _draw_triangle(points, row, column, 1, 1, 1, 0, width, np.uintp(group), flat)
    return canvas


@compiled
def _draw_triangle(
    points: Float32Array,
    row: int,
    column: int,
    down_b: int,
    right_b: int,
    down_c: int,
    right_c: int,
    width: int,
    group: int,
    canvas: Float32Array,
) -> None:
    """Draw half a cell of the sheet: its upper left corner and two others."""
    zero, one = np.float32(0.0), np.float32(1.0)
    groups = (width + GROUP - 1) // GROUP
    height = canvas.shape[0] // (groups * GROUP_SIZE)
    br, bc, cr, cc = row + down_b, column + right_b, row + down_c, column + right_c
    ax, ay, az = points[row, column, 0], points[row, column, 1], points[row, column, 2]
    bx, by, bz = points[br, bc, 0] - ax, points[br, bc, 1] - ay, points[br, bc, 2] - az
    cx, cy, cz = points[cr, cc, 0] - ax, points[cr, cc, 1] - ay, points[cr, cc, 2] - az
    area = bx * cy - cx * by
    if not area > np.float32(1e-5):
        return
    left = max(0, int(np.ceil(ax + min(zero, bx, cx))))
    right = min(width - 1, int(np.floor(ax + max(zero, bx, cx))))
    top = max(0, int(np.ceil(ay + min(zero, by, cy))))
    bottom = min(height - 1, int(np.floor(ay + max(zero, by, cy))))
    inverse = one / area
    bx, by, cx, cy = bx * inverse, by * inverse, cx * inverse, cy * inverse
    per_column = one / np.float32(points.shape[1] - 1)
    per_row = one / np.float32(points.shape[0] - 1)
    u, v = np.float32(column) * per_column, np.float32(row) * per_row
    ub, uc = np.float32(right_b) * per_column, np.float32(right_c) * per_column
    vb, vc = np.float32(down_b) * per_row, np.float32(down_c) * per_row
    for y in range(top, bottom + 1):
        py = np.float32(y) - ay
        for place in range(left // GROUP, right // GROUP + 1):
            # Unsigned, as numba asks of a signed index whether it counts from the end.
            start = np.uintp((y * groups + place) * GROUP_SIZE)
            from_a = np.float32(place * GROUP) - ax
            for i in range(group):
                k = start + i
                px = from_a + np.float32(np.int64(i))
                wb, wc = px * cy - cx * py, bx * py - px * by
                z = az + wb * bz + wc * cz
                old, old_u, old_v = canvas[k], canvas[k + _U], canvas[k + _V]
                is_inside = (wb >= _EDGE) & (wc >= _EDGE) & (one - wb - wc >= _EDGE)
                is_seen = is_inside & (z > old)
                new_u, new_v = max(u + wb * ub + wc * uc, zero), max(v + wb * vb + wc * vc, zero)
                canvas[k] = z if is_seen else old
                canvas[k + _U] = new_u if is_seen else old_u
                canvas[k + _V] = new_v if is_seen else old_v
