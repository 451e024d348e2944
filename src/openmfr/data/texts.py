"""Texts of which few differ: a number for each row, and each distinct text once.

Why an image is left out, or which mask it wears, is one of a handful of texts. As numpy's strings,
42 million reasons take a gigabyte for every six letters; as numbers, a byte each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, overload

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

#: Rows that are texts of Python at one time: 42 million would take 2 GB.
_CHUNK = 2**20


class Texts:
    """One text for each of N rows; immutable.

    Where numpy wants an array, it becomes one of strings. Compared with a text, it says for each
    row whether it is that one; compared with N texts, whether it is its own.

    Args:
        codes: For each row the place of its text, shape (N,), from 0.
        names: The texts.

    Raises:
        ValueError: If a number has no text.

    Example:
        >>> reason = Texts.of(["", "blurred", ""])
        >>> (reason == "blurred").tolist(), reason[1], reason.counts()
        ([False, True, False], 'blurred', {'': 2, 'blurred': 1})
        >>> reason.replaced(np.array([True, False, False]), "twice").tolist()
        ['twice', 'blurred', '']
    """

    __hash__ = None  # type: ignore[assignment]  # == compares row by row

    def __init__(self, codes: npt.NDArray[np.integer], names: Iterable[str]) -> None:
        self.names = tuple(names)
        smallest = np.min_scalar_type(max(len(self.names) - 1, 0))
        looked_at = codes[:1] if codes.strides == (0,) else codes  # one value for all rows
        if codes.size and not 0 <= looked_at.min() <= looked_at.max() < len(self.names):
            raise ValueError(f"numbers of texts outside 0 to {len(self.names) - 1}")
        self.codes = codes.view() if codes.dtype == smallest else codes.astype(smallest)
        self.codes.setflags(write=False)

    @classmethod
    def of(cls, values: Texts | StrArray | Iterable[str]) -> Texts:
        """Number the texts of rows, in the order in which they come."""
        if isinstance(values, Texts):
            return values
        place: dict[str, int] = {}
        listed = _listed(values) if isinstance(values, np.ndarray) else values
        numbers = (place.setdefault(str(value), len(place)) for value in listed)
        codes = np.fromiter(numbers, dtype=np.int32)
        return cls(codes, place or [""])

    @classmethod
    def constant(cls, value: str, rows: int) -> Texts:
        """One text for all rows, which takes no memory."""
        return cls(np.broadcast_to(np.uint8(0), rows), [value])

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def is_constant(self) -> bool:
        """Whether one value stands in memory for all rows."""
        return self.codes.strides == (0,) and len(self) > 0

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,), as that of an array."""
        return self.codes.shape

    def __iter__(self) -> Iterator[str]:
        return (self.names[code] for part in self.parts() for code in part.codes.tolist())

    @overload
    def __getitem__(self, rows: int | np.integer) -> str: ...
    @overload
    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> Texts: ...
    def __getitem__(self, rows: Any) -> str | Texts:
        chosen = self.codes[rows]
        return Texts(chosen, self.names) if np.ndim(chosen) else self.names[int(chosen)]

    def __eq__(self, other: object) -> BoolArray:  # type: ignore[override]
        if isinstance(other, str):
            return self.isin([other])
        return np.asarray(np.array(self) == np.asarray(other))

    def __ne__(self, other: object) -> BoolArray:  # type: ignore[override]
        return ~(self == other)

    def isin(self, texts: Iterable[str]) -> BoolArray:
        """Whether each row is one of some texts, shape (N,), bool."""
        wanted = {*texts}
        return self._where([name in wanted for name in self.names])

    def startswith(self, prefix: str) -> BoolArray:
        """Whether each row begins like this, shape (N,), bool."""
        return self._where([name.startswith(prefix) for name in self.names])

    def counts(self) -> dict[str, int]:
        """How many rows have each text, in alphabetical order; those of no row are left out."""
        numbers = np.bincount(self.codes, minlength=len(self.names)).tolist()
        return {name: n for name, n in sorted(zip(self.names, numbers, strict=True)) if n}

    def replaced(self, rows: BoolArray, text: str | Texts) -> Texts:
        """Other texts in some rows.

        Args:
            rows: Where, shape (N,).
            text: One for all of them, or one for each of the N rows.

        Raises:
            ValueError: If the shapes differ, or `rows` does not say true or false.
        """
        if rows.shape != self.shape or rows.dtype != np.bool_:
            raise ValueError(f"rows of shape {rows.shape}, {rows.dtype}: {self.shape}, bool")
        other = Texts.constant(text, len(self)) if isinstance(text, str) else text
        place = {
            name: number for number, name in enumerate(dict.fromkeys(self.names + other.names))
        }
        kind = np.min_scalar_type(max(len(place) - 1, 0))
        own, its = (np.array([place[n] for n in of.names], kind) for of in (self, other))
        return Texts(np.where(rows, its[other.codes], own[self.codes]), place)

    def tolist(self) -> list[str]:
        """The texts, one for each row."""
        return [*self]

    def parts(self) -> Iterator[Texts]:
        """A million rows at a time."""
        return (self[start : start + _CHUNK] for start in range(0, len(self), _CHUNK))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("texts are kept as numbers: an array of strings is always a copy")
        return np.array(self.names, dtype=dtype or np.str_)[self.codes]

    def __repr__(self) -> str:
        return f"Texts({len(self)} rows, {self.names})"

    def _where(self, is_wanted: list[bool]) -> BoolArray:
        found: BoolArray = np.array(is_wanted)[self.codes]
        return found


def _listed(values: StrArray) -> Iterator[str]:
    """The strings of an array, a million at a time: all at once, they take gigabytes."""
    for start in range(0, len(values), _CHUNK):
        yield from values[start : start + _CHUNK].tolist()
