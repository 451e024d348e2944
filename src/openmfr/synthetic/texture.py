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

from openmfr.synthetic.anatomy import EYE, MOUTH_CORNER
from openmfr.synthetic.head import COLUMNS, ROWS, head_model
from openmfr.synthetic.noise import smooth_noise

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.floating]

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
    weights = np.array([0.34, 0.30, 0.20, 0.06, 0.05, 0.05])
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
    albedo = np.broadcast_to(skin[:, None, None], (3, *TEXTURE_SHAPE)).copy()
    _mottle(albedo, place, rng)
    _wrinkles(albedo, place, rng)
    _marks(albedo, place, rng)
    _lips(albedo, place, rng, skin)
    _beard(albedo, place, rng, hair_colour)
    _brows(albedo, place, rng, hair_colour)
    _eyes(albedo, place, rng)
    _hollows(albedo, place)
    texture = np.ones((*TEXTURE_SHAPE, 4), np.float32)
    texture[..., :3] = np.moveaxis(np.clip(albedo, 0.002, 0.95), 0, -1)
    return texture


def _draw_skin_colour(rng: np.random.Generator) -> Float32Array:
    ladder = np.stack([linear(colour) for colour in _SKIN])
    step = rng.uniform(0, len(ladder) - 1)
    colour = [np.interp(step, range(len(ladder)), ladder[:, channel]) for channel in range(3)]
    hue = 1 + np.array([0.5, -0.2, -0.6]) * rng.normal(0, 0.10)
    return (np.array(colour) * hue * rng.uniform(0.92, 1.08)).astype(np.float32)


def _blend(albedo: Float32Array, colour: FloatArray, cover: FloatArray) -> None:
    """Lay a colour, per channel a number or a picture, over the albedo with the given cover, 0–1.

    The albedo has its channels first here, shape (3, *TEXTURE_SHAPE): numpy works along rows.
    """
    cover = np.clip(cover, 0, 1)
    for channel in range(3):
        albedo[channel] += (colour[channel] - albedo[channel]) * cover


def _darken(albedo: Float32Array, amount: FloatArray) -> None:
    """Darken by a fraction; blue and green more than red, as blood and melanin do."""
    amount = np.clip(amount, 0, 0.95)
    for channel, weight in enumerate((0.8, 1.0, 1.05)):
        albedo[channel] *= 1 - np.float32(weight) * amount


def _spot(place: Texels, centre: tuple[float, float], width: tuple[float, float]) -> FloatArray:
    """A soft spot on the front of the face and its mirror image, 0–1."""
    dx = (np.abs(place.x) - np.float32(centre[0])) / np.float32(width[0])
    dy = (place.y - np.float32(centre[1])) / np.float32(width[1])
    spot: FloatArray = _bell(dx) * _bell(dy) * (place.z > 0)
    return spot


def _bell(distance: FloatArray) -> FloatArray:
    """1 at 0 and half of it at 0.83."""
    bell: FloatArray = np.exp(-(distance * distance))
    return bell


def _plateau(distance: FloatArray) -> FloatArray:
    """1 within about 0.5, half of it at 0.91, and nothing from 1.6."""
    return _bell(distance * distance)


def _inside(signed: FloatArray, softness: float) -> FloatArray:
    """Cover of a shape given the distance inside its edge, smoothed over `softness`."""
    cover: FloatArray = np.clip(signed / softness + 0.5, 0, 1)
    return cover


def _mottle(albedo: Float32Array, place: Texels, rng: np.random.Generator) -> None:
    for cells, strength in ((5, 0.03), (18, 0.04), (90, 0.06)):
        albedo *= 1 + strength * smooth_noise(rng, (cells, cells), TEXTURE_SHAPE)
    for channel in range(3):
        albedo[channel] *= 1 + 0.02 * smooth_noise(rng, (8, 8), TEXTURE_SHAPE)
    for centre, width in (((0.40, 0.36), (0.16, 0.14)), ((0.0, 0.38), (0.10, 0.10))):
        flush = _spot(place, centre, width) * rng.uniform(0, 0.22)
        albedo[1:] *= 1 - 0.85 * flush
    _darken(albedo, _spot(place, (0.30, 0.11), (0.13, 0.04)) * rng.uniform(0, 0.3))


def _wrinkles(albedo: Float32Array, place: Texels, rng: np.random.Generator) -> None:
    age = rng.uniform(0, 1) ** 2
    bend = 0.02 * smooth_noise(rng, (4, 6), TEXTURE_SHAPE)
    forehead = _plateau(place.x / 0.34) * (place.z > 0)
    lines = np.zeros_like(bend)
    for height in (-0.36, -0.45, -0.54):
        lines += _bell((place.y - height + bend) / np.float32(0.012))
    fold = np.abs(place.x) - (0.17 + 0.38 * (place.y - 0.44)) + bend
    smile_line = _bell(fold / 0.018) * _plateau((place.y - 0.58) / 0.14)
    fan = np.abs(place.x) - 0.53
    rays = np.maximum(0, np.sin((place.y - 0.2 * fan) * 130)) * _bell(fan / 0.05)
    crow_feet = rays * _bell(place.y / 0.09) * (place.z > 0)
    smile_strength = rng.uniform(0.05, 0.35)
    _darken(
        albedo, age * (0.22 * lines * forehead + 0.25 * crow_feet) + smile_strength * smile_line
    )


def _marks(albedo: Float32Array, place: Texels, rng: np.random.Generator) -> None:
    freckles = smooth_noise(rng, (110, 130), TEXTURE_SHAPE)
    amount = max(0.0, rng.normal(-0.1, 0.25))
    _darken(albedo, amount * np.maximum(freckles - 0.5, 0) * _spot(place, (0.25, 0.2), (0.4, 0.3)))
    for _ in range(rng.integers(0, 9)):
        angle, y = rng.uniform(-1.0, 1.0), rng.uniform(-0.5, 1.0)
        distance = np.hypot((place.angle - angle) * 0.8, place.y - y)
        _darken(
            albedo, _inside(rng.uniform(0.014, 0.032) - distance, 0.012) * rng.uniform(0.5, 0.85)
        )


def _lips(
    albedo: Float32Array, place: Texels, rng: np.random.Generator, skin: Float32Array
) -> None:
    upper, lower = rng.uniform(0.035, 0.095), rng.uniform(0.050, 0.120)
    bow = rng.uniform(0.0, 0.02)
    across = np.clip(np.abs(place.x) / (MOUTH_CORNER[0] + 0.005), 0, 1)
    line = MOUTH_CORNER[1] + 0.005
    dip = bow * _bell(place.x / 0.035)
    above = place.y - (line - upper * (1 - across**2) + dip)
    below = line + lower * (1 - across**2) - place.y
    cover = _inside(np.minimum(above, below), 0.016) * (across < 1) * (place.z > 0)
    redness = rng.uniform(0.35, 0.65)
    colour = skin * np.array([0.85, 1 - redness, 1 - 0.9 * redness], dtype=np.float32)
    streaks = 1 + 0.12 * smooth_noise(rng, (20, 120), TEXTURE_SHAPE)
    _blend(albedo, colour[:, None, None] * streaks, cover * rng.uniform(0.6, 0.95))
    # What an open mouth shows is a strip a millimetre high; dropping the jaw stretches it.
    gap = _inside(0.006 - np.abs(place.y - line), 0.003) * (across < 0.97) * (place.z > 0)
    _blend(albedo, linear((60, 20, 20)), gap)
    teeth = _inside(0.0018 - np.abs(place.y - line + 0.0018), 0.0015) * (across < 0.8)
    _blend(albedo, linear((190, 180, 165)), teeth * gap)


def _beard(
    albedo: Float32Array, place: Texels, rng: np.random.Generator, hair_colour: Float32Array
) -> None:
    if rng.random() > 0.25:
        return
    density = rng.uniform(0.15, 0.9)
    grain = 1 + 0.5 * smooth_noise(rng, (128, 144), TEXTURE_SHAPE)
    edge = 0.02 * smooth_noise(rng, (10, 14), TEXTURE_SHAPE)
    cheek_line = rng.uniform(0.45, 0.75) + 0.10 * np.cos(place.angle * 2.2)
    jaw = _inside(place.y - cheek_line + edge, 0.10) * _inside(1.22 - place.y, 0.1)
    jaw *= _inside(rng.uniform(0.5, 1.45) - np.abs(place.angle), 0.15)
    lips = _plateau(place.x / 0.27) * _plateau((place.y - 0.735) / 0.12)
    moustache = _plateau(place.x / 0.24) * _plateau((place.y - 0.60) / 0.055) * (place.z > 0)
    moustache *= rng.random() < 0.75
    cover = np.maximum(jaw * (1 - lips), moustache * (1 - _spot(place, (0, 0.66), (0.02, 0.06))))
    _blend(albedo, hair_colour, cover * density * grain)


def _brows(
    albedo: Float32Array, place: Texels, rng: np.random.Generator, hair_colour: Float32Array
) -> None:
    inner, outer = rng.uniform(0.05, 0.17), rng.uniform(0.43, 0.56)
    height, arch = rng.uniform(-0.235, -0.155), rng.uniform(0.0, 0.10)
    slope, thickness = rng.normal(-0.02, 0.05), rng.uniform(0.014, 0.052)
    along = (np.abs(place.x) - inner) / (outer - inner)
    peak = 1 - ((np.clip(along, 0, 1) - 0.62) / 0.62) ** 2
    middle = height - arch * peak - slope * along
    taper = thickness * np.clip(1.15 - 0.75 * along, 0.1, 1)
    hairs = smooth_noise(rng, (90, 140), TEXTURE_SHAPE)
    signed = taper - np.abs(place.y - middle) + 0.006 * hairs
    ends = _inside(np.minimum(along, 1 - along), 0.12) * (place.z > 0)
    cover = _inside(signed, 0.02) * ends * rng.uniform(0.65, 1.0) * (1 + 0.25 * hairs)
    _blend(albedo, hair_colour * 0.55, cover)


def _eyes(albedo: Float32Array, place: Texels, rng: np.random.Generator) -> None:
    half, rise, fall = rng.uniform(0.135, 0.18), rng.uniform(0.05, 0.095), rng.uniform(0.03, 0.058)
    front = place.z > 0
    dx, dy = np.abs(place.x) - EYE[0], place.y - EYE[1]
    tilt = dy + rng.normal(0.04, 0.09) * dx
    across = np.clip(np.abs(dx) / half, 0, 1)
    upper, lower = -rise * (1 - across * across), fall * (1 - across * across)
    within = (across < 1) & front
    eye = _inside(np.minimum(tilt - upper, lower - tilt), 0.014) * within
    near = _plateau(dx / (half * 1.1)) * front
    crease = np.abs(tilt - upper + rng.uniform(0.022, 0.05))
    _darken(albedo, rng.uniform(0.0, 0.5) * _inside(0.006 - crease, 0.016) * near)
    _blend(albedo, linear((206, 200, 194)), eye)
    distance = np.hypot(dx, dy + 0.008)
    iris = linear(_IRIS[rng.integers(len(_IRIS))]) * rng.uniform(0.7, 1.3)
    radius = rng.uniform(0.056, 0.066)
    _blend(albedo, iris, _inside(radius - distance, 0.012) * eye)
    _blend(albedo, iris * 0.35, _bell((distance - radius) / 0.008) * 0.7 * eye)
    _blend(albedo, linear((8, 8, 8)), _inside(0.026 - distance, 0.01) * eye)
    glint = np.hypot(dx - 0.018 * np.sign(place.x), dy + 0.024)
    _blend(albedo, linear((235, 235, 235)), _inside(0.009 - glint, 0.008) * eye)
    shadow = 0.45 * _bell((tilt - upper) / 0.02) * eye
    lashes = rng.uniform(0.6, 0.9) * _bell((tilt - upper) / rng.uniform(0.008, 0.016))
    rim = 0.3 * _bell((tilt - lower) / 0.008)
    _darken(albedo, np.maximum(shadow, np.maximum(lashes, rim) * near * within))


def _hollows(albedo: Float32Array, place: Texels) -> None:
    """Darken where little light gets in: nostrils, beside the nose, under chin and lip."""
    nostrils = 0.85 * _spot(place, (0.075, 0.475), (0.035, 0.016))
    beside = 0.25 * _spot(place, (0.165, 0.45), (0.03, 0.06))
    corners = 0.15 * _spot(place, (0.17, 0.01), (0.05, 0.09))
    under_lip = 0.20 * _spot(place, (0.0, 0.87), (0.16, 0.03))
    under_chin = 0.55 * _inside(place.y - 1.16, 0.12)
    _darken(albedo, nostrils + beside + corners + under_lip + under_chin)
