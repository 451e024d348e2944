"""The detector that openmfr brings: MediaPipe's face detection and Face Mesh (`openmfr[face]`).

MediaPipe's detector gives eyes, nose and the middle of the mouth; alignment needs the mouth's
corners. So every detected face is cut out and given to Face Mesh, and the five landmarks are taken
from its vertices.

Measured against the crops of our evaluation sets, which were cut by YuNet's landmarks, the
template's points lie 2.9 pixels of 112 apart (median of 80 bare faces; 7 of 18 masked ones, whose
mouths both can only guess). Much of it is YuNet's own scatter: a public recogniser scores pairs of
one person no lower on our crops. A constant correction was tried and left out (it gained 0.4 pixels
on bare faces and lost 0.6 on masked ones), and so was the mesh with irises (no nearer, and farther
on masks).

Face Mesh does not see every mask as a face. Where it finds nothing and the detector is sure, the
detector's own four points place the template; where the detector is unsure too (a mask without a
person looks like a masked face to it), there is no face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from openmfr.faces.align import ARCFACE_TEMPLATE, cut_out, similarity
from openmfr.faces.detect import DetectedFace
from openmfr.faces.geometry import five_landmarks
from openmfr.faces.mesh_graph import DetectionGraph, MeshGraph

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

#: Photos are shrunk below this edge before detection, which looks at 128 or 192 pixels anyway.
_MAX_EDGE: Final = 1280

#: The squares given to Face Mesh, in edges of the detector's box: the first in which it finds the
#: face is taken.
_CUTS: Final = (2.0, 1.5, 2.5)

#: Without Face Mesh's agreement a face needs this score. Masked people reach .86, a mask on a table
#: .66.
_SURE: Final = 0.75

#: Where the template has the detector's four points: eyes, nose, middle of the mouth.
_FOUR_POINTS: Final = np.vstack([ARCFACE_TEMPLATE[:3], ARCFACE_TEMPLATE[3:].mean(axis=0)])


@dataclass(frozen=True)
class _Box:
    score: float
    corners: FloatArray  # (2, 2): left top, right bottom
    points: FloatArray  # (4, 2): eyes, nose, middle of the mouth

    @property
    def edge(self) -> float:
        return float((self.corners[1] - self.corners[0]).max())


class FaceMeshDetector:
    """Finds faces with MediaPipe, on the CPU; models come with its package, nothing is downloaded.

    Loading takes a second: make one per process. Not safe to share between threads.

    Raises:
        UserError: If MediaPipe, or the system library libGL that it needs, is missing.
    """

    def __init__(self) -> None:
        self._near, self._far = DetectionGraph("near"), DetectionGraph("far")
        self._mesh = MeshGraph()

    def detect(self, photo: UInt8Array) -> list[DetectedFace]:
        """Find the faces of a photo.

        The near-range model comes first: it sees masked faces. The far-range one, blind to many
        masks, finds the small faces of photos in which the first finds none.

        Args:
            photo: RGB, uint8, shape (H, W, 3).

        Returns:
            The faces in which landmarks were found.
        """
        block = -(-max(photo.shape[:2]) // _MAX_EDGE)
        small = np.asarray(Image.fromarray(photo).reduce(block)) if block > 1 else photo
        boxes = self._boxes(self._near, small) or self._boxes(self._far, small)
        faces = []
        for box in boxes:
            landmarks, note = self._landmarks(small, box)
            if landmarks is None:
                continue
            x0, y0, x1, y1 = ((box.corners + 0.5) * block - 0.5).ravel().tolist()
            faces.append(
                DetectedFace(
                    box=(x0, y0, x1, y1),
                    score=box.score,
                    landmarks=(landmarks + 0.5) * block - 0.5,
                    note=note,
                )
            )
        return faces

    def _landmarks(self, photo: UInt8Array, box: _Box) -> tuple[FloatArray | None, str]:
        for cut in _CUTS:
            crop, corner = _cut_around(photo, box, cut)
            vertices = self._vertices(crop)
            if vertices is not None:
                landmarks = five_landmarks(vertices) + corner
                if _is_plausible(landmarks, box):
                    return landmarks, ""
        crop, corner = _cut_around(photo, box, _CUTS[0])
        again = max(self._boxes(self._near, crop), key=lambda found: found.edge, default=None)
        if again is None or again.score < _SURE:
            return None, ""
        matrix = similarity(_FOUR_POINTS, again.points + corner)
        placed = ARCFACE_TEMPLATE @ matrix[:, :2].T + matrix[:, 2]
        return placed, "landmarks from the detector, Face Mesh found none"

    def _boxes(self, model: DetectionGraph, photo: UInt8Array) -> list[_Box]:
        edges = np.array([photo.shape[1], photo.shape[0]])
        boxes = []
        for found in model.find(photo):
            location = found.location_data
            box = location.relative_bounding_box
            left_top = np.array([box.xmin, box.ymin])
            corners = np.array([left_top, left_top + np.array([box.width, box.height])])
            points = np.array([(point.x, point.y) for point in location.relative_keypoints[:4]])
            boxes.append(_Box(float(found.score[0]), corners * edges - 0.5, points * edges - 0.5))
        return boxes

    def _vertices(self, photo: UInt8Array) -> FloatArray | None:
        found = self._mesh.find(photo)
        if found is None:
            return None
        return found[:, :2].astype(np.float64) * [photo.shape[1], photo.shape[0]] - 0.5


def _cut_around(photo: UInt8Array, box: _Box, cut: float) -> tuple[UInt8Array, FloatArray]:
    """Cut a square around a box, black beyond the photo; return it and its left top corner."""
    middle = box.corners.mean(axis=0)
    left, top = np.floor(middle - box.edge * cut / 2).astype(int).tolist()
    edge = max(2, round(box.edge * cut))
    crop = cut_out(photo, left, top, left + edge, top + edge)
    return crop, np.array([left, top], np.float64)


def _is_plausible(landmarks: FloatArray, box: _Box) -> bool:
    """Whether landmarks are those of the box's face: Face Mesh may find the neighbour's."""
    middle = landmarks.mean(axis=0)
    is_inside = ((box.corners[0] <= middle) & (middle <= box.corners[1])).all()
    spread = float(np.ptp(landmarks, axis=0).max())
    return bool(is_inside) and 0.2 <= spread / box.edge <= 1.2
