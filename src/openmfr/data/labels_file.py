"""The columns of a label table as a Parquet file, and back.

They are read a million rows at a time: whole, a column of 42 million texts takes half a gigabyte in
Arrow's form. The processes of a machine share what the first of them has read (`data.mapped`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from openmfr.data.mapped import Named, once_per_machine
from openmfr.data.texts import Texts
from openmfr.errors import UserError, raise_together
from openmfr.files import atomic_path, sha256_of_file

FORMAT_VERSION = 1
_VERSION, _STORE, _PARENT = b"openmfr.format_version", b"openmfr.store", b"openmfr.parent"

#: Every column and its type in the file.
TYPES = {
    "identity": pa.int64(),
    "keep": pa.bool_(),
    "reason": pa.string(),
    "center_score": pa.float32(),
    "is_masked": pa.bool_(),
    "mask_style": pa.string(),
    "group": pa.string(),
}
TEXT_COLUMNS = tuple(name for name, kind in TYPES.items() if kind == pa.string())

Column = npt.NDArray[Any] | Texts

#: Rows that are read at one time.
_CHUNK = 2**20
#: Tables of so many rows are shared by the processes of a machine.
_SHARED_ROWS = 2**22
#: The distinct texts of a column, beside the column of their numbers.
_NAMES = ".names"


class Table(NamedTuple):
    """What a file holds: columns by name, and the fingerprints of the store and of the parent."""

    columns: Mapping[str, Column]
    store_fingerprint: str
    parent: str


def write_table(path: Path, table: Table) -> None:
    """Write a table, atomically."""
    metadata = {
        _VERSION: str(FORMAT_VERSION).encode(),
        _STORE: table.store_fingerprint.encode(),
        _PARENT: table.parent.encode(),
    }
    arrow = pa.table({name: _to_arrow(table.columns[name]) for name in TYPES})
    with atomic_path(path) as temporary:
        pq.write_table(arrow.replace_schema_metadata(metadata), temporary, compression="zstd")


def read_table(path: Path) -> Table:
    """Read a table; one of millions of rows is mapped.

    Raises:
        UserError: If the file is missing, no Parquet, or no label table, or columns have other
            types or gaps; these are named together.
    """
    with _readable(path):
        schema, rows = pq.read_schema(path), pq.read_metadata(path).num_rows
    metadata = schema.metadata or {}
    missing = sorted(TYPES.keys() - set(schema.names))
    if missing or metadata.get(_VERSION) != str(FORMAT_VERSION).encode():
        raise UserError(
            where=str(path),
            found=f"no column {', '.join(missing)}" if missing else "another format version",
            allowed=f"the columns {', '.join(TYPES)}, format version {FORMAT_VERSION}",
            next_step="make the table again with openmfr ingest",
        )
    read = partial(_read_columns, path, schema, rows)
    is_shared = rows >= _SHARED_ROWS
    found = once_per_machine(f"labels-{sha256_of_file(path)}", read) if is_shared else dict(read())
    columns: dict[str, Column] = {}
    for name in TYPES:
        whole = found[name] if found[name].ndim else np.broadcast_to(found[name], rows)
        names = found.get(f"{name}{_NAMES}")
        columns[name] = np.asarray(whole) if names is None else Texts(whole, names.tolist())
    return Table(
        columns,
        store_fingerprint=metadata.get(_STORE, b"").decode(errors="replace"),
        parent=metadata.get(_PARENT, b"").decode(errors="replace"),
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:
        raise UserError(
            where=str(path),
            found=f"no readable label table ({type(error).__name__})",
            allowed="a labels.parquet that openmfr wrote",
            next_step="check the path; openmfr ingest writes one beside its store",
        ) from error


def _read_columns(path: Path, schema: pa.Schema, rows: int) -> Iterator[Named]:
    """Yield each column as an array; one value for all rows has no dimension."""
    told = (_fault(path, name, schema.field(name).type) for name in TYPES)
    faults = [fault for fault in told if fault is not None]
    for name, kind in TYPES.items() if not faults else ():
        if name in TEXT_COLUMNS:
            texts = _read_texts(path, name, rows, faults)
            is_constant = rows > 0 and len(texts.names) == 1
            yield f"{name}{_NAMES}", np.array(texts.names, dtype=np.str_)
            yield name, np.array(texts.codes[0]) if is_constant else texts.codes
            continue
        values = np.empty(rows, dtype=kind.to_pandas_dtype())
        for start, part in _parts(path, name, faults):
            values[start : start + len(part)] = part.to_numpy(zero_copy_only=False)
        is_unmeasured = name == "center_score" and rows > 0 and np.isnan(values).all()
        yield name, np.array(values[0]) if is_unmeasured else values
    raise_together(faults)


def _read_texts(path: Path, name: str, rows: int, faults: list[UserError]) -> Texts:
    codes, place = np.zeros(rows, dtype=np.int32), dict[str, int]()
    for start, part in _parts(path, name, faults):
        coded = part if pa.types.is_dictionary(part.type) else part.dictionary_encode()
        own = [place.setdefault(text, len(place)) for text in coded.dictionary.to_pylist()]
        codes[start : start + len(part)] = np.array(own)[coded.indices.to_numpy()]
    return Texts(codes, place)


def _parts(path: Path, name: str, faults: list[UserError]) -> Iterator[tuple[int, pa.Array]]:
    """Parts of a column, each with its first row; a gap ends them and is one more fault."""
    start = 0
    with _readable(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_CHUNK, columns=[name]):
            part = batch.column(0)
            part.validate(full=True)  # of texts, that they are texts
            if part.null_count:
                row = start + part.is_null().to_pylist().index(True)
                faults.append(_no_column(f"{path}, row {row}, {name}", "nothing", TYPES[name]))
                return
            yield start, part
            start += len(part)


def _fault(path: Path, name: str, kind: pa.DataType) -> UserError | None:
    """What another program may have made of a column's type."""
    wanted = TYPES[name]
    found = kind.value_type if pa.types.is_dictionary(kind) else kind
    if found in (wanted, pa.large_string() if wanted == pa.string() else wanted):
        return None
    return _no_column(f"{path}, {name}", f"{found}", wanted)


def _no_column(where: str, found: str, wanted: pa.DataType) -> UserError:
    return UserError(
        where=where,
        found=found,
        allowed=f"{wanted}",
        next_step="make the table again with openmfr ingest",
    )


def _to_arrow(column: Column) -> pa.Array:
    if isinstance(column, Texts):
        return pa.DictionaryArray.from_arrays(pa.array(column.codes), list(column.names))
    return pa.array(column)
