"""Which images of a store leave it, as whom, and the plan that says so to the worker processes.

The plan is a table on the disk in the store's order. A worker reads its own rows; nothing that
grows with the set travels to it, and a run that was killed finds the plan where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openmfr.data.formats.listing import LISTING, Listing, Rows, find_listing, write_listing
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.run import progress
from openmfr.workers import size_of_part

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Images of a store and who is on them, numbered as a classifier wants it.

    Attributes:
        rows: Their numbers in the store, ascending, shape (M,).
        number: Identity of each, 0 to C − 1, or −1 where nobody knows; shape (M,).
        names: Name of each identity, C of them, all different.
    """

    rows: IntArray
    number: IntArray
    names: list[str]

    def __len__(self) -> int:
        return self.rows.size

    @cached_property
    def by_identity(self) -> IntArray:
        """Positions of the images, identity by identity, each in the store's order; (M,)."""
        return np.argsort(self.number, kind="stable")

    @cached_property
    def counts(self) -> IntArray:
        """Images of each identity, shape (C,)."""
        return np.bincount(self.number[self.number >= 0], minlength=len(self.names))

    @property
    def unknown(self) -> int:
        """How many images are of nobody known."""
        return int((self.number < 0).sum())

    def known(self) -> Selection:
        """Leave out the images of nobody known."""
        keep = self.number >= 0
        return Selection(rows=self.rows[keep], number=self.number[keep], names=self.names)

    def place_within_identity(self) -> IntArray:
        """Count each identity's images from 0, shape (M,); those of nobody known likewise."""
        counts = np.concatenate([[self.unknown], self.counts])
        place = np.empty(len(self), dtype=np.int64)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        place[self.by_identity] = np.arange(len(self)) - starts
        return place


def select(store: Store, labels: Labels | None) -> Selection:
    """Choose images.

    Args:
        store: Where they are; images that are set aside as damaged stay there.
        labels: Keep what these keep, with their identities; by default everything, as the store
            names it.

    Returns:
        The images. An identity has the name that most of its images have in the store; of several
        identities with one name, as after a split, the largest keeps it and the others add their
        number in the labels: `ann~17`.
    """
    keep = np.ones(len(store), dtype=np.bool_)
    keep[store.quarantined] = False
    if labels is None:
        labels = Labels.from_names(store)
    else:
        keep &= labels.keep
    rows = np.flatnonzero(keep)
    identity = labels.identity[rows]
    identities, number = np.unique(identity, return_inverse=True)
    if identities.size and identities[0] < 0:
        identities, number = identities[1:], number - 1
    names = _names(store, rows, number, identities)
    return Selection(rows=rows, number=number.astype(np.int64), names=names)


def _names(store: Store, rows: IntArray, number: IntArray, identities: IntArray) -> list[str]:
    codes, known = store.coded_column("identity_name")
    codes = codes[rows]
    named = (number >= 0) & (codes >= 0)
    # One number for each pair of identity and name.
    pairs, counts = np.unique(number[named] * len(known) + codes[named], return_counts=True)
    owner, code = np.divmod(pairs, max(len(known), 1))
    largest_first = np.argsort(-counts, kind="stable")
    wanted: dict[int, str] = {}
    for i in largest_first.tolist():
        wanted.setdefault(int(owner[i]), known[int(code[i])])
    return _all_different(wanted, identities)


def _all_different(wanted: Mapping[int, str], identities: IntArray) -> list[str]:
    """Give each identity the name that it wants, or its number with it; who comes first, gets it.

    Args:
        wanted: Number of an identity → its name; some may lack one.
        identities: Number of each in the labels, shape (C,).

    Example:
        >>> _all_different({2: "ann", 0: "ann"}, np.array([4, 7, 9]))
        ['ann~4', '7', 'ann']
    """
    names: dict[int, str] = {}
    taken = set(wanted.values())
    for i, name in wanted.items():
        if name in taken:
            taken.remove(name)
            names[i] = name
    taken.update(names.values())
    for i, label in enumerate(identities.tolist()):
        if i not in names:
            name = f"{wanted[i]}~{label}" if i in wanted else str(label)
            while name in taken:
                name += "~"
            names[i] = name
            taken.add(name)
    return [names[i] for i in range(identities.size)]


def plan(
    store: Store, selection: Selection, folder: Path, *, size: int | None, keys: IntArray
) -> Listing:
    """Write the plan, or find the one that an earlier run wrote.

    Args:
        store: The store.
        selection: The images.
        folder: Where the plan is written.
        size: Rows of a group, which are one part of the work; by default few enough for a bar that
            moves.
        keys: The column `key`, shape (M,): what says where an image goes.
    """
    size = size or size_of_part(len(selection))
    if not (folder / LISTING).exists():
        rows = _rows(store, selection, size, keys)
        columns = ("row", "number", "identity", "source", "key")
        with progress("plan", total=len(selection), unit="images") as advance:
            write_listing(folder / LISTING, _counted(rows, advance), columns=columns)
    found = find_listing(folder, place="key")
    assert found is not None
    return found


def _counted(parts: Iterator[Rows], advance: Callable[[int], None]) -> Iterator[Rows]:
    for rows in parts:
        yield rows
        advance(len(rows["row"]))


def _rows(store: Store, selection: Selection, size: int, keys: IntArray) -> Iterator[Rows]:
    sources = _Sources(store)
    for start in range(0, len(selection), size):
        part = slice(start, start + size)
        number = selection.number[part].tolist()
        yield {
            "row": selection.rows[part].tolist(),
            "number": number,
            "identity": [selection.names[i] if i >= 0 else None for i in number],
            "source": sources.of(selection.rows[part]),
            "key": keys[part].tolist(),
        }


class _Sources:
    """The column `source`, one shard at a time: all of it would be millions of texts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shards = store.shards
        self._ends = np.array([shard.stop for shard in self._shards], dtype=np.int64)
        self._shard = -1
        self._column: list[str] = []

    def of(self, rows: IntArray) -> list[str]:
        found = list[str]()
        for row, shard in zip(
            rows.tolist(), np.searchsorted(self._ends, rows, side="right").tolist(), strict=True
        ):
            if shard != self._shard:
                self._shard, self._column = shard, self._store.columns_of(shard)["source"]
            found.append(self._column[row - self._shards[shard].start])
        return found
