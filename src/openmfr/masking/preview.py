"""A contact sheet of faces under every style of mask: look before you train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from openmfr.data.formats.photo_list import list_photos
from openmfr.data.geometry import Geometry
from openmfr.data.store import MANIFEST, Store
from openmfr.errors import UserError
from openmfr.faces.align import warp
from openmfr.faces.detect import choose_face
from openmfr.faces.face_mesh import FaceMeshDetector
from openmfr.faces.geometry import Float32Array, crop_around
from openmfr.faces.mesh_provider import FaceMeshProvider
from openmfr.faces.photo import PhotoError, read_photo
from openmfr.masking.bank import MaskBank
from openmfr.masking.baselines import overlay_flat
from openmfr.masking.render import render_mask
from openmfr.masking.wear import draw_wear
from openmfr.report.sheet import contact_sheet

UInt8Array = npt.NDArray[np.uint8]


def sample_faces(
    source: Path, count: int, *, geometry: Path | None = None, size: int = 160
) -> list[tuple[UInt8Array, Float32Array]]:
    """Take faces from all over a store or a folder of photos.

    Args:
        source: A store, or a folder of photos.
        count: How many faces; fewer where fewer are found.
        geometry: The store's geometry; `geometry` in its folder if None. Without one, faces are
            reconstructed now.
        size: Edge in pixels of the pictures cut out of photos, wider than an aligned face.

    Returns:
        Image, RGB, uint8, shape (H, W, 3), and vertices, shape (V, 3), of each.

    Raises:
        UserError: If there is nothing to take faces from, or no face is found.
    """
    is_store = (source / MANIFEST).exists()
    faces = (
        _of_store(Store(source), count, geometry) if is_store else _of_photos(source, count, size)
    )
    if not faces:
        raise UserError(
            where=str(source),
            found="no face that could be reconstructed",
            allowed="photos of faces",
            next_step="name a store, or a folder of photos",
        )
    return faces


def _spread(total: int, count: int) -> list[int]:
    places: list[int] = (
        np.unique(np.linspace(0, total - 1, min(count, total)).round()).astype(int).tolist()
    )
    return places


def _of_store(store: Store, count: int, path: Path | None) -> list[tuple[UInt8Array, Float32Array]]:
    where = path or store.path / "geometry"
    if path or where.exists():
        geometry = Geometry.open(where, store)
        fitted = np.flatnonzero(geometry.is_fitted)
        found = ((int(i), geometry.vertices(int(i))) for i in fitted[_spread(len(fitted), count)])
    else:
        provider = FaceMeshProvider()
        found = ((i, provider.reconstruct(store.decode(i))) for i in _spread(len(store), count))
    return [(store.decode(i), vertices) for i, vertices in found if vertices is not None]


def _of_photos(folder: Path, count: int, size: int) -> list[tuple[UInt8Array, Float32Array]]:
    listed = list_photos(folder)
    detector, provider = FaceMeshDetector(), FaceMeshProvider()
    faces = []
    for place in _spread(len(listed), count):
        try:
            photo = read_photo(listed.open(place)[1]).pixels
        except PhotoError:
            continue
        found = detector.detect(photo)
        if not found:
            continue
        face = choose_face(found, width=photo.shape[1], height=photo.shape[0])
        crop = warp(photo, crop_around(face.landmarks, size), size)
        vertices = provider.reconstruct(crop)
        if vertices is not None:
            faces.append((crop, vertices))
    return faces


def preview_sheet(
    faces: Sequence[tuple[UInt8Array, Float32Array]],
    banks: Sequence[tuple[str, MaskBank]],
    *,
    seed: int = 0,
    cell: int = 160,
    with_flat: bool = False,
) -> Image.Image:
    """Draw each face bare and under a mask of each bank.

    Args:
        faces: Image, RGB, uint8, shape (H, W, 3), and vertices, shape (V, 3), of each.
        banks: Name of each column after the first, and the masks it draws from.
        seed: Decides which masks, and how they are worn.
        cell: Side of a cell in pixels.
        with_flat: Add a column with the flat overlay, to compare.

    Returns:
        The sheet: one row for each face.
    """
    cells, captions = [], []
    for row, (image, vertices) in enumerate(faces):
        cells.append(image)
        captions.append("bare")
        for column, (name, bank) in enumerate(banks):
            rng = np.random.default_rng([seed, row, column])
            template, wear = bank.pick(rng), draw_wear(rng)
            cells.append(render_mask(image, vertices, template, wear).image)
            captions.append(f"{name}, {wear.coverage.replace('_', ' ')}")
        if with_flat:
            rng = np.random.default_rng([seed, row, 0])
            template, wear = banks[0][1].pick(rng), draw_wear(rng)
            cells.append(overlay_flat(image, vertices, template, wear).image)
            captions.append("flat overlay")
    columns = 1 + len(banks) + with_flat
    return contact_sheet(cells, columns=columns, cell=cell, captions=captions)
