"""MediaPipe's Face Mesh as a `GeometryProvider` (`openmfr[face]`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmfr.faces.geometry import VERTICES, Float32Array
from openmfr.faces.mesh_graph import MeshGraph

UInt8Array = npt.NDArray[np.uint8]


class FaceMeshProvider:
    """Reconstructs faces with Face Mesh, on the CPU; its model comes with MediaPipe's package.

    Loading takes a second: make one per process. Not safe to share between threads.

    Raises:
        UserError: If MediaPipe, or the system library libGL that it needs, is missing.
    """

    name = "mediapipe-face-mesh-0.10.14"

    def __init__(self) -> None:
        self._mesh = MeshGraph()

    def reconstruct(self, image: UInt8Array) -> Float32Array | None:
        """Find the face of a picture; see `GeometryProvider`."""
        found = self._mesh.find(image)
        if found is None:
            return None
        height, width = image.shape[:2]
        # Face Mesh's depth has the scale of x, and grows away from the viewer.
        scale = np.array([width, height, -width], np.float32)
        shift = np.array([0.5, 0.5, 0.0], np.float32)
        return found[:VERTICES] * scale - shift
