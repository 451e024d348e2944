"""Whole photographs: every face of a photo gets a mask, and faces that get none are said."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from openmfr.data.formats.photo_list import PhotoList, list_photos
from openmfr.errors import UserError
from openmfr.faces.detect import Detector
from openmfr.faces.face_mesh import FaceMeshDetector
from openmfr.faces.geometry import Float32Array, GeometryProvider, reconstruct_in_photo
from openmfr.faces.mesh_provider import FaceMeshProvider
from openmfr.faces.photo import PhotoError, read_photo
from openmfr.files import atomic_path, write_text
from openmfr.masking.bank import MaskBank
from openmfr.masking.render import render_mask
from openmfr.masking.wear import draw_wear
from openmfr.run import progress
from openmfr.workers import choose_workers, do_all

UInt8Array = npt.NDArray[np.uint8]

#: List of the photos of a folder that hold faces without a mask, and why.
UNMASKED: Final = "unmasked.csv"

_CHUNK = 16
_QUALITY = 95


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedPhoto:
    """A photo whose faces wear masks.

    Attributes:
        image: RGB, uint8, shape (H, W, 3).
        alpha: How far masks cover each pixel, 0–1, float32, shape (H, W).
        styles: The masks put on, from the smallest face to the largest.
        unmasked: How many faces were found whose geometry was not.
    """

    image: UInt8Array
    alpha: Float32Array
    styles: tuple[str, ...]
    unmasked: int


def find_faces(
    photo: UInt8Array, detector: Detector, provider: GeometryProvider
) -> list[Float32Array | None]:
    """Reconstruct all faces of a photo.

    Args:
        photo: RGB, uint8, shape (H, W, 3).
        detector: Finds them.
        provider: Reconstructs each.

    Returns:
        Vertices of each face in pixels, shape (V, 3), from the smallest to the largest; None for a
        face that was detected, but not reconstructed.
    """
    faces = sorted(detector.detect(photo), key=lambda face: float(np.ptp(face.landmarks)))
    return [reconstruct_in_photo(photo, face.landmarks, provider) for face in faces]


def mask_photo(
    photo: UInt8Array,
    faces: Sequence[Float32Array | None],
    bank: MaskBank,
    rng: np.random.Generator,
) -> MaskedPhoto:
    """Put a mask on every face of a photo.

    Args:
        photo: RGB, uint8, shape (H, W, 3); left as it is.
        faces: From `find_faces`: those in front come last.
        bank: The masks to draw from.
        rng: Decides who wears which, and how.

    Returns:
        The masked photo. Pixels beyond masks and their shadows are the photo's own.
    """
    image = photo
    alpha = np.zeros(photo.shape[:2], dtype=np.float32)
    styles = []
    for vertices in faces:
        template, wear = bank.pick(rng), draw_wear(rng)
        if vertices is None:
            continue
        masked = render_mask(image, vertices, template, wear)
        image, alpha = masked.image, np.maximum(alpha, masked.alpha)
        styles.append(template.style)
    return MaskedPhoto(
        image=image, alpha=alpha, styles=tuple(styles), unmasked=len(faces) - len(styles)
    )


def mask_photos(
    photos: Path, out: Path, bank: MaskBank, *, seed: int, workers: int | None = None
) -> tuple[int, list[tuple[str, str]]]:
    """Mask all photos of a folder into another; repeated, it writes the same again.

    Args:
        photos: Folder of photos, searched with its subfolders.
        out: Folder for the masked ones, under the same names; and for `unmasked.csv`.
        bank: The masks to draw from.
        seed: What a photo's faces wear depends on it and the photo's name.
        workers: Processes, from 1; one for each CPU by default. The result does not depend on it.

    Returns:
        How many photos there are, and the names and reasons of those with a face left unmasked, or
        without a face; these are not written.

    Raises:
        UserError: If there are no photos, or `out` is the folder of the photos or lies in it.
    """
    workers = choose_workers(workers)
    if out.resolve().is_relative_to(photos.resolve()):
        raise UserError(
            where=str(out),
            found="a folder among the photos",
            allowed="a folder outside them, so that no photo is overwritten",
            next_step="name another folder",
        )
    listed = list_photos(photos)
    if listed.is_recordio:
        raise UserError(
            where=str(photos),
            found="a RecordIO",
            allowed="a folder of photos, or a store",
            next_step="openmfr ingest makes a store of it",
        )
    chunks = [
        listed.part(start, min(start + _CHUNK, len(listed)))
        for start in range(0, len(listed), _CHUNK)
    ]
    left: list[tuple[str, str]] = []
    job = partial(_mask_chunk, out, bank, seed)
    with progress("mask render", total=len(listed), unit="photos") as advance:
        for count, unmasked in do_all(job, chunks, workers=workers, what="mask render"):
            left += unmasked
            advance(count)
    table = io.StringIO()
    csv.writer(table).writerows([("photo", "reason"), *sorted(left)])
    write_text(out / UNMASKED, table.getvalue())
    return len(listed), sorted(left)


@cache
def _models() -> tuple[FaceMeshDetector, FaceMeshProvider]:
    return FaceMeshDetector(), FaceMeshProvider()


def _mask_chunk(
    out: Path, bank: MaskBank, seed: int, photos: PhotoList
) -> tuple[int, list[tuple[str, str]]]:
    left = []
    for index, name in enumerate(photos.sources):
        try:
            photo = read_photo(photos.open(index)[1]).pixels
        except PhotoError as error:
            left.append((name, str(error)))
            continue
        faces = find_faces(photo, *_models())
        rng = np.random.default_rng([seed, *name.encode()])
        masked = mask_photo(photo, faces, bank, rng)
        if masked.unmasked or not masked.styles:
            reason = f"{masked.unmasked} of {len(faces)} faces without geometry"
            left.append((name, reason if faces else "no face found"))
        if masked.styles:
            _save(out / name, masked.image)
    return len(photos), left


def _save(path: Path, image: UInt8Array) -> None:
    with atomic_path(path) as temporary:
        form = {".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}.get(path.suffix.lower(), "JPEG")
        Image.fromarray(image).save(temporary, form, quality=_QUALITY)
