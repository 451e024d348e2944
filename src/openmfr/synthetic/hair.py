"""Hair: a second surface that stands off the head, opaque where hair grows.

Where hair ends is a curve of height over the angle about the head: low on the sides for long hair,
high at the temples for receding hair. Above the curve the surface rises from the skin to the hair's
volume; below the ears long hair falls straight from where the head is widest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from openmfr.synthetic.head import BOTTOM, COLUMNS, ROWS, head_model
from openmfr.synthetic.noise import enlarge, smooth_noise
from openmfr.synthetic.shot import Headwear
from openmfr.synthetic.texture import TEXTURE_SHAPE, texels

Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]

#: Angles about the head, from the front to the back, at which the hair's edge is given: middle of
#: the forehead, its side, temple, sideburn, before and behind the ear, nape.
_ANGLES = (0.0, 0.45, 0.85, 1.2, 1.5, 1.8, 2.3, np.pi)
_BALD = 0.08


@dataclass(frozen=True, kw_only=True, eq=False)
class Hair:
    """One identity's hair.

    Attributes:
        vertices: The surface at rest, in decimetres, shape (V, 3), vertex by vertex over the head.
        triangles: Those that carry any hair, shape (T, 3), int32.
        texture: Linear RGB and opacity, shape (*TEXTURE_SHAPE, 4), float32.
    """

    vertices: Float32Array
    triangles: Int32Array
    texture: Float32Array


def grow_hair(rng: np.random.Generator, shape: Float32Array, colour: Float32Array) -> Hair | None:
    """Draw a hair style for a head.

    Args:
        rng: The identity's source of randomness.
        shape: The identity's vertices at rest, shape (V, 3).
        colour: Linear RGB, shape (3,).

    Returns:
        The hair, or None for a bald head.
    """
    if rng.random() < _BALD:
        return None
    place = texels()
    is_long = bool(rng.random() < 0.4)
    edge_at = _edge(rng, is_long)
    parting = rng.normal(0, 0.05)
    ragged = 0.025 * smooth_noise(rng, (3, 110), TEXTURE_SHAPE)
    ragged += 0.035 * smooth_noise(rng, (3, 30), TEXTURE_SHAPE)
    edge = edge_at(np.abs(place.angle)) + parting * np.sin(2 * place.angle) + ragged
    opacity = np.clip((edge - place.y) / rng.uniform(0.03, 0.10) + 0.5, 0, 1)
    strands = 1 + 0.30 * smooth_noise(rng, (6, 180), TEXTURE_SHAPE)
    strands = strands * (1 + 0.15 * smooth_noise(rng, (10, 14), TEXTURE_SHAPE))
    tinted = np.clip(colour * strands[..., None], 0.003, 0.9)
    texture = np.concatenate([tinted, opacity[..., None]], axis=2)
    top, side = rng.uniform(0.03, 0.20), rng.uniform(0.02, 0.14) + 0.08 * is_long
    return Hair(
        vertices=_stand_off(shape, edge_at, top=top, side=side, is_long=is_long),
        triangles=_with_hair(opacity),
        texture=texture.astype(np.float32),
    )


def wear(headwear: Headwear, shape: Float32Array, hair: Hair | None) -> Hair:
    """Put a cap or a scarf over a head and its hair.

    Args:
        headwear: What is worn.
        shape: The identity's vertices at rest, shape (V, 3).
        hair: What is under it.

    Returns:
        The cloth's surface, to be drawn like hair.
    """
    front, temple, ear, nape = headwear.edge
    edge_at = PchipInterpolator((0.0, 0.85, 1.6, np.pi), (front, temple, ear, nape))
    is_scarf = nape > 1
    cloth = _stand_off(
        shape, edge_at, top=headwear.thickness, side=headwear.thickness, is_long=is_scarf
    )
    place = texels()
    step = (slice(None, None, 4), slice(None, None, 4))
    opacity = np.clip((edge_at(np.abs(place.angle[step])) - place.y[step]) / 0.02 + 0.5, 0, 1)
    texture = np.concatenate([enlarge(headwear.cloth, opacity.shape), opacity[..., None]], axis=2)
    return Hair(
        vertices=cloth if hair is None else _outer(cloth, hair.vertices),
        triangles=_with_hair(opacity),
        texture=texture.astype(np.float32),
    )


def _outer(one: Float32Array, other: Float32Array) -> Float32Array:
    """At each vertex, the surface that stands further from the axis."""
    further = np.hypot(one[:, 0], one[:, 2]) > np.hypot(other[:, 0], other[:, 2])
    return np.where(further[:, None], one, other)


def _edge(rng: np.random.Generator, is_long: bool) -> PchipInterpolator:
    front = rng.uniform(-0.78, -0.50) if rng.random() < 0.8 else rng.uniform(-0.46, -0.28)
    temple = front + rng.uniform(-0.10, 0.22)
    if is_long:
        length = rng.uniform(0.55, BOTTOM)
        heights = [front, front + 0.02, temple, rng.uniform(0.0, length), *[length] * 4]
    else:
        sideburn, nape = rng.uniform(-0.10, 0.35), rng.uniform(0.3, 0.9)
        heights = [front, front + 0.02, temple, sideburn, -0.05, 0.35, nape, nape]
    return PchipInterpolator(_ANGLES, heights)


def _stand_off(
    shape: Float32Array, edge_at: PchipInterpolator, *, top: float, side: float, is_long: bool
) -> Float32Array:
    """Move the head's vertices outwards to where the hair's surface is."""
    grid = shape.reshape(ROWS, COLUMNS, 3).astype(np.float64)
    angle, height = np.abs(head_model().angle)[None], grid[..., 1]
    radius = np.hypot(grid[..., 0], grid[..., 2])
    inside = np.clip((edge_at(angle) - height) / 0.3, 0, 1)
    volume = side + (top - side) * np.clip((-0.35 - height) / 0.4, 0, 1)
    thickness = 0.015 + volume * np.sqrt(inside)
    target = radius + thickness
    if is_long:
        level = int(np.argmin(np.abs(height[:, COLUMNS // 2] - 0.05)))
        falls = (height > 0.05) & (angle > 0.9)
        target = np.where(falls, np.maximum(target, radius[level] + side), target)
    grow = target / np.maximum(radius, 1e-3)
    out = grid.copy()
    out[..., [0, 2]] *= np.where(radius > 0.02, grow, 1.0)[..., None]
    out[..., 1] -= thickness * np.clip((-0.5 - height) / 0.6, 0, 1)
    return out.reshape(-1, 3).astype(np.float32)


def _with_hair(opacity: Float32Array) -> Int32Array:
    """The head's triangles over which the opacity is above zero at some corner."""
    rows = np.linspace(0, opacity.shape[0] - 1, ROWS).round().astype(int)
    columns = np.linspace(0, opacity.shape[1] - 1, COLUMNS).round().astype(int)
    has_hair = opacity[rows][:, columns].ravel() > 0
    triangles = head_model().triangles
    return np.ascontiguousarray(triangles[has_hair[triangles].any(axis=1)])
