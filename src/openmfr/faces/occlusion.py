"""Whether something lies in front of the lower face: a hand, a microphone, food, a pipe.

A mask is painted over whatever the picture shows, so such faces had better stay unmasked. A face is
nearly symmetric, beards and mouths too; a thing in front of it is not. The lower face is unrolled
onto a grid, and each point is compared with its mirror point. What light does to that difference is
smooth over the face's normals, and shade changes colour along with brightness: both are fitted and
taken away. What is left, averaged over patches so that stubble and noise cancel, is large in
brightness *and* in colour where something lies in front.

Of LFW's 7,701 crops, on which nothing was chosen, 71 are called covered, about 52 of them rightly:
a precision of 0.73. On the 4,010 training crops on which measure and threshold were chosen it is 33
of 38. Of 600 of these, drawn at random, 19 show something in front of the lower face, and 11 of
them are found: a recall of 0.58, give or take 0.2. What is missed is small, or of the skin's own
colour (a finger on a lip), or on a face turned so far that one side cannot be compared with the
other, or covers a whole side and passes for light. False alarms are faces under hard light; they
cost a mask that is not worn.

MediaPipe's hand detector was tried as a second opinion and left out: 18 ms a picture, and it found
the hand in 2 of 7 crops, as it wants to see the whole of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.code_cache import compiled
from openmfr.faces.geometry import Float32Array, face_model

UInt8Array = npt.NDArray[np.uint8]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

#: Raised whenever the same picture gets another answer.
VERSION: Final = "1"

#: Covered from this score on.
THRESHOLD: Final = 0.42

# The grid of one half of the lower face, in eye spans of the head: from the middle outwards, and
# from the base of the nose to the chin.
_STEP: Final = 0.04
_COLUMNS: Final = (np.arange(16) + 0.5) * _STEP
_ROWS: Final = np.arange(0.19, 0.8, _STEP)

#: A point is seen where its surroundings keep this share of the area that they have at their best.
_FACING: Final = 0.3

#: Half the edge of the patches that brightness and colour are averaged over, in grid points.
_RADII: Final = (3, 2)

#: Share of a patch that must be seen on both sides of the face.
_SEEN: Final = 0.6

# How little a fit may explain by much, and from how many mean squares on a point counts half.
_STIFFNESS: Final = 0.2
_TOLERANCE: Final = 2.0

# Hard light from one side throws shadows that no smooth fit takes away, so a difference counts for
# less, the more the whole sides differ; in even light, by this much.
_EVEN_LIGHT: Final = 0.2

# Logarithms make light a summand; the offset keeps the noise of dark pixels small.
_LOGARITHM: Final[Float32Array] = np.log(np.arange(256) + 16).astype(np.float32)


def is_covered(image: UInt8Array, vertices: Float32Array) -> bool:
    """Whether something lies in front of the lower face.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        vertices: In pixels of the image, shape (V, 3).
    """
    return covering(image, vertices) > THRESHOLD


def covering(image: UInt8Array, vertices: Float32Array) -> float:
    """Measure how unlike each other the two sides of the lower face are.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        vertices: In pixels of the image, shape (V, 3).

    Returns:
        From 0, about 1 where it is plain: the geometric mean of the largest difference in
        brightness, relative to what the whole sides differ by, and the largest in colour. 0 where
        too little of both sides is seen, as near profile.
    """
    grid = _grid()
    return float(
        _covering(
            np.ascontiguousarray(image), np.ascontiguousarray(vertices, np.float32), _LOGARITHM,
            grid.corners, grid.weights, grid.areas, grid.is_face, grid.odd,
        )
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Grid:
    """Points of the lower face, first on the left side of the picture, then on the right.

    Attributes:
        corners: Vertices of the triangle that a point lies in, shape (2, R, C, 3).
        weights: What they contribute, shape (2, R, C, 3), float32.
        areas: Twice the area of those triangles as seen from the front, shape (2, R, C), float32.
        is_face: Whether both points lie on the face, shape (R, C).
        odd: What light can do to the difference of the two points, shape (R, C, 3): the spherical
            harmonics to second order that change their sign when left and right are exchanged.
    """

    corners: IntArray
    weights: Float32Array
    areas: Float32Array
    is_face: BoolArray
    odd: Float64Array


@cache
def _grid() -> _Grid:
    model = face_model()
    mean = model.mean.astype(np.float64)
    x, y = np.meshgrid(_COLUMNS, _ROWS)
    corners = np.zeros((2, *x.shape, 3), np.intp)
    weights = np.zeros((2, *x.shape, 3))
    is_face = np.zeros((2, *x.shape), np.bool_)
    for side, sign in enumerate((-1, 1)):
        for triangle in model.triangles:
            shares = _barycentric(mean[triangle, :2], sign * x, y)
            # A point belongs to the first triangle that holds it: on a chin one sees no second.
            is_new = (shares >= -1e-6).all(axis=-1) & ~is_face[side]
            corners[side][is_new], weights[side][is_new] = triangle, shares[is_new]
            is_face[side] |= is_new
    normals = np.einsum("ijk,ijkx->ijx", weights[1], _normals(mean, model.triangles)[corners[1]])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    nx, ny, nz = np.moveaxis(normals, -1, 0)
    return _Grid(
        corners=corners,
        weights=weights.astype(np.float32),
        # Where there is no face, any number but 0 will do.
        areas=np.where(is_face, _areas(mean[corners][..., :2]), 1).astype(np.float32),
        is_face=is_face[0] & is_face[1],
        odd=np.stack([nx, nx * ny, nx * nz], axis=-1),
    )


def _barycentric(corners: Float64Array, x: Float64Array, y: Float64Array) -> Float64Array:
    a, b, c = corners
    area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
    to_b = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
    to_c = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
    return np.stack([1 - to_b - to_c, to_b, to_c], axis=-1)


def _normals(mean: Float64Array, triangles: npt.NDArray[np.int32]) -> Float64Array:
    """Outward normals of the mean face's vertices, weighted by area; not of unit length."""
    first, second, third = np.moveaxis(mean[triangles], 1, 0)
    of_triangles = np.cross(second - first, third - first)
    normals = np.zeros_like(mean)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], of_triangles)
    return normals


def _areas(corners: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Twice the area of triangles in the picture, shape (...); positive where they face us."""
    first = corners[..., 1, :] - corners[..., 0, :]
    second = corners[..., 2, :] - corners[..., 0, :]
    areas: npt.NDArray[np.floating] = (
        first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    )
    return areas


@compiled
def _covering(
    image: UInt8Array,
    vertices: Float32Array,
    logarithm: Float32Array,
    corners: IntArray,
    weights: Float32Array,
    areas: Float32Array,
    is_face: BoolArray,
    odd: Float64Array,
) -> float:
    """`covering` of a face, with the numbers of its `_Grid`."""
    points, keep = _place_points(image, vertices, corners, weights, areas, is_face)
    count = 0
    for row in range(keep.shape[0]):
        for column in range(keep.shape[1]):
            count += keep[row, column]
    if count < 40:
        return 0.0
    luma, chroma = np.empty((count, 1)), np.empty((count, 2))
    basis, shade = np.empty((count, 3)), np.empty((count, 2))
    left, right = np.empty(3, np.float32), np.empty(3, np.float32)
    p = 0
    for row in range(keep.shape[0]):
        for column in range(keep.shape[1]):
            if keep[row, column]:
                _sample(image, points[0, row, column], logarithm, left)
                _sample(image, points[1, row, column], logarithm, right)
                red, green, blue = right[0] - left[0], right[1] - left[1], right[2] - left[2]
                luma[p, 0] = (np.float64(red) + green + blue) / 3
                chroma[p, 0], chroma[p, 1] = np.float64(red) - green, np.float64(blue) - green
                basis[p] = odd[row, column]
                # Shade is warmer or colder than light, and so is the one side than the other.
                shade[p, 0], shade[p, 1] = luma[p, 0], odd[row, column, 0]
                p += 1
    brightness = _largest(_unexplained(luma, basis), keep, _RADII[0])
    colour = _largest(_unexplained(chroma, shade), keep, _RADII[1])
    contrast = _EVEN_LIGHT + abs(np.median(luma[:, 0]))
    score: float = np.sqrt(brightness / contrast * colour)
    return score


@compiled
def _place_points(
    image: UInt8Array,
    vertices: Float32Array,
    corners: IntArray,
    weights: Float32Array,
    areas: Float32Array,
    is_face: BoolArray,
) -> tuple[Float32Array, BoolArray]:
    """Find the grid's points in the picture, and where both of two lie in it and face the viewer.

    Returns:
        x and y, shape (2, R, C, 2), float32; shape (R, C).
    """
    rows, columns = is_face.shape
    points, share = np.empty((2, rows, columns, 2), np.float32), np.empty((2, rows, columns))
    best = -np.inf
    for side in range(2):
        total, count = 0.0, 0
        for row in range(rows):
            for column in range(columns):
                a, b, c = corners[side, row, column]
                for i in range(2):
                    place = weights[side, row, column, 0] * vertices[a, i]
                    place += weights[side, row, column, 1] * vertices[b, i]
                    points[side, row, column, i] = (
                        place + weights[side, row, column, 2] * vertices[c, i]
                    )
                bx, by = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1]
                cx, cy = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1]
                share[side, row, column] = (bx * cy - by * cx) / areas[side, row, column]
                if is_face[row, column]:
                    total += share[side, row, column]
                    count += 1
        best = max(best, total / count)
    keep = is_face.copy()
    for side in range(2):
        for row in range(rows):
            for column in range(columns):
                x, y = points[side, row, column]
                is_inside = 0 <= x <= image.shape[1] - 1 and 0 <= y <= image.shape[0] - 1
                is_near = share[side, row, column] > _FACING * best
                keep[row, column] = keep[row, column] and is_inside and is_near
    return points, keep


@compiled
def _sample(
    image: UInt8Array, point: Float32Array, logarithm: Float32Array, colour: Float32Array
) -> None:
    """Write the logarithms of the colours at a point of a picture, bilinear."""
    x = min(point[0], np.float32(image.shape[1] - 1.001))
    y = min(point[1], np.float32(image.shape[0] - 1.001))
    column, row = int(x), int(y)
    fx, fy = x - np.float32(column), y - np.float32(row)
    gx, gy = np.float32(1.0) - fx, np.float32(1.0) - fy
    for k in range(3):
        upper = logarithm[image[row, column, k]] * gx + logarithm[image[row, column + 1, k]] * fx
        row += 1
        lower = logarithm[image[row, column, k]] * gx + logarithm[image[row, column + 1, k]] * fx
        row -= 1
        colour[k] = upper * gy + lower * fy


@compiled
def _unexplained(values: Float64Array, basis: Float64Array) -> Float64Array:
    """What a basis (P, K) leaves of values (P, C), trusting outliers little."""
    count, depth = values.shape
    rest, trust = values.copy(), np.ones(count)
    for _ in range(2):
        amounts = _fit(values, basis, trust)
        total = 0.0
        for p in range(count):
            square = 0.0
            for k in range(depth):
                rest[p, k] = values[p, k]
                for i in range(amounts.shape[0]):
                    rest[p, k] -= basis[p, i] * amounts[i, k]
                square += rest[p, k] * rest[p, k]
            trust[p] = square
            total += square
        for p in range(count):
            trust[p] = 1 / (1 + trust[p] / (_TOLERANCE * total / count + 1e-3))
    return rest


@compiled
def _fit(values: Float64Array, basis: Float64Array, trust: Float64Array) -> Float64Array:
    """How much of a basis (P, K) there is in values (P, C), shape (K, C)."""
    size, depth = basis.shape[1], values.shape[1]
    system = np.zeros((size, size + depth))
    for p in range(values.shape[0]):
        for i in range(size):
            weighted = basis[p, i] * trust[p]
            for j in range(size):
                system[i, j] += weighted * basis[p, j]
            for k in range(depth):
                system[i, size + k] += weighted * values[p, k]
    for i in range(size):
        system[i, i] += _STIFFNESS
    _solve(system)
    return system[:, size:]


@compiled
def _solve(system: Float64Array) -> None:
    """Solve a positive definite system (K, K) whose right sides follow; they become solutions."""
    size, width = system.shape
    for i in range(size):
        for j in range(size):
            if j != i:
                factor = system[j, i] / system[i, i]
                for k in range(i, width):
                    system[j, k] -= factor * system[i, k]
    for i in range(size):
        for k in range(size, width):
            system[i, k] /= system[i, i]


@compiled
def _largest(values: Float64Array, keep: BoolArray, radius: int) -> float:
    """Length of the largest mean of values (P, C) over a square patch of which enough is seen."""
    rows, columns = keep.shape
    depth, edge = values.shape[1], 2 * radius + 1
    # Sums over all that lies above and to the left; the last of them count the points.
    table = np.zeros((rows + 1, columns + 1, depth + 1))
    p = 0
    for row in range(rows):
        for column in range(columns):
            for k in range(depth + 1):
                here = 0.0
                if keep[row, column]:
                    here = values[p, k] if k < depth else 1.0
                table[row + 1, column + 1, k] = (
                    here + table[row, column + 1, k] + table[row + 1, column, k]
                    - table[row, column, k]
                )  # fmt: skip
            p += keep[row, column]
    largest = 0.0
    for row in range(rows - edge + 1):
        for column in range(columns - edge + 1):
            seen, square = 0.0, 0.0
            for k in range(depth + 1):
                total = table[row + edge, column + edge, k] - table[row, column + edge, k]
                total += table[row, column, k] - table[row + edge, column, k]
                square += total * total if k < depth else 0.0
                seen = total
            if seen > _SEEN * edge * edge:
                largest = max(largest, np.sqrt(square) / seen)
    return largest
