"""Exact search in rows of float32, float16 or int8: a quick product screens, few rows are exact.

Every stored row is multiplied with the probe in its low precision, as fast as memory gives it. That
product only screens: who it shows to be out of the best k is dropped; the embeddings of the others
are read in float32 and scored by `kernels.exact_scores`. So the result does not depend on the
precision, down to the last bit.

**Why the screen loses nothing.** Let x be a row of the gallery, p the probe, both float32 of length
1 (within 10⁻⁷), x̂ = x + e and p̂ = p + f what the product is made of. The rounding errors are not
estimated but measured: ε ≥ ‖e‖ is kept for each row, φ ≥ ‖f‖ is computed for the probe. Then

- rounding of the inputs: x̂·p̂ − x·p = e·p + x·f + e·f, so by Cauchy and Schwarz its size is at most
  ε + φ + εφ. Components of a row of 512 rounded to 1/127 of the largest give ε ≈ 0.008, rounded to
  float16 ε ≈ 0.0002.
- products in float32 (float32 and float16 rows): a sum of D products, in any order, fused or not,
  errs by at most γ (1 + ε)(1 + φ), with γ = nu / (1 − nu), n = D + 1 and u = 2⁻²³, twice what
  rounding to nearest needs.
- products of int8 rows with an int16 probe are exact: they are integers below 2³¹, because the
  probe's largest is at most (2³¹ − 1) / (127 D), and at most 32,767.
- the factors that turn products into scores, the margin itself and the comparison: a few roundings
  of numbers below 2, which 8 u covers; and lengths that are not quite 1, with the score's own
  rounding: 10⁻⁷.

So a score lies within ε (1 + φ) + φ + γ (1 + ε)(1 + φ) + 8 u + 10⁻⁷ of what the screen says. The
k-th best person's lower end only rises while rows go by, and a person whose upper ends all stay
below it is not among the k best; nobody else is dropped, and ties are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from openmfr.deploy.gallery import kernels
from openmfr.deploy.gallery.four_rows import COLUMNS
from openmfr.deploy.gallery.records import Float32Array, IntArray

FloatArray = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]

Precision = Literal["float32", "float16", "int8"]

#: How each precision is stored; float16 as its bits, which is how the compiled loops know it.
STORED: Final[dict[Precision, npt.DTypeLike]] = {
    "float32": np.float32,
    "float16": np.uint16,
    "int8": np.int8,
}

#: Rows whose products are made before the best are chosen: the products stay in the cache.
BLOCK: Final = 65_536

#: Bytes of rows that stay in the cache while several probes are multiplied with them.
_CACHED: Final = 2**20

#: float16 rows are kept this much larger: none of their numbers is then so small that a processor
#: needs a detour for it.
_HALF_SCALE: Final = 2.0**15

_UNIT: Final = 2.0**-23

#: Rows that are scored exactly at once.
_RESCORED: Final = 64

#: Reads the exact rows of some places in the matrix, float32 (n, D); NaN for those that are gone.
ReadExact = Callable[[IntArray], Float32Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """Rows in low precision, n of them.

    Attributes:
        precision: Of the rows.
        rows: As `STORED` says, shape (n, D'), D' being D filled up with zeros to `COLUMNS`.
        scale: A row times this is nearly the exact row, float32, shape (n,).
        rounding: By how much not: distance from the exact row, rounded up, float32, shape (n,).
        person: Number of each row's person, int32, shape (n,).
    """

    precision: Precision
    rows: npt.NDArray[Any]
    scale: Float32Array
    rounding: Float32Array
    person: Int32Array

    def __len__(self) -> int:
        return int(self.person.size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Best:
    """The best people of a search, the best first, at most k of them.

    Attributes:
        place: Row of each one's best image.
        score: Its score, float64.
    """

    place: IntArray
    score: FloatArray


def stored_columns(dim: int) -> int:
    """Columns that rows of D numbers are stored in.

    Example:
        >>> stored_columns(512), stored_columns(100)
        (512, 128)
    """
    return -(-dim // COLUMNS) * COLUMNS


def make_matrix(embedding: Float32Array, person: Int32Array, precision: Precision) -> Matrix:
    """Round rows of length 1.

    Args:
        embedding: Float32, shape (n, D).
        person: Number of each row's person, shape (n,).
        precision: To round to.
    """
    count, dim = embedding.shape
    rows = np.zeros((count, stored_columns(dim)), dtype=STORED[precision])
    scale = np.ones(count, dtype=np.float32)
    rounding = np.zeros(count, dtype=np.float32)
    if precision == "float32":
        rows[:, :dim] = embedding
    elif precision == "float16":
        half = (embedding * np.float32(_HALF_SCALE)).astype(np.float16)
        rows[:, :dim] = half.view(np.uint16)
        scale[:] = 1 / _HALF_SCALE
        # Exact: a float16 is a float32, and so is the difference of two that are so near.
        error = half.astype(np.float32) * np.float32(1 / _HALF_SCALE) - embedding
        rounding[:] = np.linalg.norm(error, axis=1) * np.float32(1 + 1e-4) + np.float32(1e-9)
    else:
        kernels.round_to_bytes(np.ascontiguousarray(embedding), rows, scale, rounding)
    return Matrix(precision=precision, rows=rows, scale=scale, rounding=rounding, person=person)


def best_people(matrix: Matrix, probes: Float32Array, k: int, read_exact: ReadExact) -> list[Best]:
    """Find the k people whose best images score highest, exactly.

    Args:
        matrix: The gallery's rows.
        probes: Rows of length 1, float32, shape (P, D).
        k: How many people, from 1.
        read_exact: Reads the rows that the screen leaves over.

    Returns:
        For each probe: people by falling score, ties by the place of their best image.
    """
    return [
        _rescore(matrix, probe, k, read_exact, *candidates.left())
        for probe, candidates in zip(probes, _screen(matrix, probes, k), strict=True)
    ]


class _Candidates:
    """Rows that may be among the best, as far as the screen has come."""

    def __init__(self, k: int) -> None:
        self._best = np.full(k, -np.inf)
        self._best_person = np.full(k, -1, dtype=np.int32)
        self._row = np.empty(2 * BLOCK, dtype=np.int64)
        self._upper = np.empty(2 * BLOCK)
        self._count = 0

    def add(self, matrix: Matrix, part: slice, product: Any, factors: FloatArray) -> None:
        """Take the products of a block."""
        self._make_room(product.size)
        self._count = kernels.choose(
            product,
            matrix.scale[part],
            matrix.rounding[part],
            factors,
            matrix.person[part],
            part.start,
            self._best,
            self._best_person,
            self._row,
            self._upper,
            self._count,
        )

    def left(self) -> tuple[IntArray, FloatArray]:
        """Rows that may be needed and the upper ends of their scores."""
        upper = self._upper[: self._count]
        keep = upper >= self._best.min()
        return self._row[: self._count][keep], upper[keep]

    def _make_room(self, rows: int) -> None:
        if self._count + rows <= self._row.size:
            return
        row, upper = self.left()
        size = max(self._row.size, 2 * (row.size + rows))
        self._row, self._upper = np.empty(size, dtype=np.int64), np.empty(size)
        self._row[: row.size], self._upper[: row.size] = row, upper
        self._count = row.size


def _screen(matrix: Matrix, probes: Float32Array, k: int) -> list[_Candidates]:
    """Multiply probes with all rows, as fast as they come from memory; read once for all probes."""
    candidates = [_Candidates(k) for _ in probes]
    wide = np.zeros((len(probes), matrix.rows.shape[1]), dtype=np.float32)
    wide[:, : probes.shape[1]] = probes
    rounded = [_rounded_probe(probe, matrix.precision) for probe in wide]
    block = BLOCK
    if len(probes) > 1:
        block = max(4, min(BLOCK, _CACHED // matrix.rows[:1].nbytes))
    kind = np.int32 if matrix.precision == "int8" else np.float32
    buffer = np.empty(min(block, len(matrix)), dtype=kind)
    for start in range(0, len(matrix), block):
        part = slice(start, min(start + block, len(matrix)))
        product = buffer[: part.stop - start]
        for own, (probe, factors) in zip(candidates, rounded, strict=True):
            kernels.products(matrix.rows[part], probe, product)
            own.add(matrix, part, product, factors)
    return candidates


def _rounded_probe(exact: Float32Array, precision: Precision) -> tuple[Any, FloatArray]:
    """What rows are multiplied with, and the factors of `kernels.choose`."""
    if precision != "int8":
        return exact, _factors(1.0, 0.0, exact.size)
    largest = min(32_767, (2**31 - 1) // (127 * exact.size))
    unit = float(np.abs(exact).max()) / largest
    probe = np.rint(exact.astype(np.float64) / unit).astype(np.int16)
    error = float(np.linalg.norm(unit * probe.astype(np.float64) - exact))
    return probe, _factors(unit, error, 0)


def _factors(unit: float, error: float, summed: int) -> FloatArray:
    """Factor of the product; of a row's rounding in its margin; and the rest of the margin.

    Args:
        unit: What a product of the probe is multiplied with.
        error: φ of the module's docstring.
        summed: Products that are summed in float32; 0 if sums are exact.
    """
    roundings = (summed + 1) * _UNIT if summed else 0.0
    gamma = roundings / (1 - roundings)
    rest = error + gamma * 2 * (1 + error) + 8 * _UNIT + 1e-7  # ε is at most 1
    return np.array([unit, 1 + error, rest])


def _rescore(
    matrix: Matrix,
    probe: Float32Array,
    k: int,
    read_exact: ReadExact,
    row: IntArray,
    upper: FloatArray,
) -> Best:
    """Score the rows that the screen left over, and choose."""
    score_of = np.full(row.size, -np.inf)
    order = np.argsort(-upper, kind="stable")
    for start in range(0, row.size, _RESCORED):
        part = order[start : start + _RESCORED]
        if start and upper[part[0]] < _kth(matrix.person[row], score_of, k):
            break  # nobody below can be among the best
        score = kernels.exact_scores(read_exact(row[part]), probe)
        score_of[part] = np.where(np.isnan(score), -np.inf, score)
    is_scored = score_of > -np.inf
    row, score = row[is_scored], score_of[is_scored]
    ranked = np.lexsort((row, -score))
    _, first = np.unique(matrix.person[row[ranked]], return_index=True)
    chosen = ranked[np.sort(first)[:k]]
    return Best(place=row[chosen], score=score[chosen])


def _kth(person: Int32Array, score: FloatArray, k: int) -> float:
    """Score of the k-th best person so far; −∞ if there are fewer."""
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > -np.inf]
    _, first = np.unique(person[order], return_index=True)
    return float(score[order[np.sort(first)[k - 1]]]) if first.size >= k else -np.inf
