"""Glasses: worn on one picture and not on the next, so that they say nothing of the person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]

#: How far before the eyes the lenses are, and where the temples end above the ears, decimetres.
_BEFORE_EYES = 0.17
_EAR_X, _EAR_Z = 0.80, 0.05


@dataclass(frozen=True, kw_only=True)
class Glasses:
    """A pair of glasses.

    Attributes:
        half_width: Of a lens, decimetres.
        half_height: Of a lens, decimetres.
        squareness: Exponent of the lens's outline; 2 is an ellipse, more is squarer.
        rim: Width of the rim, decimetres.
        colour: Linear RGB.
    """

    half_width: float
    half_height: float
    squareness: float
    rim: float
    colour: tuple[float, float, float]


def draw_glasses(rng: np.random.Generator) -> Glasses:
    """Draw a pair of glasses."""
    shade = rng.uniform(0.005, 0.10) if rng.random() < 0.8 else rng.uniform(0.2, 0.4)
    red, green, blue = shade * (1 + rng.normal(0, 0.15, 3))
    return Glasses(
        half_width=float(rng.uniform(0.19, 0.245)),
        half_height=float(rng.uniform(0.13, 0.20)),
        squareness=float(rng.uniform(2.0, 5.0)),
        rim=float(rng.uniform(0.016, 0.04)),
        colour=(float(red), float(green), float(blue)),
    )


def glasses_mesh(glasses: Glasses, landmarks: Float64Array) -> tuple[Float32Array, Int32Array]:
    """Build a frame before the eyes: two rims, two temples and a bridge, as flat strips.

    Args:
        glasses: Its shape.
        landmarks: The head's landmarks in decimetres, shape (5, 3).

    Returns:
        Vertices in decimetres, shape (V, 3), float32, and triangles, shape (T, 3), int32.
    """
    centres = landmarks[:2] + np.array([[-0.02, 0.02, _BEFORE_EYES], [0.02, 0.02, _BEFORE_EYES]])
    strips = []
    for side, centre in zip((-1, 1), centres, strict=True):
        strips.append(_rim(glasses, centre, side))
        reach = glasses.half_width + glasses.rim
        hinge = centre + np.array([side * reach, -0.04, -0.35 * reach])
        ear = np.array([side * _EAR_X, hinge[1], _EAR_Z])
        strips.append(_bar(hinge, ear, width=2 * glasses.rim))
    inner = np.array([glasses.half_width, 0, 0])
    strips.append(_bar(centres[0] + inner, centres[1] - inner, width=1.5 * glasses.rim))
    return _join(strips)


def _rim(glasses: Glasses, centre: Float64Array, side: int) -> Float64Array:
    """A closed strip around a lens, bent backwards on the outer side, shape (33, 2, 3)."""
    turn = np.linspace(0, 2 * np.pi, 33)
    x, y = (
        np.sign(wave) * np.abs(wave) ** (2 / glasses.squareness)
        for wave in (np.cos(turn), np.sin(turn))
    )
    edges = []
    for beyond in (0.0, glasses.rim):
        width, height = glasses.half_width + beyond, glasses.half_height + beyond
        back = -0.35 * width * np.maximum(x * side, 0)
        edges.append(centre + np.stack([width * x, height * y, back], axis=1))
    return np.stack(edges, axis=1)


def _bar(start: Float64Array, end: Float64Array, *, width: float) -> Float64Array:
    down = np.array([0, width, 0])
    return np.array([[start, start + down], [end, end + down]])


def _join(strips: list[Float64Array]) -> tuple[Float32Array, Int32Array]:
    """Make one mesh of strips, each of shape (length, 2, 3)."""
    triangles, start = [], 0
    for strip in strips:
        a = start + 2 * np.arange(len(strip) - 1)
        triangles += [np.stack([a, a + 1, a + 3], axis=1), np.stack([a, a + 3, a + 2], axis=1)]
        start += 2 * len(strip)
    vertices = np.concatenate([strip.reshape(-1, 3) for strip in strips])
    return vertices.astype(np.float32), np.concatenate(triangles).astype(np.int32)
