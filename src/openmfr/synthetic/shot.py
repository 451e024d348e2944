"""What differs from image to image of one person: pose, expression, light, camera, background.

Nothing here knows the person, so none of it can tell who is on the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.synthetic.anatomy import EXPRESSIONS
from openmfr.synthetic.glasses import Glasses, draw_glasses
from openmfr.synthetic.head import BOTTOM
from openmfr.synthetic.noise import enlarge, smooth_noise

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

#: How each expression is drawn: mean, standard deviation, smallest and largest amount.
_EXPRESSION_RANGE: dict[str, tuple[float, float, float, float]] = {
    "jaw": (-0.05, 0.08, 0.0, 0.22),
    "blink": (0.0, 0.16, 0.0, 0.95),
    "smile": (0.015, 0.035, -0.05, 0.10),
    "cheek raise": (0.01, 0.02, -0.01, 0.05),
    "brow raise": (0.0, 0.025, -0.04, 0.07),
    "frown": (0.0, 0.02, -0.02, 0.05),
    "pucker": (-0.005, 0.02, -0.03, 0.06),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """The circumstances of one image.

    Attributes:
        yaw: Radians; positive turns the nose to the right of the picture.
        pitch: Radians; positive looks down.
        roll: Radians; positive turns clockwise. The alignment takes it out again.
        expression: Amount of each of `EXPRESSIONS`, shape (E,), float32.
        distance: From the camera to the head's axis in decimetres.
        light: Irradiance as coefficients of nine polynomials in the normal, per channel, shape
            (9, 3), float32; see `directional_light`.
        key_direction: Unit vector towards the main light, shape (3,), float32.
        gloss: Strength of its highlight on skin, 0–1.
        glasses: The glasses worn, or None.
        headwear: What covers the hair, or None.
        landmark_error: Error of an imagined detector, in pixels of a 112×112 crop, shape (5, 2).
        blur: Standard deviation in pixels of a 112×112 crop.
        dapple: Logarithm of a factor on the light over the picture, as from leaves or a window's
            frame, shape (h, w, 1), float32; to be enlarged.
        saturation: Strength of the colours, 0 (a grey picture) to above 1.
        noise: Standard deviation of the sensor's noise, 0–1.
        jpeg_quality: 1 to 100.
        background: Linear RGB, shape (28, 28, 3), float32; to be enlarged.
    """

    yaw: float
    pitch: float
    roll: float
    expression: Float32Array
    distance: float
    light: Float32Array
    key_direction: Float32Array
    gloss: float
    glasses: Glasses | None
    headwear: Headwear | None
    landmark_error: Float64Array
    blur: float
    dapple: Float32Array
    saturation: float
    noise: float
    jpeg_quality: int
    background: Float32Array

    @property
    def rotation(self) -> Float32Array:
        """Rotation matrix from the head to the camera, shape (3, 3)."""
        (cy, sy), (cp, sp), (cr, sr) = (
            (np.cos(angle), np.sin(angle)) for angle in (self.yaw, self.pitch, self.roll)
        )
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        rotation: Float32Array = (roll @ pitch @ yaw).astype(np.float32)
        return rotation


@dataclass(frozen=True, kw_only=True, eq=False)
class Headwear:
    """A cap or a scarf: how low it sits, and its cloth.

    Attributes:
        edge: Height of its rim over the forehead, temples, ears and nape, decimetres, shape (4,).
        thickness: How far it stands off the hair, decimetres.
        cloth: Linear RGB, shape (24, 24, 3), float32.
    """

    edge: tuple[float, float, float, float]
    thickness: float
    cloth: Float32Array


def draw_shot(rng: np.random.Generator) -> Shot:
    """Draw the circumstances of one image."""
    expression = [
        np.clip(rng.normal(mean, std), low, high)
        for mean, std, low, high in (_EXPRESSION_RANGE[name] for name in EXPRESSIONS)
    ]
    light, key_direction = _draw_light(rng)
    return Shot(
        yaw=float(np.clip(rng.normal(0, 0.30), -0.9, 0.9)),
        pitch=float(np.clip(rng.normal(0, 0.13), -0.4, 0.45)),
        roll=float(rng.normal(0, 0.08)),
        expression=np.array(expression, dtype=np.float32),
        distance=float(rng.uniform(5, 16)),
        light=light,
        key_direction=key_direction,
        gloss=float(rng.uniform(0.01, 0.07)),
        glasses=draw_glasses(rng) if rng.random() < 0.12 else None,
        headwear=_draw_headwear(rng) if rng.random() < 0.3 else None,
        landmark_error=rng.normal(0, 0.8, (5, 2)),
        blur=float(rng.uniform(0.2, 0.7) if rng.random() < 0.9 else rng.uniform(0.7, 1.2)),
        dapple=_draw_dapple(rng),
        saturation=float(rng.uniform(0.4, 1.1) if rng.random() < 0.88 else 0),
        noise=float(rng.uniform(0.003, 0.015)),
        jpeg_quality=int(rng.integers(65, 96)),
        background=_draw_background(rng),
    )


def directional_light(direction: Float64Array, colour: Float64Array) -> Float64Array:
    """Light from one direction, as the second-order spherical harmonics of its irradiance.

    Args:
        direction: Unit vector towards the light, shape (3,).
        colour: Irradiance on a surface that faces it, shape (3,).

    Returns:
        Coefficients, shape (9, 3), of 1, x, y, z, xy, yz, 3z² − 1, xz, x² − y² in the unit normal;
        their sum is within 0.1 of max(0, normal · direction) × colour.

    Source:
        Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps",
        SIGGRAPH 2001.

    Example:
        >>> light = directional_light(np.array([0.0, 0.0, 1.0]), np.ones(3))
        >>> facing = light[0] + light[3] + 2 * light[6]
        >>> facing.round(2).tolist()
        [1.06, 1.06, 1.06]
    """
    x, y, z = direction
    second = np.array([3.75 * x * y, 3.75 * y * z, 0.3125 * (3 * z * z - 1), 3.75 * x * z])
    weights = np.concatenate([[1.0, 2 * x, 2 * y, 2 * z], second, [0.9375 * (x * x - y * y)]]) / 4
    return weights[:, None] * colour[None]


def _draw_light(rng: np.random.Generator) -> tuple[Float32Array, Float32Array]:
    exposure = np.exp(rng.normal(0.15, 0.33))
    tint = 1 + np.array([1.0, 0.1, -1.0]) * rng.normal(0, 0.12) + rng.normal(0, 0.04, 3)
    softness = rng.uniform(0.3, 0.8)
    light = np.zeros((9, 3))
    light[0] = softness * tint
    light[2] = -rng.uniform(0.0, 0.35) * softness * tint  # more from above
    key = _direction(rng.normal(0, 0.75), rng.normal(-0.35, 0.35))
    light += directional_light(key, (1.2 - softness) * 1.1 * tint)
    if rng.random() < 0.5:
        warmth = 1 + np.array([1.0, 0.0, -1.0]) * rng.normal(0, 0.2)
        fill = _direction(rng.uniform(-2.0, 2.0), rng.normal(0, 0.4))
        light += directional_light(fill, rng.uniform(0.05, 0.45) * warmth)
    return (light * exposure).astype(np.float32), key.astype(np.float32)


def _direction(azimuth: float, elevation: float) -> Float64Array:
    horizontal = np.cos(elevation)
    return np.array([np.sin(azimuth) * horizontal, np.sin(elevation), np.cos(azimuth) * horizontal])


def _draw_headwear(rng: np.random.Generator) -> Headwear:
    front = rng.uniform(-0.62, -0.36)
    if rng.random() < 0.3:  # a scarf around face and neck
        edge = (front, front + 0.1, BOTTOM, BOTTOM)
    else:
        tilt = rng.normal(0, 0.06)
        edge = (front, front + tilt, front + 0.15 + 2 * tilt, 0.25)
    folds = np.exp(0.12 * smooth_noise(rng, (10, 16), (24, 24)))
    return Headwear(
        edge=edge,
        thickness=float(rng.uniform(0.03, 0.10)),
        cloth=(_muted(rng) * folds[..., None]).astype(np.float32),
    )


def _draw_dapple(rng: np.random.Generator) -> Float32Array:
    cells = int(rng.integers(5, 12))
    strength = rng.uniform(0.2, 0.9)
    return (strength * rng.standard_normal((cells, cells, 1))).astype(np.float32)


def _draw_background(rng: np.random.Generator) -> Float32Array:
    """Draw something out of focus: a muted wall, lit unevenly, with a few dull shapes before it."""
    side = 28
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    wall = _muted(rng) * np.exp(rng.normal(0, 0.35))
    slope = rng.normal(0, 0.5, 2)
    lit = np.exp(slope[0] * (x - 0.5) + slope[1] * (y - 0.5))[..., None]
    scene = wall * lit * (1 + 0.12 * smooth_noise(rng, (4, 4), (side, side))[..., None])
    for _ in range(rng.integers(0, 6)):
        cx, cy = rng.uniform(-0.1, 1.1, 2)
        width, height = rng.uniform(0.05, 0.5, 2)
        blur = rng.uniform(0.03, 0.15)
        inside = np.minimum(width - np.abs(x - cx), height - np.abs(y - cy)) / blur
        cover = np.clip(inside + 0.5, 0, 1)[..., None] * rng.uniform(0.3, 1)
        scene = scene + (_muted(rng) - scene) * cover
    return enlarge(np.clip(scene, 0, 1).astype(np.float32), (side, side))


def _muted(rng: np.random.Generator) -> Float64Array:
    """A dull colour, linear RGB, shape (3,)."""
    grey = rng.uniform(0.06, 0.9) ** 2
    saturation = rng.uniform(0, 0.35)
    hue = rng.uniform(0, 2 * np.pi) + np.array([0, 2, 4]) * np.pi / 3
    return grey * (1 + saturation * np.cos(hue))
