"""What a photo says of its light, its colours and its sharpness, read from the skin of one face.

A mask must look as if the same camera had seen it in the same light. So the skin that is in sight
is sampled at the mesh's vertices, and from it follow: where the light comes from (irradiance as
spherical harmonics up to order 2), how bright it is, its colour, how blurred the photo is, how
noisy, and what skin looks like in it. Values of pixels are 0–1 and stay gamma-encoded: a ratio of
irradiances to the power 1/2.2 is as good a factor there as the ratio itself is in linear light.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba.np.unsafe.ndarray import to_fixed_tuple

from openmfr.faces.code_cache import compiled
from openmfr.faces.geometry import face_model
from openmfr.masking.render.camera import luminance, read_levels, read_sharpness, read_variety
from openmfr.masking.render.surface import Int32Array, border_loops

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

#: Spherical harmonics up to order 2.
HARMONICS: Final = 9

# Places in the array that `read_photo` returns, after the weights of the harmonics.
EXPOSURE: Final = 9
CAST: Final = 10
SATURATION: Final = 13
BLUR: Final = 14
NOISE: Final = 15
BLACK: Final = 16
SKIN: Final = 17
SKIN_SPREAD: Final = 20
LIGHT: Final = 23
READINGS: Final = 26

_to_tuple: Final[Any] = to_fixed_tuple

# Fewer vertices in sight than these say nothing of the light.
_ENOUGH: Final = 40
# Pulls towards the usual light, from above and the viewer's side, per order of the harmonics; and
# that light's weights for down and for towards the viewer.
_RIDGE: Final = (0.0, 0.005, 0.03)
_USUAL: Final = (-0.16, 0.34)
_ROUNDS: Final = 4
# Luminance of skin, and of a photo's bright parts, under the light in which templates are drawn.
_SKIN_LEVEL: Final = 0.58
_BRIGHT_LEVEL: Final = 0.84
# Red, green and blue of skin over its luminance, between those of light and dark skin.
_SKIN_COLOUR: Final = (1.22, 0.94, 0.78)

# How much farther from its mean the light goes on a mask than the fit says: the fit is smooth, and
# skin scatters light into its own shade.
_CONTRAST: Final = 1.5

# What irradiance may be, over that of the skin on average; single precision stays what it is.
_DARKEST, _BRIGHTEST = np.float32(0.3), np.float32(1.6)
_HALF: Final[Any] = np.float32(0.5)
_ONE: Final[Any] = np.float32(1.0)
_THREE: Final[Any] = np.float32(3.0)
# Brightness at which colour begins to count.
_DIM: Final = np.float32(0.08)
# How skin's spread is weighed in brightness and in colour, and how far off it still is skin.
_FREE, _BOUND, _NEAR = np.float32(1 / 2.5), np.float32(1 / 1.8), np.float32(1.5)

# Variety of hues below which a photo is toned; with 0.03 more it is in full colour.
_TONED: Final = 0.025

# Brows of MediaPipe's mesh: hair, not skin.
_BROWS: Final = (46, 52, 53, 55, 63, 65, 66, 70, 105, 107)


@cache
def skin_vertices() -> Int32Array:
    """Vertices that lie on skin: without eyes, lips, brows, and the forehead, where hair hangs.

    Returns:
        Indices, int32.

    Source:
        The holes of Face Mesh's triangles are its eyes and mouth; lids lie within two edges of
        them, lips within three.
    """
    model = face_model()
    loops = sorted(border_loops(model.triangles), key=lambda loop: float(model.mean[loop, 1].max()))
    oval = max(loops, key=len)
    *eyes, mouth = (loop for loop in loops if loop is not oval)
    near = _grown(set(mouth), 3) | _grown({vertex for eye in eyes for vertex in eye}, 2)
    near |= set(_BROWS) | {int(model.mirrored[v]) for v in _BROWS}
    near |= set(np.flatnonzero(model.mean[:, 1] < -0.75).tolist())
    return np.array([v for v in range(len(model.mean)) if v not in near], np.int32)


def _grown(vertices: set[int], edges: int) -> set[int]:
    """All vertices that are so few edges away from some."""
    triangles = [set(t) for t in face_model().triangles.tolist()]
    for _ in range(edges):
        vertices = vertices.union(*(t for t in triangles if t & vertices))
    return vertices


@compiled
def vertex_normals(vertices: Float32Array, triangles: Int32Array) -> Float32Array:
    """Outward unit normals, weighted by area, shape (V, 3), float32."""
    normals = np.zeros((vertices.shape[0], 3), np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ex, ey = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1]
        fx, fy = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1]
        ez, fz = vertices[b, 2] - vertices[a, 2], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = ey * fz - ez * fy, ez * fx - ex * fz, ex * fy - ey * fx
        for v in (a, b, c):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(vertices.shape[0]):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        size = np.float32(1.0) / (np.sqrt(x * x + y * y + z * z) + np.float32(1e-12))
        for i in range(3):
            normals[v, i] *= size
    return normals


@compiled
def harmonics(x: float, y: float, z: float, out: Float64Array) -> None:
    """Write the nine harmonics of a direction, without their constant factors."""
    out[0] = 1.0
    out[1], out[2], out[3] = x, y, z
    out[4], out[5], out[6] = x * y, x * z, y * z
    out[7], out[8] = x * x - y * y, 3 * z * z - 1


@compiled
def irradiance(photo: Any, x: float, y: float, z: float) -> float:
    """Brightness of a surface with this normal, over that of the face's skin on average.

    Args:
        photo: Of `read_photo`, or of `light_readings`: the result is as precise as its arguments.
        x: Of the unit normal, as y and z.
        y: Down.
        z: Towards the viewer.

    Returns:
        0.3–1.6.
    """
    w = photo
    value = w[0] + w[1] * x + w[2] * y + w[3] * z + w[4] * x * y + w[5] * x * z + w[6] * y * z
    value += w[7] * (x * x - y * y) + w[8] * (_THREE * z * z - _ONE)
    within: float = min(max(value, _DARKEST), _BRIGHTEST)
    return within


@compiled
def light_readings(photo: Float64Array) -> Any:
    """The readings by which masks are lit: numbers that a compiler keeps in registers.

    Args:
        photo: Of `read_photo`.

    Returns:
        A tuple of float32; the light's weights with more contrast than those that were read.
    """
    readings = photo.astype(np.float32)
    for i in range(HARMONICS):
        readings[i] *= np.float32(_CONTRAST)
    readings[0] -= np.float32(_CONTRAST - 1.0)
    return _to_tuple(readings, READINGS)


@compiled
def read_photo(
    image: UInt8Array,
    vertices: Float32Array,
    normals: Float32Array,
    samples: Int32Array,
) -> Float64Array:
    """Read light, colour and sharpness off a face.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        vertices: Of the face, in pixels, shape (V, 3), float32.
        normals: Of the vertices, shape (V, 3), float32.
        samples: `skin_vertices()`.

    Returns:
        Shape (READINGS,), float64; this module's constants say what is where.
    """
    photo = np.zeros(READINGS)
    height, width = image.shape[:2]
    basis = np.zeros((samples.shape[0], HARMONICS))
    colour = np.zeros((samples.shape[0], 4))
    count = 0
    for k in range(samples.shape[0]):
        v = samples[k]
        x, y = int(np.floor(vertices[v, 0] + 0.5)), int(np.floor(vertices[v, 1] + 0.5))
        if normals[v, 2] < 0.2 or x < 0 or y < 0 or x >= width or y >= height:
            continue
        for i in range(3):
            colour[count, i] = image[y, x, i] / 255.0
        colour[count, 3] = luminance(colour[count, 0], colour[count, 1], colour[count, 2])
        harmonics(normals[v, 0], normals[v, 1], normals[v, 2], basis[count])
        count += 1
    weight = np.ones(count)
    _fit_light(basis[:count], colour[:count], weight, photo)
    variety = min(max((read_variety(image) - _TONED) / 0.03, 0.0), 1.0)
    _fit_colour(colour[:count], weight, variety, photo)
    dark, bright = read_levels(image)
    photo[BLACK] = min(dark, 0.12)
    skin = min(max(photo[EXPOSURE] / _SKIN_LEVEL, 0.1), 2.0)
    rest = min(max(bright / _BRIGHT_LEVEL, 0.1), 2.0)
    photo[EXPOSURE] = min(max(skin**0.6 * rest**0.4, 0.15), 1.3)
    photo[BLUR], photo[NOISE] = read_sharpness(image, vertices)
    return photo


@compiled
def _fit_light(
    basis: Float64Array, colour: Float64Array, weight: Float64Array, photo: Float64Array
) -> None:
    """Ridge regression, repeated with less weight for what does not fit: hair, hands, beards."""
    count = basis.shape[0]
    photo[0] = 1.0 - 0.75 * _USUAL[1]
    photo[2], photo[3] = _USUAL[0], _USUAL[1]
    photo[EXPOSURE] = _SKIN_LEVEL
    if count >= _ENOUGH:
        fitted = np.zeros(HARMONICS)
        for _ in range(_ROUNDS):
            fitted = _solve(_normal_equations(basis, colour, weight))
            _weigh(basis, colour, fitted, weight)
        level, total = 0.0, 0.0
        for k in range(count):
            level += weight[k] * _value(basis[k], fitted)
            total += weight[k]
        level = max(level / total, 0.02)
        for i in range(HARMONICS):
            photo[i] = fitted[i] / level
        photo[EXPOSURE] = level
    _light_direction(photo)


@compiled
def _normal_equations(
    basis: Float64Array, colour: Float64Array, weight: Float64Array
) -> Float64Array:
    count = basis.shape[0]
    normal = np.zeros((HARMONICS, HARMONICS + 1))
    level, total = 0.0, 1e-9
    for k in range(count):
        level += weight[k] * colour[k, 3]
        total += weight[k]
        for i in range(HARMONICS):
            scaled = weight[k] * basis[k, i]
            for j in range(i, HARMONICS):
                normal[i, j] += scaled * basis[k, j]
            normal[i, HARMONICS] += scaled * colour[k, 3]
    level /= total
    for i in range(HARMONICS):
        order = 0 if i == 0 else 1 if i < 4 else 2
        pull = (1e-6 + _RIDGE[order]) * total
        normal[i, i] += pull
        if i == 2 or i == 3:
            normal[i, HARMONICS] += pull * _USUAL[i - 2] * level
        for j in range(i):
            normal[i, j] = normal[j, i]
    return normal


@compiled
def _value(basis: Float64Array, fitted: Float64Array) -> float:
    value = 0.0
    for i in range(HARMONICS):
        value += fitted[i] * basis[i]
    return value


@compiled
def _weigh(
    basis: Float64Array, colour: Float64Array, fitted: Float64Array, weight: Float64Array
) -> None:
    """Give each sample a weight that falls with its distance from the fit."""
    count = basis.shape[0]
    spread, total = 0.0, 1e-9
    for k in range(count):
        spread += weight[k] * abs(colour[k, 3] - _value(basis[k], fitted))
        total += weight[k]
    spread = max(spread / total, 0.01)
    for k in range(count):
        far = (colour[k, 3] - _value(basis[k], fitted)) / (1.5 * spread)
        weight[k] = 1.0 / ((1.0 + far * far) * (1.0 + far * far))


@compiled
def _light_direction(photo: Float64Array) -> None:
    """A unit vector to the light; in doubt from the viewer's side and above."""
    x, y, z = photo[1], photo[2] - 0.1, abs(photo[3]) + 0.15
    size = np.sqrt(x * x + y * y + z * z)
    photo[LIGHT], photo[LIGHT + 1], photo[LIGHT + 2] = x / size, y / size, z / size


@compiled
def _solve(system: Float64Array) -> Float64Array:
    """Gaussian elimination of a positive definite system with its right side as last column."""
    size = system.shape[0]
    for i in range(size):
        for j in range(i + 1, size):
            factor = system[j, i] / system[i, i]
            for k in range(i, size + 1):
                system[j, k] -= factor * system[i, k]
    solution = np.zeros(size)
    for i in range(size - 1, -1, -1):
        value = system[i, size]
        for j in range(i + 1, size):
            value -= system[i, j] * solution[j]
        solution[i] = value / system[i, i]
    return solution


@compiled
def _tint(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Brightness and two numbers of colour that do not change with it."""
    level = luminance(red, green, blue)
    share = _ONE / (level + _DIM)
    return level, (red - level) * share, (blue - level) * share


@compiled
def _fit_colour(
    colour: Float64Array, weight: Float64Array, variety: float, photo: Float64Array
) -> None:
    """Skin's colours and, from them, the light's colour and the photo's saturation."""
    total, mean = 1e-9, np.zeros(3)
    square = np.zeros(3)
    for k in range(colour.shape[0]):
        total += weight[k]
        for i in range(3):
            mean[i] += weight[k] * colour[k, i]
        tint = _tint(colour[k, 0], colour[k, 1], colour[k, 2])
        for i in range(3):
            photo[SKIN + i] += weight[k] * tint[i]
            square[i] += weight[k] * tint[i] * tint[i]
    for i in range(3):
        mean[i] /= total
        photo[SKIN + i] /= total
        spread = max(square[i] / total - photo[SKIN + i] ** 2, 0.0)
        photo[SKIN_SPREAD + i] = max(np.sqrt(spread), 0.12 if i == 0 else 0.04)
    level = luminance(mean[0], mean[1], mean[2])
    share = (max(mean[0], mean[1], mean[2]) - min(mean[0], mean[1], mean[2])) / (level + 0.05)
    saturation = min(max(share / 0.25, 0.0), 1.0)
    photo[SATURATION] = saturation * variety
    # Skin differs from person to person: a third of a small difference is put down to the light,
    # and nearly all of a large one.
    for i in range(3):
        cast = 1.0
        if level > 0.02:
            ratio = min(max(mean[i] / level / _SKIN_COLOUR[i], 0.1), 2.5)
            far = min(abs(np.log(ratio)) / 0.6, 1.0)
            cast = ratio ** (0.33 + 0.67 * far * far)
        tone = mean[i] / level if level > 0.02 else 1.0
        cast = variety * (1.0 + saturation * (cast - 1.0)) + (1.0 - variety) * tone
        photo[CAST + i] = cast
    bright = luminance(photo[CAST], photo[CAST + 1], photo[CAST + 2])
    for i in range(3):
        photo[CAST + i] /= bright


@compiled
def skin_likeness(photo: Any, red: float, green: float, blue: float) -> float:
    """How much a colour looks like this face's skin, lit or shaded.

    Args:
        photo: Of `read_photo`, or of `light_readings`.
        red: 0–1, as green and blue.
        green: 0–1.
        blue: 0–1.

    Returns:
        0–1.
    """
    level, warm, cold = _tint(red, green, blue)
    # Brightness is free to change with the light, hence less weight.
    off = (level - photo[SKIN]) / photo[SKIN_SPREAD] * _FREE
    off_warm = (warm - photo[SKIN + 1]) / photo[SKIN_SPREAD + 1] * _BOUND
    off_cold = (cold - photo[SKIN + 2]) / photo[SKIN_SPREAD + 2] * _BOUND
    beyond = off * off + off_warm * off_warm + off_cold * off_cold - _NEAR
    likeness: float = np.exp(-_HALF * beyond) if beyond > 0 else _ONE
    return likeness
