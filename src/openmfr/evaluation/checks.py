"""Embeddings that are not what a protocol takes them for, found before anything is measured.

What can be seen in the rows themselves is an error: rows that are missing, broken, zero or all
alike, listed by the image's name. What cannot be seen is asked for or suspected: an array made
elsewhere is put in order by the paths that came with it, and scores that do not tell people apart
at all are called what they mostly are, rows in another order.

Length is no fault. Scores are cosines, so every embedding is brought to unit length when it is
compared; `Lengths` says what they were, for a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError, raise_together
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.protocols.sources import find_images, listed
from openmfr.evaluation.rates import auc
from openmfr.evaluation.sampling import sample_pairs

if TYPE_CHECKING:
    from openmfr.embed import Embeddings

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Images named in one error; the rest is counted.
_MAX_NAMED = 5
#: Rows looked at together, so that a memory-mapped array is not read whole.
_CHUNK = 65_536
#: Pairs of either side that the order is judged by, and people with two images that it takes.
_SAMPLED, _FEWEST = 1_000, 4
#: Standard errors above one half from which on an AUC is no accident.
_CLEAR = 4.0


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long embeddings are before they are compared.

    Attributes:
        smallest: Of all.
        median: Of all.
        largest: Of all.
    """

    smallest: float
    median: float
    largest: float

    @property
    def is_unit(self) -> bool:
        """Whether all are of length 1, as far as float16 can say."""
        return abs(self.smallest - 1) < 2e-3 and abs(self.largest - 1) < 2e-3

    def note(self) -> str:
        """Say it for a report; empty if they are of unit length.

        Example:
            >>> Lengths(smallest=8.0, median=21.5, largest=30.0).note()
            'Embeddings are 8 to 30 long (median 21.5); they are compared at unit length.'
        """
        if self.is_unit:
            return ""
        return (
            f"Embeddings are {self.smallest:.3g} to {self.largest:.3g} long (median "
            f"{self.median:.3g}); they are compared at unit length."
        )


def check_embeddings(
    embedding: FloatArray, *, sources: Sequence[str], needed: IntArray | None = None
) -> Lengths:
    """Check that there is a usable embedding for every image that will be compared.

    Args:
        embedding: Shape (N, D); may be memory-mapped.
        sources: Where each image came from: one for each row that there should be.
        needed: Rows that will be compared; all by default.

    Returns:
        How long the needed embeddings are.

    Raises:
        UserError: If the array has another number of rows than there are images, or is no matrix of
            floats; if no image is needed; or, together, if needed rows are missing (NaN), broken,
            zero, or all alike.

    Example:
        >>> check_embeddings(np.array([[3.0, 4.0], [0.0, 5.0]]), sources=["a.jpg", "b.jpg"])
        Lengths(smallest=5.0, median=5.0, largest=5.0)
    """
    _check_shape(embedding, len(sources))
    rows = np.arange(len(sources)) if needed is None else np.unique(needed)
    if not rows.size:
        raise UserError(
            where="images that are compared",
            found="none",
            allowed="at least one pair of them",
            next_step="check what the labels keep, and the lists",
        )
    length, is_missing, is_like_first = _look(embedding, rows)
    is_broken = ~np.isfinite(length) & ~is_missing
    faults = [
        _fault(sources, rows[is_missing], "no embedding", "embed them: labels may have left them"),
        _fault(sources, rows[is_broken], "numbers that are not finite", "check the model"),
        _fault(sources, rows[length == 0], "zeros", "check the model and these images"),
    ]
    raise_together([fault for fault in faults if fault is not None])
    if rows.size > 1 and is_like_first.all():
        raise UserError(
            where="embeddings",
            found=f"the same one for all {rows.size:,} images",
            allowed="different ones for different people",
            next_step="check that the model's weights were loaded and the images decoded",
        )
    return Lengths(
        smallest=float(length.min(initial=np.inf)),
        median=float(np.median(length)),
        largest=float(length.max(initial=0)),
    )


def align_by_path(
    embedding: FloatArray, paths: Sequence[str], sources: Sequence[str]
) -> FloatArray:
    """Put embeddings that were made elsewhere into the order of a store or list.

    Args:
        embedding: Shape (M, D), in any order.
        paths: Which image each row shows, M of them.
        sources: The order that is wanted, N of them, each found among the paths by its end, as
            `sources.find_images` finds images.

    Returns:
        Shape (N, D).

    Raises:
        UserError: If there are more or fewer paths than rows, a path occurs twice or is unclear, or
            images are missing: they are listed.

    Example:
        >>> align_by_path(np.array([[1.0], [2.0]]), ["b.jpg", "a.jpg"], ["a.jpg"]).tolist()
        [[2.0]]
    """
    _check_shape(embedding, len(paths))
    row_of = {path: row for row, path in enumerate(paths)}
    if len(row_of) < len(paths):
        twice = next(path for row, path in enumerate(paths) if row_of[path] != row)
        raise UserError(
            where="paths",
            found=f"{twice!r} more than once",
            allowed="one embedding for each image",
            next_step="say which one is meant: remove the others",
        )
    rows = find_images(
        sources, paths, where="paths", among="the embeddings", next_step="embed them too"
    )
    return embedding[rows]


def name_folders(embeddings: Sequence[Embeddings]) -> dict[str, Embeddings]:
    """Call embeddings of one store by the names of their folders, as reports do.

    Raises:
        UserError: If two have one name, or they embed different stores.
    """
    named = {part.path.resolve().name: part for part in embeddings}
    if len(named) < len(embeddings):
        names = [part.path.resolve().name for part in embeddings]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(
            where="embeddings",
            found=f"two folders of one name, {twice}",
            allowed="a different name for each",
            next_step="rename one: the report tells them apart by it",
        )
    check_same_store(embeddings)
    return named


def check_same_store(embeddings: Sequence[Embeddings]) -> None:
    """Check that models that stand side by side saw the same images.

    Raises:
        UserError: If they embed different stores.
    """
    first = embeddings[0]
    for part in embeddings[1:]:
        if part.store_fingerprint != first.store_fingerprint:
            raise UserError(
                where=str(part.path),
                found=f"embeddings of the store {part.store_path}",
                allowed=f"those of {first.store_path}, as {first.path} holds",
                next_step="evaluate them by themselves; those of the same faces with masks go with "
                "--masked",
            )


def suspicion(comparisons: Comparisons) -> str:
    """Say that scores look as if the rows were in another order; empty if they do not.

    Args:
        comparisons: Scored pairs of both sides.

    Returns:
        A note for a report: no proof, as a network without training scores like that too.

    Source:
        Mann & Whitney 1947: the AUC of scores without meaning is one half, with a variance of
        (Pg + Pi + 1) ÷ (12 · Pg · Pi).
    """
    genuine, impostor = comparisons.genuine, comparisons.impostor
    area = auc(genuine, impostor)
    error = ((genuine.size + impostor.size + 1) / (12 * genuine.size * impostor.size)) ** 0.5
    if area > 0.5 + _CLEAR * error:
        return ""
    return (
        f"Pairs of one person score no higher than pairs of two (AUC {area:.3f}): either the model "
        "knows nothing of faces, or its embeddings are in another order than the images."
    )


def order_suspicion(
    embedding: FloatArray, identity: IntArray, keep: BoolArray, *, seed: int = 0
) -> str:
    """Say the same of embeddings whose pairs are too many to be listed, from a sample of them.

    Args:
        embedding: Shape (N, D).
        identity: Who is on each image, shape (N,).
        keep: Images that are compared, shape (N,).
        seed: Of the sample.

    Returns:
        As `suspicion`; empty too where there are too few people to tell.
    """
    images = np.unique(identity[keep & (identity >= 0)], return_counts=True)[1]
    if (images >= 2).sum() < _FEWEST:
        return ""
    sampled = sample_pairs(identity, keep, pairs=_SAMPLED, seed=seed)
    return suspicion(sampled.compare(embedding, identity))


def _check_shape(embedding: FloatArray, rows: int) -> None:
    is_matrix = embedding.ndim == 2 and embedding.shape[1] > 0
    if not is_matrix or not np.issubdtype(embedding.dtype, np.floating) or len(embedding) != rows:
        raise UserError(
            where="embeddings",
            found=f"{embedding.dtype} of shape {embedding.shape}",
            allowed=f"floats of shape ({rows}, D): one row for each image, in the images' order",
            next_step="embed again, or put the rows in order by their paths",
        )


def _look(embedding: FloatArray, rows: IntArray) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Length of each row, whether it is NaN throughout, and whether it is like the first one."""
    length = np.empty(rows.size)
    is_missing, is_like_first = np.empty((2, rows.size), dtype=np.bool_)
    first = embedding[rows[:1]]
    for start in range(0, rows.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        values = embedding[rows[part]]
        length[part] = np.linalg.norm(values.astype(np.float64), axis=1)
        is_missing[part] = np.isnan(values).all(axis=1)
        is_like_first[part] = (values == first).all(axis=1)
    return length, is_missing, is_like_first


def _fault(sources: Sequence[str], rows: IntArray, found: str, next_step: str) -> UserError | None:
    if not rows.size:
        return None
    return UserError(
        where="embeddings",
        found=f"{found} for {listed([sources[row] for row in rows], most=_MAX_NAMED)}",
        allowed="finite vectors other than zero for every image that is compared",
        next_step=next_step,
    )
