"""The dense geometry of a face: 468 vertices with depth, as a pose and forty numbers of shape.

Coordinates of a picture are (x, y) in pixels with pixel centres at whole numbers, y pointing down,
and a depth in pixels that points at the viewer. Coordinates of the head have the same axes on a
face seen from the front; their unit is the *eye span*, the distance between the outer corners of
the eyes of the mean face, their origin the mean of the vertices.

The vertices are those of MediaPipe's Face Mesh. Mean shape and modes of variation come from Face
Mesh's fits to synthetic faces of our own (`tools/face_model.py`), so no photograph is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from openmfr.faces.align import ARCFACE_TEMPLATE, TEMPLATE_SIZE, similarity, warp

UInt8Array = npt.NDArray[np.uint8]
Int16Array = npt.NDArray[np.int16]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

#: Vertices of a face, V.
VERTICES: Final = 468

#: Vertices whose mean is a landmark: both corners and both lids of an eye, the tip of the nose, the
#: outer corner of the mouth; left and right as seen in the picture.
_LANDMARKS: Final = ([33, 133, 159, 145], [263, 362, 386, 374], [4], [61], [291])

#: Modes of variation of the shape, K.
MODES: Final = 40

#: Numbers of int16 that a packed face takes: 94 bytes.
PACKED: Final = MODES + 7

# A face of a photo is reconstructed from a crop of so many pixels, so much wider than an aligned
# one; a masked face may be found in one width and not in another.
_CROP_SIZE: Final = 256
_REACHES: Final = (1.6, 1.2, 2.2)

# Steps of the packed numbers: shape in standard deviations, rotation in radians, logarithm of the
# scale, shift in sizes of the image. Together they move a vertex by less than 0.02 of 112 pixels.
_SHAPE_STEP: Final = 2.0**-10
_ROTATION_STEP: Final = 2.0**-13
_SCALE_STEP: Final = 2.0**-12
_SHIFT_STEP: Final = 2.0**-13

_STEPS: Final[Float64Array] = np.array(
    [*[_SHAPE_STEP] * MODES, *[_ROTATION_STEP] * 3, _SCALE_STEP, *[_SHIFT_STEP] * 3]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceModel:
    """The mean face and how faces differ from it, in coordinates of the head.

    Attributes:
        mean: Shape (V, 3), float32; its left and right half mirror each other.
        modes: Displacement per standard deviation, shape (K, V, 3), float32; orthogonal to each
            other.
        triangles: Vertex indices, shape (T, 3), int32, clockwise as seen from outside; eyes and
            mouth are holes.
        mirrored: The vertex on the other side of the face, shape (V,), int32.
    """

    mean: Float32Array
    modes: Float32Array
    triangles: Int32Array
    mirrored: Int32Array


@cache
def face_model() -> FaceModel:
    """Read the model from the package; the same object every time."""
    source = files("openmfr.faces").joinpath("face_model.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return FaceModel(
            mean=arrays["mean"].astype(np.float32),
            modes=arrays["modes"].astype(np.float32),
            triangles=arrays["triangles"].astype(np.int32),
            mirrored=arrays["mirrored"].astype(np.int32),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Pose:
    """Where a head is in a picture: `vertices ≈ scale · head @ rotation.T + shift`.

    Attributes:
        scale: Pixels per eye span.
        rotation: From the head to the picture, shape (3, 3), float64.
        shift: Pixels, shape (3,), float64.
    """

    scale: float
    rotation: Float64Array
    shift: Float64Array

    @property
    def yaw(self) -> float:
        """Radians; positive turns the nose to the right of the picture."""
        return float(np.arctan2(self.rotation[0, 2], self.rotation[2, 2]))

    @property
    def pitch(self) -> float:
        """Radians; positive looks down, relative to the mean face, which looks up a little."""
        return float(np.arcsin(np.clip(self.rotation[1, 2], -1, 1)))


class GeometryProvider(Protocol):
    """Reconstructs the face of a picture; anything that gives Face Mesh's vertices will do."""

    def reconstruct(self, image: UInt8Array) -> Float32Array | None:
        """Find the face that fills most of a picture.

        Args:
            image: RGB, uint8, shape (H, W, 3): an aligned face, or a photo cut to one.

        Returns:
            Vertices in pixels, shape (V, 3), float32, or None where no face is found.
        """


def crop_around(landmarks: Float64Array, size: int, *, reach: float = _REACHES[0]) -> Float64Array:
    """Frame a face upright with its surroundings.

    Args:
        landmarks: Its five landmarks in pixels of a photo, shape (5, 2).
        size: Edge of the crop in pixels.
        reach: Width of the crop in widths of an aligned face.

    Returns:
        Similarity from the crop's pixels to the photo's, shape (2, 3), for `faces.align.warp`.
    """
    zoom = size / (reach * TEMPLATE_SIZE)
    middle = (TEMPLATE_SIZE - 1) / 2
    return similarity((ARCFACE_TEMPLATE - middle) * zoom + (size - 1) / 2, landmarks)


def reconstruct_in_photo(
    photo: UInt8Array, landmarks: Float64Array, provider: GeometryProvider
) -> Float32Array | None:
    """Reconstruct one of a photo's faces, upright and in its surroundings.

    Args:
        photo: RGB, uint8, shape (H, W, 3).
        landmarks: The face's five landmarks in pixels, shape (5, 2).
        provider: What reconstructs it from a crop.

    Returns:
        Vertices in pixels of the photo, shape (V, 3), float32, or None where no face is found.
    """
    for reach in _REACHES:
        crop_to_photo = crop_around(landmarks, _CROP_SIZE, reach=reach)
        vertices = provider.reconstruct(warp(photo, crop_to_photo, _CROP_SIZE))
        if vertices is not None:
            linear, shift = crop_to_photo[:, :2], crop_to_photo[:, 2]
            depth = vertices[:, 2:] * np.hypot(linear[0, 0], linear[1, 0])
            flat = vertices[:, :2] @ linear.T + shift
            return np.hstack([flat, depth]).astype(np.float32)
    return None


def five_landmarks(vertices: npt.NDArray[np.floating]) -> Float64Array:
    """Find the five landmarks among the vertices.

    Args:
        vertices: Shape (V, K).

    Returns:
        Left eye, right eye, nose, left and right corner of the mouth, shape (5, K).

    Example:
        >>> five_landmarks(face_model().mean)[:2, 0].round(2).tolist()
        [-0.35, 0.35]
    """
    return np.array([vertices[group].mean(axis=0) for group in _LANDMARKS], np.float64)


def fit_pose(vertices: npt.NDArray[np.floating]) -> Pose:
    """Find the pose that brings the mean face nearest to a face, by least squares.

    Args:
        vertices: In pixels, shape (V, 3).

    Returns:
        The pose; its rotation never mirrors.

    Source:
        Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
        PAMI 1991.

    Example:
        >>> pose = fit_pose(face_model().mean * 50 + 56)
        >>> round(pose.scale, 3), pose.shift.round(3).tolist()
        (50.0, [56.0, 56.0, 56.0])
    """
    mean = face_model().mean.astype(np.float64)
    points = vertices.astype(np.float64)
    center = points.mean(axis=0)
    # The mean face's own mean is the origin, so the shift is the center.
    left, stretch, right = np.linalg.svd((points - center).T @ mean)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return Pose(
        scale=float((stretch * signs).sum() / (mean**2).sum()),
        rotation=(left * signs) @ right,
        shift=center,
    )


def pack(vertices: npt.NDArray[np.floating], *, size: int) -> Int16Array:
    """Reduce a face to a pose and the weights of the modes.

    Args:
        vertices: In pixels, shape (V, 3).
        size: Edge of the image in pixels.

    Returns:
        Shape (`PACKED`,), int16: 94 bytes.
    """
    pose = fit_pose(vertices)
    head = (vertices - pose.shift) @ pose.rotation / pose.scale
    # Not by a matrix product, whose threads may round differently on another machine.
    shape = np.einsum("kn,n->k", _weighing(), (head - face_model().mean).ravel())
    place = [*_to_vector(pose.rotation), np.log(pose.scale / size), *(pose.shift / size)]
    steps = np.round(np.concatenate([shape, place]) / _STEPS)
    limit = np.iinfo(np.int16)
    return np.clip(steps, limit.min, limit.max).astype(np.int16)


def unpack(packed: Int16Array, *, size: int) -> Float32Array:
    """Rebuild the vertices of a packed face.

    Args:
        packed: From `pack`, shape (`PACKED`,), int16.
        size: Edge of the image in pixels; another than the face was packed at scales it.

    Returns:
        Vertices in pixels, shape (V, 3), float32: within 0.1 pixels of 112 of the original.

    Example:
        >>> face = face_model().mean * 50 + 56
        >>> bool(np.abs(unpack(pack(face, size=112), size=112) - face).max() < 0.02)
        True
    """
    model = face_model()
    numbers = packed * _STEPS
    shape = numbers[:MODES].astype(np.float32)
    head = model.mean + np.einsum("k,kvx->vx", shape, model.modes)
    scale = np.exp(numbers[MODES + 3]) * size
    turn = (_to_matrix(numbers[MODES : MODES + 3]) * scale).astype(np.float32)
    shift = (numbers[MODES + 4 :] * size).astype(np.float32)
    vertices: Float32Array = head @ turn.T + shift
    return vertices


@cache
def _weighing() -> Float64Array:
    """What maps a face's difference from the mean to the weights of the modes, (K, 3V)."""
    modes = face_model().modes.reshape(MODES, -1).astype(np.float64)
    weighing: Float64Array = modes / (modes**2).sum(axis=1, keepdims=True)
    return weighing


def _to_vector(rotation: Float64Array) -> Float64Array:
    """Axis times angle of a rotation that turns by less than half a circle."""
    axis = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = float(np.linalg.norm(axis)) / 2
    angle = np.arctan2(sine, (np.trace(rotation) - 1) / 2)
    factor = float(angle) / (2 * sine) if sine > 1e-9 else 0.5
    return axis * factor


def _to_matrix(vector: Float64Array) -> Float64Array:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / (angle or 1.0)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix: Float64Array = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return matrix
