"""Geometry providers for tests that need no faces; worker processes find them by name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmfr.faces.geometry import Float32Array, face_model

UInt8Array = npt.NDArray[np.uint8]


class BrightnessProvider:
    """Places the mean face by a picture's colours; some pictures show none, or one elsewhere."""

    name = "brightness-1"

    def reconstruct(self, image: UInt8Array) -> Float32Array | None:
        red, green, blue = (int(value) for value in image[16, 16])
        if red % 7 == 0:
            return None
        shift = np.array([0.5 + (0.4 if green % 5 == 0 else green / 3000), 0.59, 0])
        scale = 0.44 + blue / 6000
        return np.asarray((face_model().mean * scale + shift) * image.shape[1], np.float32)


class NoFaceProvider:
    """Finds nothing."""

    def reconstruct(self, image: UInt8Array) -> Float32Array | None:
        assert image.shape == (32, 32, 3)
        return None
