"""Every image against every other, exactly, without holding the pairs.

57,715 images make 1.7 billion pairs, and their scores alone fill 13 GB. FNMR at a fixed FMR needs
far less: the scores of all genuine pairs, which are few, how many impostor pairs there are, which
counting tells, and the highest impostor scores, deep enough for the largest FMR. `all_pairs` finds
those; `all_pairs.rates.measure_all_pairs` turns them into rates with intervals.

A pair is unordered and has two different images. Published tracks count otherwise: see
`all_pairs.counts`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.counts import PairCounts, count_pairs
from openmfr.evaluation.all_pairs.screen import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    NO_CUT,
    Pool,
    Precision,
    Side,
    Work,
    best_pairs,
    make_side,
    save_side,
)
from openmfr.evaluation.comparisons import Comparisons, to_cosine, unit_vectors
from openmfr.evaluation.rates import check_fmrs
from openmfr.run import progress
from openmfr.workers import choose_workers, do_all, usable_cpus

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: False match rates of the two challenge tracks, and one between.
DEFAULT_FMRS = (1e-4, 1e-5, 1e-6)

#: Impostor pairs that are held at least, if there are so many: resampling needs some.
_MIN_TAIL = 1_000

#: Pairs of one side that are held at most: with scores, rows and identities about 1 GiB.
_MAX_HELD = 2**24

_ROUNDING = 1 + 1e-12

#: Rows that are sampled on each side to guess where the tail begins.
_SAMPLED = 2_048

#: Rows of one person that are multiplied at once: few, as half of a square block is for nothing.
_GENUINE_ROWS = 12

#: Pieces that each process's work is cut into, for the progress bar and an even load.
_PIECES = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class AllPairs:
    """What is kept of all pairs: enough for FNMR at every FMR up to the largest asked for.

    Attributes:
        genuine: Every genuine pair.
        tail: The impostor pairs that score above `floor`, highest first.
        floor: No other impostor pair scores above it, and with those that score exactly this the
            tail has at least `depth` pairs; −inf if the tail has all impostor pairs.
        depth: How many impostor scores are known.
        fmrs: The false match rates that the tail was made for.
        counts: Images of each identity on either side, and the numbers of pairs.
    """

    genuine: Comparisons
    tail: Comparisons
    floor: float
    depth: int
    fmrs: tuple[float, ...]
    counts: PairCounts


def all_pairs(
    embedding: FloatArray,
    identity: IntArray,
    *,
    fmrs: Sequence[float] = DEFAULT_FMRS,
    first: BoolArray | None = None,
    second: BoolArray | None = None,
    depth: float = 4,
    precision: Precision = "float32",
    workers: int = 1,
    block: tuple[int, int] = (BLOCK_ROWS, BLOCK_COLUMNS),
) -> AllPairs:
    """Score all pairs within a set of images, or between two sets, and keep what rates need.

    Args:
        embedding: One row for each image, of any length, shape (N, D); may be memory-mapped.
        identity: Who is on each image, from 0, shape (N,).
        fmrs: False match rates that will be asked for, each above 0 and below 1.
        first: Images of the first set, shape (N,); all by default.
        second: Images of the second, none of them in the first, shape (N,); the same set by
            default.
        depth: How many times more impostor scores to keep than the largest `fmr` needs. Resampling
            draws look-alikes several times or not at all, and needs the depth.
        precision: What screens the pairs: "bfloat16" is quicker on CPUs that multiply it, about
            half the time. The result is the same.
        workers: Processes, from 1. The result is the same.
        block: Rows and columns of one product. The result is the same.

    Returns:
        Genuine scores and the impostors' tail, both in float64 as `cosine_of_pairs` has them.

    Raises:
        UserError: If shapes disagree, an image in use has no identity, a row is zero or not
            finite, two sets overlap, `workers` is below 1, there are no impostor pairs, or more
            pairs than fit in memory would have to be held.

    Example:
        >>> embedding = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> pairs = all_pairs(embedding, np.array([0, 0, 1]), fmrs=[0.5])
        >>> pairs.genuine.score.tolist(), pairs.tail.score.tolist(), pairs.counts.impostors
        ([0.8], [0.6, 0.0], 2)
    """
    workers = choose_workers(workers)
    set_a, set_b = _checked_sets(embedding, identity, first, second)
    counts = count_pairs(identity[set_a], None if set_b is None else identity[set_b])
    kept = _tail_length(counts, fmrs, depth)
    sides = [
        make_side(
            embedding,
            rows,
            np.searchsorted(counts.identities, identity[rows]),
            precision=precision,
        )
        for rows in (set_a, set_b)
        if rows is not None
    ]
    genuine = _genuine(embedding, identity, sides[0], sides[-1], is_same=set_b is None)
    work = Work(
        embedding=embedding,
        first=sides[0],
        second=None if set_b is None else sides[1],
        starts=range(0, set_a.size, block[0]),
        cut=NO_CUT,
        depth=kept,
        block=block,
    )
    score, a, b = _highest(work, counts.impostors, workers=workers)
    floor = -np.inf if kept == counts.impostors else float(score.min())
    above = score > floor
    score, a, b = score[above], a[above], b[above]
    if set_b is None:
        a, b = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((b, a, -score))
    return AllPairs(
        genuine=genuine,
        tail=_comparisons(score[order], a[order], b[order], identity, is_genuine=False),
        floor=floor,
        depth=kept,
        fmrs=tuple(fmrs),
        counts=counts,
    )


def _checked_sets(
    embedding: FloatArray, identity: IntArray, first: BoolArray | None, second: BoolArray | None
) -> tuple[IntArray, IntArray | None]:
    """Rows of both sets; None for the second if it is the first."""
    count = identity.shape[0]
    if embedding.ndim != 2 or identity.shape != (embedding.shape[0],):
        raise UserError(
            where="embeddings",
            found=f"shape {embedding.shape} with identities of shape {identity.shape}",
            allowed="(N, D) with (N,)",
            next_step="evaluate embeddings with the labels of the same store",
        )
    for name, keep in (("first", first), ("second", second)):
        if keep is not None and (keep.shape != (count,) or keep.dtype != np.bool_):
            raise UserError(
                where=f"{name} set",
                found=f"{keep.dtype} of shape {keep.shape}",
                allowed=f"bool of shape ({count},)",
                next_step="say for each image whether it belongs to the set",
            )
    first = np.ones(count, dtype=np.bool_) if first is None else first
    is_same = second is None or np.array_equal(first, second)
    used = first if second is None else first | second
    nameless = np.flatnonzero(used & (identity < 0))
    if nameless.size:
        raise UserError(
            where=f"image {nameless[0]}",
            found=f"identity {identity[nameless[0]]}",
            allowed="integers from 0",
            next_step="leave images of unknown people out of the sets",
        )
    if is_same:
        return np.flatnonzero(first), None
    assert second is not None
    both = np.flatnonzero(first & second)
    if both.size:
        raise UserError(
            where=f"image {both[0]}",
            found=f"it and {both.size - 1:,} others in both sets",
            allowed="sets that are the same or have no image in common",
            next_step="compare the sets' difference, or one set with itself",
        )
    return np.flatnonzero(first), np.flatnonzero(second)


def _tail_length(counts: PairCounts, fmrs: Sequence[float], depth: float) -> int:
    """How many impostor scores to keep."""
    check_fmrs(fmrs)
    if not depth >= 1:
        raise UserError(
            where="depth", found=f"{depth:g}", allowed="from 1", next_step="leave it out"
        )
    if not counts.impostors:
        raise UserError(
            where="impostor pairs",
            found="none",
            allowed="at least one",
            next_step="compare images of at least two identities",
        )
    # One more than may match: the threshold lies just above the highest score that may not.
    needed = min(math.floor(max(fmrs) * counts.impostors * _ROUNDING) + 1, counts.impostors)
    for what, held in (("impostor", needed), ("genuine", counts.genuine)):
        if held > _MAX_HELD:
            raise UserError(
                where=f"{what} pairs to hold",
                found=f"{held:,} of {counts.impostors + counts.genuine:,}",
                allowed=f"up to {_MAX_HELD:,}",
                next_step="ask for a smaller fmr, or sample a pair list for larger ones",
            )
    wanted = max(math.ceil(needed * min(depth, _MAX_HELD)), _MIN_TAIL)
    return max(min(wanted, counts.impostors, _MAX_HELD), needed)


def _genuine(
    embedding: FloatArray, identity: IntArray, first: Side, second: Side, *, is_same: bool
) -> Comparisons:
    """Score all genuine pairs, in the order of identities.

    `einsum` sums the products of two rows in the same order whatever it sums beside them, so these
    are the bits of `cosine_of_pairs`, at a fraction of its cost.
    """
    people = np.intersect1d(first.code, second.code)
    scores: list[FloatArray] = [np.empty(0)]
    rows_a, rows_b = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    bounds = [np.searchsorted(s.code, people, side=e) for s in (first, second)
              for e in ("left", "right")]  # fmt: skip
    for start_a, end_a, start_b, end_b in zip(*(bound.tolist() for bound in bounds), strict=True):
        if is_same and end_a - start_a < 2:
            continue
        a = embedding[first.index[start_a:end_a]].astype(np.float64)
        b = a if is_same else embedding[second.index[start_b:end_b]].astype(np.float64)
        for top in range(0, len(a), _GENUINE_ROWS):
            left = top if is_same else 0
            product = np.einsum("id,jd->ij", a[top : top + _GENUINE_ROWS], b[left:])
            p, q = _pairs_of(*product.shape, is_same=is_same)
            row_a, row_b = p + (start_a + top), q + (start_b + left)
            scores.append(to_cosine(product[p, q], first.length[row_a], second.length[row_b]))
            rows_a.append(first.index[row_a])
            rows_b.append(second.index[row_b])
    rows = np.concatenate(rows_a), np.concatenate(rows_b)
    return _comparisons(np.concatenate(scores), *rows, identity, is_genuine=True)


@lru_cache(maxsize=256)
def _pairs_of(height: int, width: int, *, is_same: bool) -> tuple[IntArray, IntArray]:
    """Rows and columns of a product; of a set with itself, those above the diagonal."""
    keep = np.ones((height, width), dtype=np.bool_)
    p, q = np.nonzero(np.triu(keep, 1) if is_same else keep)
    return p, q


def _highest(work: Work, impostors: int, *, workers: int) -> tuple[FloatArray, IntArray, IntArray]:
    """Find the impostor pairs with the highest scores, `work.depth` of them; ties at random.

    A guess of the lowest of them, from a sample, spares most pairs a second look. If it was too
    high, too few pairs come back, and the search is repeated from lower down.
    """
    share = work.depth / impostors
    while True:
        cut = _guess_cut(work, share)
        pool = Pool(work.depth, cut)
        with pieces_of(replace(work, cut=cut), workers) as pieces:
            total = len(work.starts)
            with progress("all pairs", total=total, unit="blocks") as advance:
                for found in do_all(best_pairs, pieces, workers=workers, what="evaluate"):
                    pool.add(found.score, found.index_a, found.index_b)
                    advance(found.blocks)
        score, a, b = pool.tighten()
        if score.size == work.depth:
            return score, a, b
        assert cut > NO_CUT, "without a cut every impostor pair is found"
        share *= 2 * work.depth / max(score.size, work.depth / 16)


def _guess_cut(work: Work, share: float) -> float:
    """Guess a score that a little more than this share of the impostor pairs reaches."""
    first, second = work.first, work.first if work.second is None else work.second
    assert isinstance(first, Side)
    assert isinstance(second, Side)
    assert not isinstance(work.embedding, Path)
    rng = np.random.default_rng(0)
    a, b = (
        rng.choice(side.index.size, min(side.index.size, _SAMPLED), replace=False)
        for side in (first, second)
    )
    unit_a, unit_b = (
        unit_vectors(work.embedding, side.index[rows]).astype(np.float32)
        for side, rows in ((first, a), (second, b))
    )
    score = (unit_a @ unit_b.T)[first.code[a][:, None] != second.code[b][None, :]]
    expected = share * score.size
    rank = math.ceil(1.1 * expected + 3 * math.sqrt(expected) + 10)
    if rank >= score.size:
        return NO_CUT
    return float(np.partition(score, score.size - rank)[score.size - rank])


@contextmanager
def pieces_of(work: Work, workers: int) -> Iterator[list[Work]]:
    """Cut the work into pieces; what other processes need lies in files while they live."""
    blocks = len(work.starts)
    count = min(blocks, workers * _PIECES)
    # Taken in turn, as the first blocks of a triangle have most to do.
    parts = [work.starts[i::count] for i in range(count)]
    if workers == 1 or count == 1:
        yield [replace(work, starts=part) for part in parts]
        return
    with tempfile.TemporaryDirectory(prefix="openmfr-") as name:
        folder = Path(name)
        assert not isinstance(work.embedding, Path)
        assert isinstance(work.first, Side)
        np.save(folder / "embedding.npy", work.embedding)
        shared = replace(
            work,
            embedding=folder / "embedding.npy",
            first=save_side(work.first, folder / "first"),
            second=save_side(work.second, folder / "second")
            if isinstance(work.second, Side)
            else None,
            threads=max(1, usable_cpus() // workers),
        )
        yield [replace(shared, starts=part) for part in parts]


def _comparisons(
    score: FloatArray, a: IntArray, b: IntArray, identity: IntArray, *, is_genuine: bool
) -> Comparisons:
    return Comparisons(
        score=score,
        is_genuine=np.full(score.size, is_genuine),
        index_a=a,
        index_b=b,
        identity_a=identity[a],
        identity_b=identity[b],
    )
