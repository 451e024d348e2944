"""A store → its Geometry: every face reconstructed once, so that training never has to.

The store's images are cut into parts whose number depends on the store alone. Worker processes take
parts and write each by rename, so a run that is killed at any moment goes on when the same command
is given again, and ends in the same bytes whatever the number of workers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np

from openmfr.data.geometry import (
    FAILED,
    FOLDER,
    SETTINGS,
    Geometry,
    GeometryWriter,
    Status,
    is_mirrored,
    judge_fit,
)
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.faces import occlusion
from openmfr.faces.geometry import PACKED, VERTICES, Float32Array, GeometryProvider, pack
from openmfr.faces.mesh_provider import FaceMeshProvider
from openmfr.files import taken_folder
from openmfr.run import progress
from openmfr.workers import choose_workers, do_all, size_of_part

logger = logging.getLogger(__name__)

ProviderFactory = Callable[[], GeometryProvider]

#: Raised whenever the same faces would be judged otherwise, so that old and new are never mixed.
CHECKS_VERSION: Final = f"1, covered {occlusion.VERSION}"

# Images that take each step together: after a network has swept the caches, what is small would
# take three times as long.
_TOGETHER: Final = 64


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """What became of a store's images.

    Attributes:
        geometry: The finished geometry.
        images: How many images the store has.
        fitted: How many have a geometry.
        failed: Reason → how many images will stay unmasked for it.
        failed_list: CSV with index, source and reason of each of them.
        was_finished: Whether an earlier run had done everything.
        seconds: Time that this run took.
    """

    geometry: Geometry
    images: int
    fitted: int
    failed: Mapping[str, int]
    failed_list: Path
    was_finished: bool
    seconds: float


def fit_geometry(
    store: Store,
    out: Path | None = None,
    *,
    provider_factory: ProviderFactory = FaceMeshProvider,
    workers: int | None = None,
    cluster: str | None = None,
) -> FitSummary:
    """Reconstruct the face of every image of a store, or go on with what was begun.

    Images without a face, with a fit that cannot be the crop's face, or with something in front of
    the lower face, get no geometry: they are listed with the reason, and stay unmasked.

    Args:
        store: Aligned faces. Fit before masking: fitted afterwards a face drifts by 6 to 8 % of the
            distance between the eyes.
        out: Folder to make; `geometry` in the store's folder by default.
        provider_factory: Makes a `GeometryProvider`; called once in each worker process, so it must
            be picklable.
        workers: Worker processes, one per core by default; 1 works in this process. With more, a
            script must call this under `if __name__ == "__main__":`, as multiprocessing asks.
        cluster: Address of a Ray cluster that does the work; see `openmfr.cluster`.

    Returns:
        The geometry, and what became of the images.

    Raises:
        UserError: If the store is empty, a value is out of range, or something else stands in
            `out`.
    """
    started = time.monotonic()
    workers = choose_workers(workers)
    if not len(store):
        raise UserError(
            where=str(store.path),
            found="no images",
            allowed="at least one face",
            next_step="openmfr inspect says what the store holds",
        )
    out = store.path / FOLDER if out is None else out
    provider = _name(provider_factory)
    parts = _parts(len(store))
    with taken_folder(out, mark=SETTINGS, what="unfinished geometry"):
        writer = GeometryWriter(out, store, provider=provider, checks=CHECKS_VERSION)
        if writer.is_finished:
            writer.tidy(parts=len(parts))
            geometry = Geometry(out)
        else:
            _fit_missing(writer, parts, provider_factory, workers, cluster)
            geometry = writer.commit(parts=len(parts))
    return _summary(geometry, was_finished=writer.is_finished, seconds=time.monotonic() - started)


def _summary(geometry: Geometry, *, was_finished: bool, seconds: float) -> FitSummary:
    counts = {status.reason: count for status, count in geometry.counts().items()}
    fitted = counts.pop(Status.FITTED.reason, 0)
    listed = geometry.path / FAILED
    if not fitted:
        logger.warning("%s: no face could be fitted; read %s", geometry.path, listed)
    return FitSummary(
        geometry=geometry,
        images=len(geometry),
        fitted=fitted,
        failed=counts,
        failed_list=listed,
        was_finished=was_finished,
        seconds=seconds,
    )


def write_geometry(
    folder: Path | str,
    store: Store,
    vertices: Iterable[Float32Array | None],
    *,
    provider: str,
) -> Geometry:
    """Write the geometry of a store from vertices of your own, whatever found them.

    They are taken as they are: only left and right must not be exchanged.

    Args:
        folder: Folder to make; `store.path / FOLDER` is where `openmfr` looks for it.
        store: The store.
        vertices: One item for each image, in the store's order: Face Mesh's vertices in pixels of
            the image, shape (V, 3), y down and depth towards the viewer, or None if there are none.
        provider: What found them, by name and version: kept with the geometry.

    Raises:
        UserError: If an item has another shape, is not finite, or there are too few or too many.
    """
    writer = GeometryWriter(folder, store, provider=provider, checks="none")
    if writer.is_finished:
        return Geometry(folder)
    packed = np.zeros((len(store), PACKED), np.int16)
    status = np.full(len(store), Status.NO_FACE, np.uint8)
    count = 0
    for count, face in enumerate(vertices, start=1):
        if count > len(store):
            break
        if face is not None:
            _check_face(face, where=f"vertices of image {count - 1}")
            status[count - 1] = Status.MIRRORED if is_mirrored(face) else Status.FITTED
            packed[count - 1] = pack(face, size=store.image_size)
    if count != len(store):
        raise UserError(
            where="vertices",
            found=f"{count:,} items" if count < len(store) else f"more than {len(store):,} items",
            allowed=f"{len(store):,}, one for each image of {store.path}",
            next_step="give None for an image without a face",
        )
    writer.write_part(0, packed, status)
    return writer.commit(parts=1)


def _parts(images: int) -> list[range]:
    per_part = size_of_part(images)
    return [range(start, min(start + per_part, images)) for start in range(0, images, per_part)]


def _fit_missing(
    writer: GeometryWriter,
    parts: list[range],
    factory: ProviderFactory,
    workers: int,
    cluster: str | None,
) -> None:
    missing = [number for number in range(len(parts)) if not writer.has_part(number)]
    jobs = [(number, parts[number]) for number in missing]
    total = len(writer.store)
    done = total - sum(len(indices) for _, indices in jobs)
    fit = partial(_fit_part, writer, factory)
    with progress("mask fit", total=total, unit="images", done=done) as advance:
        for count in do_all(fit, jobs, workers=workers, what="mask fit", cluster=cluster):
            advance(count)


def _fit_part(writer: GeometryWriter, factory: ProviderFactory, job: tuple[int, range]) -> int:
    number, indices = job
    provider, store = _provider(factory), writer.store
    packed = np.zeros((len(indices), PACKED), np.int16)
    status = np.zeros(len(indices), np.uint8)
    for start in range(0, len(indices), _TOGETHER):
        rows = range(start, min(start + _TOGETHER, len(indices)))
        images = [store.decode(indices[row]) for row in rows]
        faces = [provider.reconstruct(image) for image in images]
        for row, image, vertices in zip(rows, images, faces, strict=True):
            if vertices is None:
                status[row] = Status.NO_FACE
                continue
            status[row] = judge_fit(vertices, size=store.image_size)
            if status[row] == Status.FITTED and occlusion.is_covered(image, vertices):
                status[row] = Status.COVERED
            packed[row] = pack(vertices, size=store.image_size)
    writer.write_part(number, packed, status)
    return len(indices)


@cache
def _provider(factory: ProviderFactory) -> GeometryProvider:
    """Load a provider once per process."""
    return factory()


def _name(factory: ProviderFactory) -> str:
    """Name what reconstructs the faces; a provider says its own name and version, or its class."""
    name = getattr(factory, "name", None)
    if isinstance(name, str):
        return name
    return f"{factory.__module__}.{getattr(factory, '__qualname__', 'provider')}"


def _check_face(face: Float32Array, *, where: str) -> None:
    shape = np.shape(face)
    if shape != (VERTICES, 3) or not np.isfinite(face).all():
        raise UserError(
            where=where,
            found="a number that is not finite" if shape == (VERTICES, 3) else f"shape {shape}",
            allowed=f"{VERTICES} finite (x, y, depth) in pixels, or None",
            next_step="give Face Mesh's vertices",
        )
