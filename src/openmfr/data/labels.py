"""The Labels table: who is on each image of a store, and whether the image is used.

A table is never edited. Cleaning, splitting and planting noise each make a child, which names its
parent's fingerprint; undoing a step is going back to the parent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from openmfr.data.store import Store
from openmfr.errors import UserError, raise_together
from openmfr.files import atomic_path, fingerprint

FORMAT_VERSION = 1
#: Two folds of two identities: fewer give no accuracy.
LEAST_HELD_OUT = 4
#: Reason of images that measure progress instead of training.
HELD_OUT = "held out"
#: Reason of images that were found damaged on the disk and set aside.
DAMAGED = "damaged"
_VERSION_KEY = b"openmfr.format_version"

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
StrArray = npt.NDArray[np.str_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """One row for each of a store's N images.

    Attributes:
        identity: Who it is, shape (N,), int64, from 0; −1 where nobody knows.
        keep: Whether the image is used, shape (N,), bool.
        reason: Why it is not kept, or why its identity changed; empty otherwise. Shape (N,).
        center_score: Cosine to the identity's centre, shape (N,), float32; NaN where not measured.
        is_masked: Whether the face wears a mask, shape (N,), bool.
        mask_style: Which mask, empty without one. Shape (N,).
        group: A group for evaluation by group, for example an age band; empty if none. Shape (N,).
        store_fingerprint: The store that the rows describe.
        parent: Fingerprint of the table that this one was made from; empty for the first.
    """

    identity: IntArray
    keep: BoolArray
    reason: StrArray
    center_score: FloatArray
    is_masked: BoolArray
    mask_style: StrArray
    group: StrArray
    store_fingerprint: str
    parent: str = field(default="")

    def __post_init__(self) -> None:
        for name in _COLUMNS:
            column = getattr(self, name)
            if column.shape != self.identity.shape:
                raise UserError(
                    where=f"labels, {name}",
                    found=f"{column.shape[0]} rows",
                    allowed=f"{len(self)} rows, as identity has",
                    next_step="make the table again",
                )
            column.setflags(write=False)
        bad = np.flatnonzero(self.identity < -1)
        if bad.size:
            raise UserError(
                where=f"labels, row {bad[0]}, identity",
                found=str(self.identity[bad[0]]),
                allowed="integers from 0, or -1 for unknown",
                next_step="rebuild the table with openmfr ingest",
            )

        unknown = np.flatnonzero(self.keep & (self.identity < 0))
        if unknown.size:
            raise UserError(
                where=f"labels, row {unknown[0]}, keep",
                found="true for an unknown identity",
                allowed="false where identity is -1",
                next_step="leave images of unknown people out",
            )

    @classmethod
    def from_identity(cls, identity: Sequence[int] | IntArray, *, store: Store) -> Labels:
        """Make a first table: everything known is kept, nothing is masked."""
        known = np.array(identity, dtype=np.int64)
        keep = known >= 0
        nothing = np.broadcast_to(np.array(""), known.shape)
        return cls(
            identity=known,
            keep=keep,
            reason=nothing if keep.all() else np.where(keep, "", "unknown identity"),
            center_score=np.broadcast_to(np.float32(np.nan), known.shape),
            is_masked=np.zeros(known.shape, dtype=np.bool_),
            mask_style=nothing,
            group=nothing,
            store_fingerprint=store.fingerprint,
        )

    @classmethod
    def from_names(cls, store: Store) -> Labels:
        """Number the store's `identity_name` column in alphabetical order.

        If all names are numbers, as those of a RecordIO are, in the order of the numbers: a
        classifier that was trained on them elsewhere numbers its rows like that.
        """
        codes, names = store.coded_column("identity_name")
        key = int if all(name.isdecimal() for name in names) else str
        number = {name: i for i, name in enumerate(sorted(names, key=key))}
        of_code = np.array([*(number[name] for name in names), -1])  # code −1 takes the last
        return cls.from_identity(of_code[codes], store=store)

    def __len__(self) -> int:
        return int(self.identity.shape[0])

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the table: its columns, its store and its parent."""
        columns = [_bytes_of(getattr(self, name)) for name in _COLUMNS]
        return fingerprint(self.store_fingerprint, self.parent, *columns)

    @cached_property
    def kept_identities(self) -> IntArray:
        """Identities with at least one kept image, ascending, shape (C,)."""
        identity = self.identity if self.keep.all() else self.identity[self.keep]
        if identity.size and identity.max() < 4 * identity.size:  # counting needs no copy to sort
            return np.flatnonzero(np.bincount(identity))
        return np.unique(identity)

    def kept(self) -> IntArray:
        """Indices of the kept images, ascending."""
        return np.flatnonzero(self.keep)

    def child(self, **columns: npt.NDArray[Any]) -> Labels:
        """Make a table that differs in the named columns and names this one as its parent."""
        return replace(self, **columns, parent=self.fingerprint)  # type: ignore[arg-type]

    def without(self, drop: BoolArray, *, reason: str) -> Labels:
        """Make a child in which more images are not kept.

        Args:
            drop: Images to leave out, shape (N,). Those already left out keep their reason.
            reason: Why.
        """
        newly = drop & self.keep
        if not newly.any():
            return self.child()
        return self.child(
            keep=self.keep & ~drop, reason=np.where(newly, reason, self.reason).astype(np.str_)
        )

    def hold_out(self, identities: int, *, seed: int, least_images: int = 4) -> Labels:
        """Make a child that sets whole identities aside, with the reason `HELD_OUT`.

        Args:
            identities: How many, drawn at random.
            seed: Of the draw.
            least_images: Only identities with at least so many kept images are drawn.

        Raises:
            UserError: If there are too few, or fewer than two would stay.
        """
        if self.is_held_out.any():
            raise UserError(
                where="labels",
                found=f"{int(self.is_held_out.sum()):,} images that are held out already",
                allowed="a table without held-out images",
                next_step="pass the store's own labels.parquet, or hold out 0",
            )
        known, counts = np.unique(self.identity[self.keep], return_counts=True)
        eligible = known[counts >= least_images]
        most = min(len(eligible), len(known) - 2)
        if not LEAST_HELD_OUT <= identities <= most:
            raise UserError(
                where="holdout_identities",
                found=str(identities),
                allowed=f"{LEAST_HELD_OUT} to {most} of these {len(known)} identities"
                if most >= LEAST_HELD_OUT
                else f"none: of {len(known)} identities, {len(eligible)} have enough images",
                next_step="hold out fewer, or give more identities with "
                f"{least_images} images or more",
            )
        drawn = np.random.default_rng([seed, len(known)]).choice(
            eligible, identities, replace=False
        )
        return self.without(np.isin(self.identity, drawn), reason=HELD_OUT)

    @property
    def is_held_out(self) -> BoolArray:
        """Images of identities that `hold_out` set aside, shape (N,), bool."""
        return np.asarray(self.reason == HELD_OUT)

    def only_held_out(self) -> Labels:
        """Make a child that keeps the held-out images and nothing else."""
        reason = np.where(self.is_held_out, "", "not held out")
        return self.child(keep=self.is_held_out, reason=reason.astype(np.str_))

    def check_store(self, store: Store, *, where: str = "labels") -> None:
        """Refuse a table that describes another store.

        Raises:
            UserError: If the number of rows or the fingerprint differs.
        """
        if len(self) != len(store) or self.store_fingerprint != store.fingerprint:
            raise UserError(
                where=where,
                found=f"{len(self)} rows for store {self.store_fingerprint}",
                allowed=f"{len(store)} rows for store {store.fingerprint} ({store.path})",
                next_step="pass the labels.parquet that stands beside this store",
            )

    def write(self, path: Path | str) -> None:
        """Write the table as Parquet, atomically."""
        metadata = {
            _VERSION_KEY: str(FORMAT_VERSION).encode(),
            b"openmfr.store": self.store_fingerprint.encode(),
            b"openmfr.parent": self.parent.encode(),
        }
        table = pa.table({name: _to_arrow(getattr(self, name)) for name in _COLUMNS})
        with atomic_path(Path(path)) as temporary:
            pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")

    @classmethod
    def read(cls, path: Path | str) -> Labels:
        """Read a table.

        Raises:
            UserError: If the file is missing, no Parquet, or no label table, or columns have other
                types or gaps; these are named together.
        """
        schema = _read(path, pq.read_schema)
        metadata = schema.metadata or {}
        missing = sorted(set(_COLUMNS) - set(schema.names))
        if missing or metadata.get(_VERSION_KEY) != str(FORMAT_VERSION).encode():
            raise UserError(
                where=str(path),
                found=f"no column {', '.join(missing)}" if missing else "another format version",
                allowed=f"the columns {', '.join(_COLUMNS)}, format version {FORMAT_VERSION}",
                next_step="make the table again with openmfr ingest",
            )
        faults: list[UserError] = []
        columns: dict[str, npt.NDArray[Any]] = {}
        for name in _COLUMNS:  # one at a time: in Arrow's form, texts take 4 bytes a row each
            column = _read(path, partial(_column, name))
            found = _faults(column, name, path)
            faults += found
            if not found:
                columns[name] = _from_arrow(name, column)
            del column  # what Arrow needed goes back to the system
            pa.default_memory_pool().release_unused()
        raise_together(faults)
        return cls(
            **columns,
            store_fingerprint=metadata.get(b"openmfr.store", b"").decode(errors="replace"),
            parent=metadata.get(b"openmfr.parent", b"").decode(errors="replace"),
        )


_COLUMNS = tuple(f.name for f in fields(Labels) if f.name not in ("store_fingerprint", "parent"))
_TEXT_COLUMNS = ("reason", "mask_style", "group")
_TYPES = {
    "identity": pa.int64(),
    "keep": pa.bool_(),
    "center_score": pa.float32(),
    "is_masked": pa.bool_(),
    **dict.fromkeys(_TEXT_COLUMNS, pa.string()),
}


def _column(name: str, path: Path | str) -> pa.ChunkedArray:
    column = pq.read_table(path, columns=[name]).column(name)
    column.validate(full=True)  # of texts, that they are texts
    return column


def _read(path: Path | str, how: Callable[[Path | str], Any]) -> Any:
    try:
        return how(path)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise UserError(
            where=str(path),
            found=f"no readable label table ({type(error).__name__})",
            allowed="a labels.parquet that openmfr wrote",
            next_step="check the path; openmfr ingest writes one beside its store",
        ) from error


def _faults(column: pa.ChunkedArray, name: str, path: Path | str) -> list[UserError]:
    """What another program may have made of a column."""
    wanted = _TYPES[name]
    found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    where, next_step = f"{path}, {name}", "make the table again with openmfr ingest"
    if found not in (wanted, pa.large_string() if wanted == pa.string() else wanted):
        error = UserError(where=where, found=f"{found}", allowed=f"{wanted}", next_step=next_step)
        return [error]
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        return [
            UserError(
                where=f"{path}, row {row}, {name}",
                found="nothing",
                allowed=f"{wanted}",
                next_step=next_step,
            )
        ]
    return []


#: Rows that are texts of Python at one time: 42 million would take 2 GB.
_CHUNK = 2**20


def _bytes_of(column: npt.NDArray[Any]) -> bytes:
    if column.dtype.kind != "U":
        return column.tobytes()
    if _is_constant(column):
        return "\0".join([str(column[0])] * column.size).encode()
    return b"\0".join("\0".join(part.tolist()).encode() for part in _parts(column))


def _to_arrow(column: npt.NDArray[Any]) -> pa.Array | pa.ChunkedArray:
    if column.dtype.kind != "U":
        return pa.array(column)
    if _is_constant(column):
        codes = np.zeros(column.size, dtype=np.int32)
        return pa.DictionaryArray.from_arrays(codes, [str(column[0])])
    text = pa.string()
    parts = [pa.array(part.tolist(), text).dictionary_encode() for part in _parts(column)]
    return pa.chunked_array(parts, pa.dictionary(pa.int32(), text))


def _parts(column: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (column[start : start + _CHUNK] for start in range(0, column.size, _CHUNK))


def _is_constant(column: npt.NDArray[Any]) -> bool:
    """Whether one value stands in memory for all rows, as `np.broadcast_to` makes it."""
    return column.strides == (0,) and column.size > 0


def _from_arrow(name: str, column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if name not in _TEXT_COLUMNS:
        values: npt.NDArray[Any] = column.to_numpy()
        if name == "center_score" and values.size and np.isnan(values).all():
            return np.broadcast_to(values[0], values.shape)
        return values
    text = column.cast(pa.string()) if pa.types.is_large_string(column.type) else column
    coded = text.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):  # of an empty table
        return np.empty(0, dtype=np.str_)
    names = np.array(coded.dictionary.cast(pa.string()).to_pylist(), dtype=np.str_)
    if names.size == 1:
        return np.broadcast_to(names[0], (len(coded),))
    decoded: npt.NDArray[Any] = names[coded.indices.to_numpy()]
    return decoded
