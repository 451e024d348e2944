"""A service to test with: a toy network, a detector that takes a picture's middle for a face."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from toy_onnx import write_own

from openmfr.deploy.gallery import Gallery, make_gallery
from openmfr.deploy.model import OnnxModel
from openmfr.deploy.runtime import Recognizer
from openmfr.deploy.service import KeyRing, Service, ServiceConfig, make_key
from openmfr.evaluation.calibration import Calibration
from openmfr.evaluation.comparisons import Comparisons
from openmfr.faces.align import template
from openmfr.faces.detect import DetectedFace

UInt8Array = npt.NDArray[np.uint8]

GALLERY_KEY = bytes(range(32))
MAX_PIXELS = 1_000_000


class MiddleDetector:
    """Sees a face in the middle of any picture that is not flat; two, where the corner is red.

    Attributes:
        gate: While it is closed, detection takes for ever.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.seen = 0

    def detect(self, photo: UInt8Array) -> list[DetectedFace]:
        self.seen += 1
        self.gate.wait(30)
        if photo.std() < 1:
            return []
        height, width = photo.shape[:2]
        edge = float(min(height, width))
        x, y = (width - edge) / 2, (height - edge) / 2
        face = DetectedFace(
            box=(x, y, x + edge, y + edge),
            score=0.9,
            landmarks=template(112) * (edge / 112) + [x, y],
        )
        red, green, _ = photo[:4, :4].mean(axis=(0, 1))
        return [face, face] if red > 240 and green < 10 else [face]


def picture(person: int, image: int = 0, *, size: int = 128, faces: int = 1) -> UInt8Array:
    """A person is a pattern of colours, an image of theirs the same with a little noise."""
    own = np.random.default_rng(person).integers(40, 216, (8, 8, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(own).resize((size, size), Image.Resampling.NEAREST))
    noise = np.random.default_rng([person, image]).integers(-40, 40, large.shape)
    pixels = np.clip(large + noise, 0, 255).astype(np.uint8)
    if faces == 2:
        pixels[:4, :4] = (255, 0, 0)
    return pixels


def encoded(pixels: UInt8Array, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def photo(person: int, image: int = 0, *, size: int = 128, faces: int = 1) -> bytes:
    """A file of such a picture."""
    return encoded(picture(person, image, size=size, faces=faces))


FLAT = encoded(np.full((64, 64, 3), 90, np.uint8))


def make_calibration(model: str) -> Calibration:
    """Scores of strangers around 0, bare and masked."""
    rng = np.random.default_rng(0)
    pairs = 4_000
    return Calibration.fit(
        Comparisons(
            score=np.clip(rng.normal(0, 0.2, 2 * pairs), -1, 1),
            is_genuine=np.zeros(2 * pairs, np.bool_),
            index_a=np.zeros(2 * pairs, np.int64),
            index_b=np.zeros(2 * pairs, np.int64),
            identity_a=np.arange(2 * pairs) % 100,
            identity_b=100 + np.arange(2 * pairs) % 97,
            kind=np.repeat(["mu", "uu"], pairs),
        ),
        model=model,
        replicates=0,
    )


class House:
    """Everything that a service needs, in a folder.

    Attributes:
        detector: Of the service that was made last.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.detector = MiddleDetector()
        model = folder / "model.onnx"
        self.model = OnnxModel(model if model.exists() else write_own(model), threads=1)

    def gallery(self) -> Gallery:
        return make_gallery(
            self.folder / "people.db",
            model=self.model.fingerprint,
            dim=self.model.embedding_dim,
            key=GALLERY_KEY,
        )

    def service(
        self,
        config: ServiceConfig | None = None,
        *,
        has_gallery: bool = True,
        is_calibrated: bool = False,
    ) -> Service:
        calibration = make_calibration(self.model.fingerprint) if is_calibrated else None
        gallery = None
        if has_gallery:
            gallery = Gallery(self.gallery().store, calibration=calibration)
        config = config or ServiceConfig(rate=1e6, burst=1_000_000, max_pixels=MAX_PIXELS)
        recognizer = Recognizer(self.model, detector=self.detector, max_pixels=config.max_pixels)
        return Service(recognizer, gallery=gallery, calibration=calibration, config=config)

    def keys(self, name: str = "door") -> tuple[KeyRing, str]:
        path = self.folder / "keys.json"
        key = make_key(path, name)
        return KeyRing(path), key
