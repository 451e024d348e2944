"""The rasteriser against a slow, obvious one: every pixel against every triangle, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt
import pytest

from openmfr.faces.code_cache import compiled
from openmfr.faces.rasteriser import rasterise

HEIGHT, WIDTH = 19, 23
Array = npt.NDArray[np.float32]
Triangles = npt.NDArray[np.int32]


def scene(seed: int, triangles: int) -> tuple[Array, Triangles, Array]:
    """Triangles in general position, many beyond the picture's edge, overlapping in depth."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-4, 27, (triangles, 1, 2))
    corners = middle + rng.normal(0, 6, (triangles, 3, 2))
    depth = rng.uniform(0, 10, (triangles, 3, 1))
    vertices = np.concatenate([corners, depth], axis=2).reshape(-1, 3).astype(np.float32)
    order = np.arange(3 * triangles, dtype=np.int32).reshape(-1, 3)
    return vertices, order, rng.normal(0, 1, (3 * triangles, 4)).astype(np.float32)


def by_pixel(
    vertices: Array, triangles: Triangles, attributes: Array, *, cull: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Depth, attributes, and whether the pixel lies clearly off every edge it might touch."""
    depth = np.full((HEIGHT, WIDTH), -np.inf)
    drawn = np.zeros((HEIGHT, WIDTH, attributes.shape[1]))
    is_clear = np.ones((HEIGHT, WIDTH), dtype=np.bool_)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            for triangle in triangles:
                corners = vertices[triangle].astype(np.float64)
                system = np.vstack([corners[:, 0], corners[:, 1], np.ones(3)])
                if cull and np.linalg.det(system) < 0:
                    continue
                weights = np.linalg.solve(system, [x, y, 1])
                is_clear[y, x] &= abs(weights.min()) > 1e-4
                z = weights @ corners[:, 2]
                if weights.min() >= 0 and z > depth[y, x]:
                    depth[y, x], drawn[y, x] = z, weights @ attributes[triangle]
    return depth, drawn, is_clear


@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_every_pixel_sees_the_nearest_surface(seed: int, cull: bool) -> None:
    vertices, triangles, attributes = scene(seed, 14)
    raster = rasterise(vertices, triangles, attributes, height=HEIGHT, width=WIDTH, cull=cull)
    depth, drawn, is_clear = by_pixel(vertices, triangles, attributes, cull=cull)
    assert is_clear.mean() > 0.9
    assert np.isinf(depth[is_clear]).any()
    assert np.isfinite(depth[is_clear]).any()
    np.testing.assert_allclose(raster.depth[is_clear], depth[is_clear], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(raster.attributes[is_clear], drawn[is_clear], rtol=1e-3, atol=1e-3)


def test_the_order_of_triangles_does_not_matter() -> None:
    vertices, triangles, attributes = scene(5, 30)
    one = rasterise(vertices, triangles, attributes, height=HEIGHT, width=WIDTH)
    other = rasterise(vertices, triangles[::-1].copy(), attributes, height=HEIGHT, width=WIDTH)
    np.testing.assert_array_equal(one.depth, other.depth)
    np.testing.assert_array_equal(one.attributes, other.attributes)


def test_a_closed_surface_has_no_gaps_between_its_triangles() -> None:
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(-2, 30, 1.7), np.arange(-2, 30, 1.3))
    points = np.stack([x, y, np.zeros_like(x)], axis=-1) + rng.uniform(-0.3, 0.3, (*x.shape, 3))
    corner = np.arange(x.size, dtype=np.int32).reshape(x.shape)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    halves = [np.stack(half, axis=-1).reshape(-1, 3) for half in ((a, b, c), (a, c, d))]
    vertices = points.reshape(-1, 3).astype(np.float32)
    raster = rasterise(
        vertices, np.concatenate(halves), vertices[:, :1].copy(), height=24, width=24
    )
    assert np.isfinite(raster.depth).all()


def test_a_function_is_compiled_even_where_no_cache_can_be_kept() -> None:
    code = compile("def double(x):\n    return 2 * x", "<no file>", "exec")
    namespace: dict[str, Callable[[int], int]] = {}
    exec(code, namespace)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(namespace["double"])
    assert compiled(namespace["double"])(21) == 42
