"""A z-buffer rasteriser for small meshes: which surface a pixel sees, and what lies there.

Coordinates are (x, y) in pixels with pixel centres at whole numbers, y pointing down, and depth z
pointing at the viewer: the larger z is in front. Projection is the caller's; within a triangle
attributes are interpolated linearly in the picture, which is exact under weak perspective.

A triangle faces the viewer when its corners run clockwise as seen in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.faces.code_cache import compiled

Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]

#: How far outside a triangle, in barycentric units, a pixel's centre still belongs to it: rounding
#: must not open gaps between neighbours.
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Raster:
    """What each pixel sees.

    Attributes:
        depth: z of the nearest surface, shape (H, W), float32; −inf where there is none.
        attributes: Interpolated attributes, shape (H, W, A), float32; 0 where there is none.
    """

    depth: Float32Array
    attributes: Float32Array


def rasterise(
    vertices: Float32Array,
    triangles: Int32Array,
    attributes: Float32Array,
    *,
    height: int,
    width: int,
    cull: bool = True,
) -> Raster:
    """Draw a mesh into a depth buffer and interpolate its vertex attributes.

    Args:
        vertices: (x, y) in pixels and depth, shape (V, 3), float32.
        triangles: Vertex indices, shape (T, 3), int32.
        attributes: Shape (V, A), float32.
        height: H in pixels.
        width: W in pixels.
        cull: Leave out triangles that face away from the viewer.

    Returns:
        Depth and attributes of the surface in front.

    Example:
        >>> corners = np.array([[0, 0, 1], [4, 0, 1], [0, 4, 1]], dtype=np.float32)
        >>> order = np.array([[0, 1, 2]], dtype=np.int32)
        >>> raster = rasterise(corners, order, corners[:, :2].copy(), height=5, width=5)
        >>> raster.attributes[1, 2].tolist(), bool(np.isinf(raster.depth[4, 4]))
        ([2.0, 1.0], True)
    """
    depth = np.full((height, width), -np.inf, dtype=np.float32)
    drawn = np.zeros((height, width, attributes.shape[1]), dtype=np.float32)
    _draw(vertices, triangles, attributes, depth, drawn, cull)
    return Raster(depth=depth, attributes=drawn)


@compiled
def _draw(
    vertices: Float32Array,
    triangles: Int32Array,
    attributes: Float32Array,
    depth: Float32Array,
    drawn: Float32Array,
    cull: bool,
) -> None:
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = np.float64(vertices[a, 0]), np.float64(vertices[a, 1])
        bx, by = vertices[b, 0] - ax, vertices[b, 1] - ay
        cx, cy = vertices[c, 0] - ax, vertices[c, 1] - ay
        area = bx * cy - cx * by
        if area == 0 or (cull and area < 0):
            continue
        inverse = 1.0 / area
        left = max(0, int(np.ceil(ax + min(0.0, bx, cx) - _TOLERANCE)))
        right = min(width - 1, int(np.floor(ax + max(0.0, bx, cx) + _TOLERANCE)))
        top = max(0, int(np.ceil(ay + min(0.0, by, cy) - _TOLERANCE)))
        bottom = min(height - 1, int(np.floor(ay + max(0.0, by, cy) + _TOLERANCE)))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                px, py = x - ax, y - ay
                wb = (px * cy - cx * py) * inverse
                wc = (bx * py - px * by) * inverse
                wa = 1.0 - wb - wc
                if wa < -_TOLERANCE or wb < -_TOLERANCE or wc < -_TOLERANCE:
                    continue
                z = wa * vertices[a, 2] + wb * vertices[b, 2] + wc * vertices[c, 2]
                if z > depth[y, x]:
                    depth[y, x] = z
                    for i in range(attributes.shape[1]):
                        drawn[y, x, i] = (
                            wa * attributes[a, i] + wb * attributes[b, i] + wc * attributes[c, i]
                        )
