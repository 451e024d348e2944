"""Finds the impostor pairs that score highest, exactly, in time little above one matrix product.

Every pair is multiplied once, in blocks, in float32 or bfloat16. That product only screens: a pair
whose product shows that it cannot be among the best is dropped, every other one is scored again by
`comparisons.cosine_of_pairs`, in float64, and only that *canonical* score counts. So the result
does not depend on the precision, the block size, threads or processes, down to the last bit.

**Why the screen loses nothing.** Let x, y be two unit rows in float64 and x̂ = x + e, ŷ = y + f what
they become in the low precision. The rounding errors are not estimated, they are measured: ε = ‖e‖
and φ = ‖f‖ are computed for each row, in float64. Then

- rounding of the inputs: x̂·ŷ − x·y = e·y + x·f + e·f, so by Cauchy and Schwarz its size is at most
  ε + φ + εφ. (Rounded to nearest, bfloat16 with its 8 significant bits errs by up to 2⁻⁸ of each
  component, so ε ≤ 2⁻⁸ always, and both inputs cost up to 2⁻⁷ + 2⁻¹⁶ ≈ 0.0078. The components of
  a row rarely all err so much: measured ε are about 0.0016, and the margin is less than half.)
- accumulation: products of bfloat16 numbers are exact in float32, those of float32 numbers are
  rounded. A sum of D products, in any order, fused or not, errs by at most γ Σ|x̂ᵢŷᵢ| ≤
  γ (1 + ε)(1 + φ), with γ = nu / (1 − nu) and n = D + 1 roundings. We take u = 2⁻²³, twice what
  rounding to nearest needs, so that a unit that truncates is covered as well. Numbers below 2⁻¹²⁶
  may be flushed to zero; 10⁻³⁰ covers it.
- the canonical score itself errs in the same way with u = 2⁻⁵³, and the float64 rows have length 1
  within a few 2⁻⁵³; 10⁻⁹ covers both, and the float64 sums of ε.
- rounding of the output: a pair with canonical score ≥ c has a float32 sum ≥ c − margin ≥ g, where
  g is the largest number of the output's own precision that is ≤ c − margin. Rounding is monotone
  and leaves g as it is, so what is stored is ≥ g, whether rounded to nearest, up or down. Hence the
  screen asks for `product >= g`, and the output costs no margin beyond the step of its grid.

A matrix library that accumulates in less than float32 would void the second point. PyTorch's CPU
kernels do not; `check_accumulation` tries it, once in each process, and refuses a screen that does.
float32 products are made with `torch.set_float32_matmul_precision("highest")`, whatever the caller
had set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import CHUNK, cosine_of_pairs, float64_rows

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
Precision = Literal["float32", "bfloat16"]

#: Rows and columns of one product. Square blocks read least, and small ones waste little where a
#: triangle is cut into squares; results of 4 MiB stay in the caches.
BLOCK_ROWS, BLOCK_COLUMNS = 1_024, 1_024

#: Below the lowest cosine: with this cut every pair is a candidate.
NO_CUT = -2.0

#: Columns whose maximum is looked at before they are.
_RUN = 512

#: Pairs that are scored again at once: their rows stay in the caches.
_RESCORED = 2_048

#: Candidates that a pool takes above twice its depth before it is sorted out.
_SLACK = 65_536


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One side of the comparison, its rows sorted by identity.

    Attributes:
        index: Rows of the embeddings, shape (M,).
        code: Identity of each as a number that both sides share, ascending, shape (M,).
        matrix: The unit rows in low precision, shape (M, D): float32, or int16 with the bits of
            bfloat16, which numpy does not know.
        length: Length of each row of the embeddings in float64, shape (M,).
        error: Distance of each row of the matrix from the unit row in float64, shape (M,).
    """

    index: IntArray
    code: IntArray
    matrix: npt.NDArray[Any]
    length: FloatArray
    error: FloatArray


_COLUMNS = tuple(field.name for field in fields(Side))


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """Some rows of the first side against all that they have to be compared with.

    Attributes:
        embedding: Shape (N, D), any length; or the file that holds them.
        first: The rows' side; or the folder that holds it.
        second: The other side; None for the same, in which every pair counts once.
        starts: First rows of the blocks to do.
        cut: Lowest canonical score that is wanted.
        depth: How many pairs are wanted at most.
        block: Rows and columns of one product.
        threads: Threads of one product; None leaves PyTorch's setting.
    """

    embedding: FloatArray | Path
    first: Side | Path
    second: Side | Path | None
    starts: range
    cut: float
    depth: int
    block: tuple[int, int]
    threads: int | None = None


class Found(NamedTuple):
    """Pairs and how many blocks were searched for them: canonical scores, and rows, shape (K,)."""

    blocks: int
    score: FloatArray
    index_a: IntArray
    index_b: IntArray


class Pool:
    """The highest scores so far, at most `depth` of them after `tighten`.

    Attributes:
        cut: What scores below it is not wanted: `depth` pairs are known that score at least that,
            or it is where the pool started.
    """

    def __init__(self, depth: int, cut: float) -> None:
        self.cut = cut
        self._depth = depth
        self._parts: list[tuple[FloatArray, IntArray, IntArray]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, score: FloatArray, index_a: IntArray, index_b: IntArray) -> None:
        """Take pairs that score at least the cut."""
        keep = score >= self.cut
        self._parts.append((score[keep], index_a[keep], index_b[keep]))
        self._size += int(keep.sum())
        if self._size > 2 * self._depth + _SLACK:
            self.tighten()

    def tighten(self) -> tuple[FloatArray, IntArray, IntArray]:
        """Drop all but the best `depth` pairs, raise the cut to the lowest of them, return them."""
        if not self._parts:
            return np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        score, a, b = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        if score.size > self._depth:
            best = np.argpartition(score, score.size - self._depth)[-self._depth :]
            score, a, b = score[best], a[best], b[best]
        if score.size == self._depth:
            self.cut = max(self.cut, float(score.min()))
        self._parts, self._size = [(score, a, b)], score.size
        return score, a, b


def make_side(
    embedding: FloatArray, index: IntArray, code: IntArray, *, precision: Precision
) -> Side:
    """Sort rows by identity and round them.

    Args:
        embedding: Shape (N, D), any length.
        index: Rows that belong to the side, shape (M,).
        code: Identity of each of those rows, shape (M,).
        precision: What products are made in.

    Raises:
        UserError: If a row is zero or not finite.
    """
    import torch

    order = np.argsort(code, kind="stable")
    index, code = index[order], code[order]
    # PyTorch's memory begins at a multiple of 64 bytes; numpy's does not, and products of bfloat16
    # took twice the time there.
    matrix = torch.empty(index.size, embedding.shape[1], dtype=getattr(torch, precision))
    length, error = np.empty(index.size), np.empty(index.size)
    for start in range(0, index.size, CHUNK):
        part = slice(start, start + CHUNK)
        rows, length[part] = float64_rows(embedding, index[part])
        unit = torch.from_numpy(rows).div_(torch.from_numpy(length[part, None]))
        matrix[part] = unit
        error[part] = unit.sub_(matrix[part]).norm(dim=1).numpy()
    bits = matrix.view(torch.int16) if precision == "bfloat16" else matrix
    return Side(index=index, code=code, matrix=bits.numpy(), length=length, error=error)


def save_side(side: Side, folder: Path) -> Path:
    """Write a side for other processes to map; returns the folder."""
    folder.mkdir()
    for name in _COLUMNS:
        np.save(folder / f"{name}.npy", getattr(side, name))
    return folder


def margin(error_a: float, error_b: float, dim: int) -> float:
    """Bound how much a float32 sum of low-precision products differs from the canonical score.

    Args:
        error_a: Largest distance of a row of the first side from its unit row.
        error_b: The same of the second side.
        dim: Embedding dimension D.

    Returns:
        The bound that this module's docstring proves.

    Example:
        >>> round(margin(2**-8, 2**-8, 512), 5), round(margin(0.0016, 0.0016, 512), 5)
        (0.00789, 0.00326)
    """
    roundings = (dim + 1) * 2.0**-23
    gamma = roundings / (1 - roundings)
    rounded = error_a + error_b + error_a * error_b
    return rounded + gamma * (1 + error_a) * (1 + error_b) + 1e-9 + 1e-30


def round_down(value: float, precision: Precision) -> float:
    """Find the largest number of a precision that is not above a value.

    Example:
        >>> round_down(0.3, "bfloat16"), round_down(-0.3, "bfloat16"), round_down(0.5, "bfloat16")
        (0.298828125, -0.30078125, 0.5)
    """
    low = np.array([value], dtype=np.float32)
    if float(low[0]) > value:  # as Python floats: numpy would compare in float32
        low = np.nextafter(low, np.float32(-np.inf))
    if precision == "bfloat16":
        bits = int(low.view(np.uint32)[0])
        if bits >> 31 and bits & 0xFFFF:
            bits += 0x10000  # a negative number goes down by growing in size
        low = np.array([bits & 0xFFFF0000], dtype=np.uint32).view(np.float32)
    return float(low[0])


@cache
def check_accumulation(height: int, width: int, dim: int) -> None:
    """Make sure that bfloat16 products of this shape are summed in float32.

    One 1 and many 2⁻¹⁰ add up to much more than 1, but each of them is lost beside a 1 that has
    only the 8 significant bits of bfloat16.

    Raises:
        UserError: If they are summed in less.
    """
    import torch

    dim = max(dim, 512)
    rows = torch.full((max(height, width), dim), 2.0**-5, dtype=torch.bfloat16)
    rows[:, 0] = 1
    expected = 1 + (dim - 1) * 2.0**-10
    found = torch.mm(rows[:height], rows[:width].t()).double()
    wrong = float((found - expected).abs().max())
    if wrong > expected * 2.0**-7:
        raise UserError(
            where="precision",
            found=f"bfloat16 sums of this CPU and PyTorch that miss {expected:g} by {wrong:.2g}",
            allowed="sums in float32",
            next_step="screen in float32",
        )


def best_pairs(work: Work) -> Found:
    """Find the impostor pairs that score at least the cut, the highest `depth` of them at most."""
    import torch

    if work.threads is not None:
        torch.set_num_threads(work.threads)
    embedding = work.embedding
    if isinstance(embedding, Path):
        embedding = np.load(embedding, mmap_mode="r")
    first = _loaded(work.first)
    second = first if work.second is None else _loaded(work.second)
    length = np.empty(len(embedding))
    for side in (first, second):
        length[side.index] = side.length
    pool = Pool(work.depth, work.cut)
    waiting: list[tuple[IntArray, IntArray]] = []
    count = 0
    with highest_precision():
        for a, b in _candidates(first, second, work, pool):
            waiting.append((a, b))
            count += a.size
            if count >= _RESCORED:
                _rescore(embedding, length, waiting, pool)
                waiting, count = [], 0
        _rescore(embedding, length, waiting, pool)
    return Found(len(work.starts), *pool.tighten())


def _candidates(
    first: Side, second: Side, work: Work, pool: Pool
) -> Iterator[tuple[IntArray, IntArray]]:
    """Multiply block by block and yield the rows of the pairs that may reach the pool's cut."""
    import torch

    height, width = work.block
    precision: Precision = "bfloat16" if first.matrix.dtype == np.int16 else "float32"
    a, b = _tensor(first.matrix), _tensor(second.matrix)
    dim = int(first.matrix.shape[1])
    buffer = torch.empty(height * width, dtype=a.dtype)
    if precision == "bfloat16":
        check_accumulation(min(height, len(a)), min(width, len(b)), dim)
    is_same = work.second is None
    for top in work.starts:
        rows = a[top : top + height]
        error = float(first.error[top : top + height].max())
        # Sorted by identity, the rows above the block have met these already.
        for left in range(top if is_same else 0, len(b), width):
            columns = b[left : left + width]
            shape = (len(rows), len(columns))
            product = buffer[: shape[0] * shape[1]].view(shape)
            torch.mm(rows, columns.t(), out=product)
            error_b = float(second.error[left : left + width].max())
            low = round_down(pool.cut - margin(error, error_b, dim), precision)
            p, q = _at_least(product, low)
            if not p.size:
                continue
            p, q = p + top, q + left
            code_a, code_b = first.code[p], second.code[q]
            keep = code_a < code_b if is_same else code_a != code_b
            yield first.index[p[keep]], second.index[q[keep]]


def _at_least(product: Tensor, low: float) -> tuple[IntArray, IntArray]:
    """Rows and columns of the elements that reach `low`.

    Few do, so the maxima of runs are looked at first. Positive numbers are in the order of their
    bits, and negative ones have negative bits: integers are compared faster, as none is NaN. What
    is left is little, and numpy begins small work sooner than PyTorch.
    """
    import torch

    width = int(product.shape[1])
    limit: float = low
    if low > 0:
        is_short = product.dtype == torch.bfloat16
        bits = int(np.asarray(low, dtype=np.float32).view(np.int32))
        limit = bits >> 16 if is_short else bits
        product = product.view(torch.int16 if is_short else torch.int32)
    elif product.dtype == torch.bfloat16:
        product = product.float()
    run = _RUN if width % _RUN == 0 else width
    runs = product.view(-1, run)
    hit = np.flatnonzero(runs.amax(1).numpy() >= limit)
    if not hit.size:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    which, column = np.divmod(np.flatnonzero(runs.numpy()[hit] >= limit), run)
    row, left = np.divmod(hit[which] * run + column, width)
    return row, left


def _rescore(
    embedding: FloatArray,
    length: FloatArray,
    waiting: list[tuple[IntArray, IntArray]],
    pool: Pool,
) -> None:
    """Give candidates their canonical scores."""
    if waiting:
        a, b = (np.concatenate(side) for side in zip(*waiting, strict=True))
        pool.add(cosine_of_pairs(embedding, a, b, length=length), a, b)


def _loaded(side: Side | Path) -> Side:
    if isinstance(side, Side):
        return side
    # "c" lets PyTorch have the pages without a warning that they are read-only.
    return Side(**{name: np.load(side / f"{name}.npy", mmap_mode="c") for name in _COLUMNS})


def _tensor(matrix: npt.NDArray[Any]) -> Tensor:
    import torch

    tensor = torch.from_numpy(matrix)
    return tensor.view(torch.bfloat16) if matrix.dtype == np.int16 else tensor


@contextmanager
def highest_precision() -> Iterator[None]:
    """Keep PyTorch from making float32 products in anything less."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
