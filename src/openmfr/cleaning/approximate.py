"""The approximate search for similar centres: faiss lists candidates, which are scored exactly.

An inverted file: k-means cuts space into about 2√C cells, and for each centre the 16 nearest cells
are searched. In them centres are held in one bit for each dimension (4-bit codes of 4 dimensions),
which faiss compares many at a time. Codes are coarse, but they only have to bring a centre's
look-alikes among the 32 best. (Tried against it on 25,000 clustered centres of 512 dimensions, at
recall 0.99 and more: plain vectors in the cells, bytes in them, and HNSW, of which building alone
takes as long as the exact search; the codes' time grows least with the number of centres.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from openmfr.evaluation.all_pairs.screen import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    Work,
    best_pairs,
    make_side,
)
from openmfr.evaluation.comparisons import cosine_of_pairs, unit_vectors
from openmfr.run import progress

if TYPE_CHECKING:
    from openmfr.distributed import Ranks

FloatArray = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

#: Pairs that are found at most: with scores and rows about half a GiB.
MAX_PAIRS = 2**24

#: Candidates that faiss lists for each centre.
_LISTED = 32

#: Cells that faiss looks into for each centre.
_PROBES = 16

#: Dimensions that faiss codes in four bits, and vectors that it learns each cell from.
_CODED, _LEARNED = 4, 40

#: Codes of four bits.
_CODES = 16

#: Centres that are compared with the sample at once.
_SLICE = 65_536

#: Centres whose pairs are searched exactly as well, to say how many the approximate way finds.
_SAMPLED = 1_024

#: Centres that are looked up, or added, at once.
_ROWS = 8_192


def gathered(ranks: Ranks | None, *columns: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Put the rows of all ranks together, in the order of ranks; columns are equally long."""
    if ranks is None or ranks.size == 1:
        return list(columns)
    import torch

    sizes = ranks.gather(torch.tensor([columns[0].size]), ranks.size).tolist()
    longest = max(1, *sizes)
    together = []
    for column in columns:
        padded = np.zeros(longest, dtype=column.dtype)
        padded[: column.size] = column
        whole = ranks.gather(torch.from_numpy(padded), longest * ranks.size).numpy()
        parts = whole.reshape(ranks.size, longest)
        together.append(np.concatenate([p[:n] for p, n in zip(parts, sizes, strict=True)]))
    return together


def listed_pairs(
    centers: FloatArray, threshold: float, threads: int | None, ranks: Ranks | None
) -> tuple[FloatArray, IntArray, IntArray, float]:
    """Score the pairs of centres that faiss lists, and estimate which share it finds.

    Args:
        centers: Of any length, shape (C, D).
        threshold: Lowest cosine of a pair.
        threads: Of faiss; None leaves its setting.
        ranks: Who shares the work; every rank makes the whole index.

    Returns:
        Scores and rows of this rank's share of the pairs, shape (P,), and the estimated recall.
    """
    import faiss

    size, before = len(centers), faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before if threads is None else threads)
    try:
        rows = np.arange(size)
        first, last = (0, size) if ranks is None else ranks.bounds(size)
        keys = _candidates(make_index(centers), centers, rows[first:last])
    finally:
        faiss.omp_set_num_threads(before)
    # A pair may be listed for both of its centres, on two ranks.
    keys = np.unique(gathered(ranks, keys)[0])
    recall = _recall(centers, keys, threshold)
    if ranks is not None:
        keys = keys[ranks.rank :: ranks.size]
    a, b = np.divmod(keys, size)
    score = cosine_of_pairs(centers, a, b)
    keep = score >= threshold
    return score[keep], a[keep], b[keep], recall


def make_index(centers: FloatArray) -> Any:
    """Cells of a k-means, in which a centre is held in one bit for each dimension."""
    import faiss

    size, dim = centers.shape
    if size < _CODES * _LEARNED:  # too few to learn codes from
        plain = faiss.IndexFlatIP(dim)
        plain.add(_unit(centers, np.arange(size)))
        return plain
    cells = max(1, min(int(2 * size**0.5), size // _LEARNED))
    parts = dim // _CODED if dim % _CODED == 0 else dim
    # faiss-cpu's own types know no parts of an index.
    index: Any = faiss.index_factory(dim, f"IVF{cells},PQ{parts}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False
    index.nprobe = min(_PROBES, cells)
    # A few centres are few to learn from; faiss would say so on the terminal.
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    learned = np.random.default_rng(0).permutation(size)[: max(cells, _CODES) * _LEARNED]
    index.train(_unit(centers, np.sort(learned)))
    for start in range(0, size, _ROWS):
        index.add(_unit(centers, np.arange(start, min(start + _ROWS, size))))
    return index


def listed_centers(index: Any, queries: FloatArray) -> IntArray:
    """List the centres that may be nearest to some vectors.

    Args:
        index: From `make_index`.
        queries: Of any length, shape (M, D).

    Returns:
        Rows of the centres in no order, shape (M, up to 32); −1 where the cells held too few.
    """
    rows = np.arange(len(queries))
    _, listed = index.search(_unit(queries, rows), min(_LISTED, int(index.ntotal)))
    return np.asarray(listed)


def _unit(centers: FloatArray, rows: IntArray) -> Float32Array:
    return unit_vectors(centers, rows).astype(np.float32)


def _candidates(index: Any, centers: FloatArray, rows: IntArray) -> IntArray:
    """Pairs that faiss lists for some centres: first · C + second, ascending, each once."""
    size = len(centers)
    keys = [np.empty(0, dtype=np.int64)]
    with progress("similar centres", total=rows.size, unit="centres") as advance:
        for start in range(0, rows.size, _ROWS):
            part = rows[start : start + _ROWS]
            _, listed = index.search(_unit(centers, part), min(_LISTED, size))
            a, b = np.repeat(part, listed.shape[1]), listed.ravel()
            is_pair = (b >= 0) & (a != b)  # −1 where the cells hold too few
            a, b = a[is_pair], b[is_pair]
            keys.append(np.unique(np.minimum(a, b) * size + np.maximum(a, b)))
            advance(part.size)
    return np.unique(np.concatenate(keys))


def _recall(centers: FloatArray, keys: IntArray, threshold: float) -> float:
    """Which share of the pairs of a sample of centres is among `keys`; NaN if they have none."""
    size = len(centers)
    sample = np.sort(np.random.default_rng(1).permutation(size)[:_SAMPLED])
    first = make_side(centers, sample, sample, precision="float32")
    exact = [np.empty(0, dtype=np.int64)]
    for start in range(0, size, _SLICE):
        rows = np.arange(start, min(start + _SLICE, size))
        work = Work(
            embedding=centers,
            first=first,
            second=make_side(centers, rows, rows, precision="float32"),
            starts=range(0, sample.size, BLOCK_ROWS),
            cut=threshold,
            depth=MAX_PAIRS,
            block=(BLOCK_ROWS, BLOCK_COLUMNS),
        )
        found = best_pairs(work)
        a, b = found.index_a, found.index_b
        exact.append(np.minimum(a, b) * size + np.maximum(a, b))
    pairs = np.unique(np.concatenate(exact))
    return float(np.isin(pairs, keys).mean()) if pairs.size else float("nan")
