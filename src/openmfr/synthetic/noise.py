"""Smooth random fields: a few random cells, enlarged without visible cells."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]


def smooth_noise(
    rng: np.random.Generator, cells: tuple[int, int], shape: tuple[int, int]
) -> Float32Array:
    """Draw a smooth field with mean 0 and a standard deviation of roughly 0.6.

    Args:
        rng: Source of randomness.
        cells: Rows and columns of independent normal values.
        shape: Rows and columns of the field.

    Returns:
        Shape (H, W), float32.
    """
    return enlarge(rng.standard_normal((*cells, 1), dtype=np.float32), shape)[..., 0]


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
    tall = _enlarge_rows(grid, shape[0])
    return np.swapaxes(_enlarge_rows(np.swapaxes(tall, 0, 1), shape[1]), 0, 1)


def _enlarge_rows(grid: Float32Array, rows: int) -> Float32Array:
    cells, weights = _taps(grid.shape[0], rows)
    out: Float32Array = grid[cells[0]] * weights[0]
    for cell, weight in zip(cells[1:], weights[1:], strict=True):
        out += grid[cell] * weight
    return out


@cache
def _taps(cells: int, size: int) -> tuple[npt.NDArray[np.intp], Float32Array]:
    """The three cells around every output position, and their spline weights.

    Returns:
        Cells, shape (3, size), and weights, shape (3, size, 1, 1).
    """
    place = (np.arange(size) + 0.5) / size * cells - 0.5
    nearest = np.round(place).astype(np.intp)
    offset = place - nearest
    weights = np.stack([0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2])
    around = np.clip(nearest + np.array([[-1], [0], [1]]), 0, cells - 1)
    return around, weights[..., None, None].astype(np.float32)
