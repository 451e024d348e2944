"""Lists of image pairs: read from a file, or sampled from labels.

A pair list is the plainest verification protocol. It names images by where they came from, the
store's column `source`, so the same list serves every store that was made of the same photos.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError, raise_together
from openmfr.evaluation.comparisons import Comparisons, cosine_of_pairs
from openmfr.evaluation.protocols.sources import find_images

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

_REQUIRED = ("path_a", "path_b", "genuine")
_TRUTH = {"1": True, "true": True, "0": False, "false": False}

#: Faults reported together before reading a list is given up.
_MAX_FAULTS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class PairList:
    """P pairs of images.

    Attributes:
        index_a: First image of each pair, a row of the store, shape (P,), int64.
        index_b: Second image, shape (P,), int64.
        is_genuine: Whether the list says that they show one identity, shape (P,).
        fold: Fold of each pair for k-fold accuracy, shape (P,); None if the list has none.
        kind: A name for what is compared, for example mu, shape (P,); None if the list has none.
    """

    index_a: IntArray
    index_b: IntArray
    is_genuine: BoolArray
    fold: IntArray | None = None
    kind: StrArray | None = None

    def __len__(self) -> int:
        return int(self.index_a.size)

    def rows(self) -> IntArray:
        """Images of the list, each once, in rising order."""
        return np.unique(np.concatenate([self.index_a, self.index_b]))

    def compare(self, embedding: FloatArray, identity: IntArray) -> Comparisons:
        """Score every pair.

        Args:
            embedding: One row for each image, shape (N, D).
            identity: Who is on each image, shape (N,); known for every image in the list.

        Raises:
            UserError: If an identity is unknown, or contradicts what the list says of a pair.
        """
        identity_a, identity_b = identity[self.index_a], identity[self.index_b]
        is_known = (identity_a >= 0) & (identity_b >= 0)
        bad = np.flatnonzero(~is_known | (self.is_genuine != (identity_a == identity_b)))
        if bad.size:
            pair = bad[0]
            said = "genuine" if self.is_genuine[pair] else "impostor"
            raise UserError(
                where=f"pair {pair + 1} (images {self.index_a[pair]} and {self.index_b[pair]})",
                found=f"{said}, but identities {identity_a[pair]} and {identity_b[pair]}",
                allowed="one identity in a genuine pair, two in an impostor pair, none unknown",
                next_step=f"mend the list or the labels; {bad.size:,} of {len(self):,} differ",
            )
        return Comparisons(
            score=cosine_of_pairs(embedding, self.index_a, self.index_b),
            is_genuine=self.is_genuine,
            index_a=self.index_a,
            index_b=self.index_b,
            identity_a=identity_a,
            identity_b=identity_b,
            fold=self.fold,
            kind=self.kind,
        )


def read_csv_pairs(path: Path | str, sources: Sequence[str]) -> PairList:
    """Read our own list of pairs and find its images among the sources; see also `lists`.

    A CSV file has the columns path_a, path_b, genuine (1 or 0) and, if it likes, fold (an integer)
    and kind (a name).

    Args:
        path: The list.
        sources: Where each of N images came from: the store's column `source`.

    Raises:
        UserError: If the file is unreadable, a row is faulty or pairs an image with itself, or
            images are missing. Several faults are reported together, and missing images are named
            together, the first with the nearest name there is.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            where=str(path),
            found=f"no readable text ({type(error).__name__})",
            allowed="a CSV file with the columns path_a, path_b, genuine",
            next_step="check the path",
        ) from error
    return _build(path, _csv_rows(path, text), sources)


def _csv_rows(path: Path, text: str) -> Iterable[tuple[int, Mapping[str, str]]]:
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in _REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(
            where=f"{path}, header",
            found=", ".join(reader.fieldnames or ["nothing"]),
            allowed="path_a, path_b, genuine and, if wanted, fold and kind",
            next_step=f"add {', '.join(missing)}",
        )
    return enumerate(reader, start=2)


def _build(
    path: Path, rows: Iterable[tuple[int, Mapping[str, str]]], sources: Sequence[str]
) -> PairList:
    names, is_genuine, fold, kind = [], [], [], []
    faults: list[UserError] = []
    for number, row in rows:
        try:
            names.append(_two_images(row, where=f"{path}, row {number}"))
            is_genuine.append(_truth(row["genuine"], where=f"{path}, row {number}, genuine"))
            fold.append(_integer(row.get("fold"), where=f"{path}, row {number}, fold"))
            kind.append(row.get("kind") or "")
        except UserError as error:
            faults.append(error)
            if len(faults) == _MAX_FAULTS:
                break
    try:
        flat = [name for pair in names for name in pair]
        images = find_images(flat, sources, where=str(path)).reshape(-1, 2)
    except UserError as error:
        faults.append(error)
    raise_together(faults)
    if not is_genuine:
        raise UserError(
            where=str(path), found="no pairs", allowed="at least one", next_step="fill the list"
        )
    has_folds = [number is not None for number in fold]
    if any(has_folds) and not all(has_folds):
        raise UserError(
            where=f"{path}, fold",
            found=f"{has_folds.count(False):,} pairs without a fold",
            allowed="a fold for every pair, or for none",
            next_step="fill the column or leave it out",
        )
    return PairList(
        index_a=images[:, 0],
        index_b=images[:, 1],
        is_genuine=np.array(is_genuine, dtype=np.bool_),
        fold=np.array(fold, dtype=np.int64) if all(has_folds) else None,
        kind=np.array(kind, dtype=np.str_) if any(kind) else None,
    )


def _two_images(row: Mapping[str, str], *, where: str) -> tuple[str, str]:
    """Names of a pair's images; a self-pair would always match."""
    a, b = (row[side] or "" for side in ("path_a", "path_b"))
    if not a or not b or a == b:
        raise UserError(
            where=where,
            found=f"{a!r} with {'itself' if a and a == b else repr(b)}",
            allowed="two images",
            next_step="mend the row, or remove it",
        )
    return a, b


def _truth(word: str | None, *, where: str) -> bool:
    truth = _TRUTH.get((word or "").strip().lower())
    if truth is None:
        raise UserError(
            where=where, found=repr(word), allowed="1, 0, true, false", next_step="mend the row"
        )
    return truth


def _integer(word: str | None, *, where: str) -> int | None:
    if not (word or "").strip():
        return None
    try:
        return int(word or "")
    except ValueError:
        raise UserError(
            where=where, found=repr(word), allowed="an integer", next_step="mend the row"
        ) from None
