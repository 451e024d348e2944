"""One photo → one aligned face, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from openmfr.data.store import encode_jpeg
from openmfr.errors import UserError, nearest, raise_together
from openmfr.faces.align import Alignment, align_face
from openmfr.faces.detect import DetectedFace, Detector, choose_face, face_size
from openmfr.faces.photo import PhotoError, read_file, read_photo

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """How photos become faces.

    Attributes:
        size: Edge of the aligned faces in pixels.
        min_face: Refuse faces whose crop covers fewer photo pixels than this along its edge. At 32
            the eyes of a frontal face are 10 pixels apart.
        is_aligned: The photos are aligned crops already: nothing is detected, and a JPEG of the
            right size is stored byte for byte.
        align: Which landmarks place a face: "five", or "eyes-nose", which leaves out the corners of
            the mouth, as they can only be guessed under a mask.
    """

    size: int = 112
    min_face: float = 32.0
    is_aligned: bool = False
    align: Alignment = "five"

    def __post_init__(self) -> None:
        errors = []
        if not 16 <= self.size <= 1024:
            errors.append(
                UserError(
                    where="size",
                    found=str(self.size),
                    allowed="16 to 1024 pixels",
                    next_step="recognisers take 112",
                )
            )
        if not 1 <= self.min_face < float("inf"):
            errors.append(
                UserError(
                    where="min_face",
                    found=str(self.min_face),
                    allowed="pixels, from 1",
                    next_step="32 suits most photos",
                )
            )
        if self.align not in get_args(Alignment):
            errors.append(
                UserError(
                    where="align",
                    found=str(self.align),
                    allowed=", ".join(get_args(Alignment)),
                    next_step=nearest(str(self.align), get_args(Alignment)),
                )
            )
        elif self.is_aligned and self.align != "five":
            errors.append(
                UserError(
                    where="align",
                    found=f"{self.align} for photos that are aligned already",
                    allowed="another alignment only for photos that are not",
                    next_step="leave it out, or give the photos that the crops were cut from",
                )
            )
        raise_together(errors)


@dataclass(frozen=True, kw_only=True)
class Crop:
    """An aligned face and where it comes from.

    Attributes:
        image: Encoded, `size` × `size` pixels.
        landmarks: Five points in pixels of the upright photo, shape (5, 2); None if the photo was
            aligned already.
        score: The detector's confidence; None if no detector was asked.
        faces: How many faces the photo shows; None if no detector was asked.
        note: What a person should know about it, or "".
    """

    image: bytes
    landmarks: FloatArray | None = None
    score: float | None = None
    faces: int | None = None
    note: str = ""


def crop_detected(file: Path | bytes, detector: Detector, config: IngestConfig) -> Crop:
    """Take the largest central face of a photo, as a detector sees it.

    Args:
        file: The photo or its bytes.
        detector: Finds faces and landmarks.
        config: Size of the crop, smallest face.

    Raises:
        PhotoError: If the photo is unreadable, or shows no face that is large enough.
    """
    photo = read_photo(file)
    height, width = photo.pixels.shape[:2]
    if min(height, width) < config.min_face / 2:
        raise PhotoError(f"face too small: a picture of {width}×{height} pixels")
    faces = _detect(photo.pixels, detector)
    if not faces:
        raise PhotoError("no face found")
    sizes = [face_size(face.landmarks) for face in faces]
    _check_size(max(sizes), config)
    large = [face for face, size in zip(faces, sizes, strict=True) if size >= config.min_face]
    face = choose_face(large, width=width, height=height)
    several = f"{len(faces)} faces, the largest central one taken" if len(faces) > 1 else ""
    return Crop(
        image=_cut(photo.pixels, face.landmarks, config),
        landmarks=face.landmarks,
        score=face.score,
        faces=len(faces),
        note=_join([*photo.notes, several, face.note]),
    )


def crop_at(file: Path | bytes, landmarks: FloatArray, config: IngestConfig) -> Crop:
    """Take the face at given landmarks, shape (5, 2), in pixels of the upright photo.

    Raises:
        PhotoError: If the photo is unreadable, or the face too small.
    """
    photo = read_photo(file)
    _check_size(face_size(landmarks), config)
    return Crop(
        image=_cut(photo.pixels, landmarks, config),
        landmarks=landmarks,
        note=_join(photo.notes),
    )


def crop_aligned(file: Path | bytes, config: IngestConfig) -> Crop:
    """Take a picture that is an aligned face already; a JPEG of the right size byte for byte.

    Raises:
        PhotoError: If it is unreadable, not square, or too small.
    """
    encoded = file if isinstance(file, bytes) else read_file(file)
    photo = read_photo(encoded)
    height, width = photo.pixels.shape[:2]
    if height != width:
        raise PhotoError(f"not an aligned crop: {width}×{height} pixels, not square")
    _check_size(width, config)
    if width == config.size and encoded[:2] == b"\xff\xd8" and not photo.notes:
        return Crop(image=encoded)
    scaled = f"scaled from {width} pixels" if width != config.size else ""
    edges = (config.size, config.size)
    resized = Image.fromarray(photo.pixels).resize(edges, Image.Resampling.BICUBIC)
    return Crop(image=encode_jpeg(np.asarray(resized)), note=_join([*photo.notes, scaled]))


def _cut(pixels: UInt8Array, landmarks: FloatArray, config: IngestConfig) -> bytes:
    return encode_jpeg(align_face(pixels, landmarks, config.size, alignment=config.align))


def _detect(pixels: UInt8Array, detector: Detector) -> list[DetectedFace]:
    try:
        return detector.detect(pixels)
    except Exception as error:  # whatever a detector does on a strange picture, the rest goes on
        raise PhotoError(f"detector failed: {type(error).__name__}: {error}") from error


def _check_size(found: float, config: IngestConfig) -> None:
    if found < config.min_face:
        raise PhotoError(f"face too small: {found:.0f} pixels, at least {config.min_face:g}")


def _join(notes: Sequence[str]) -> str:
    return "; ".join(note for note in notes if note)
