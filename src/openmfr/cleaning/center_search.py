"""Which centres are alike: all pairs above a threshold, and the nearest centres of a vector.

Two million centres make 2·10¹² pairs. `similar_centers` looks at all of them as the all-pairs
evaluation does, with the same engine (`evaluation.all_pairs.screen`): blocks of the upper triangle
are multiplied in low precision, the threshold is applied within the block, and what may reach it
is scored again in float64. So the pairs do not depend on block, precision, threads, processes or
ranks. Above some hundred thousand centres the approximate way is quicker: faiss lists candidates
for each centre, which are then scored in the same way, so that it may miss a pair but adds none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.approximate import (
    MAX_PAIRS,
    gathered,
    listed_centers,
    listed_pairs,
    make_index,
)
from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.scores import pieces_of
from openmfr.evaluation.all_pairs.screen import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    Pool,
    Precision,
    Side,
    Work,
    best_pairs,
    highest_precision,
    make_side,
    margin,
)
from openmfr.evaluation.comparisons import cosine_between
from openmfr.run import progress
from openmfr.workers import do_all

if TYPE_CHECKING:
    from openmfr.distributed import Ranks

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
Method = Literal["exact", "approximate"]

#: Vectors that are looked up at once, and centres that they are multiplied with at once.
_ROWS, _COLUMNS = 512, 8_192

#: Candidates above those wanted, so that rounding seldom asks for a second look.
_SPARE = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class CenterPairs:
    """P pairs of centres, the most similar first; pairs of one score by `first`, then `second`.

    Attributes:
        first: Row of one centre, shape (P,), int64.
        second: Row of the other, higher than `first`, shape (P,), int64.
        score: Cosine, shape (P,), float64.
        recall: Share of all such pairs that were found: 1 by the exact way. By the approximate way
            an estimate from the pairs of a sample of centres; NaN if those have none.
    """

    first: IntArray
    second: IntArray
    score: FloatArray
    recall: float = 1.0

    def __len__(self) -> int:
        return int(self.score.size)


def similar_centers(
    centers: FloatArray,
    threshold: float,
    *,
    method: Method = "exact",
    processes: int = 1,
    threads: int | None = None,
    precision: Precision = "float32",
    ranks: Ranks | None = None,
    block: tuple[int, int] = (BLOCK_ROWS, BLOCK_COLUMNS),
) -> CenterPairs:
    """Find all pairs of centres that are at least so similar.

    Args:
        centers: Of any length, shape (C, D); may be memory-mapped.
        threshold: Lowest cosine of a pair, above −1 and below 1.
        method: "exact", or "approximate" through faiss (extra `ann`).
        processes: Processes of the exact way, on this machine (on each rank), from 1.
        threads: Threads of each process; None leaves the libraries' setting.
        precision: What screens the pairs of the exact way: "bfloat16" is quicker on CPUs that
            multiply it. The result is the same.
        ranks: Processes under torchrun that share the work. All give the same centres, and all
            receive the whole result.
        block: Rows and columns of one product. The result is the same.

    Returns:
        The pairs, the most similar first.

    Raises:
        UserError: If the threshold is out of range, a centre is zero or not finite, or more than
            `MAX_PAIRS` pairs are found.

    Example:
        >>> pairs = similar_centers(np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]]), 0.5)
        >>> pairs.first.tolist(), pairs.second.tolist(), pairs.score.round(2).tolist()
        ([0, 1], [2, 2], [0.8, 0.6])

    Source: MFR paper, §2.2: pairs of classes whose centres are more similar than `thre_inter`.
    """
    if not -1 < threshold < 1:
        raise UserError(
            where="inter_threshold",
            found=f"{threshold:g}",
            allowed="above -1 and below 1",
            next_step="take it from the distribution of scores, often 0.5 to 0.8",
        )
    _check_directions(centers, "centre")
    recall = 1.0
    with _torch_threads(threads):
        if method == "exact":
            side = _side(centers, precision)
            starts = range(0, len(centers), block[0])
            work = Work(
                embedding=centers,
                first=side,
                second=None,
                # Taken in turn, as the first blocks of a triangle have most to do.
                starts=starts if ranks is None else starts[ranks.rank :: ranks.size],
                cut=threshold,
                depth=MAX_PAIRS + 1,
                block=block,
                threads=threads,
            )
            score, a, b = _searched(work, processes)
        else:
            score, a, b, recall = listed_pairs(centers, threshold, threads, ranks)
    first, second, score = gathered(ranks, np.minimum(a, b), np.maximum(a, b), score)
    if score.size > MAX_PAIRS:
        raise UserError(
            where="inter_threshold",
            found=f"{threshold:g}, which more than {MAX_PAIRS:,} pairs of centres reach",
            allowed="a threshold that tells people apart",
            next_step="raise it",
        )
    order = np.lexsort((second, first, -score))
    return CenterPairs(first=first[order], second=second[order], score=score[order], recall=recall)


def nearest_centers(
    queries: FloatArray,
    centers: FloatArray,
    *,
    count: int,
    method: Method = "exact",
    ranks: Ranks | None = None,
) -> tuple[IntArray, FloatArray]:
    """Find the centres most similar to each vector.

    Args:
        queries: Of any length, shape (M, D); may be memory-mapped.
        centers: Of any length, shape (C, D).
        count: How many centres of each, K, from 1 to C.
        method: As for `similar_centers`. Of the approximate way at most 32 are found.
        ranks: Processes that share the queries; all receive the whole result.

    Returns:
        Rows of the centres, shape (M, K), int64, the most similar first and of equal ones that
        with the lower row; and their cosines, shape (M, K), float64.

    Raises:
        UserError: If `count` is out of range, or a vector is zero or not finite.

    Example:
        >>> centers = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
        >>> index, score = nearest_centers(np.array([[0.6, 0.8], [1.0, 0.0]]), centers, count=2)
        >>> index.tolist(), score.tolist()
        ([[1, 0], [0, 2]], [[0.8, 0.6], [1.0, 1.0]])
    """
    if not 1 <= count <= len(centers):
        raise UserError(
            where="count of nearest centres",
            found=f"{count}",
            allowed=f"1 to {len(centers):,}, as many as there are centres",
            next_step="ask for fewer",
        )
    _check_directions(centers, "centre")
    _check_directions(queries, "query")
    if method == "exact":
        side = _side(centers, "float32")
        nearest = partial(_nearest, centers=centers, side=side, count=count)
    else:
        nearest = partial(_nearest_listed, centers=centers, cells=make_index(centers), count=count)
    first, last = (0, len(queries)) if ranks is None else ranks.bounds(len(queries))
    own = queries[first:last]
    index = np.empty((len(own), count), dtype=np.int64)
    score = np.empty((len(own), count))
    with progress("nearest centres", total=len(own), unit="images") as advance:
        for start in range(0, len(own), _ROWS):
            part = slice(start, start + _ROWS)
            index[part], score[part] = nearest(np.asarray(own[part]))
            advance(len(index[part]))
    index, score = gathered(ranks, index.ravel(), score.ravel())
    return index.reshape(-1, count), score.reshape(-1, count)


def _check_directions(vectors: FloatArray, name: str) -> None:
    """Name the first row that has no direction."""
    for start in range(0, len(vectors), _ROWS):
        rows = np.asarray(vectors[start : start + _ROWS]).astype(np.float64)
        length = np.linalg.norm(rows, axis=1)
        bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
        if bad.size:
            raise UserError(
                where=f"{name} {start + bad[0]}",
                found=f"length {length[bad[0]]:g}",
                allowed="finite vectors other than zero",
                next_step="leave out identities whose images cancel each other or are not numbers",
            )


def _side(centers: FloatArray, precision: Precision) -> Side:
    rows = np.arange(len(centers))
    return make_side(centers, rows, rows, precision=precision)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Set PyTorch's threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _searched(work: Work, processes: int) -> tuple[FloatArray, IntArray, IntArray]:
    """Search blocks exactly, in several processes."""
    pool = Pool(work.depth, work.cut)
    if not work.starts:
        return pool.tighten()
    with pieces_of(work, processes) as pieces:
        if work.threads is not None:
            pieces = [replace(piece, threads=work.threads) for piece in pieces]
        with progress("similar centres", total=len(work.starts), unit="blocks") as advance:
            for found in do_all(best_pairs, pieces, workers=processes, what="clean"):
                pool.add(found.score, found.index_a, found.index_b)
                advance(found.blocks)
    return pool.tighten()


def _nearest(
    queries: FloatArray, centers: FloatArray, side: Side, count: int
) -> tuple[IntArray, FloatArray]:
    """The nearest centres of some rows, from the products that may be among the highest.

    A centre that was left out scores at most the lowest product that was not, plus the margin. A
    row in which that could reach the result is looked at again, with all centres that could.
    """
    import torch

    rows = _side(queries, "float32")
    query, matrix = torch.from_numpy(rows.matrix), torch.from_numpy(side.matrix)
    wanted = min(count + _SPARE, len(centers))
    product, place = torch.empty(len(query), 0), torch.empty(len(query), 0, dtype=torch.int64)
    with highest_precision():
        for left in range(0, len(matrix), _COLUMNS):
            columns = matrix[left : left + _COLUMNS]
            best = torch.mm(query, columns.t()).topk(min(wanted, len(columns)), dim=1)
            product = torch.cat([product, best.values], dim=1)
            place = torch.cat([place, best.indices + left], dim=1)
            product, which = product.topk(min(wanted, product.shape[1]), dim=1)
            place = place.gather(1, which)
        row = np.repeat(np.arange(len(query)), wanted)
        index, score = _ranked(queries, row, centers, place.numpy().ravel(), count)
        if wanted == len(centers):
            return index, score
        allowed = margin(float(rows.error.max()), float(side.error.max()), centers.shape[1])
        again = np.flatnonzero(product[:, -1].double().numpy() + allowed >= score[:, -1])
        for i in again:
            reach = torch.mv(matrix, query[i]).double().numpy() >= score[i, -1] - allowed
            near = np.flatnonzero(reach)
            row = np.full(near.size, i)
            found = _ranked(queries, row, centers, near, count)
            index[i], score[i] = found[0][0], found[1][0]
    return index, score


def _nearest_listed(
    queries: FloatArray, centers: FloatArray, cells: Any, count: int
) -> tuple[IntArray, FloatArray]:
    """The nearest centres of some rows among those that faiss lists."""
    listed = listed_centers(cells, queries)
    row = np.repeat(np.arange(len(queries)), listed.shape[1])
    return _ranked(queries, row, centers, listed.ravel(), count)


def _ranked(
    queries: FloatArray,
    row: IntArray,
    centers: FloatArray,
    index: IntArray,
    count: int,
) -> tuple[IntArray, FloatArray]:
    """Score candidates canonically, and keep the best `count` of each row.

    Args:
        queries: Shape (M, D).
        row: Which query each candidate is for, ascending, as many for each, shape (P,).
        centers: Shape (C, D).
        index: Which centre it is, shape (P,); −1 for none, which scores −∞.
        count: How many are wanted.

    Returns:
        Centres and scores, shape (queries in `row`, count).
    """
    score = cosine_between(queries, row, centers, index)
    score = np.where(index < 0, -np.inf, score)
    height = int(np.unique(row).size)
    order = np.lexsort((index, -score, row)).reshape(height, -1)[:, :count]
    return index[order], score[order]
