"""Where the faces of a photo are: the protocol that detectors follow, and the choice of one face.

A detector is anything with `detect`. openmfr brings one (`openmfr.faces.face_mesh`); users with
another, or with landmarks of their own, need neither that one nor its dependencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from openmfr.faces.align import TEMPLATE_SIZE, similarity, template

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

#: What a face loses for lying off the photo's centre, per squared pixel, in pixels of area: the
#: rule that the common benchmarks were cut by.
_CENTRE_WEIGHT: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class DetectedFace:
    """A face in a photo, in pixels whose centres lie at whole numbers (see `faces.align`).

    Attributes:
        box: Left, top, right, bottom; may reach beyond the photo.
        score: The detector's confidence, 0–1.
        landmarks: Left eye, right eye, nose, left and right corner of the mouth, as one sees them
            in the picture, float64, shape (5, 2).
        note: Anything that a person should know about it, or "".
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: FloatArray
    note: str = ""


class Detector(Protocol):
    """Finds faces and their five landmarks."""

    def detect(self, photo: UInt8Array) -> list[DetectedFace]:
        """Find the faces of a photo, RGB, uint8, shape (H, W, 3), in any order."""


def face_size(landmarks: FloatArray) -> float:
    """Say how large a face is: the edge in photo pixels of the square that alignment cuts out.

    Unlike the distance between the eyes, it does not shrink when the head turns.

    Args:
        landmarks: Shape (5, 2).

    Example:
        >>> round(face_size(template(56)), 6)
        56.0
    """
    matrix = similarity(landmarks, template(TEMPLATE_SIZE))
    return float(TEMPLATE_SIZE / np.hypot(matrix[0, 0], matrix[1, 0]))


def choose_face(faces: Sequence[DetectedFace], *, width: int, height: int) -> DetectedFace:
    """Take the largest central face: the area of its box, less twice its squared distance.

    Args:
        faces: At least one.
        width: The photo's, in pixels.
        height: The photo's, in pixels.

    Returns:
        One of them.

    Example:
        >>> points = template(112)
        >>> main = DetectedFace(box=(40, 40, 60, 60), score=0.8, landmarks=points)
        >>> corner = DetectedFace(box=(0, 0, 22, 22), score=0.9, landmarks=points)
        >>> choose_face([corner, main], width=100, height=100) is main
        True
    """

    def prominence(face: DetectedFace) -> float:
        x0, y0, x1, y1 = face.box
        off_centre = ((x0 + x1 + 1 - width) ** 2 + (y0 + y1 + 1 - height) ** 2) / 4
        return (x1 - x0) * (y1 - y0) - _CENTRE_WEIGHT * off_centre

    return max(faces, key=prominence)
