"""The Labels table: who is on each image of a store, and whether the image is used.

A table is never edited. Cleaning, splitting and planting noise each make a child, which names its
parent's fingerprint; undoing a step is going back to the parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.data.labels_file import TEXT_COLUMNS, TYPES, Table, read_table, write_table
from openmfr.data.store import Store
from openmfr.data.texts import Texts
from openmfr.errors import UserError
from openmfr.files import fingerprint

#: Two folds of two identities: fewer give no accuracy.
LEAST_HELD_OUT = 4
#: Reason of images that measure progress instead of training.
HELD_OUT = "held out"
#: Reason of images that were found damaged on the disk and set aside.
DAMAGED = "damaged"

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """One row for each of a store's N images.

    Texts may be given as arrays of strings.

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
    reason: Texts
    center_score: FloatArray
    is_masked: BoolArray
    mask_style: Texts
    group: Texts
    store_fingerprint: str
    parent: str = field(default="")

    def __post_init__(self) -> None:
        for name in TEXT_COLUMNS:
            object.__setattr__(self, name, Texts.of(getattr(self, name)))
        for name in TYPES:
            column = getattr(self, name)
            if column.shape != self.identity.shape:
                raise UserError(
                    where=f"labels, {name}",
                    found=f"{column.shape[0]} rows",
                    allowed=f"{len(self)} rows, as identity has",
                    next_step="make the table again",
                )
            if isinstance(column, np.ndarray):
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
        nothing = Texts.constant("", len(known))
        return cls(
            identity=known,
            keep=keep,
            reason=nothing.replaced(~keep, "unknown identity"),
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
        columns = [_bytes_of(getattr(self, name)) for name in TYPES]
        return fingerprint(self.store_fingerprint, self.parent, *columns)

    @property
    def kept_identities(self) -> IntArray:
        """Identities with at least one kept image, ascending, shape (C,)."""
        return self.kept_counts[0]

    @cached_property
    def kept_counts(self) -> tuple[IntArray, IntArray]:
        """Identities with at least one kept image, ascending, and how many; both of shape (C,)."""
        largest = int(self.identity.max(initial=-1))
        if largest >= 4 * len(self):
            return np.unique(self.identity[self.keep], return_counts=True)
        counts = np.zeros(largest + 1, dtype=np.int64)  # counting needs no copy to sort
        step = max(_CHUNK, counts.size)  # each step adds to all counts
        for start in range(0, len(self), step):
            part = slice(start, start + step)
            counts += np.bincount(self.identity[part][self.keep[part]], minlength=counts.size)
        known = np.flatnonzero(counts)
        return known, counts[known]

    def kept(self) -> IntArray:
        """Indices of the kept images, ascending."""
        return np.flatnonzero(self.keep)

    def child(self, **columns: npt.NDArray[Any] | Texts) -> Labels:
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
        return self.child(keep=self.keep & ~drop, reason=self.reason.replaced(newly, reason))

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
        known, counts = self.kept_counts
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
        return self.reason == HELD_OUT

    def only_held_out(self) -> Labels:
        """Make a child that keeps the held-out images and nothing else."""
        reason = Texts.constant("", len(self)).replaced(~self.is_held_out, "not held out")
        return self.child(keep=self.is_held_out, reason=reason)

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
        columns = {name: getattr(self, name) for name in TYPES}
        write_table(Path(path), Table(columns, self.store_fingerprint, self.parent))

    @classmethod
    def read(cls, path: Path | str) -> Labels:
        """Read a table.

        One of millions of rows is mapped from the cache (see `data.mapped`), where the first
        process of a machine to read it puts its columns: all others share them.

        Raises:
            UserError: If the file is missing, no Parquet, or no label table, or columns have other
                types or gaps; these are named together.
        """
        table = read_table(Path(path))
        columns: dict[str, Any] = dict(table.columns)
        return cls(**columns, store_fingerprint=table.store_fingerprint, parent=table.parent)


#: Rows that are worked on at one time, where the whole would need another copy.
_CHUNK = 2**20


def _bytes_of(column: npt.NDArray[Any] | Texts) -> bytes | memoryview:
    if isinstance(column, np.ndarray):
        return np.ascontiguousarray(column).view(np.uint8).data
    if column.is_constant:
        return (f"{column[0]}\0" * len(column)).encode()[:-1]
    return b"\0".join("\0".join(part).encode() for part in column.parts())
