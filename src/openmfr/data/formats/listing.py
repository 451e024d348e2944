"""`listing.parquet`: beside images in other formats, what these formats have no place for.

A RecordIO knows an identity as a number, and a folder knows neither the order of its images nor
every name that an identity may have. So `openmfr convert` writes a table next to them: which image
stood where in the store, whose it is, and where it came from. With it, the way back gives the same
images, names and order; other programs need not know of it. It is read in pieces, as it may have as
many rows as a set has images; `openmfr ingest --labels` reads that of a folder too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from openmfr.errors import UserError
from openmfr.files import atomic_path

IntArray = npt.NDArray[np.int64]

LISTING: Final = "listing.parquet"

#: `row` is the image's number in the store, `number` its identity's in this set (−1 if unknown),
#: `key` the record's in a RecordIO, `path` the photo's below the folder.
_COLUMNS: Final = {
    "row": pa.int64(),
    "number": pa.int64(),
    "identity": pa.string(),
    "source": pa.string(),
    "key": pa.int64(),
    "path": pa.string(),
}

#: Rows, by column.
Rows = dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class ListedRows:
    """Some consecutive rows of a listing, which a worker process reads by itself."""

    path: Path
    place: str
    group: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> Rows:
        """Return the rows.

        Raises:
            UserError: If the file is damaged, or a place is missing.
        """
        try:
            with pq.ParquetFile(self.path) as file:
                columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
                table = file.read_row_group(self.group, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(
                self.path, f"rows that cannot be read ({type(error).__name__})"
            ) from error
        rows: Rows = table.slice(self.start, len(self)).to_pydict()
        if None in rows["source"] or None in rows[self.place] or None in rows["number"]:
            raise _damaged(self.path, "a row without source, number or place")
        return rows


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A listing on the disk.

    Attributes:
        path: The file.
        place: The column that says where an image is: "key" or "path".
        groups: Number of rows of each group, in order.
    """

    path: Path
    place: str
    groups: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.groups)

    def parts(self, most: int) -> Iterator[ListedRows]:
        """Cut the listing into parts of at most `most` rows, in order."""
        for group, rows in enumerate(self.groups):
            for start in range(0, rows, most):
                yield ListedRows(
                    path=self.path,
                    place=self.place,
                    group=group,
                    start=start,
                    stop=min(start + most, rows),
                )

    def keys(self) -> IntArray:
        """Return the column `key` of all rows."""
        column = pq.read_table(self.path, columns=["key"]).column("key")
        if column.null_count:
            raise _damaged(self.path, "a row without a key")
        return np.asarray(column.to_numpy(), dtype=np.int64)


def find_listing(folder: Path, *, place: str) -> Listing | None:
    """Open the listing of a folder, if it has one.

    Args:
        folder: Where the images are.
        place: The column that it must have: "key" or "path".

    Raises:
        UserError: If it is damaged, or another kind of table.
    """
    path = folder / LISTING
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            groups = tuple(
                file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)
            )
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, f"no readable table ({type(error).__name__})") from error
    for name in ("number", "identity", "source", place):
        if name not in schema.names or schema.field(name).type != _COLUMNS[name]:
            raise _damaged(path, f"a table without a column {name} of {_COLUMNS[name]}")
    return Listing(path=path, place=place, groups=groups)


def write_listing(path: Path, parts: Iterable[Rows], *, columns: Sequence[str]) -> None:
    """Write a listing atomically, one group of rows after another.

    Args:
        path: The file to write.
        parts: Columns of each group, of equal length.
        columns: Names of the columns.
    """
    schema = pa.schema([(name, _COLUMNS[name]) for name in columns])
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for rows in parts:
            if rows[columns[0]]:
                writer.write_table(pa.table({name: rows[name] for name in columns}, schema=schema))


def path_below(folder: Path, name: str, *, where: Path) -> Path:
    """Return the path of a photo that a listing names, if it leads to nowhere else.

    Raises:
        UserError: If it would leave the folder.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        raise UserError(
            where=str(where),
            found=f"the path {name!r}",
            allowed="paths below the folder",
            next_step="do not use this set: such a path reads files that do not belong to it",
        )
    return folder.joinpath(*parts)


def _damaged(path: Path, found: str) -> UserError:
    return UserError(
        where=str(path),
        found=found,
        allowed="the table that openmfr convert wrote beside its images",
        next_step="copy it again; without it, names and order of the images are lost",
    )
