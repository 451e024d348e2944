"""Drawing a mask's sheet: what hides it, which part of it each pixel sees, and how that is lit.

All buffers cover one box of the picture, `SAMPLES` points to a pixel and side. Layers hold red,
green, blue and cover, 0–1, colours multiplied by the cover.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.rasteriser import compiled
from openmfr.masking.render.camera import luminance
from openmfr.masking.render.light import BLACK, CAST, EXPOSURE, LIGHT, SATURATION, irradiance

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

#: Points of a pixel along each side.
SAMPLES: Final = 2

#: Depth where there is nothing.
NOTHING: Final = np.float32(-1e9)

# How much nearer, in eye spans, a face must be to hide a mask: hull and face are two meshes.
_BIAS: Final = 0.05
# How much steeper relief is drawn than it is: the fitted light is softer than any real one.
_RELIEF: Final = 1.4


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
    shift_x, shift_y = np.float32(box[0]), np.float32(box[1])
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = vertices[a, 0] - shift_x, vertices[a, 1] - shift_y, vertices[a, 2]
        bx, by = vertices[b, 0] - shift_x - ax, vertices[b, 1] - shift_y - ay
        cx, cy = vertices[c, 0] - shift_x - ax, vertices[c, 1] - shift_y - ay
        area = bx * cy - cx * by
        if not area > np.float32(1e-5):
            continue
        left = max(0, int(np.ceil(ax + min(np.float32(0.0), bx, cx))))
        right = min(width - 1, int(np.floor(ax + max(np.float32(0.0), bx, cx))))
        top = max(0, int(np.ceil(ay + min(np.float32(0.0), by, cy))))
        bottom = min(height - 1, int(np.floor(ay + max(np.float32(0.0), by, cy))))
        bz, cz = (vertices[b, 2] - az) / area, (vertices[c, 2] - az) / area
        edge = np.float32(-1e-4) * area
        for y in range(top, bottom + 1):
            py = np.float32(y) - ay
            for x in range(left, right + 1):
                px = np.float32(x) - ax
                wb, wc = px * cy - cx * py, bx * py - px * by
                if wb >= edge and wc >= edge and area - wb - wc >= edge:
                    depth[y, x] = max(depth[y, x], az + wb * bz + wc * cz - back)
    return depth


@compiled
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
    rows, columns = sheet.shape[:2]
    height, width = SAMPLES * face.shape[0], SAMPLES * face.shape[1]
    seen = np.full((height, width, 2), np.float32(-1.0), np.float32)
    depth = np.zeros((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            depth[y, x] = face[y // SAMPLES, x // SAMPLES]
    points = np.zeros((rows, columns, 3), np.float32)
    for row in range(rows):
        for column in range(columns):
            points[row, column, 2] = sheet[row, column, 2]
            for i in range(2):
                place = (np.float64(sheet[row, column, i]) - box[i] + 0.5) * SAMPLES - 0.5
                points[row, column, i] = place
    for row in range(rows - 1):
        for column in range(columns - 1):
            _draw_triangle(points, row, column, 0, 1, 1, 1, depth, seen)
            _draw_triangle(points, row, column, 1, 1, 1, 0, depth, seen)
    return seen


@compiled
def _draw_triangle(
    points: Float32Array,
    row: int,
    column: int,
    down_b: int,
    right_b: int,
    down_c: int,
    right_c: int,
    depth: Float32Array,
    seen: Float32Array,
) -> None:
    """Draw half a cell of the sheet: its upper left corner and two others."""
    height, width = depth.shape
    zero, one = np.float32(0.0), np.float32(1.0)
    br, bc, cr, cc = row + down_b, column + right_b, row + down_c, column + right_c
    ax, ay = points[row, column, 0], points[row, column, 1]
    bx, by = points[br, bc, 0] - ax, points[br, bc, 1] - ay
    cx, cy = points[cr, cc, 0] - ax, points[cr, cc, 1] - ay
    area = bx * cy - cx * by
    if not area > np.float32(1e-5):
        return
    left = max(0, int(np.ceil(ax + min(zero, bx, cx))))
    right = min(width - 1, int(np.floor(ax + max(zero, bx, cx))))
    top = max(0, int(np.ceil(ay + min(zero, by, cy))))
    bottom = min(height - 1, int(np.floor(ay + max(zero, by, cy))))
    inverse, edge = one / area, np.float32(-1e-4)
    per_column = one / np.float32(points.shape[1] - 1)
    per_row = one / np.float32(points.shape[0] - 1)
    for y in range(top, bottom + 1):
        py = np.float32(y) - ay
        for x in range(left, right + 1):
            px = np.float32(x) - ax
            wb, wc = (px * cy - cx * py) * inverse, (bx * py - px * by) * inverse
            wa = one - wb - wc
            if wb < edge or wc < edge or wa < edge:
                continue
            z = wa * points[row, column, 2] + wb * points[br, bc, 2] + wc * points[cr, cc, 2]
            if z > depth[y, x]:
                depth[y, x] = z
                u = (column + wb * right_b + wc * right_c) * per_column
                v = (row + wb * down_b + wc * down_c) * per_row
                seen[y, x, 0], seen[y, x, 1] = max(u, zero), max(v, zero)


@compiled
def shade_sheet(
    seen: Float32Array,
    sheet: Float32Array,
    texture: Float32Array,
    half_angle: float,
    gloss: float,
    rotation: Float64Array,
    photo: Float64Array,
) -> Float32Array:
    """Colour what is seen of a sheet, one sample of its texture per pixel.

    Args:
        seen: Of `draw_sheet`.
        sheet: Of `hull.place_sheet`.
        texture: Premultiplied red, green, blue, cover (0–1), and fine slope per u and per v in eye
            spans, shape (S, S, 6), float32; about one texel to a pixel.
        half_angle: Of the sheet, radians.
        gloss: 0–1.
        rotation: Of the face's pose.
        photo: Of `light.read_photo`.

    Returns:
        A layer, shape (height, width, 4), float32.
    """
    height, width = seen.shape[0] // SAMPLES, seen.shape[1] // SAMPLES
    layer = np.zeros((height, width, 4), np.float32)
    texel, normal = np.zeros(6, np.float32), np.zeros(3, np.float32)
    colour = np.zeros(3)
    per_u = 1.0 / (1.5 * half_angle)
    r = rotation
    for y in range(height):
        for x in range(width):
            u, v, share = _mean_place(seen, x, y)
            if share <= 0:
                continue
            _sample(texture, u, v, texel)
            cover = texel[3] * share
            if cover <= 0.0:
                continue
            _normal(sheet, u, v, normal)
            # Relief tilts the normal against its slope, along the sheet's two directions.
            along, down = _RELIEF * texel[4] * per_u, _RELIEF * texel[5]
            cos, sin = _turn((u - 0.5) * 2 * half_angle)
            nx = normal[0] - along * (r[0, 0] * cos - r[0, 2] * sin) - down * r[0, 1]
            ny = normal[1] - along * (r[1, 0] * cos - r[1, 2] * sin) - down * r[1, 1]
            nz = normal[2] - along * (r[2, 0] * cos - r[2, 2] * sin) - down * r[2, 1]
            length = 1.0 / (np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
            for k in range(3):
                colour[k] = texel[k] / texel[3]
            light_colour(photo, colour, nx * length, ny * length, nz * length, gloss)
            for k in range(3):
                layer[y, x, k] = colour[k] * cover
            layer[y, x, 3] = cover
    return layer


@compiled
def _mean_place(seen: Float32Array, x: int, y: int) -> tuple[float, float, float]:
    """Average where a pixel's points lie on the sheet; last is the share of them that see it."""
    u, v, count = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    # No views of rows here: numba counts their references, which costs more than the sums.
    for i in range(SAMPLES * y, SAMPLES * y + SAMPLES):
        for j in range(SAMPLES * x, SAMPLES * x + SAMPLES):
            if seen[i, j, 0] >= 0:
                u += seen[i, j, 0]
                v += seen[i, j, 1]
                count += np.float32(1.0)
    if count > 0:
        u, v = u / count, v / count
    return float(u), float(v), float(count) / (SAMPLES * SAMPLES)


@compiled
def _normal(sheet: Float32Array, u: float, v: float, normal: Float32Array) -> None:
    """The sheet's normal between its vertices; not quite of unit length."""
    x, y = u * (sheet.shape[1] - 1), v * (sheet.shape[0] - 1)
    column, row = min(int(x), sheet.shape[1] - 2), min(int(y), sheet.shape[0] - 2)
    fx, fy = np.float32(x - column), np.float32(y - row)
    for k in range(3):
        above = sheet[row, column, 3 + k]
        above += fx * (sheet[row, column + 1, 3 + k] - above)
        below = sheet[row + 1, column, 3 + k]
        below += fx * (sheet[row + 1, column + 1, 3 + k] - below)
        normal[k] = above + fy * (below - above)


@compiled
def _turn(angle: float) -> tuple[float, float]:
    """Cosine and sine within 0.01 for less than half a turn to either side."""
    half = 0.5 * angle
    square = half * half
    sine = half * (1 - square / 6 + square * square / 120)
    cosine = 1 - square / 2 + square * square / 24
    return cosine * cosine - sine * sine, 2 * sine * cosine


@compiled
def _sample(texture: Float32Array, u: float, v: float, texel: Float32Array) -> None:
    """Sample a texture bilinearly at a place given in shares of its sides."""
    size = texture.shape[0]
    x = min(max(u * size - 0.5, 0.0), size - 1.001)
    y = min(max(v * size - 0.5, 0.0), size - 1.001)
    column, row = int(x), int(y)
    fx, fy = np.float32(x - column), np.float32(y - row)
    for k in range(6):
        above = texture[row, column, k]
        above += fx * (texture[row, column + 1, k] - above)
        below = texture[row + 1, column, k]
        below += fx * (texture[row + 1, column + 1, k] - below)
        texel[k] = above + fy * (below - above)


@compiled
def light_colour(
    photo: Float64Array, colour: Float64Array, x: float, y: float, z: float, gloss: float
) -> None:
    """Turn a colour under even light, in place, into what the photo's camera would have recorded.

    Args:
        photo: Of `light.read_photo`.
        colour: Red, green, blue, 0–1.
        x: Of the surface's unit normal, as y and z.
        y: Down.
        z: Towards the viewer.
        gloss: Strength of the highlight, 0–1.
    """
    light = irradiance(photo, x, y, z) * photo[EXPOSURE]
    grey = luminance(colour[0], colour[1], colour[2])
    shine = 0.0
    if gloss > 0.0:
        # Halfway between the light and the viewer.
        hx, hy, hz = photo[LIGHT], photo[LIGHT + 1], photo[LIGHT + 2] + 1.0
        towards = max(0.0, (x * hx + y * hy + z * hz) / np.sqrt(hx * hx + hy * hy + hz * hz))
        towards = towards * towards * towards
        towards *= towards
        shine = 0.5 * gloss * photo[EXPOSURE] * towards * towards * towards * towards
    black = photo[BLACK]
    for k in range(3):
        value = grey + photo[SATURATION] * (colour[k] - grey)
        value = value * light * photo[CAST + k] + shine
        # A camera's shoulder: highlights flatten before they clip.
        if value > 0.8:
            over = value - 0.8
            value = 0.8 + 0.2 * over / (over + 0.2)
        colour[k] = black + (1.0 - black) * value
