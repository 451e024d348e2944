"""Which photos there are, and of whom: a folder tree, a listing, or a RecordIO pair.

The order is the same whenever and wherever the list is made, so the store that is made from it is
the same too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from openmfr.data.formats.recordio import RecordIO
from openmfr.errors import UserError
from openmfr.faces.photo import PHOTO_SUFFIXES
from openmfr.files import fingerprint

FloatArray = npt.NDArray[np.float64]

#: Columns of a landmarks file beside `path`: the template's five points, x and y.
LANDMARK_COLUMNS = tuple(f"{axis}{point}" for point in range(5) for axis in "xy")


@dataclass(frozen=True, kw_only=True)
class PhotoList:
    """Photos to read, in order.

    Attributes:
        root: The folder that the sources are relative to, or the `.rec` file.
        sources: Path of each photo below the root; number of each image in a RecordIO.
        identity_names: Who is on each, None where nobody says; a RecordIO tells when it is read.
        left_out: How many files of the folder have no photo's suffix.
        files: The paths as the system has them, where a name is no UTF-8 text and its source shows
            the odd bytes escaped; as `sources` if None.
    """

    root: Path
    sources: Sequence[str]
    identity_names: Sequence[str | None]
    left_out: int = 0
    files: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def is_recordio(self) -> bool:
        """Whether the photos are records: aligned crops, by InsightFace's convention."""
        return self.root.suffix == ".rec"

    def part(self, start: int, stop: int) -> PhotoList:
        """Return photos `start` to `stop` − 1 as a list of their own."""
        return replace(
            self,
            sources=self.sources[start:stop],
            identity_names=self.identity_names[start:stop],
            files=self.files[start:stop] if self.files else None,
        )

    def open(self, index: int) -> tuple[str | None, Path | bytes]:
        """Return who is on a photo, and its file or bytes."""
        if self.is_recordio:
            identity, image = _records(self.root)[int(self.sources[index])]
            return str(identity), image
        return self.identity_names[index], self.root / (self.files or self.sources)[index]

    def fingerprint(self) -> str:
        """Identify the list: names, identities and file sizes; not the folder's own name."""
        if self.is_recordio:
            return fingerprint(str(len(self)), str(self.root.stat().st_size))
        lines = (
            f"{source}\t{name}\t{_file_size(self.root / file)}"
            for source, name, file in zip(
                self.sources, self.identity_names, self.files or self.sources, strict=True
            )
        )
        return fingerprint("\n".join(lines))


def list_photos(photos: Path, *, listing: Path | None = None) -> PhotoList:
    """Find the photos to read.

    Args:
        photos: A folder; a `.rec` file, or a folder with `train.rec` and `train.idx`.
        listing: CSV or Parquet with the columns `path` (below `photos`) and `identity` (may be
            empty). Without it every photo below the folder is taken, and its identity is the
            folder that it lies in.

    Returns:
        The list.

    Raises:
        UserError: If there is no such folder or file, or no photo in it, or the listing is not
            readable, lacks a column, or names a photo twice.
    """
    if (photos / "train.rec").is_file():
        photos = photos / "train.rec"
    if photos.suffix == ".rec" and photos.is_file():
        if listing is not None:
            raise UserError(
                where=str(listing),
                found="a listing for a RecordIO, which says itself who is on each image",
                allowed="a folder of photos with a listing, or a RecordIO without one",
                next_step="leave out --labels",
            )
        images = len(_records(photos))
        found = PhotoList(
            root=photos,
            sources=[str(number) for number in range(images)],
            identity_names=[None] * images,
        )
    elif not photos.is_dir():
        raise UserError(
            where=str(photos),
            found="a file" if photos.exists() else "nothing",
            allowed="a folder of photos, or a RecordIO's .rec file",
            next_step="check the path",
        )
    else:
        found = _from_listing(photos, listing) if listing else _from_folders(photos)
    if not len(found):
        raise UserError(
            where=str(listing or photos),
            found=f"no photo among {found.left_out} files" if found.left_out else "nothing in it",
            allowed=f"photos ({' '.join(sorted(PHOTO_SUFFIXES))})",
            next_step="check the path; a listing (--labels) may name files of any suffix",
        )
    return found


def read_landmarks(path: Path) -> dict[str, FloatArray]:
    """Read a user's landmarks: columns `path`, `x0`, `y0`, … `x4`, `y4`, CSV or Parquet.

    Args:
        path: The file. Coordinates are pixels of the upright photo (EXIF orientation applied), the
            first pixel's centre at (0, 0): left eye, right eye, nose, left and right corner of the
            mouth, as one sees them in the picture.

    Returns:
        Photo → landmarks, shape (5, 2).

    Raises:
        UserError: If the file is not readable, lacks a column, or a row is not five points.
    """
    table = _read_table(path, text=("path",), numbers=LANDMARK_COLUMNS)
    columns = [table.column(name).to_numpy() for name in LANDMARK_COLUMNS]
    points = np.stack(columns, axis=1).astype(np.float64).reshape(-1, 5, 2)
    bad = np.flatnonzero(
        ~np.isfinite(points).all(axis=(1, 2)) | (np.ptp(points, axis=1).max(axis=1) == 0)
    )
    if bad.size:
        raise UserError(
            where=f"{path}, row {bad[0] + 1}",
            found=str(points[bad[0]].tolist()),
            allowed="five points in pixels, not all the same",
            next_step="leave a photo without landmarks out of the file",
        )
    return dict(zip(table.column("path").to_pylist(), points, strict=True))


def _unreadable(error: OSError) -> None:
    """Stop at a folder that cannot be read: its people would be missing without a word."""
    raise UserError(
        where=str(error.filename),
        found=f"a folder that cannot be read ({error.strerror})",
        allowed="folders that can",
        next_step="look at its permissions and its disk, or move it elsewhere",
    ) from error


def _from_folders(root: Path) -> PhotoList:
    found, left_out = [], 0
    for folder, subfolders, names in os.walk(root, onerror=_unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        below = Path(folder).relative_to(root)
        for name in names:
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() not in PHOTO_SUFFIXES:
                left_out += 1
                continue
            identity = None if below == Path() else _printable(below.as_posix())
            file = (below / name).as_posix()
            found.append((_printable(file), identity, file))
    found.sort(key=lambda photo: photo[0])
    return PhotoList(
        root=root,
        sources=[source for source, _, _ in found],
        identity_names=[identity for _, identity, _ in found],
        files=[file for _, _, file in found],
        left_out=left_out,
    )


def _from_listing(root: Path, listing: Path) -> PhotoList:
    table = _read_table(listing, text=("path", "identity"))
    sources: list[Any] = table.column("path").to_pylist()
    if None in sources:
        raise UserError(
            where=f"{listing}, row {sources.index(None) + 1}, path",
            found="nothing",
            allowed="the path of a photo",
            next_step="fill it in, or delete the row",
        )
    first_row = {source: row for row, source in reversed(list(enumerate(sources)))}
    if len(first_row) < len(sources):
        row = next(row for row, source in enumerate(sources) if first_row[source] != row)
        raise UserError(
            where=f"{listing}, row {row + 1}, path",
            found=f"{sources[row]}, which row {first_row[sources[row]] + 1} has too",
            allowed="each photo once",
            next_step="delete one of the rows",
        )
    names = [name or None for name in table.column("identity").to_pylist()]
    return PhotoList(root=root, sources=sources, identity_names=names)


def _read_table(path: Path, *, text: Sequence[str], numbers: Sequence[str] = ()) -> pa.Table:
    """Read columns of a CSV or Parquet file; text stays text, so that identity 007 is not 7."""
    types = dict.fromkeys(text, pa.string()) | dict.fromkeys(numbers, pa.float64())
    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path)
        else:
            options = pyarrow.csv.ConvertOptions(column_types=types)
            table = pyarrow.csv.read_csv(path, convert_options=options)
        missing = [name for name in types if name not in table.column_names]
        if not missing:
            return table.select(list(types)).cast(pa.schema(types.items()))
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            where=str(path),
            found=f"no readable table ({str(error).splitlines()[0]})",
            allowed=f"CSV or Parquet with the columns {', '.join(types)}",
            next_step="check the path and the file",
        ) from error
    raise UserError(
        where=str(path),
        found=f"no column {', '.join(missing)} among {', '.join(table.column_names)}",
        allowed=f"the columns {', '.join(types)}; others may stand beside them",
        next_step="name them in the first line",
    )


@lru_cache(maxsize=1)
def _records(path: Path) -> RecordIO:
    return RecordIO(path)


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _printable(name: str) -> str:
    """Make a file's name text: bytes that are not UTF-8 are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
