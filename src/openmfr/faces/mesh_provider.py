"""MediaPipe's Face Mesh as a `GeometryProvider` (`openmfr[face]`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmfr.faces.face_mesh import load_solutions, process, quiet
from openmfr.faces.geometry import VERTICES, Float32Array

UInt8Array = npt.NDArray[np.uint8]


class FaceMeshProvider:
    """Reconstructs faces with Face Mesh, on the CPU; its model comes with MediaPipe's package.

    Loading takes a second: make one per process. Not safe to share between threads.

    Raises:
        UserError: If MediaPipe, or the system library libGL that it needs, is missing.
    """

    name = "mediapipe-face-mesh-0.10.14"

    def __init__(self) -> None:
        with quiet():
            _, mesh = load_solutions()
            self._mesh = mesh.FaceMesh(static_image_mode=True, min_detection_confidence=0.3)
            # It reports its start, from a thread of its own, at the first picture.
            process(self._mesh, np.zeros((64, 64, 3), np.uint8))

    def reconstruct(self, image: UInt8Array) -> Float32Array | None:
        """Find the face of a picture; see `GeometryProvider`."""
        faces = process(self._mesh, image).multi_face_landmarks
        if not faces:
            return None
        height, width = image.shape[:2]
        found = [(vertex.x, vertex.y, vertex.z) for vertex in faces[0].landmark[:VERTICES]]
        # Face Mesh's depth has the scale of x, and grows away from the viewer.
        scale = np.array([width, height, -width], np.float32)
        shift = np.array([0.5, 0.5, 0.0], np.float32)
        return np.asarray(found, np.float32) * scale - shift
