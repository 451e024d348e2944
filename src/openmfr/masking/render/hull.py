"""What is done for every face before a mask is drawn: its pose, its hull, its sheet in space.

Compiled, in float32 and float64 without BLAS, so that results are the same in every process.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.code_cache import compiled
from openmfr.masking.render.surface import (
    COLUMNS,
    LEFT,
    ROWS,
    STEP_ANGLE,
    STEP_HEIGHT,
    TOP,
)
from openmfr.masking.template import AXIS_Z

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_PER_ANGLE: Final = 1.0 / STEP_ANGLE
_PER_HEIGHT: Final = 1.0 / STEP_HEIGHT

# Passes that tighten the cloth, an even number: enough to span an open mouth.
_TIGHTENING: Final = 20
# Passes that spread the drift: the lips of an open mouth must not tear a sheet.
_SMOOTHING: Final = 6
# How far a sheet lies off the hull, eye spans: at its edges, and more in its middle.
_STAND_OFF: Final = 0.012
_FULLNESS: Final = 0.02
# The radius of cheeks, and how much of its width a sheet keeps on smaller ones.
_GIRTH: Final = 0.72
_STIFF: Final = 0.6


@compiled
def find_pose(
    vertices: Float32Array, mean: Float32Array, rotation: Float64Array, shift: Float64Array
) -> float:
    """`geometry.fit_pose` in compiled code: the same numbers in every process.

    The rotation is the orthogonal factor of the covariance, by Newton's iteration.

    Args:
        vertices: Shape (V, 3), float32, pixels.
        mean: The mean face, of the same shape; its own mean is the origin.
        rotation: Receives the rotation, shape (3, 3), float64.
        shift: Receives the shift in pixels, shape (3,), float64.

    Returns:
        Pixels per eye span; 0 where the vertices are flat, mirrored or not finite.
    """
    count = vertices.shape[0]
    for i in range(3):
        shift[i] = 0.0
        for v in range(count):
            shift[i] += vertices[v, i]
        shift[i] /= count
    covariance, spread = np.zeros((3, 3)), 0.0
    for v in range(count):
        for j in range(3):
            m = np.float64(mean[v, j])
            spread += m * m
            for i in range(3):
                covariance[i, j] += (vertices[v, i] - shift[i]) * m
    rotation[:] = covariance
    change, steps = 1.0, 0
    while 1e-12 < change < np.inf and steps < 30:
        change = _towards_rotation(rotation)
        steps += 1
    if not change < np.inf:
        return 0.0
    trace = 0.0
    for i in range(3):
        for j in range(3):
            trace += rotation[i, j] * covariance[i, j]
    return trace / spread


@compiled
def _towards_rotation(matrix: Float64Array) -> float:
    """One step of Newton's iteration, in place; infinite for a flat or mirroring matrix."""
    cofactors = np.zeros((3, 3))
    square = 0.0
    for i in range(3):
        for j in range(3):
            a, b, c, d = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
            cofactors[i, j] = matrix[a, c] * matrix[b, d] - matrix[a, d] * matrix[b, c]
            square += matrix[i, j] * matrix[i, j]
    determinant = 0.0
    for j in range(3):
        determinant += matrix[0, j] * cofactors[0, j]
    size = np.sqrt(square / 3)
    if not (determinant > 1e-7 * size * size * size):
        return np.inf
    # Scaled to unit volume, so that it converges in a few steps wherever it starts.
    stretch = determinant ** (-1.0 / 3.0)
    change = 0.0
    for i in range(3):
        for j in range(3):
            inverse = cofactors[i, j] / (determinant * stretch)
            new = 0.5 * (stretch * matrix[i, j] + inverse)
            change += abs(new - matrix[i, j])
            matrix[i, j] = new
    return change


@compiled
def lay_hull(
    vertices: Float32Array,
    scale: float,
    rotation: Float64Array,
    shift: Float64Array,
    triangles: Int32Array,
    anchors: Int32Array,
    offsets: Float32Array,
    corners: Int32Array,
    weights: Float32Array,
    mean: Float32Array,
) -> Float32Array:
    """Draw a cloth tight over a face.

    Args:
        vertices: Shape (V, 3), float32, pixels.
        scale: Of the face's pose, pixels per eye span.
        rotation: Of its pose.
        shift: Of its pose.
        triangles: Of `surface.skin()`, as the other arguments are.
        anchors: See `surface.Skin`.
        offsets: See `surface.Skin`.
        corners: See `surface.Skin`.
        weights: See `surface.Skin`.
        mean: See `surface.Skin`.

    Returns:
        Radius of the hull, drift in angle and drift in height, shape (3, ROWS, COLUMNS), float32.
    """
    count = vertices.shape[0]
    mesh = np.zeros((count + anchors.shape[0], 3), np.float32)
    r = rotation
    for v in range(count):
        x, y, z = vertices[v, 0] - shift[0], vertices[v, 1] - shift[1], vertices[v, 2] - shift[2]
        across = (r[0, 0] * x + r[1, 0] * y + r[2, 0] * z) / scale
        ahead = (r[0, 2] * x + r[1, 2] * y + r[2, 2] * z) / scale - AXIS_Z
        mesh[v, 0] = np.arctan2(across, ahead)
        mesh[v, 1] = (r[0, 1] * x + r[1, 1] * y + r[2, 1] * z) / scale
        mesh[v, 2] = np.sqrt(across * across + ahead * ahead)
    for k in range(anchors.shape[0]):
        for i in range(3):
            mesh[count + k, i] = mesh[anchors[k], i] + offsets[k, i]
    maps = np.zeros((3, ROWS, COLUMNS), np.float32)
    _tighten(_radius(mesh, triangles), maps[0])
    for i in range(2):
        for row in range(ROWS):
            for column in range(COLUMNS):
                moved = np.float32(0.0)
                for k in range(3):
                    v = corners[row, column, k]
                    moved += weights[row, column, k] * (mesh[v, i] - mean[v, i])
                maps[1 + i, row, column] = moved
        _smooth(maps[1 + i])
    return maps


@compiled
def _radius(mesh: Float32Array, triangles: Int32Array) -> Float32Array:
    """The outermost radius of a mesh (angle, height, radius) at each node; 0 beside it."""
    radius = np.zeros((ROWS, COLUMNS), np.float32)
    places = np.empty((mesh.shape[0], 2))
    for v in range(mesh.shape[0]):
        places[v, 0] = (mesh[v, 0] - LEFT) * _PER_ANGLE
        places[v, 1] = (mesh[v, 1] - TOP) * _PER_HEIGHT
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = places[a, 0], places[a, 1]
        bx, by = places[b, 0] - ax, places[b, 1] - ay
        cx, cy = places[c, 0] - ax, places[c, 1] - ay
        area = bx * cy - cx * by
        # Long triangles come from points behind the axis, where angles jump.
        if abs(area) < 1e-9 or max(abs(bx), abs(cx)) > COLUMNS / 2:
            continue
        left = max(0, int(np.ceil(ax + min(0.0, bx, cx) - 1e-6)))
        right = min(COLUMNS - 1, int(np.floor(ax + max(0.0, bx, cx) + 1e-6)))
        top = max(0, int(np.ceil(ay + min(0.0, by, cy) - 1e-6)))
        bottom = min(ROWS - 1, int(np.floor(ay + max(0.0, by, cy) + 1e-6)))
        inverse = 1.0 / area
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                px, py = column - ax, row - ay
                wb, wc = (px * cy - cx * py) * inverse, (bx * py - px * by) * inverse
                wa = 1.0 - wb - wc
                if wa >= -1e-6 and wb >= -1e-6 and wc >= -1e-6:
                    r = wa * mesh[a, 2] + wb * mesh[b, 2] + wc * mesh[c, 2]
                    radius[row, column] = max(radius[row, column], np.float32(r))
    return radius


@compiled
def _tighten(radius: Float32Array, hull: Float32Array) -> None:
    """Raise a map towards its neighbours' mean, and never below the face.

    The chord between two points at equal radius runs inside their circle, hence the cosine.
    """
    other = np.zeros((ROWS, COLUMNS), np.float32)
    hull[:] = radius
    other[:] = radius
    for _ in range(_TIGHTENING // 2):
        _tighten_once(radius, hull, other)
        _tighten_once(radius, other, hull)
    for row in range(ROWS):
        hull[row, 0], hull[row, COLUMNS - 1] = hull[row, 1], hull[row, COLUMNS - 2]


@compiled
def _tighten_once(radius: Float32Array, before: Float32Array, after: Float32Array) -> None:
    along, across = np.float32(0.25 * np.cos(STEP_ANGLE)), np.float32(0.25)
    for row in range(1, ROWS - 1):
        # Above the nose's bridge a mask lies as the skin does.
        share = np.float32(min(1.0, max(0.0, (TOP + row * STEP_HEIGHT + 0.3) / 0.3)))
        for column in range(1, COLUMNS - 1):
            mean = along * (before[row, column - 1] + before[row, column + 1])
            mean += across * (before[row - 1, column] + before[row + 1, column])
            raised = before[row, column] + share * (mean - before[row, column])
            after[row, column] = max(radius[row, column], raised)


@compiled
def _smooth(field: Float32Array) -> None:
    half, eighth = np.float32(0.5), np.float32(0.125)
    other = field.copy()
    for step in range(_SMOOTHING):
        before, after = (field, other) if step % 2 == 0 else (other, field)
        for row in range(1, ROWS - 1):
            for column in range(1, COLUMNS - 1):
                around = before[row, column - 1] + before[row, column + 1]
                around += before[row - 1, column] + before[row + 1, column]
                after[row, column] = half * before[row, column] + eighth * around


@compiled
def look_up(field: Float32Array, angle: float, height: float) -> float:
    """Sample one of the maps bilinearly; beyond its edge it goes on as at the edge."""
    x = min(max((angle - LEFT) * _PER_ANGLE, 0.0), COLUMNS - 1.001)
    y = min(max((height - TOP) * _PER_HEIGHT, 0.0), ROWS - 1.001)
    column, row = int(x), int(y)
    fx, fy = x - column, y - row
    above = (1 - fx) * field[row, column] + fx * field[row, column + 1]
    under = (1 - fx) * field[row + 1, column] + fx * field[row + 1, column + 1]
    value: float = (1 - fy) * above + fy * under
    return value


@compiled
def _reach_round(hull: Float32Array, angle: float, level: float) -> float:
    """Where the head narrows towards the chin, cloth does not: it reaches further round."""
    radius = max(look_up(hull, angle, level), 0.2)
    if radius >= _GIRTH:
        return angle
    wider: Any = np.float32(_GIRTH / radius) ** np.float32(_STIFF)
    further: float = angle * wider
    return further


@compiled
def place_sheet(
    maps: Float32Array,
    places: Float32Array,
    height: Float32Array,
    slack: float,
    scale: float,
    rotation: Float64Array,
    shift: Float64Array,
) -> Float32Array:
    """Lay a sheet upon a hull.

    Args:
        maps: Of `lay_hull`.
        places: Of `surface.sheet_places`.
        height: How far the sheet's vertices stand off, in eye spans, shape
            (SHEET_ROWS, SHEET_COLUMNS), float32.
        slack: 0 is tight, 1 loose.
        scale: Pixels per eye span.
        rotation: Of the pose.
        shift: Of the pose.

    Returns:
        Vertices in pixels and their outward unit normals, shape (SHEET_ROWS, SHEET_COLUMNS, 6),
        float32.
    """
    rows, columns = height.shape
    sheet = np.empty((rows, columns, 6), np.float32)
    r = rotation
    for row in range(rows):
        for column in range(columns):
            level = places[row, column, 1]
            angle = _reach_round(maps[0], places[row, column, 0], level)
            moved_angle = angle + look_up(maps[1], angle, level)
            moved_level = level + look_up(maps[2], angle, level)
            u, v = column / (columns - 1), row / (rows - 1)
            inner = 16 * u * (1 - u) * v * (1 - v)
            out = look_up(maps[0], moved_angle, moved_level) + height[row, column] + _STAND_OFF
            out += (_FULLNESS + 0.05 * slack) * inner
            turn = np.float32(moved_angle)
            x = out * np.sin(turn)
            y = moved_level + 0.02 * slack * inner
            z = out * np.cos(turn) + AXIS_Z
            for i in range(3):
                place = scale * (r[i, 0] * x + r[i, 1] * y + r[i, 2] * z) + shift[i]
                sheet[row, column, i] = place
    for row in range(rows):
        up, down = max(row - 1, 0), min(row + 1, rows - 1)
        for column in range(columns):
            left, right = max(column - 1, 0), min(column + 1, columns - 1)
            ax = sheet[row, right, 0] - sheet[row, left, 0]
            ay = sheet[row, right, 1] - sheet[row, left, 1]
            az = sheet[row, right, 2] - sheet[row, left, 2]
            bx = sheet[down, column, 0] - sheet[up, column, 0]
            by = sheet[down, column, 1] - sheet[up, column, 1]
            bz = sheet[down, column, 2] - sheet[up, column, 2]
            nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
            size = np.float32(1.0) / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-12))
            sheet[row, column, 3] = nx * size
            sheet[row, column, 4] = ny * size
            sheet[row, column, 5] = nz * size
    return sheet
