"""What one table of labels changed of another: as rows, as a file, and as a person's vetoes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openmfr.data.labels import Labels
from openmfr.errors import UserError
from openmfr.files import atomic_path

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

#: Kinds of changes: of images, and of whole identities.
DROP, MOVE, RETURN, MERGE = "drop", "move", "return", "merge"
#: How the reason of an image begins that came along when its identity was merged.
MERGED = "merged from identity"
#: How the reason of an image begins that repeats another one.
REPEATS = "repeats image"
COLUMNS = (
    "kind",
    "image",
    "source",
    "identity_before",
    "identity_after",
    "score",
    "threshold",
    "reason",
    "veto",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """One row for each image that was dropped, moved or taken back, and each merged identity.

    Attributes:
        kind: "drop", "move", "return" or "merge", shape (K,).
        image: Row of the image, −1 for a merge, shape (K,).
        before: Identity in the first table, shape (K,).
        after: Identity in the second, −1 for a drop, shape (K,).
        score: What the decision was made by; NaN if unknown. Shape (K,).
        threshold: What it was held against; NaN if unknown. Shape (K,).
        reason: In words, shape (K,).
    """

    kind: StrArray
    image: IntArray
    before: IntArray
    after: IntArray
    score: FloatArray
    threshold: FloatArray
    reason: StrArray

    def __len__(self) -> int:
        return int(self.kind.size)

    @classmethod
    def join(cls, *parts: Changes) -> Changes:
        """All rows of several."""
        names = cls.__dataclass_fields__
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})

    def of(self, kind: str) -> Changes:
        """The rows of one kind, the closest decisions first."""
        rows = np.flatnonzero(self.kind == kind)
        return self._take(
            rows[np.argsort(np.abs(self.score - self.threshold)[rows], kind="stable")]
        )

    def _take(self, rows: IntArray) -> Changes:
        columns = {name: getattr(self, name)[rows] for name in self.__dataclass_fields__}
        return Changes(**columns)

    def write(self, path: Path, source: Sequence[str | None]) -> None:
        """Write a CSV with an empty column `veto`, the closest decisions first.

        Args:
            path: Where to.
            source: Where each image of the store came from, length N.
        """
        kinds = [self.of(kind) for kind in (MERGE, MOVE, DROP, RETURN)]
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for part in kinds:
                writer.writerows(part.row(i, source) for i in range(len(part)))

    def row(self, i: int, source: Sequence[str | None], *, veto: str = "") -> list[str]:
        """Make the CSV's row of one change.

        Args:
            i: Which.
            source: As for `write`.
            veto: "no" refuses it.
        """
        image, after = int(self.image[i]), int(self.after[i])
        return [
            str(self.kind[i]),
            *((str(image), source[image] or "") if image >= 0 else ("", "")),
            str(self.before[i]),
            str(after) if after >= 0 else "",
            *(_number(value) for value in (self.score[i], self.threshold[i])),
            str(self.reason[i]),
            veto,
        ]


def plain_reason(reason: str) -> str:
    """A reason without the image or identity that it names, so that reasons can be counted.

    Example:
        >>> plain_reason("repeats image 17"), plain_reason("identity of fewer than 3 images")
        ('repeats image', 'identity of fewer than 3 images')
    """
    return re.sub(r" \d+$", "", reason)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


def find_changes(before: Labels, after: Labels) -> Changes:
    """Compare two tables of one store.

    Args:
        before: The first.
        after: The second; a descendant of the first, or not.

    Returns:
        What changed; scores are those that the second table holds, thresholds are unknown.

    Raises:
        UserError: If they describe different stores.
    """
    if before.store_fingerprint != after.store_fingerprint or len(before) != len(after):
        raise UserError(
            where="labels",
            found=f"tables of stores {before.store_fingerprint} and {after.store_fingerprint}",
            allowed="two tables of one store",
            next_step="compare a table with one that was made from it",
        )
    went_on = goes_on_as(before, after)
    stayed = renumbered(before.identity, went_on)
    dropped = before.keep & ~after.keep
    returned = ~before.keep & after.keep
    moved = before.keep & after.keep & (after.identity != stayed)
    rows = np.flatnonzero(dropped | returned | moved)
    kind = np.where(dropped, DROP, np.where(returned, RETURN, MOVE))[rows]
    merged = np.array(sorted(went_on.items()), dtype=np.int64).reshape(-1, 2)
    unknown = np.full(len(merged), np.nan)
    return Changes(
        kind=np.concatenate([kind, np.full(len(merged), MERGE)]),
        image=np.concatenate([rows, np.full(len(merged), -1)]),
        before=np.concatenate([before.identity[rows], merged[:, 0]]),
        after=np.concatenate([np.where(dropped, -1, after.identity)[rows], merged[:, 1]]),
        score=np.concatenate([after.center_score[rows].astype(np.float64), unknown]),
        threshold=np.full(rows.size + len(merged), np.nan),
        reason=np.concatenate([np.array(after.reason[rows]), np.full(len(merged), "")]),
    )


def goes_on_as(before: Labels, after: Labels) -> dict[int, int]:
    """Under which number each identity goes on that was merged into another.

    Args:
        before: The first table.
        after: A descendant of it, whose reasons say which images came with their identity.
    """
    came_along = after.reason.startswith(MERGED)
    rows = before.keep & came_along & (before.identity != after.identity)
    if not rows.any():
        return {}
    pairs, counts = np.unique(
        np.stack([before.identity[rows], after.identity[rows]]), axis=1, return_counts=True
    )
    order = np.argsort(counts, kind="stable")
    return dict(zip(pairs[0, order].tolist(), pairs[1, order].tolist(), strict=True))


def renumbered(identity: IntArray, went_on: Mapping[int, int]) -> IntArray:
    """Identities under the numbers under which they go on, shape (N,)."""
    labels, inverse = np.unique(identity, return_inverse=True)
    new = [went_on.get(label, label) for label in labels.tolist()]
    return np.array(new, dtype=np.int64)[inverse]


@dataclass(frozen=True, kw_only=True, eq=False)
class Vetoes:
    """Decisions of an earlier pass that a person refused.

    Attributes:
        spared: Images that are neither dropped nor moved, shape (N,).
        never: Pairs of identities that are not merged.
    """

    spared: BoolArray
    never: frozenset[frozenset[int]]

    @classmethod
    def union(cls, parts: Iterable[Vetoes], images: int) -> Vetoes:
        """All that one of several refuses, of a store of so many images."""
        spared = np.zeros(images, dtype=np.bool_)
        never: frozenset[frozenset[int]] = frozenset()
        for part in parts:
            spared |= part.spared
            never |= part.never
        return cls(spared=spared, never=never)


def read_vetoes(path: Path, images: int) -> Vetoes:
    """Read a pass's `changes.csv` in which a person has written "no" beside what was wrong.

    Args:
        path: The file; rows with an empty `veto` are passed over.
        images: Images of the store, N.

    Raises:
        UserError: If the file is missing or lacks a column, or a veto is not "no" or empty, or
            names an image or identity that is no number.
    """
    spared = np.zeros(images, dtype=np.bool_)
    never = set()
    for number, row in enumerate(_rows(path), start=2):
        veto = (row["veto"] or "").strip().lower()
        if veto == "":
            continue
        if veto != "no":
            raise _bad(path, number, "veto", row["veto"], '"no", or nothing')
        if row["kind"] == MERGE:
            pair = [
                _integer(path, number, row, name) for name in ("identity_before", "identity_after")
            ]
            never.add(frozenset(pair))
            continue
        image = _integer(path, number, row, "image")
        if image >= images:
            raise _bad(path, number, "image", row["image"], f"0 to {images - 1}")
        spared[image] = True
    return Vetoes(spared=spared, never=frozenset(never))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            where=str(path),
            found=f"no readable CSV ({type(error).__name__})",
            allowed="the changes.csv of an earlier pass",
            next_step="check the path",
        ) from error
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise UserError(
            where=str(path),
            found=f"no column {', '.join(missing)}",
            allowed=f"the columns {', '.join(COLUMNS)}",
            next_step='take the changes.csv of an earlier pass and write "no" into its column veto',
        )
    return rows


def _integer(path: Path, number: int, row: dict[str, str], name: str) -> int:
    text = row[name] or ""
    if not text.isdecimal():
        raise _bad(path, number, name, text, "integers from 0")
    return int(text)


def _bad(path: Path, number: int, name: str, found: str, allowed: str) -> UserError:
    return UserError(
        where=f"{path}, row {number}, {name}",
        found=found or "nothing",
        allowed=allowed,
        next_step="correct the file",
    )
