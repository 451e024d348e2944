"""The colour of a head: skin, brows, eyes, lips, beard and marks, painted into its texture.

Each texel knows where it lies on the mean head, so a feature is painted where it belongs, in
decimetres as seen from the front, and follows the mesh from there. Colours are linear RGB, 0–1:
shading happens in linear light, and only the finished picture is gamma-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from openmfr.synthetic.head import COLUMNS, EYE, MOUTH_CORNER, ROWS, head_model
from openmfr.synthetic.noise import enlarge, smooth_noise

Float32Array = npt.NDArray[np.float32]

#: Rows and columns of every texture.
TEXTURE_SHAPE = (256, 288)

#: Skin from light to dark, hair, and irises: sRGB as a painter would name them.
_SKIN = ((236, 196, 174), (219, 168, 136), (186, 130, 96), (136, 88, 62), (82, 52, 38))
_HAIR = ((18, 16, 16), (46, 32, 24), (84, 58, 38), (150, 112, 70), (112, 56, 32), (150, 148, 146))
_IRIS = ((58, 36, 22), (96, 66, 36), (92, 104, 66), (92, 122, 146), (112, 120, 124))


@dataclass(frozen=True, kw_only=True, eq=False)
class Texels:
    """Where each texel lies on the mean head, each of shape `TEXTURE_SHAPE`, float32.

    Attributes:
        x: To the right, decimetres.
        y: Down, decimetres.
        z: To the front, decimetres.
        angle: About the vertical axis, radians, 0 at the front.
    """

    x: Float32Array
    y: Float32Array
    z: Float32Array
    angle: Float32Array


@cache
def texels() -> Texels:
    """Locate the texels on the mean head."""
    model = head_model()
    grid = np.concatenate(
        [model.mean.reshape(ROWS, COLUMNS, 3), np.tile(model.angle[None, :, None], (ROWS, 1, 1))], 2
    )
    rows = np.linspace(0, ROWS - 1, TEXTURE_SHAPE[0])
    columns = np.linspace(0, COLUMNS - 1, TEXTURE_SHAPE[1])
    r, c = np.minimum(rows.astype(int), ROWS - 2), np.minimum(columns.astype(int), COLUMNS - 2)
    fr, fc = (rows - r)[:, None, None], (columns - c)[None, :, None]
    upper = grid[r][:, c] * (1 - fc) + grid[r][:, c + 1] * fc
    lower = grid[r + 1][:, c] * (1 - fc) + grid[r + 1][:, c + 1] * fc
    x, y, z, angle = np.moveaxis((upper * (1 - fr) + lower * fr).astype(np.float32), -1, 0)
    return Texels(x=x, y=y, z=z, angle=angle)


def linear(srgb: tuple[int, int, int]) -> Float32Array:
    """Convert an sRGB colour, 0–255, to linear RGB, 0–1, shape (3,)."""
    return ((np.array(srgb) / 255) ** 2.2).astype(np.float32)


def draw_hair_colour(rng: np.random.Generator) -> Float32Array:
    """Draw a natural hair colour, linear RGB, shape (3,)."""
    weights = np.array([0.27, 0.25, 0.20, 0.12, 0.06, 0.10])
    colour = linear(_HAIR[rng.choice(len(_HAIR), p=weights)])
    return (colour * rng.uniform(0.7, 1.3)).astype(np.float32)


def paint_head(rng: np.random.Generator, hair_colour: Float32Array) -> Float32Array:
    """Paint the texture of one identity's head.

    Args:
        rng: The identity's source of randomness.
        hair_colour: Linear RGB, shape (3,); brows and beard follow it.

    Returns:
        Linear RGB and opacity 1, shape (*TEXTURE_SHAPE, 4), float32.
    """
    place = texels()
    skin = _draw_skin_colour(rng)
    albedo = np.broadcast_to(skin, (*TEXTURE_SHAPE, 3)).copy()
    _mottle(albedo, place, rng)
    _wrinkles(albedo, place, rng)
    _marks(albedo, place, rng)
    _lips(albedo, place, rng, skin)
    _beard(albedo, place, rng, hair_colour)
    _brows(albedo, place, rng, hair_colour)
    _eyes(albedo, place, rng)
    _hollows(albedo, place)
    opaque = np.ones((*TEXTURE_SHAPE, 1), np.float32)
    return np.concatenate([np.clip(albedo, 0.002, 0.95), opaque], axis=2)


def _draw_skin_colour(rng: np.random.Generator) -> Float32Array:
    ladder = np.stack([linear(colour) for colour in _SKIN])
    step = rng.uniform(0, len(ladder) - 1)
    colour = [np.interp(step, range(len(ladder)), ladder[:, channel]) for channel in range(3)]
    hue = 1 + np.array([0.5, -0.2, -0.6]) * rng.normal(0, 0.10)
    return (np.array(colour) * hue * rng.uniform(0.92, 1.08)).astype(np.float32)


def _blend(albedo: Float32Array, colour: Float32Array, cover: Float32Array) -> None:
    """Lay a colour over the albedo with the given cover, 0–1, shape `TEXTURE_SHAPE`."""
    albedo += (colour - albedo) * np.clip(cover, 0, 1)[..., None]


def _darken(albedo: Float32Array, amount: Float32Array) -> None:
    """Darken by a fraction; blue and green more than red, as blood and melanin do."""
    albedo *= 1 - np.clip(amount, 0, 0.95)[..., None] * np.float32([0.8, 1.0, 1.05])


def _spot(
    place: Texels, centre: tuple[float, float], width: tuple[float, float], power: float = 2
) -> Float32Array:
    """A soft spot on the front of the face and its mirror image, 0–1."""
    dx, dy = np.abs(place.x) - centre[0], place.y - centre[1]
    far = np.abs(dx / width[0]) ** power + np.abs(dy / width[1]) ** power
    return np.exp(-far) * (place.z > 0)


def _inside(signed: Float32Array, softness: float) -> Float32Array:
    """Cover of a shape given the distance inside its edge, smoothed over `softness`."""
    return np.clip(signed / softness + 0.5, 0, 1)


def _mottle(albedo: Float32Array, place: Texels, rng: np.random.Generator) -> None:
    for cells, strength in ((5, 0.06), (18, 0.05), (90, 0.05)):
        albedo *= 1 + strength * smooth_noise(rng, (cells, cells), TEXTURE_SHAPE)
    albedo *= 1 + 0.02 * smooth_noise(rng, (8, 8), TEXTURE_SHAPE, 3)
    for centre, width in (((0.40, 0.36), (0.16, 0.14)), ((0.0, 0.38), (0.10, 0.10))):
        flush = _spot(place, centre, width) * rng.uniform(0, 0.22)
        albedo *= 1 - flush[..., None] * np.float32([0.0, 0.9, 0.8])
    _darken(albedo, _spot(place, (0.30, 0.11), (0.13, 0.04)) * rng.uniform(0, 0.3))


def _wrinkles(albedo: Float32Array, place: Texels, rng: np.random.Generator) -> None:
    age = rng.uniform(0, 1) ** 2
    bend = 0.02 * smooth_noise(rng, (4, 6), TEXTURE_SHAPE)[..., 0]
    for height in (-0.36, -0.45, -0.54):
        line = np.exp(-(((place.y - height + bend) / 0.012) ** 2) - (place.x / 0.34) ** 4)
        _darken(albedo, 0.22 * age * line * (place.z > 0))
    fold = np.abs(place.x) - (0.17 + 0.38 * (place.y - 0.44)) + bend
    along = np.exp(-(((place.y - 0.58) / 0.14) ** 4))
    _darken(albedo, rng.uniform(0.05, 0.35) * np.exp(-((fold / 0.018) ** 2)) * along)
    fan = np.abs(place.x) - 0.53
    rays = np.maximum(0, np.sin((place.y - 0.2 * fan) * 130)) * np.exp(-((fan / 0.05) ** 2))
    _darken(albedo, 0.25 * age * rays * np.exp(-((place.y / 0.09) ** 2)) * (place.z > 0))


def _marks(albedo: Float32Array, place: Texels, rng: np.random.Generator) -> None:
    freckles = smooth_noise(rng, (110, 130), TEXTURE_SHAPE)[..., 0]
    amount = max(0.0, rng.normal(-0.1, 0.25))
    _darken(albedo, amount * np.maximum(freckles - 0.5, 0) * _spot(place, (0.25, 0.2), (0.4, 0.3)))
    for _ in range(rng.integers(0, 6)):
        angle, y = rng.uniform(-1.0, 1.0), rng.uniform(-0.5, 1.0)
        distance = np.hypot((place.angle - angle) * 0.8, place.y - y)
        _darken(albedo, _inside(rng.uniform(0.010, 0.026) - distance, 0.012) * rng.uniform(0.4, 0.8))


def _lips(
    albedo: Float32Array, place: Texels, rng: np.random.Generator, skin: Float32Array
) -> None:
    upper, lower = rng.uniform(0.045, 0.085), rng.uniform(0.060, 0.105)
    bow = rng.uniform(0.0, 0.02)
    across = np.clip(np.abs(place.x) / (MOUTH_CORNER[0] + 0.005), 0, 1)
    line = MOUTH_CORNER[1] + 0.005
    dip = bow * np.exp(-((place.x / 0.035) ** 2))
    above = place.y - (line - upper * (1 - across**1.7) + dip)
    below = line + lower * (1 - across**2.2) - place.y
    cover = _inside(np.minimum(above, below), 0.016) * (across < 1) * (place.z > 0)
    redness = rng.uniform(0.35, 0.75)
    colour = skin * np.float32([0.85, 1 - redness, 1 - 0.9 * redness])
    streaks = 1 + 0.12 * smooth_noise(rng, (20, 120), TEXTURE_SHAPE)
    _blend(albedo, colour * streaks, cover * rng.uniform(0.6, 0.95))
    gap = _inside(0.0065 - np.abs(place.y - line), 0.003) * (across < 0.97) * (place.z > 0)
    teeth = _inside(line - 0.001 - place.y, 0.002) * (across < 0.85)
    mouth = linear((70, 22, 22)) * (1 - teeth[..., None]) + linear((205, 195, 180)) * teeth[..., None]
    _blend(albedo, mouth.astype(np.float32), gap)


def _beard(
    albedo: Float32Array, place: Texels, rng: np.random.Generator, hair_colour: Float32Array
) -> None:
    if rng.random() > 0.4:
        return
    density = rng.uniform(0.15, 0.9)
    grain = 1 + 0.5 * smooth_noise(rng, (128, 144), TEXTURE_SHAPE)[..., 0]
    edge = 0.02 * smooth_noise(rng, (10, 14), TEXTURE_SHAPE)[..., 0]
    cheek_line = rng.uniform(0.45, 0.75) + 0.10 * np.cos(place.angle * 2.2)
    jaw = _inside(place.y - cheek_line + edge, 0.10) * _inside(1.22 - place.y, 0.1)
    jaw *= _inside(rng.uniform(0.5, 1.45) - np.abs(place.angle), 0.15)
    lips = _spot(place, (0.0, 0.735), (0.27, 0.12), 4)
    moustache = _spot(place, (0.0, 0.60), (0.24, 0.055), 4) * (rng.random() < 0.75)
    cover = np.maximum(jaw * (1 - lips), moustache * (1 - _spot(place, (0, 0.66), (0.02, 0.06))))
    _blend(albedo, hair_colour, cover * density * grain)


def _brows(
    albedo: Float32Array, place: Texels, rng: np.random.Generator, hair_colour: Float32Array
) -> None:
    inner, outer = rng.uniform(0.07, 0.14), rng.uniform(0.46, 0.54)
    height, arch = rng.uniform(-0.225, -0.165), rng.uniform(0.0, 0.075)
    slope, thickness = rng.normal(-0.02, 0.035), rng.uniform(0.018, 0.048)
    along = (np.abs(place.x) - inner) / (outer - inner)
    peak = 1 - ((np.clip(along, 0, 1) - 0.62) / 0.62) ** 2
    middle = height - arch * peak - slope * along
    taper = thickness * np.clip(1.15 - 0.75 * along, 0.1, 1)
    hairs = smooth_noise(rng, (90, 140), TEXTURE_SHAPE)[..., 0]
    signed = taper - np.abs(place.y - middle) + 0.006 * hairs
    ends = _inside(np.minimum(along, 1 - along), 0.12) * (place.z > 0)
    cover = _inside(signed, 0.02) * ends * rng.uniform(0.55, 0.95) * (1 + 0.25 * hairs)
    _blend(albedo, hair_colour * 0.55, cover)


def _eyes(albedo: Float32Array, place: Texels, rng: np.random.Generator) -> None:
    half, rise, fall = rng.uniform(0.135, 0.165), rng.uniform(0.045, 0.07), rng.uniform(0.03, 0.048)
    dx, dy = np.abs(place.x) - EYE[0], place.y - EYE[1]
    tilt = dy + rng.normal(0.06, 0.06) * dx
    across = np.clip(np.abs(dx - 0.15 * half * (tilt < 0)) / half, 0, 1)
    upper, lower = -rise * (1 - across**2.2), fall * (1 - across**2)
    inside = np.minimum(tilt - upper, lower - tilt)
    eye = _inside(inside, 0.014) * (np.abs(dx) < half * 1.05) * (place.z > 0)
    crease = np.abs(tilt - upper + rng.uniform(0.022, 0.05)) - 0.002
    near = np.exp(-((dx / (half * 1.1)) ** 4)) * (place.z > 0)
    _darken(albedo, rng.uniform(0.0, 0.5) * _inside(0.004 - crease, 0.016) * near)
    _blend(albedo, linear((218, 212, 206)), eye)
    distance = np.hypot(dx, dy + 0.008)
    iris = linear(_IRIS[rng.integers(len(_IRIS))]) * rng.uniform(0.7, 1.3)
    radius = rng.uniform(0.052, 0.060)
    _blend(albedo, iris, _inside(radius - distance, 0.012) * eye)
    _blend(albedo, iris * 0.35, np.exp(-(((distance - radius) / 0.008) ** 2)) * 0.7 * eye)
    _blend(albedo, linear((8, 8, 8)), _inside(0.024 - distance, 0.01) * eye)
    glint = np.hypot(np.abs(place.x) - EYE[0] - 0.018 * np.sign(place.x), dy + 0.024)
    _blend(albedo, linear((235, 235, 235)), _inside(0.009 - glint, 0.008) * eye)
    _darken(albedo, 0.45 * np.exp(-((tilt - upper) / 0.02) ** 2) * eye)  # the lid's shadow
    lashes = np.exp(-(((tilt - upper) / rng.uniform(0.008, 0.016)) ** 2)) * near * (across < 1)
    _darken(albedo, rng.uniform(0.6, 0.9) * lashes)
    _darken(albedo, 0.3 * np.exp(-(((tilt - lower) / 0.008) ** 2)) * near * (across < 1))


def _hollows(albedo: Float32Array, place: Texels) -> None:
    """Darken where little light gets in: nostrils, beside the nose, under chin and lip."""
    _darken(albedo, 0.85 * _spot(place, (0.075, 0.475), (0.035, 0.016)))
    _darken(albedo, 0.25 * _spot(place, (0.165, 0.45), (0.03, 0.06)))
    _darken(albedo, 0.15 * _spot(place, (0.17, 0.01), (0.05, 0.09)))
    _darken(albedo, 0.20 * _spot(place, (0.0, 0.87), (0.16, 0.03)))
    _darken(albedo, 0.55 * _inside(place.y - 1.16, 0.12))
