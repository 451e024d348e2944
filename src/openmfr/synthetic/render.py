"""From a person and the circumstances of a shot to an aligned image with known geometry.

The surfaces of a head (skin, hair, glasses) are drawn one after the other into one picture with one
depth buffer, at twice the size, lit by second-order spherical harmonics and one highlight, then
averaged down over the background, blurred, made noisy and gamma-encoded.

The picture is drawn directly in the crop that an aligner would cut: the five landmarks, which the
head model knows exactly, are brought to the ArcFace template with a detector's error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from openmfr.faces.align import TEMPLATE_SIZE, similarity, template
from openmfr.faces.code_cache import compiled
from openmfr.faces.rasteriser import Raster, rasterise
from openmfr.synthetic.glasses import glasses_mesh
from openmfr.synthetic.hair import wear
from openmfr.synthetic.head import head_model, vertex_normals, weighted_sum
from openmfr.synthetic.identity import Identity
from openmfr.synthetic.noise import enlarge
from openmfr.synthetic.shot import Shot, draw_shot

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]

_SUPERSAMPLING = 2
_FORWARD = np.array([0, 0, 1], dtype=np.float32)
_HAIR_GLOSS = 0.05
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One rendered image and what is known about it.

    Attributes:
        image: RGB, uint8, shape (size, size, 3).
        landmarks: Where the five landmarks truly are, in pixels, shape (5, 2), float64; near the
            ArcFace template, off by a detector's error and by the pose.
        vertices: The head's vertices: (x, y) in pixels, depth in the same unit, shape (V, 3),
            float32. `head_model()` has their triangles.
        shot: The circumstances.
    """

    image: UInt8Array
    landmarks: Float64Array
    vertices: Float32Array
    shot: Shot


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surface:
    vertices: Float32Array
    triangles: Int32Array
    normals: Float32Array
    uv: Float32Array
    texture: Float32Array
    gloss: float
    cull: bool


def render_face(identity: Identity, *, rng: np.random.Generator, size: int = TEMPLATE_SIZE) -> Face:
    """Take one picture of a person.

    Args:
        identity: The person.
        rng: Decides the circumstances and the sensor's noise.
        size: Edge length of the picture in pixels.

    Returns:
        The picture, its landmarks and its geometry.

    Example:
        >>> from openmfr.synthetic.identity import make_identity
        >>> face = render_face(make_identity(0, 3), rng=np.random.default_rng(5))
        >>> face.image.shape, face.landmarks.shape
        ((112, 112, 3), (5, 2))
    """
    shot = draw_shot(rng)
    model = head_model()
    moved = identity.shape + weighted_sum(shot.expression, model.expression_modes)
    camera = Camera(shot, model.landmarks(moved), size)
    head = camera.project(moved)
    canvas = _Canvas(size * _SUPERSAMPLING, shot)
    for surface in _surfaces(identity, shot, moved, head, camera):
        canvas.draw(surface)
    colour, cover = canvas.averaged()
    scene = enlarge(shot.background, (size, size)) * (1 - cover) + colour
    return Face(
        image=_develop(scene, shot, rng),
        landmarks=model.landmarks(head)[:, :2],
        vertices=head,
        shot=shot,
    )


class Camera:
    """Perspective, then the similarity that brings the landmarks to the template."""

    def __init__(self, shot: Shot, landmarks: Float64Array, size: int) -> None:
        self.rotation = shot.rotation
        self._distance = shot.distance
        aim = template(size) + shot.landmark_error * (size / TEMPLATE_SIZE)
        seen = self._perspective(landmarks @ self.rotation.T.astype(np.float64))
        self._matrix = similarity(seen[:, :2], aim)
        self.scale = float(np.hypot(self._matrix[0, 0], self._matrix[1, 0]))

    def _perspective(self, points: Float64Array) -> Float64Array:
        return points * (self._distance / (self._distance - points[:, 2:]))

    def project(self, points: Float32Array) -> Float32Array:
        """Map points of the head, decimetres, to pixels; depth is in pixels too."""
        turned = points @ self.rotation.T
        factor = np.float32(self._distance) / (np.float32(self._distance) - turned[:, 2])
        matrix = self._matrix.astype(np.float32)
        out = np.empty_like(turned)
        out[:, :2] = (turned[:, :2] * factor[:, None]) @ matrix[:, :2].T + matrix[:, 2]
        out[:, 2] = turned[:, 2] * np.float32(self.scale)
        return out


class _Canvas:
    """The picture at several times its size: premultiplied colour and cover, and depth."""

    def __init__(self, side: int, shot: Shot) -> None:
        self._colour = np.zeros((side, side, 4), dtype=np.float32)
        self._depth = np.full((side, side), -np.inf, dtype=np.float32)
        self._side = side
        self._shot = shot

    def draw(self, surface: _Surface) -> None:
        vertices = surface.vertices.copy()
        vertices[:, :2] = (vertices[:, :2] + 0.5) * _SUPERSAMPLING - 0.5
        raster: Raster = rasterise(
            vertices,
            surface.triangles,
            np.concatenate([surface.uv, surface.normals], axis=1),
            height=self._side,
            width=self._side,
            cull=surface.cull,
        )
        light = self._shot.light
        half = self._shot.key_direction + _FORWARD
        half /= np.linalg.norm(half) + 1e-6
        _shade(
            raster.depth,
            raster.attributes,
            surface.texture,
            light,
            half,
            np.float32(surface.gloss),
            self._depth,
            self._colour,
        )

    def averaged(self) -> tuple[Float32Array, Float32Array]:
        """Premultiplied colour (size, size, 3) and cover (size, size, 1)."""
        steps = range(_SUPERSAMPLING)
        parts = [self._colour[i::_SUPERSAMPLING, j::_SUPERSAMPLING] for i in steps for j in steps]
        mean = sum(parts[1:], start=parts[0]) / np.float32(len(parts))
        return mean[..., :3], mean[..., 3:]


def _surfaces(
    identity: Identity, shot: Shot, moved: Float32Array, head: Float32Array, camera: Camera
) -> Iterator[_Surface]:
    model = head_model()
    yield _Surface(
        vertices=head,
        triangles=model.triangles,
        normals=vertex_normals(moved) @ camera.rotation.T,
        uv=model.uv,
        texture=identity.texture,
        gloss=shot.gloss,
        cull=True,
    )
    hair = identity.hair
    if shot.headwear is not None:
        hair = wear(shot.headwear, identity.shape, hair)
    if hair is not None:
        hair_vertices = hair.vertices + (moved - identity.shape)
        far_side = _Surface(
            vertices=camera.project(hair_vertices),
            triangles=hair.triangles[:, ::-1],
            normals=vertex_normals(hair_vertices) @ camera.rotation.T,
            uv=model.uv,
            texture=hair.texture,
            gloss=_HAIR_GLOSS,
            cull=True,
        )
        yield far_side  # first: it is seen through gaps in the near side
        yield replace(far_side, triangles=hair.triangles)
    if shot.glasses is not None:
        vertices, triangles = glasses_mesh(shot.glasses, model.landmarks(moved))
        normal = camera.rotation @ _FORWARD
        yield _Surface(
            vertices=camera.project(vertices),
            triangles=triangles,
            normals=np.tile(normal, (len(vertices), 1)),
            uv=np.zeros((len(vertices), 2), dtype=np.float32),
            texture=np.full((2, 2, 4), (*shot.glasses.colour, 1), dtype=np.float32),
            gloss=0.3,
            cull=False,
        )


def _develop(scene: Float32Array, shot: Shot, rng: np.random.Generator) -> UInt8Array:
    """Lens, sensor and gamma."""
    size = scene.shape[0]
    lit = scene * np.exp(enlarge(shot.dapple, (size, size)))
    grey = np.einsum("yxc,c->yx", lit, _LUMINANCE)[..., None]
    coloured = grey + np.float32(shot.saturation) * (lit - grey)
    sigma = shot.blur * size / TEMPLATE_SIZE
    blurred = gaussian_filter(coloured, (sigma, sigma, 0), truncate=3)
    encoded = np.clip(blurred, 0, 1) ** np.float32(1 / 2.2)
    encoded += np.float32(shot.noise) * rng.standard_normal((size, size, 1), dtype=np.float32)
    image: UInt8Array = np.clip(encoded * 255 + 0.5, 0, 255).astype(np.uint8)
    return image


@compiled
def _shade(
    seen: Float32Array,
    attributes: Float32Array,
    texture: Float32Array,
    light: Float32Array,
    half: Float32Array,
    gloss: np.float32,
    depth: Float32Array,
    colour: Float32Array,
) -> None:
    """Light a raster of (u, v, normal) and lay it over the canvas wherever it is in front."""
    one = np.float32(1)  # plain numbers would turn the arithmetic into float64
    rows, columns = np.float32(texture.shape[0] - 1), np.float32(texture.shape[1] - 1)
    for i in range(seen.shape[0]):
        for j in range(seen.shape[1]):
            if seen[i, j] <= depth[i, j]:
                continue
            fx, fy = attributes[i, j, 0] * columns, attributes[i, j, 1] * rows
            c, r = min(int(fx), texture.shape[1] - 2), min(int(fy), texture.shape[0] - 2)
            fx -= np.float32(c)
            fy -= np.float32(r)
            w11 = fx * fy
            w01, w10, w00 = fx - w11, fy - w11, one - fx - fy + w11
            opacity = (
                texture[r, c, 3] * w00
                + texture[r, c + 1, 3] * w01
                + texture[r + 1, c, 3] * w10
                + texture[r + 1, c + 1, 3] * w11
            )
            if opacity <= 0:
                continue
            x, y, z = attributes[i, j, 2], attributes[i, j, 3], attributes[i, j, 4]
            inverse = one / (np.sqrt(x * x + y * y + z * z) + np.float32(1e-6))
            if z < 0:  # the inner side of a thin surface
                inverse = -inverse
            x, y, z = x * inverse, y * inverse, z * inverse
            facing = max(x * half[0] + y * half[1] + z * half[2], np.float32(0))
            facing *= facing
            facing *= facing
            shine = gloss * facing * facing * facing * facing
            for k in range(3):
                albedo = (
                    texture[r, c, k] * w00
                    + texture[r, c + 1, k] * w01
                    + texture[r + 1, c, k] * w10
                    + texture[r + 1, c + 1, k] * w11
                )
                irradiance = (
                    light[0, k]
                    + light[1, k] * x
                    + light[2, k] * y
                    + light[3, k] * z
                    + light[4, k] * x * y
                    + light[5, k] * y * z
                    + light[6, k] * (np.float32(3) * z * z - one)
                    + light[7, k] * x * z
                    + light[8, k] * (x * x - y * y)
                )
                lit = (albedo + shine) * max(irradiance, np.float32(0.02))
                colour[i, j, k] += (lit - colour[i, j, k]) * opacity
            colour[i, j, 3] += (one - colour[i, j, 3]) * opacity
            if opacity > np.float32(0.5):
                depth[i, j] = seen[i, j]
