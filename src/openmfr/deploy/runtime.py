"""From a photo to embeddings: read, detect, align, embed; without torch.

from openmfr import Recognizer

recognizer = Recognizer("model.onnx")
ann, ben = recognizer.embed("ann.jpg"), recognizer.embed("ben.jpg")
score = ann.embedding @ ben.embedding
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openmfr.deploy.mask_worn import MaskClassifier
from openmfr.deploy.model import OnnxModel
from openmfr.deploy.quality import FaceQuality, sharpness
from openmfr.errors import UserError
from openmfr.faces.align import Alignment, align_face
from openmfr.faces.detect import DetectedFace, Detector, choose_face, face_size
from openmfr.faces.photo import MAX_PIXELS, PhotoError, read_photo
from openmfr.faces.pose import roll, yaw
from openmfr.workers import usable_cpus

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

#: A photo: a file, the bytes of one, or its pixels, RGB, uint8, shape (H, W, 3).
PhotoSource = Path | str | bytes | UInt8Array


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddedFace:
    """A face of a photo, ready to be compared.

    Attributes:
        box: Left, top, right, bottom in pixels of the upright photo; may reach beyond it.
        landmarks: Left eye, right eye, nose, left and right corner of the mouth, as one sees them
            in the picture, in pixels, float64, shape (5, 2).
        score: The detector's confidence, 0–1.
        embedding: Of length 1, float32, shape (D,): two faces' score is the product of theirs.
        length: The embedding's before it was brought to 1.
        aligned: The face as the network saw it, RGB, uint8, shape (S, S, 3).
        note: Anything that a person should know about how it was found, or "".
        mask_worn: How probably it wears a mask, 0–1; None unless the recogniser looks for masks.
    """

    box: tuple[float, float, float, float]
    landmarks: FloatArray
    score: float
    embedding: Float32Array
    length: float
    aligned: UInt8Array
    note: str = ""
    mask_worn: float | None = None

    @classmethod
    def of(
        cls,
        face: DetectedFace,
        *,
        aligned: UInt8Array,
        embedding: Float32Array,
        mask_worn: float | None = None,
    ) -> EmbeddedFace:
        """Join what was found with what the network made of it.

        Args:
            face: As the detector sees it.
            aligned: Cut out, RGB, uint8, shape (S, S, 3).
            embedding: Of any length; of length 0 it stays so.
            mask_worn: How probably it wears a mask, or None.
        """
        length = float(np.linalg.norm(embedding))
        return cls(
            box=face.box,
            landmarks=face.landmarks,
            score=face.score,
            embedding=embedding / np.float32(length or 1.0),
            length=length,
            aligned=aligned,
            note=face.note,
            mask_worn=mask_worn,
        )

    @cached_property
    def quality(self) -> FaceQuality:
        """How well the face can be seen; measured when it is first asked for."""
        return FaceQuality(
            size=face_size(self.landmarks),
            sharpness=sharpness(self.aligned),
            yaw=yaw(self.landmarks),
            roll=roll(self.landmarks),
            score=self.score,
            length=self.length,
        )


class Recognizer:
    """Finds the faces of photos and embeds them; safe to share between threads.

    Args:
        model: An ONNX file that openmfr wrote, or an `OnnxModel`, for any other.
        detector: Finds faces and landmarks; one thread at a time uses it. By default openmfr's own,
            of which threads that run at once have one each, up to `detectors`.
        detectors: The most of openmfr's own; each takes about a second to load, when it is first
            needed, and some memory. One for each CPU by default.
        align: Which landmarks place a face. The same must have been used for the network's training
            images, or nearly so.
        max_pixels: Refuse larger photos before they are decoded.
        masks: Says of each face whether it wears a mask; nobody looks by default.

    Attributes:
        model: The network.

    Raises:
        UserError: If the model cannot be used, or the detector is not installed.

    Example: `Recognizer("model.onnx").embed("photo.jpg").embedding`
    """

    def __init__(
        self,
        model: OnnxModel | Path | str,
        *,
        detector: Detector | None = None,
        detectors: int | None = None,
        align: Alignment = "five",
        max_pixels: int = MAX_PIXELS,
        masks: MaskClassifier | None = None,
    ) -> None:
        self.model = model if isinstance(model, OnnxModel) else OnnxModel(model)
        self._align: Alignment = align
        self._max_pixels = max_pixels
        self._masks = masks
        if detector is not None:
            self._detectors = _Pool(lambda: detector, limit=1)
        else:
            self._detectors = _Pool(_own_detector, limit=detectors or usable_cpus())

    def embed(self, photo: PhotoSource, *, allow_several: bool = True) -> EmbeddedFace:
        """Embed the face of a photo; of several the largest central one.

        Args:
            photo: A file, the bytes of one, or pixels: RGB, uint8, shape (H, W, 3).
            allow_several: Whether a photo may show others too; False refuses it, as enrolment
                should.

        Returns:
            The face.

        Raises:
            PhotoError: "no face found", "several faces", "too large", or whatever else keeps a
                photo from being read.
        """
        pixels = self.read(photo)
        face, _ = self.detect_one(pixels, allow_several=allow_several)
        return self.embed_aligned(self.align(pixels, [face]), [face])[0]

    def faces(self, photo: PhotoSource) -> list[EmbeddedFace]:
        """Embed all faces of a photo, from the largest to the smallest; none is no error.

        Raises:
            PhotoError: If the photo is broken, no picture, or too large.
        """
        pixels = self.read(photo)
        found = self.detect(pixels)
        faces = self.embed_aligned(self.align(pixels, found), found)
        return sorted(faces, key=lambda face: face_size(face.landmarks), reverse=True)

    def read(self, photo: PhotoSource) -> UInt8Array:
        """Decode a photo to upright RGB, uint8, shape (H, W, 3).

        Raises:
            PhotoError: If it is broken, no picture, or too large.
            UserError: If pixels are given that are no RGB picture.
        """
        if not isinstance(photo, np.ndarray):
            source = photo if isinstance(photo, bytes) else Path(photo)
            return read_photo(source, max_pixels=self._max_pixels).pixels
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise UserError(
                where="photo",
                found=f"{photo.dtype} {photo.shape}",
                allowed="RGB, uint8 (H, W, 3)",
                next_step="convert it, or give the file",
            )
        if photo.shape[0] * photo.shape[1] > self._max_pixels:
            size = f"{photo.shape[1]}×{photo.shape[0]} pixels"
            raise PhotoError(f"too large: {size}, at most {self._max_pixels:,}")
        return photo

    def detect(self, pixels: UInt8Array) -> list[DetectedFace]:
        """Find the faces of a decoded photo, in any order.

        Raises:
            PhotoError: If the detector fails on it.
        """
        with self._detectors.borrow() as detector:
            try:
                return detector.detect(pixels)
            except Exception as error:  # whatever a detector does on a strange picture
                raise PhotoError(f"detector failed: {type(error).__name__}: {error}") from error

    def detect_one(
        self, pixels: UInt8Array, *, allow_several: bool = True
    ) -> tuple[DetectedFace, int]:
        """Find the face of a decoded photo; of several the largest central one.

        Args:
            pixels: RGB, uint8, shape (H, W, 3).
            allow_several: Whether the photo may show others too.

        Returns:
            The face, and how many others there are.

        Raises:
            PhotoError: "no face found", "several faces", or if the detector fails.
        """
        found = self.detect(pixels)
        if not found:
            raise PhotoError("no face found: the photo may be too dark, or the face too small")
        if len(found) > 1 and not allow_several:
            raise PhotoError(f"several faces: {len(found)}, where one is asked for")
        face = choose_face(found, width=pixels.shape[1], height=pixels.shape[0])
        return face, len(found) - 1

    def align(self, pixels: UInt8Array, found: Sequence[DetectedFace]) -> UInt8Array:
        """Cut detected faces out as the network takes them, RGB, uint8, shape (B, S, S, 3)."""
        size = self.model.face_size
        aligned = np.empty((len(found), size, size, 3), np.uint8)
        for row, face in zip(aligned, found, strict=True):
            row[:] = align_face(pixels, face.landmarks, size, alignment=self._align)
        return aligned

    def embed_aligned(
        self, aligned: UInt8Array, found: Sequence[DetectedFace]
    ) -> list[EmbeddedFace]:
        """Embed faces that were detected and cut out before, in their order.

        Args:
            aligned: What `align` made of them, uint8 (B, S, S, 3).
            found: The faces.
        """
        if not found:
            return []
        masks_worn: Sequence[float | None] = [None] * len(found)
        if self._masks is not None:
            masks_worn = self._masks.worn(aligned).tolist()
        return [
            EmbeddedFace.of(face, aligned=image, embedding=embedding, mask_worn=worn)
            for face, image, embedding, worn in zip(
                found, aligned, self.model.embed(aligned), masks_worn, strict=True
            )
        ]


class _Pool:
    """Detectors, each used by one thread at a time, made when all others are in use.

    Args:
        make: Makes one.
        limit: The most to make; further threads wait.
    """

    def __init__(self, make: Callable[[], Detector], *, limit: int) -> None:
        self._make = make
        self._free: list[Detector] = []
        self._making = threading.Lock()
        self._places = threading.BoundedSemaphore(limit)

    @contextmanager
    def borrow(self) -> Iterator[Detector]:
        with self._places:
            try:
                detector = self._free.pop()
            except IndexError:
                # One after the other: while it loads, MediaPipe's messages to standard error, which
                # is the whole process's, are kept back.
                with self._making:
                    detector = self._make()
            try:
                yield detector
            finally:
                self._free.append(detector)


def _own_detector() -> Detector:
    # Loaded late: a user with a detector of their own needs no MediaPipe.
    from openmfr.faces.face_mesh import FaceMeshDetector

    return FaceMeshDetector()
