"""A gallery's rows in memory, ready to be searched, kept in step with its store.

An index never changes: `refreshed` makes the next one, which shares the rows and has the new ones
behind them, so a search that is under way is not disturbed. Bare and masked faces are in parts of
their own, because a score means something else for each.

In int8, the default, a million people of 512 numbers take 0.5 GiB. The few rows that a search needs
exactly are read from the store, where they may be encrypted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from openmfr.deploy.gallery.records import Float32Array, IntArray, Rows
from openmfr.deploy.gallery.screen import (
    STORED,
    Matrix,
    Precision,
    best_people,
    make_matrix,
    stored_columns,
)
from openmfr.deploy.gallery.store import GalleryStore, State

Int32Array = npt.NDArray[np.int32]

#: Places that a part is made with at least, and how much it grows.
_LEAST: Final = 1_024
_GROWTH: Final = 1.5


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A person that a search found.

    Attributes:
        identity: Who it is.
        image_id: Their image that scores highest.
        is_masked: Whether that image wears a mask.
        score: Its score.
    """

    identity: str
    image_id: int
    is_masked: bool
    score: float


@runtime_checkable
class Searcher(Protocol):
    """Finds the people of a gallery who resemble probes, exactly."""

    def nearest(self, probes: Float32Array, k: int) -> list[list[Hit]]:
        """Find, for each probe, the k people that score highest with bare and with masked images.

        Args:
            probes: Unit rows, float32, shape (P, D).
            k: From 1.

        Returns:
            For each probe up to k people of each sort, bare first, by falling score; ties by
            number of the image.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Images of one sort: a matrix with room for more behind its rows.

    Attributes:
        matrix: With more rows than there are images.
        image_id: Number of each image, ascending, int64.
        count: How many there are.
    """

    matrix: Matrix
    image_id: IntArray
    count: int

    @classmethod
    def empty(cls, dim: int, precision: Precision, *, room: int) -> Part:
        """Make a part without images.

        Args:
            dim: D.
            precision: Of its rows.
            room: How many it will take before it grows.
        """
        matrix = Matrix(
            precision=precision,
            rows=np.empty((room, stored_columns(dim)), dtype=STORED[precision]),
            scale=np.empty(room, dtype=np.float32),
            rounding=np.empty(room, dtype=np.float32),
            person=np.empty(room, dtype=np.int32),
        )
        return cls(matrix=matrix, image_id=np.empty(room, dtype=np.int64), count=0)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name, with what is behind the last image."""
        matrix = self.matrix
        return {
            "rows": matrix.rows,
            "scale": matrix.scale,
            "rounding": matrix.rounding,
            "person": matrix.person,
            "image_id": self.image_id,
        }

    def used(self) -> Part:
        """The same without the room behind the last image."""
        return self._of({name: array[: self.count] for name, array in self.arrays().items()})

    def extended(self, matrix: Matrix, image_id: IntArray) -> Part:
        """Append images; in place where there is room, which older parts do not look at."""
        end = self.count + len(matrix)
        grown = self if end <= self.image_id.size else self._with_room(int(_GROWTH * end))
        added = Part(matrix=matrix, image_id=image_id, count=len(matrix)).arrays()
        for name, array in grown.arrays().items():
            array[self.count : end] = added[name]
        return replace(grown, count=end)

    def kept(self, image_ids: IntArray) -> Part:
        """Copy it with only the images whose numbers are given, ascending."""
        own = self.image_id[: self.count]
        place = np.minimum(np.searchsorted(image_ids, own), max(image_ids.size - 1, 0))
        keep = image_ids[place] == own if image_ids.size else np.zeros(own.size, dtype=np.bool_)
        return self._of({name: a[: self.count][keep] for name, a in self.arrays().items()})

    def _with_room(self, room: int) -> Part:
        grown = {}
        for name, array in self.arrays().items():
            grown[name] = np.empty((room, *array.shape[1:]), dtype=array.dtype)
            grown[name][: self.count] = array[: self.count]
        return replace(self._of(grown), count=self.count)

    def _of(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Part:
        rest = {name: array for name, array in arrays.items() if name != "image_id"}
        matrix = Matrix(precision=self.matrix.precision, **rest)
        return Part(matrix=matrix, image_id=arrays["image_id"], count=arrays["image_id"].size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """What can be searched of a gallery at one moment.

    Attributes:
        store: Where the rows come from.
        state: The store's, when they were read.
        bare: Images without a mask.
        masked: Images with one.
        people: Names by number; those of later indices stand behind.
        number_of: Numbers by name.
    """

    store: GalleryStore
    state: State
    bare: Part
    masked: Part
    people: list[str] = field(default_factory=list)
    number_of: dict[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, store: GalleryStore, precision: Precision, *, room: int = _LEAST) -> Index:
        """Make an index without images: `refreshed` reads them.

        Args:
            store: Where they are.
            precision: To keep them in.
            room: How many of each sort it will take before it grows.
        """
        dim = store.header.dim
        return cls(
            store=store,
            state=State(),
            bare=Part.empty(dim, precision, room=room),
            masked=Part.empty(dim, precision, room=_LEAST),
        )

    @property
    def precision(self) -> Precision:
        """What the rows are kept in."""
        return self.bare.matrix.precision

    def refreshed(self) -> Index:
        """Follow the store; one thread at a time.

        Returns:
            An index of what the store holds now; this one, if nothing has changed.

        Raises:
            UserError: If a row of the store was changed by somebody else.
        """
        state = self.store.state()
        if state == self.state:
            return self
        bare, masked = self.bare, self.masked
        if state.removals != self.state.removals and bare.count + masked.count:
            present = self.store.image_ids()
            bare, masked = bare.kept(present), masked.kept(present)
        for rows in self.store.rows(after=self.state.last_image, upto=state.last_image):
            bare = self._extended(bare, rows, is_masked=False)
            masked = self._extended(masked, rows, is_masked=True)
        return replace(self, state=state, bare=bare, masked=masked)

    def nearest(self, probes: Float32Array, k: int) -> list[list[Hit]]:
        """Find the people that score highest; see `Searcher.nearest`."""
        found: list[list[Hit]] = [[] for _ in probes]
        for part, is_masked in ((self.bare, False), (self.masked, True)):
            if not part.count:
                continue
            used = part.used()
            for hits, best in zip(
                found, best_people(used.matrix, probes, k, self._reader(used)), strict=True
            ):
                hits += [
                    Hit(
                        identity=self.people[used.matrix.person[place]],
                        image_id=int(used.image_id[place]),
                        is_masked=is_masked,
                        score=float(score),
                    )
                    for place, score in zip(best.place, best.score, strict=True)
                ]
        return found

    def _extended(self, part: Part, rows: Rows, *, is_masked: bool) -> Part:
        chosen = np.flatnonzero(rows.is_masked == is_masked).tolist()
        if not chosen:
            return part
        person = self._numbers([rows.identity[i] for i in chosen])
        matrix = make_matrix(rows.embedding[chosen], person, self.precision)
        return part.extended(matrix, rows.image_id[chosen])

    def _numbers(self, names: Sequence[str]) -> Int32Array:
        for name in names:
            if name not in self.number_of:
                self.number_of[name] = len(self.people)
                self.people.append(name)
        return np.array([self.number_of[name] for name in names], dtype=np.int32)

    def _reader(self, part: Part) -> _ReadExact:
        return _ReadExact(self.store, part.image_id)


class _ReadExact:
    """Reads the exact rows of places in a part from the store."""

    def __init__(self, store: GalleryStore, image_id: IntArray) -> None:
        self._store, self._image_id = store, image_id

    def __call__(self, places: IntArray) -> Float32Array:
        numbers = self._image_id[places].tolist()
        found = self._store.embeddings(numbers)
        rows = np.full((len(numbers), self._store.header.dim), np.nan, dtype=np.float32)
        for i, number in enumerate(numbers):
            if number in found:  # else it was removed since
                rows[i] = found[number]
        return rows
