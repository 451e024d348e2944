"""A head of our own: one grid of vertices around an axis, shaped by a table and named kernels.

Coordinates are decimetres (0.1 m), seen from the front: x to the right of the picture, y down, z
towards the viewer; the origin lies inside the head, level with the eyes. A vertex is addressed by
an angle about the vertical axis (0 is the front) and a height; columns and rows stand closer where
a face has detail, and texture coordinates follow them, so that texels do too.

The mean surface is a stack of cross-sections (`SECTIONS`) with
Gaussian bumps for brow, sockets, nose, lips and chin. Identity and expression are sums of
displacement fields over it, the *modes*, each a Gaussian kernel in space, mirrored, so that every
face is symmetric at rest. As the model is linear, a landmark is a fixed point on a fixed triangle.

The numbers stand in `openmfr.synthetic.anatomy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from openmfr.synthetic.anatomy import (
    BUMPS,
    EXPRESSION_KERNELS,
    EYE,
    LOOSE_PLACES,
    LOOSE_STD,
    LOOSE_WIDTH,
    MOUTH_CORNER,
    NOSE_TIP,
    PUSHES,
    RIDGE,
    SECTIONS,
    SHAPE_KERNELS,
    Kernel,
)

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]

ROWS, COLUMNS = 76, 89
TOP, BOTTOM = -1.15, 1.60


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadModel:
    """The mean head and how it may change.

    Attributes:
        mean: Vertices in decimetres, shape (V, 3), float32; V = `ROWS` × `COLUMNS`, row by row from
            the crown to the neck. The first and the last column coincide, at the back.
        angle: Angle of each column about the axis in radians, −π to π, shape (COLUMNS,), float32.
        uv: Texture coordinates of the vertices, 0–1, shape (V, 2), float32.
        triangles: Shape (T, 3), int32, facing outwards.
        shape_modes: Displacement per standard deviation over people, shape (K, V, 3), float32.
        expression_modes: Displacement per unit of each of `EXPRESSIONS`, shape (E, V, 3), float32.
        landmark_vertices: Corners of the five landmarks' triangles, shape (5, 3), int32.
        landmark_weights: Barycentric weights of the landmarks in them, shape (5, 3), float32.
    """

    mean: Float32Array
    angle: Float32Array
    uv: Float32Array
    triangles: Int32Array
    shape_modes: Float32Array
    expression_modes: Float32Array
    landmark_vertices: Int32Array
    landmark_weights: Float32Array

    def landmarks(self, vertices: Float32Array) -> Float64Array:
        """Find the five landmarks on moved or projected vertices.

        Args:
            vertices: Shape (V, C): all vertices, in any coordinates.

        Returns:
            Left-of-picture eye, right-of-picture eye, tip of the nose, left and right corner of the
            mouth, shape (5, C).
        """
        corners = vertices[self.landmark_vertices].astype(np.float64)
        located: Float64Array = np.einsum("lkc,lk->lc", corners, self.landmark_weights)
        return located


@cache
def head_model() -> HeadModel:
    """Build the model; the same object every time."""
    height = _spaced(TOP, BOTTOM, ROWS, ((0.0, 0.12, 2.0), (0.45, 0.3, 0.8), (0.725, 0.04, 3.0)))
    angle = _spaced(-np.pi, np.pi, COLUMNS, ((0.0, 0.8, 4.0),))
    mean = _mean_surface(height, angle)
    triangles = _triangles()
    loose = [
        Kernel(
            name="loose",
            centre=(x, y, _depth_at(mean, x, y)),
            width=(LOOSE_WIDTH,) * 3,
            push=push,
            std=LOOSE_STD,
        )
        for x in LOOSE_PLACES[0]
        for y in LOOSE_PLACES[1]
        for push in PUSHES
        if x > 0 or push[0] == 0  # the middle must not move sideways
    ]
    kernels = (*SHAPE_KERNELS, *loose)
    shape_modes = np.stack([_field(mean, kernel) * kernel.std for kernel in kernels])
    expressions = [*_gaps(mean), *(_field(mean, kernel) for kernel in EXPRESSION_KERNELS)]
    corners, weights = _locate(mean, triangles)
    grid = np.meshgrid(np.linspace(0, 1, COLUMNS), np.linspace(0, 1, ROWS))
    return HeadModel(
        mean=mean.astype(np.float32),
        angle=angle.astype(np.float32),
        uv=np.stack(grid, axis=-1).reshape(-1, 2).astype(np.float32),
        triangles=triangles,
        shape_modes=shape_modes.astype(np.float32),
        expression_modes=np.stack(expressions).astype(np.float32),
        landmark_vertices=corners,
        landmark_weights=weights.astype(np.float32),
    )


def weighted_sum(amounts: Float32Array, modes: Float32Array) -> Float32Array:
    """Add up displacement fields.

    Not by a matrix product: its threads round differently, and would fight over the cores that
    other workers use.

    Args:
        amounts: Shape (K,), float32.
        modes: Shape (K, V, 3), float32.

    Returns:
        Shape (V, 3), float32.
    """
    total: Float32Array = np.einsum("k,kvx->vx", amounts, modes)
    return total


def vertex_normals(vertices: Float32Array) -> Float32Array:
    """Unit normals of the grid, pointing outwards, from its central differences.

    Args:
        vertices: Shape (V, 3), float32.

    Returns:
        Shape (V, 3), float32.
    """
    grid = vertices.reshape(ROWS, COLUMNS, 3)
    across, down = np.empty_like(grid), np.empty_like(grid)
    np.subtract(grid[:, 2:], grid[:, :-2], out=across[:, 1:-1])
    across[:, 0] = across[:, -1] = grid[:, 1] - grid[:, -2]  # both are the seam at the back
    np.subtract(grid[2:], grid[:-2], out=down[1:-1])
    down[0], down[-1] = grid[1] - grid[0], grid[-1] - grid[-2]
    ax, ay, az = np.moveaxis(across, -1, 0)
    dx, dy, dz = np.moveaxis(down, -1, 0)
    normal = np.stack([ay * dz - az * dy, az * dx - ax * dz, ax * dy - ay * dx], axis=-1)
    length = np.sqrt(np.einsum("rcx,rcx->rc", normal, normal)) + np.float32(1e-9)
    unit: Float32Array = (normal / length[..., None]).reshape(-1, 3)
    return unit


def _spaced(
    low: float, high: float, count: int, focus: Sequence[tuple[float, float, float]]
) -> Float64Array:
    """Place `count` values between two ends, closer around each focus (centre, width, strength)."""
    fine = np.linspace(low, high, 4001)
    density = np.ones_like(fine)
    for centre, width, strength in focus:
        density += strength * np.exp(-(((fine - centre) / width) ** 2))
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(np.linspace(0, cumulative[-1], count), cumulative, fine)


def _mean_surface(height: Float64Array, angle: Float64Array) -> Float64Array:
    # Squared radii are interpolated, since near the crown they, not the radii, grow linearly.
    knots = SECTIONS[:, 0]
    half_width, front, back = np.sqrt(PchipInterpolator(knots, SECTIONS[:, 1:4] ** 2)(height)).T
    roundness = PchipInterpolator(knots, SECTIONS[:, 4])(height)[:, None]
    sin, cos = np.sin(angle)[None], np.cos(angle)[None]
    facing = np.clip(cos * 3, 0, 1) ** 2 * (3 - 2 * np.clip(cos * 3, 0, 1))
    power = 2 + (roundness - 2) * facing
    depth = np.maximum(np.where(cos > 0, front[:, None], back[:, None]), 1e-6)
    width = np.maximum(half_width[:, None], 1e-6)
    radius = ((np.abs(sin) / width) ** power + (np.abs(cos) / depth) ** power) ** (-1 / power)
    surface = np.stack(
        [radius * sin, np.broadcast_to(height[:, None], radius.shape), radius * cos], axis=-1
    )
    return _with_features(surface, facing).reshape(-1, 3)


def _with_features(surface: Float64Array, facing: Float64Array) -> Float64Array:
    x, y = surface[..., 0].copy(), surface[..., 1].copy()
    out = surface.copy()
    stand, width = PchipInterpolator(RIDGE[:, 0], RIDGE[:, 1:])(np.clip(y, -0.2, 0.6)).T
    out[..., 2] += stand.T * np.exp(-(np.abs(x / width.T) ** 2.4)) * facing
    for (cx, cy), (wx, wy), push in BUMPS:
        for side in (1, -1) if cx > 0 else (1,):
            bump = np.exp(-((x - side * cx) ** 2) / (2 * wx**2) - (y - cy) ** 2 / (2 * wy**2))
            out += (bump * facing)[..., None] * np.array([side * push[0], push[1], push[2]])
    for side in (1, -1):  # ears: a fold that stands off the side of the head
        fold = np.exp(-(((y - 0.17) / 0.22) ** 4) - ((surface[..., 2] - 0.02) / 0.10) ** 4)
        out[..., 0] += side * 0.13 * fold * (x * side > 0)
    return out


def _triangles() -> Int32Array:
    corner = np.arange(ROWS * COLUMNS, dtype=np.int32).reshape(ROWS, COLUMNS)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    triangles = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2)
    return np.ascontiguousarray(triangles.reshape(-1, 3))


def _field(mean: Float64Array, kernel: Kernel) -> Float64Array:
    """The displacement of every vertex per unit of a kernel, shape (V, 3)."""
    field = np.zeros_like(mean)
    for side in (1.0, -1.0) if kernel.centre[0] > 0 else (1.0,):
        mirror = np.array([side, 1.0, 1.0])
        offset = mean - mirror * kernel.centre
        fade = np.exp(-0.5 * ((offset / kernel.width) ** 2).sum(axis=1, keepdims=True))
        turn = kernel.turn * side * np.stack([offset[:, 1], -offset[:, 0]], axis=1)
        move = mirror * kernel.push + offset * kernel.spread
        move[:, :2] += turn
        field += fade * move
    return field


def _gaps(mean: Float64Array) -> list[Float64Array]:
    """The two movements with an edge: the jaw drops from the lips' line, and the lids close."""
    x, y, z = mean.T
    lip_line = MOUTH_CORNER[1] + 0.005
    lips = np.clip(1 - (x / MOUTH_CORNER[0]) ** 2, 0, 1) * np.clip(
        (y - lip_line) / 0.012 + 0.5, 0, 1
    )
    below = np.clip((y - lip_line) / 0.35, 0, 1)
    jaw = below**2 * (3 - 2 * below) * np.exp(-((x / 0.55) ** 4))
    drop = np.maximum(lips, jaw) * (z > 0) * np.clip((1.5 - y) / 0.3, 0, 1)
    lower_lid = 0.04
    lid = np.exp(-(((np.abs(x) - EYE[0]) / 0.17) ** 4)) * (z > 0)
    lid = lid * np.where(
        y < -0.06, np.clip((y + 0.17), 0, 0.11) * 0.9, np.clip(lower_lid - y, 0, 0.1)
    )
    zero = np.zeros_like(x)
    return [np.stack([zero, drop, -0.25 * drop], 1), np.stack([zero, lid, zero], 1)]


def _depth_at(mean: Float64Array, x: float, y: float) -> float:
    front = mean[mean[:, 2] > 0]
    nearest = np.argmin((front[:, 0] - x) ** 2 + (front[:, 1] - y) ** 2)
    return float(front[nearest, 2])


def _locate(mean: Float64Array, triangles: Int32Array) -> tuple[Int32Array, Float64Array]:
    """Find the triangle and the weights of each landmark, seen from the front."""
    (ex, ey), (mx, my) = EYE, MOUTH_CORNER
    places = np.array([(-ex, ey), (ex, ey), NOSE_TIP, (-mx, my), (mx, my)])
    a, b, c = (mean[triangles[:, corner], :2] for corner in range(3))
    ab, ac = b - a, c - a
    area = ab[:, 0] * ac[:, 1] - ac[:, 0] * ab[:, 1]
    faces = (area > 1e-9) & (mean[triangles[:, 0], 2] > 0)
    found, weights = [], []
    for place in places:
        ap = place - a
        with np.errstate(divide="ignore", invalid="ignore"):
            wb = (ap[:, 0] * ac[:, 1] - ac[:, 0] * ap[:, 1]) / area
            wc = (ab[:, 0] * ap[:, 1] - ap[:, 0] * ab[:, 1]) / area
        inside = np.where(faces, np.minimum(np.minimum(wb, wc), 1 - wb - wc), -np.inf)
        best = int(np.argmax(inside))
        found.append(triangles[best])
        weights.append([1 - wb[best] - wc[best], wb[best], wc[best]])
    return np.array(found, dtype=np.int32), np.array(weights)
