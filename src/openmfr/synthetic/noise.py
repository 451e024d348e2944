"""Smooth random fields: a few random cells, enlarged without visible cells."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]


def smooth_noise(
    rng: np.random.Generator, cells: tuple[int, int], shape: tuple[int, int], channels: int = 1
) -> Float32Array:
    """Draw a smooth field with mean 0 and a standard deviation of roughly 0.6.

    Args:
        rng: Source of randomness.
        cells: Rows and columns of independent normal values.
        shape: Rows and columns of the field.
        channels: Independent fields.

    Returns:
        Shape (H, W, channels), float32.
    """
    return enlarge(rng.standard_normal((*cells, channels), dtype=np.float32), shape)


def enlarge(grid: Float32Array, shape: tuple[int, int]) -> Float32Array:
    """Enlarge a small picture with quadratic B-splines: smooth, and never beyond its extremes.

    Args:
        grid: Shape (h, w, C), float32.
        shape: H and W of the result.

    Returns:
        Shape (H, W, C), float32.

    Example:
        >>> enlarge(np.ones((2, 3, 1), dtype=np.float32), (4, 5)).std().item()
        0.0
    """
    down, across = _weights(grid.shape[0], shape[0]), _weights(grid.shape[1], shape[1])
    wide: Float32Array = np.einsum("yh,hwc,xw->yxc", down, grid, across, optimize=True)
    return wide


@cache
def _weights(cells: int, size: int) -> Float32Array:
    """Spline weights of every cell at every output position, shape (size, cells)."""
    place = (np.arange(size) + 0.5) / size * cells - 0.5
    distance = np.abs(place[:, None] - np.arange(-1, cells + 1)[None])
    near = 0.75 - distance**2
    far = 0.5 * (1.5 - distance) ** 2
    weights = np.where(distance < 0.5, near, np.where(distance < 1.5, far, 0.0))
    weights[:, 1] += weights[:, 0]  # the border's cell stands for those beyond it
    weights[:, -2] += weights[:, -1]
    return np.ascontiguousarray(weights[:, 1:-1], dtype=np.float32)
