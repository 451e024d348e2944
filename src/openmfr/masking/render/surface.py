"""Where a mask lies in space: a cloth drawn tight over one face, and a sheet laid upon it.

A head's surface is described about its vertical axis: an angle, a height, and a radius in eye spans
(see `masking.template`). For every face two maps over a grid of angles and heights are made:

- the *hull*: the radius of a cloth drawn tight over that very face. It touches the nose, the
  cheeks and the chin, and bridges the sides of the nose, the lips, an open mouth, the chin's dent;
- the *drift*: how far the face's skin has moved from the mean face's, in angle and height, so that
  a sheet follows long noses and dropped chins.

A sheet's vertices take their place from the drift, their radius from the hull, and stand off it by
the template's height. Here is what is built once, from the mean face; `masking.hull` does the rest
for each face, in compiled code.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.code_cache import compiled
from openmfr.faces.geometry import VERTICES, face_model
from openmfr.masking.template import AXIS_Z, Outline

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

#: The maps' grid: angles of −2 to 2 radians, heights of −0.55 to 1.55 eye spans.
COLUMNS: Final = 41
ROWS: Final = 43
LEFT: Final = -2.0
TOP: Final = -0.55
STEP_ANGLE: Final = 0.1
STEP_HEIGHT: Final = 0.05

#: The sheet's vertices along u and along v.
SHEET_COLUMNS: Final = 27
SHEET_ROWS: Final = 19


@dataclass(frozen=True, kw_only=True, eq=False)
class Skin:
    """The face's mesh closed over eyes and mouth and carried on past its oval to ears and neck.

    Vertices 0 … V−1 are the face's. Each further one hangs at a fixed distance (angle, height,
    radius) from a vertex of the oval.

    Attributes:
        triangles: Shape (T, 3), int32; over all vertices.
        anchors: The face's vertex that each further one hangs on, int32.
        offsets: Angle, height and radius from there, float32, shape (…, 3).
        corners: For each node of the maps' grid the triangle of the mean face in which it lies,
            shape (ROWS, COLUMNS, 3), int32.
        weights: Its barycentric coordinates there, of the same shape, float32.
        closed: The face's own triangles with holes filled, shape (·, 3), int32: what hides a mask.
        mean: Angle, height and radius of the mean face's vertices and of the further ones, float32.
    """

    triangles: Int32Array
    anchors: Int32Array
    offsets: Float32Array
    corners: Int32Array
    weights: Float32Array
    closed: Int32Array
    mean: Float32Array


@cache
def skin() -> Skin:
    """Build the closed mesh and the grid's places on it from the mean face, once per process."""
    model = face_model()
    loops = border_loops(model.triangles)
    oval = max(loops, key=len)
    fans = [
        (loop[0], loop[i], loop[i + 1])
        for loop in loops
        if loop is not oval
        for i in range(1, len(loop) - 1)
    ]
    mean = cylinder(model.mean)
    closed = _facing_out(np.vstack([model.triangles, np.array(fans)]), model.mean[:, :2])
    offsets, anchors, ring = _rings(mean, np.array(oval))
    everything = np.vstack([mean, mean[anchors] + offsets]).astype(np.float32)
    triangles = _facing_out(np.vstack([closed, ring]), everything[:, :2])
    corners, weights = _place_nodes(everything, triangles)
    return Skin(
        triangles=triangles,
        anchors=anchors,
        offsets=offsets,
        corners=corners,
        weights=weights,
        closed=closed,
        mean=everything,
    )


def cylinder(head: npt.NDArray[np.floating]) -> Float32Array:
    """Turn head coordinates into angle, height and radius about the head's axis.

    Args:
        head: In eye spans, shape (…, 3).

    Returns:
        Radians, eye spans, eye spans; shape (…, 3), float32.

    Example:
        >>> cylinder(np.array([[1.0, 0.5, AXIS_Z]])).round(4).tolist()
        [[1.5707999467849731, 0.5, 1.0]]
    """
    x, y, z = head[..., 0], head[..., 1], head[..., 2] - AXIS_Z
    return np.stack([np.arctan2(x, z), y, np.hypot(x, z)], axis=-1).astype(np.float32)


def sheet_places(outline: Outline) -> Float32Array:
    """Say where the sheet's vertices lie on the mean head: the inverse of `Outline.sheet`.

    Args:
        outline: Where the sheet's edges lie.

    Returns:
        Angle and height, shape (SHEET_ROWS, SHEET_COLUMNS, 2), float32.

    Example:
        >>> outline = Outline(nose=-0.2, side=0.0, chin=0.9, jaw=0.5, half_angle=1.2)
        >>> sheet_places(outline)[0, SHEET_COLUMNS // 2].round(4).tolist()
        [0.0, -0.20000000298023224]
    """
    places: Float32Array = place_on_head(
        outline.nose,
        outline.side,
        outline.chin,
        outline.jaw,
        outline.half_angle,
        outline.tilt,
    )
    return places


@compiled
def place_on_head(
    nose: float, side: float, chin: float, jaw: float, half_angle: float, tilt: float
) -> Float32Array:
    """`sheet_places` for an outline's numbers, compiled."""
    places = np.zeros((SHEET_ROWS, SHEET_COLUMNS, 2), np.float32)
    cos, sin = np.cos(tilt), np.sin(tilt)
    middle = (nose + chin) / 2
    for column in range(SHEET_COLUMNS):
        offset = 2 * column / (SHEET_COLUMNS - 1) - 1
        ease = offset * offset * (3 - 2 * abs(offset))
        top, bottom = nose + (side - nose) * ease, chin + (jaw - chin) * ease
        along = offset * half_angle
        for row in range(SHEET_ROWS):
            down = top + row / (SHEET_ROWS - 1) * (bottom - top) - middle
            places[row, column, 0] = along * cos - down * sin
            places[row, column, 1] = middle + along * sin + down * cos
    return places


def border_loops(triangles: Int32Array) -> list[list[int]]:
    """Walk along the mesh's borders: the oval, both eyes, the mouth."""
    count = Counter(
        (min(a, b), max(a, b))
        for t in triangles.tolist()
        for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))
    )
    beside: dict[int, list[int]] = {}
    for (a, b), uses in count.items():
        if uses == 1:
            beside.setdefault(a, []).append(b)
            beside.setdefault(b, []).append(a)
    loops: list[list[int]] = []
    seen: set[int] = set()
    for start in sorted(beside):
        loop: list[int] = []
        ahead = [start]
        while ahead := [v for v in ahead if v not in seen][:1]:
            loop += ahead
            seen.update(ahead)
            ahead = beside[ahead[0]]
        if loop:
            loops.append(loop)
    return loops


def _facing_out(triangles: npt.NDArray[np.integer], flat: npt.NDArray[np.floating]) -> Int32Array:
    """Turn triangles so that they run clockwise in a plane (x right, y down)."""
    a, b, c = (flat[triangles[:, i]].astype(np.float64) for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    turned = triangles.astype(np.int32).copy()
    turned[area < 0] = turned[area < 0][:, [0, 2, 1]]
    return turned


def _rings(mean: Float32Array, oval: Int32Array) -> tuple[Float32Array, Int32Array, Int32Array]:
    """Three rings past the oval: towards the ears at the sides, onto the neck below."""
    angle, height, radius = mean[oval].T.astype(np.float64)
    below = np.clip((height - 0.1) / 0.4, 0, 1)
    below = below * below * (3 - 2 * below)
    side = np.sign(angle) * np.clip(np.abs(angle) / 1.2, 0, 1) * (1 - below * 0.7)
    neck = 0.30 + 0.14 * np.clip(np.abs(angle) / 1.6, 0, 1) ** 2
    rings = []
    for turn, drop, share in ((0.14, 0.07, 0.1), (0.4, 0.25, 0.6), (0.8, 0.9, 1.0)):
        thinner = below * share * (neck - radius) - (1 - below) * 0.02 * share
        rings.append(np.stack([side * turn, below * drop, thinner], axis=1))
    count = len(oval)
    here = np.arange(count)
    ahead = (here + 1) % count
    strips = []
    inner, inner_ahead = oval, oval[ahead]
    for k in range(len(rings)):
        outer = VERTICES + k * count + here
        outer_ahead = VERTICES + k * count + ahead
        strips += [
            np.stack([inner, inner_ahead, outer_ahead], axis=1),
            np.stack([inner, outer_ahead, outer], axis=1),
        ]
        inner, inner_ahead = outer.astype(np.int32), outer_ahead.astype(np.int32)
    anchors = np.tile(oval, len(rings)).astype(np.int32)
    return np.vstack(rings).astype(np.float32), anchors, np.vstack(strips).astype(np.int32)


def _place_nodes(mesh: Float32Array, triangles: Int32Array) -> tuple[Int32Array, Float32Array]:
    """Find each node's triangle on the mean face.

    Nodes off the mesh take their nearest neighbour's, and so its drift.
    """
    angles = LEFT + STEP_ANGLE * np.arange(COLUMNS)
    heights = TOP + STEP_HEIGHT * np.arange(ROWS)
    corners = np.zeros((ROWS, COLUMNS, 3), np.int32)
    weights = np.zeros((ROWS, COLUMNS, 3), np.float32)
    radius = np.full((ROWS, COLUMNS), -np.inf)
    grid_y, grid_x = np.meshgrid(heights, angles, indexing="ij")
    for triangle in triangles:
        a, b, c = mesh[triangle].astype(np.float64)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if area <= 1e-9:
            continue
        px, py = grid_x - a[0], grid_y - a[1]
        wb = (px * (c[1] - a[1]) - (c[0] - a[0]) * py) / area
        wc = ((b[0] - a[0]) * py - px * (b[1] - a[1])) / area
        wa = 1 - wb - wc
        r = wa * a[2] + wb * b[2] + wc * c[2]
        inside = (wa >= -1e-6) & (wb >= -1e-6) & (wc >= -1e-6) & (r > radius)
        radius[inside] = r[inside]
        corners[inside] = triangle
        weights[inside] = np.stack([wa, wb, wc], axis=-1)[inside]
    found = np.argwhere(np.isfinite(radius))
    for row, column in np.argwhere(~np.isfinite(radius)):
        near = found[((found - [row, column]) ** 2).sum(axis=1).argmin()]
        corners[row, column] = corners[near[0], near[1]]
        weights[row, column] = weights[near[0], near[1]]
    return corners, weights
