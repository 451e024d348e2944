"""The Geometry of a store: 94 bytes for each face, and for each face without them the reason.

A geometry is a folder. `packed.npy` holds the packed faces and is memory-mapped, `status.npy` says
what became of each image, `failed.csv` lists the images that will stay unmasked, and
`geometry.json` says which store all this belongs to. That file is written last, by rename: a folder
without one is unfinished.

Writing goes part by part, as with a store: a run that was killed and repeated writes what is
missing, and ends in the same bytes whatever the number of workers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from enum import IntEnum
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.faces.align import template
from openmfr.faces.geometry import (
    PACKED,
    Float32Array,
    Int16Array,
    face_model,
    unpack,
)
from openmfr.files import (
    atomic_path,
    check_format_version,
    check_same_settings,
    fingerprint,
    prepare_folder,
    read_json,
    sha256_of_file,
    write_json,
    write_text,
)

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

FORMAT_VERSION: Final = 1
META, PACKED_FILE, STATUS_FILE = "geometry.json", "packed.npy", "status.npy"
FAILED: Final = "failed.csv"
#: Stands in an unfinished geometry, so that a repeated run knows its own.
SETTINGS: Final = "fitting.json"
#: Folder of a store in which its geometry is looked for.
FOLDER: Final = "geometry"

# How far an aligned crop's eyes and mouth may lie from the template, and how large an eye span may
# be, in edges of the crop. Of 3,400 aligned crops that were looked at, 1 in 1,000 lies beyond 0.12
# and 0.15, and eye spans reach from 0.36 to 0.55; masked faces that were aligned badly go up to
# 0.27 and 0.30. What lies beyond is another face than the crop's.
_EYES_OFF: Final = 0.20
_MOUTH_OFF: Final = 0.27
_EYE_SPAN: Final = (0.28, 0.72)

_EYES: Final = [33, 133, 263, 362]
_MOUTH: Final = [61, 291]


class Status(IntEnum):
    """What became of an image; the number is what `status.npy` holds."""

    FITTED = 0
    NO_FACE = 1
    ELSEWHERE = 2
    WRONG_SIZE = 3
    MIRRORED = 4
    COVERED = 5

    @property
    def reason(self) -> str:
        """The same in words."""
        return _REASONS[self]


_REASONS: Final[Mapping[Status, str]] = {
    Status.FITTED: "fitted",
    Status.NO_FACE: "no face found",
    Status.ELSEWHERE: "the face found is not where an aligned crop has it",
    Status.WRONG_SIZE: "the face found is too small or too large for an aligned crop",
    Status.MIRRORED: "left and right are exchanged",
    Status.COVERED: "something lies in front of the lower face",
}


class Geometry:
    """The geometry of a store's images, memory-mapped.

    Pickling carries the path, so every worker process maps the file itself.

    Args:
        path: A folder that `data.fit` wrote.

    Attributes:
        path: The folder.
        image_size: Edge of the store's images in pixels.
        store_fingerprint: The store that it belongs to.
        fingerprint: Identifies the content.
        settings: What made it: store, provider, face model, version of the checks.

    Raises:
        UserError: If the folder holds no finished geometry, or one that another face model packed.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        meta = read_json(
            self.path / META,
            what="geometry",
            required=("kind", "settings", "images", "image_size", "fingerprint"),
        )
        check_format_version(meta, path=self.path / META, supported=FORMAT_VERSION)
        self.settings: dict[str, Any] = meta["settings"]
        self.image_size: int = meta["image_size"]
        self.fingerprint: str = meta["fingerprint"]
        self.store_fingerprint: str = self.settings["store"]
        self._images: int = meta["images"]
        if self.settings["face_model"] != model_fingerprint():
            raise UserError(
                where=str(self.path),
                found=f"faces packed with the face model {self.settings['face_model']}",
                allowed=f"face model {model_fingerprint()}, which this version brings",
                next_step="delete the folder and give openmfr mask fit again",
            )

    @classmethod
    def open(cls, folder: Path | str, store: Store) -> Geometry:
        """Open the geometry of a store.

        Args:
            folder: Where it lies; `store.path / FOLDER` is where `openmfr mask fit` puts it.
            store: The store that it must belong to.

        Raises:
            UserError: If there is none, or it is that of another store.
        """
        if not (Path(folder) / META).exists():
            is_begun = (Path(folder) / SETTINGS).exists()
            raise UserError(
                where=str(folder),
                found="an unfinished geometry" if is_begun else "no geometry",
                allowed=f"the geometry of store {store.fingerprint}",
                next_step=_command(store),
            )
        geometry = cls(folder)
        if geometry.store_fingerprint != store.fingerprint:
            raise UserError(
                where=str(folder),
                found=f"the geometry of store {geometry.store_fingerprint}",
                allowed=f"that of {store.path}, store {store.fingerprint}",
                next_step=f"{_command(store)} --out FOLDER",
            )
        return geometry

    def __len__(self) -> int:
        return self._images

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("packed", "status")}

    @cached_property
    def packed(self) -> Int16Array:
        """Packed faces, shape (N, `PACKED`), int16; zeros where no face was found."""
        return _map(self.path / PACKED_FILE, (self._images, PACKED), np.dtype(np.int16))

    @cached_property
    def status(self) -> UInt8Array:
        """`Status` of each image, shape (N,), uint8."""
        return _map(self.path / STATUS_FILE, (self._images,), np.dtype(np.uint8))

    @property
    def is_fitted(self) -> BoolArray:
        """Which images have a geometry, shape (N,)."""
        return np.equal(self.status, Status.FITTED)

    def vertices(self, index: int) -> Float32Array | None:
        """The face of one image.

        Args:
            index: 0 to N − 1.

        Returns:
            Vertices in pixels of the image, shape (V, 3), float32, or None if it has no geometry.

        Raises:
            IndexError: If the index is out of range.
        """
        if self._status(index) is not Status.FITTED:
            return None
        return unpack(self.packed[index], size=self.image_size)

    def reason(self, index: int) -> str:
        """Why an image has no geometry, or "fitted"."""
        return self._status(index).reason

    def counts(self) -> dict[Status, int]:
        """How many images have each status; those that none has are left out."""
        found = np.bincount(self.status, minlength=len(Status))
        return {status: int(found[status]) for status in Status if found[status]}

    def _status(self, index: int) -> Status:
        if not 0 <= index < self._images:
            raise IndexError(f"image {index} of a geometry of {self._images} images")
        return Status(int(self.status[index]))


class GeometryWriter:
    """Writes a geometry part by part; what is already written is kept when the run is repeated.

    Args:
        path: Folder to create, or one that the same writer began and did not finish.
        store: The store that the geometry belongs to.
        provider: What reconstructs the faces, by name and version.
        checks: Version of what decides whether a fit is kept.

    Raises:
        UserError: If a geometry with other settings, or something else, stands there.
    """

    def __init__(self, path: Path | str, store: Store, *, provider: str, checks: str) -> None:
        self.path, self.store = Path(path), store
        self.settings = {
            "store": store.fingerprint,
            "provider": provider,
            "face_model": model_fingerprint(),
            "checks": checks,
        }
        self.is_finished = (self.path / META).exists()
        if self.is_finished:
            check_same_settings(self.path, Geometry(self.path).settings, self.settings)
            return
        prepare_folder(self.path, mark=SETTINGS, what="unfinished geometry")
        begun = self.path / SETTINGS
        if begun.exists():
            found = read_json(begun, what="unfinished geometry")
            check_same_settings(self.path, found, self.settings)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(begun, self.settings)

    def has_part(self, number: int) -> bool:
        """Whether a part was written, by this run or one that was killed."""
        return self._part(number).exists()

    def write_part(self, number: int, packed: Int16Array, status: UInt8Array) -> None:
        """Write the faces of consecutive images, atomically.

        Args:
            number: Place of the part, from 0. Numbers may come in any order.
            packed: Shape (images, `PACKED`), int16.
            status: Shape (images,), uint8.
        """
        with atomic_path(self._part(number)) as temporary, temporary.open("wb") as file:
            np.savez(file, packed=packed, status=status)

    def commit(self, *, parts: int) -> Geometry:
        """Join the parts: from now on the folder is a geometry.

        Args:
            parts: How many there must be, numbered from 0; together they have the store's images.
        """
        images = len(self.store)
        status = np.empty(images, np.uint8)
        with atomic_path(self.path / PACKED_FILE) as temporary:
            # Written through a map: the faces of a large store need not fit into memory.
            shape = (images, PACKED)
            joined = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.int16, shape=shape)
            start = 0
            for number in range(parts):
                with np.load(self._part(number), allow_pickle=False) as part:
                    end = start + len(part["status"])
                    joined[start:end], status[start:end] = part["packed"], part["status"]
                start = end
            joined.flush()
            assert start == images, f"parts hold {start} faces of {images} images"
        with atomic_path(self.path / STATUS_FILE) as temporary, temporary.open("wb") as file:
            np.save(file, status)
        self._write_failed(status)
        counts = np.bincount(status, minlength=len(Status))
        files = (self.path / PACKED_FILE, self.path / STATUS_FILE)
        content = {
            "format_version": FORMAT_VERSION,
            "kind": "geometry",
            "store_path": str(self.store.path.resolve()),
            "settings": self.settings,
            "images": images,
            "image_size": self.store.image_size,
            "counts": {status.reason: int(counts[status]) for status in Status},
            "fingerprint": fingerprint(*map(sha256_of_file, files)),
        }
        write_json(self.path / META, content)
        self.tidy(parts=parts)
        return Geometry(self.path)

    def tidy(self, *, parts: int) -> None:
        """Delete what a finished geometry no longer needs; a kill may have come just before."""
        for number in range(parts):
            self._part(number).unlink(missing_ok=True)
        (self.path / SETTINGS).unlink(missing_ok=True)

    def _write_failed(self, status: UInt8Array) -> None:
        sources = self.store.column("source")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("index", "source", "reason"))
        for index in np.flatnonzero(status != Status.FITTED):
            writer.writerow((int(index), sources[index], Status(int(status[index])).reason))
        write_text(self.path / FAILED, text.getvalue())

    def _part(self, number: int) -> Path:
        return self.path / f"part-{number:06d}.npz"


def judge_fit(vertices: npt.NDArray[np.floating], *, size: int) -> Status:
    """Say whether vertices can be those of the face in an aligned crop.

    Args:
        vertices: In pixels, shape (V, 3).
        size: Edge of the crop in pixels.

    Returns:
        `FITTED`, or what is wrong with them.

    Example:
        >>> face = face_model().mean * 0.46 * 112 + np.array([56, 66, 0])
        >>> judge_fit(face, size=112).name, judge_fit(face + 40, size=112).name
        ('FITTED', 'ELSEWHERE')
    """
    if not np.isfinite(vertices).all():
        return Status.NO_FACE
    centred = vertices - vertices.mean(axis=0, dtype=np.float64)
    if is_mirrored(centred):
        return Status.MIRRORED
    # The ratio of spreads is the scale of the pose within 2 %, without looking for the pose.
    eye_span = float(np.sqrt(np.einsum("vx,vx->", centred, centred) / _spread_of_mean()))
    if not _EYE_SPAN[0] <= eye_span / size <= _EYE_SPAN[1]:
        return Status.WRONG_SIZE
    points = template(size)
    eyes = np.hypot(*(vertices[_EYES, :2].mean(axis=0) - points[:2].mean(axis=0)))
    mouth = np.hypot(*(vertices[_MOUTH, :2].mean(axis=0) - points[3:].mean(axis=0)))
    if eyes > _EYES_OFF * size or mouth > _MOUTH_OFF * size:
        return Status.ELSEWHERE
    return Status.FITTED


@cache
def model_fingerprint() -> str:
    """Identify the face model that packed numbers refer to."""
    model = face_model()
    return fingerprint(model.mean.tobytes(), model.modes.tobytes())


def is_mirrored(vertices: npt.NDArray[np.floating]) -> bool:
    """Whether the mean face would have to be turned inside out to fit vertices, shape (V, 3)."""
    # The sum over a mean face about its origin is the same wherever the vertices lie.
    products = np.einsum("vi,vj->ij", vertices.astype(np.float64), _centred_mean())
    return float(np.linalg.det(products)) < 0


@cache
def _centred_mean() -> npt.NDArray[np.float64]:
    mean = face_model().mean.astype(np.float64)
    return np.asarray(mean - mean.mean(axis=0))


@cache
def _spread_of_mean() -> float:
    """Sum of the squares of the mean face."""
    return float((_centred_mean() ** 2).sum())


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        found = f"no readable array ({type(error).__name__})"
    else:
        if array.shape == shape and array.dtype == dtype:
            return array
        found = f"{array.dtype} of shape {array.shape}"
    raise UserError(
        where=str(path),
        found=found,
        allowed=f"{dtype} of shape {shape}, as {META} says",
        next_step="delete the folder and give openmfr mask fit again",
    )


def _command(store: Store) -> str:
    return f"openmfr mask fit {store.path}"
