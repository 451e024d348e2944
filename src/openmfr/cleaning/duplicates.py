"""Copies of one photo: useless within an identity, a wrong label across two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.center_search import similar_centers
from openmfr.evaluation.comparisons import unit_vectors

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def find_duplicates(
    embedding: FloatArray,
    keep: BoolArray,
    own_score: FloatArray,
    threshold: float,
) -> tuple[IntArray, IntArray]:
    """Find images that repeat another one, of the same identity or of another.

    Near-duplicates are a symmetric relation; which of two goes is decided by one order of all
    images: the one that fits its identity better stays, of equals the first in the store. An image
    only goes for one that stays itself.

    Args:
        embedding: One row for each image, any length, shape (N, D).
        keep: Images that are looked at, shape (N,).
        own_score: Cosine to the centre of their identity, shape (N,); NaN where unknown.
        threshold: Cosine from which on two images are the same photo, −1 to 1.

    Returns:
        Rows that repeat, ascending, and the row that each of them repeats, shape (K,).
    """
    rows = np.flatnonzero(keep)
    if rows.size < 2:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    pairs = similar_centers(unit_vectors(embedding, rows).astype(np.float32), threshold)
    fitness = np.nan_to_num(own_score[rows].astype(np.float64), nan=-np.inf)
    rank = np.empty(rows.size, dtype=np.int64)
    rank[np.lexsort((rows, -fitness))] = np.arange(rows.size)
    better = np.where(rank[pairs.first] < rank[pairs.second], pairs.first, pairs.second)
    worse = np.where(rank[pairs.first] < rank[pairs.second], pairs.second, pairs.first)
    of = np.full(rows.size, -1, dtype=np.int64)
    for stays, goes in zip(
        *(column[np.lexsort((rank[worse], rank[better]))] for column in (better, worse)),
        strict=True,
    ):
        if of[stays] < 0 and of[goes] < 0:
            of[goes] = stays
    gone = np.flatnonzero(of >= 0)
    return rows[gone], rows[of[gone]]
