"""The columns of a label table as a Parquet file, and back.

They are read a million rows at a time: whole, a column of 42 million texts takes half a gigabyte in
Arrow's form. The processes of a machine share what the first of them has read (`data.mapped`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from openmfr.data.mapped import Named, once_per_machine
from openmfr.data.texts import Texts
from openmfr.errors import UserError, raise_together
from openmfr.files import atomic_path

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
#: How columns lie in the cache; copies of another layout are not looked at.
_LAYOUT = "v1"
#: The distinct texts of a column, as JSON, beside the column of their numbers.
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
    # Opened once: another table may be put in its place at any time.
    with _readable(path), path.open("rb") as file:
        return _read_open(path, file)


def _read_open(path: Path, file: BufferedReader) -> Table:
    with pq.ParquetFile(file) as parquet:
        schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    metadata = schema.metadata or {}
    missing = sorted(TYPES.keys() - set(schema.names))
    if missing or metadata.get(_VERSION) != str(FORMAT_VERSION).encode():
        raise UserError(
            where=str(path),
            found=f"no column {', '.join(missing)}" if missing else "another format version",
            allowed=f"the columns {', '.join(TYPES)}, format version {FORMAT_VERSION}",
            next_step="make the table again with openmfr ingest",
        )
    read = partial(_read_columns, path, file, schema, rows)
    if rows >= _SHARED_ROWS:
        file.seek(0)
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
        found = once_per_machine(f"labels-{_LAYOUT}-{checksum}", read)
    else:
        found = dict(read())
    columns: dict[str, Column] = {}
    for name in TYPES:
        whole = found[name] if found[name].ndim else np.broadcast_to(found[name], rows)
        is_text = name in TEXT_COLUMNS
        columns[name] = Texts(whole, _names_of(found, name)) if is_text else np.asarray(whole)
    return Table(
        columns,
        store_fingerprint=metadata.get(_STORE, b"").decode(errors="replace"),
        parent=metadata.get(_PARENT, b"").decode(errors="replace"),
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise UserError(
            where=str(path),
            found=f"no readable label table ({type(error).__name__})",
            allowed="a labels.parquet that openmfr wrote",
            next_step="check the path; openmfr ingest writes one beside its store",
        ) from error


def _read_columns(
    path: Path, file: BufferedReader, schema: pa.Schema, rows: int
) -> Iterator[Named]:
    """Yield each column as an array; one value for all rows has no dimension."""
    faults: list[UserError] = []
    for name, kind in TYPES.items():
        fault = _fault(path, name, schema.field(name).type)
        if fault is not None:
            faults.append(fault)
            continue
        parts = _parts(path, file, name, faults)
        if name in TEXT_COLUMNS:
            texts = _texts_of(parts, rows)
            is_constant = rows > 0 and len(texts.names) == 1
            yield f"{name}{_NAMES}", np.frombuffer(json.dumps(texts.names).encode(), np.uint8)
            yield name, np.array(texts.codes[0]) if is_constant else texts.codes
            continue
        values = np.empty(rows, dtype=kind.to_pandas_dtype())
        for start, part in parts:
            values[start : start + len(part)] = part.to_numpy(zero_copy_only=False)
        is_unmeasured = name == "center_score" and rows > 0 and np.isnan(values).all()
        yield name, np.array(values[0]) if is_unmeasured else values
    raise_together(faults)


def _names_of(found: Mapping[str, npt.NDArray[Any]], name: str) -> list[str]:
    names: list[str] = json.loads(found[f"{name}{_NAMES}"].tobytes())
    return names


def _texts_of(parts: Iterable[tuple[int, pa.Array]], rows: int) -> Texts:
    codes, place = np.zeros(rows, dtype=np.int32), dict[str, int]()
    for start, part in parts:
        coded = part if pa.types.is_dictionary(part.type) else part.dictionary_encode()
        own = [place.setdefault(text, len(place)) for text in coded.dictionary.to_pylist()]
        codes[start : start + len(part)] = np.array(own)[coded.indices.to_numpy()]
    return Texts(codes, place or [""])


def _parts(
    path: Path, file: BufferedReader, name: str, faults: list[UserError]
) -> Iterator[tuple[int, pa.Array]]:
    """Parts of a column, each with its first row; a gap ends them and is one more fault."""
    start = 0
    with _readable(path), pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=_CHUNK, columns=[name]):
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
        return pa.DictionaryArray.from_arrays(
            pa.array(column.codes), pa.array(column.names, pa.string())
        )
    return pa.array(column)
