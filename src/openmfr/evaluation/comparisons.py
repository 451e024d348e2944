"""What every verification protocol hands over: one score per pair, and who is in it.

A protocol is a small class that knows which images to compare. Its one duty is
`compare(embedding, identity) -> Comparisons`; `verification.measure` turns those into rates with
intervals, and the report draws them. Nothing behind this seam knows which protocol it was.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

#: Rows that are gathered at once: few enough for a core's cache, where they take a third of the
#: time.
CHUNK = 128

#: Lengths whose products neither overflow nor lose digits.
_SHORTEST, _LONGEST = 1e-100, 1e100


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparisons:
    """P scored pairs.

    Attributes:
        score: Cosine similarity, shape (P,), float64.
        is_genuine: Whether both images show one identity, shape (P,).
        index_a: Each pair's first image, a row of the embeddings, shape (P,).
        index_b: Its second image, shape (P,).
        identity_a: Identity of the first image, shape (P,).
        identity_b: Identity of the second image, shape (P,).
        fold: Fold of each pair, shape (P,); None if the protocol has none.
        kind: What the pair compares, for example mu, masked with unmasked, shape (P,); None if
            the protocol does not say.
    """

    score: FloatArray
    is_genuine: BoolArray
    index_a: IntArray
    index_b: IntArray
    identity_a: IntArray
    identity_b: IntArray
    fold: IntArray | None = None
    kind: StrArray | None = None

    def __len__(self) -> int:
        return int(self.score.size)

    @property
    def genuine(self) -> FloatArray:
        """Scores of the genuine pairs."""
        return self.score[self.is_genuine]

    @property
    def impostor(self) -> FloatArray:
        """Scores of the impostor pairs."""
        return self.score[~self.is_genuine]

    def only(self, keep: BoolArray) -> Comparisons:
        """Keep some of the pairs, shape (P,)."""
        columns: dict[str, Any] = {}
        for column in fields(self):
            values = getattr(self, column.name)
            columns[column.name] = None if values is None else values[keep]
        return Comparisons(**columns)

    def worst_false_matches(self, count: int) -> IntArray:
        """Return the pairs of different people that look most alike, highest score first."""
        pairs = np.flatnonzero(~self.is_genuine)
        return pairs[np.argsort(-self.score[pairs], kind="stable")[:count]]

    def worst_false_non_matches(self, count: int) -> IntArray:
        """Return the pairs of one person that look least alike, lowest score first."""
        pairs = np.flatnonzero(self.is_genuine)
        return pairs[np.argsort(self.score[pairs], kind="stable")[:count]]


class VerificationProtocol(Protocol):
    """Which images are compared with which."""

    def rows(self) -> IntArray:
        """Rows of the embeddings that are compared, each once, in rising order."""
        ...

    def compare(self, embedding: FloatArray, identity: IntArray) -> Comparisons:
        """Score the protocol's pairs.

        Args:
            embedding: One row for each image, shape (N, D).
            identity: Who is on each image, shape (N,).
        """
        ...


def cosine_of_pairs(
    embedding: FloatArray,
    index_a: IntArray,
    index_b: IntArray,
    *,
    length: FloatArray | None = None,
) -> FloatArray:
    """Score pairs of rows by the cosine of their angle, in float64.

    Args:
        embedding: Shape (N, D), of any length; may be memory-mapped.
        index_a: First row of each pair, shape (P,).
        index_b: Second row of each pair, shape (P,).
        length: Length of every row that occurs, as `float64_rows` gives it, shape (N,); saves
            half the time.

    Returns:
        Shape (P,), −1 to 1.

    Raises:
        UserError: If a row is zero or not finite.

    Example:
        >>> embedding = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> cosine_of_pairs(embedding, np.array([0, 0]), np.array([1, 2])).tolist()
        [1.0, 0.0]
    """
    lengths = None if length is None else (length, length)
    return cosine_between(embedding, index_a, embedding, index_b, lengths=lengths)


def cosine_between(
    first: FloatArray,
    index_a: IntArray,
    second: FloatArray,
    index_b: IntArray,
    *,
    lengths: tuple[FloatArray, FloatArray] | None = None,
) -> FloatArray:
    """Score rows of one array with rows of another: `cosine_of_pairs` for two.

    Args:
        first: Shape (N, D).
        index_a: First row of each pair, shape (P,).
        second: Shape (M, D).
        index_b: Second row of each pair, shape (P,).
        lengths: Length of every row of either that occurs, shapes (N,) and (M,).

    Returns:
        Shape (P,), −1 to 1: the same bits whatever pairs are scored beside one.

    Raises:
        UserError: If a row is zero or not finite.
    """
    score = np.empty(index_a.size)
    for start in range(0, index_a.size, CHUNK):
        part = slice(start, start + CHUNK)
        a, b = index_a[part], index_b[part]
        if lengths is None:
            (rows_a, length_a), (rows_b, length_b) = float64_rows(first, a), float64_rows(second, b)
        else:
            rows_a, rows_b = first[a].astype(np.float64), second[b].astype(np.float64)
            length_a, length_b = lengths[0][a], lengths[1][b]
        score[part] = to_cosine(np.einsum("pd,pd->p", rows_a, rows_b), length_a, length_b)
    return score


def to_cosine(product: FloatArray, length_a: FloatArray, length_b: FloatArray) -> FloatArray:
    """Divide scalar products by both lengths; shapes as numpy broadcasts them.

    Example:
        >>> to_cosine(np.array([3.0]), np.array([5.0]), np.array([1.0])).tolist()
        [0.6]
    """
    return np.clip(product / (length_a * length_b), -1, 1)


def unit_vectors(embedding: FloatArray, index: IntArray) -> FloatArray:
    """Bring rows to unit length, in float64.

    Args:
        embedding: Shape (N, D), of any length; may be memory-mapped.
        index: Which rows, shape (P,).

    Returns:
        Shape (P, D).

    Raises:
        UserError: If a row is zero or not finite.

    Example:
        >>> unit_vectors(np.array([[3.0, 4.0]]), np.array([0])).tolist()
        [[0.6, 0.8]]
    """
    rows, length = float64_rows(embedding, index)
    rows /= length[:, None]
    return rows


def float64_rows(embedding: FloatArray, index: IntArray) -> tuple[FloatArray, FloatArray]:
    """Copy rows in float64, and measure them.

    Args:
        embedding: Shape (N, D), of any length; may be memory-mapped.
        index: Which rows, shape (P,).

    Returns:
        The rows, shape (P, D), and the length of each, shape (P,).

    Raises:
        UserError: If a row is zero or not finite.
    """
    rows = embedding[index].astype(np.float64)
    length = np.sqrt(np.einsum("pd,pd->p", rows, rows))
    bad = np.flatnonzero(~((length > _SHORTEST) & (length < _LONGEST)))
    if bad.size:
        raise UserError(
            where=f"embedding {index[bad[0]]}",
            found=f"length {length[bad[0]]:g}",
            allowed="finite vectors other than zero",
            next_step="embed the image (labels may have left it out), or check the model",
        )
    return rows, length
