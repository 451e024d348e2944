"""Centres of identities, and how near each image is to its own: one pass over the embeddings each.

A centre is the direction of the sum of unit embeddings. WebFace42M has 42 million rows of 512
float16 numbers, 43 GB, in any order and on a disk. They are read once from front to back, a few
hundred rows at a time, and never held; what is held are the centres (C × D float32, 4 GB for 2
million identities) and a few numbers for each image.

The loops are compiled: they run near the speed of memory. (Alternatives, CPU seconds for 200,000
float16 rows of 512 in random order: these loops 0.07, torch's `index_add_` 0.12, numpy's
`add.reduceat` of sorted chunks 1.2, of which converting float16 is 0.3.) Rows are added in their
order on one thread, so the same input gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.faces.code_cache import compiled

FloatArray = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Rows that are worked on at once.
_CHUNK = 8_192

#: A sum shorter than this times its number of images is rounding: its images cancel each other.
_ROUNDING = 1e-6

#: Square of the shortest row: float32 holds smaller ones with few digits.
_SHORTEST = 1e-30

#: Labels up to this many times the number of images are numbered through a table.
_SPARSE = 4

#: Sums may be taken in another order, which makes them fast.
_summing = partial(compiled, fastmath={"reassoc", "contract"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Centers:
    """One centre for each identity that has an image.

    Attributes:
        identity: Labels, ascending, shape (C,), int64.
        total: Sums of unit embeddings, each times its weight, shape (C, D), float32.
        count: How many images are in each sum, shape (C,), int64; those of weight 0 are not.
    """

    identity: IntArray
    total: Float32Array
    count: IntArray

    def __len__(self) -> int:
        return int(self.identity.size)

    def unit(self) -> Float32Array:
        """Centres of length 1, shape (C, D), float32.

        A centre whose images cancel each other has no direction: its row is NaN.

        Example:
            >>> embedding = np.array([[2.0, 0.0], [0.0, 3.0]], dtype=np.float32)
            >>> centers = sum_centers(embedding, np.array([7, 7]), np.array([True, True]))
            >>> centers.unit().round(3).tolist()
            [[0.7070000171661377, 0.7070000171661377]]
        """
        unit = np.empty(self.total.shape, dtype=np.float32)
        for start in range(0, len(self), _CHUNK):
            part = slice(start, start + _CHUNK)
            length = np.linalg.norm(self.total[part].astype(np.float64), axis=1)
            length[length <= _ROUNDING * self.count[part]] = np.nan
            unit[part] = self.total[part] / length[:, None]
        return unit


def sum_centers(
    embedding: FloatArray,
    identity: IntArray,
    keep: BoolArray,
    *,
    weight: FloatArray | None = None,
) -> Centers:
    """Add the unit embeddings of each identity, in one pass.

    Args:
        embedding: One row for each image, of any length and in any order, shape (N, D); may be
            float16 and memory-mapped. Rows that are not kept are not looked at.
        identity: Who is on each image, shape (N,); from 0 where kept.
        keep: Which images count, shape (N,).
        weight: How much each of them counts, from 0, shape (N,); 1 by default.

    Returns:
        The centres of all identities that have a kept image.

    Raises:
        UserError: If shapes disagree, nothing is kept, a kept image has no identity, a weight is
            negative or not finite, or the embedding of a kept image is zero or not finite.

    Example:
        >>> embedding = np.array([[2.0, 0.0], [0.0, 3.0], [np.nan, 0.0]], dtype=np.float16)
        >>> keep = np.array([True, True, False])
        >>> centers = sum_centers(embedding, np.array([7, 7, 2]), keep)
        >>> centers.identity.tolist(), centers.total.tolist(), centers.count.tolist()
        ([7], [[1.0, 1.0]], [2])

    Source: MFR paper, §2.2: class centre = average of the class's embeddings.
    """
    weight = _checked(embedding, identity, keep, weight)
    labels, code_of = _numbered(identity, keep)
    total = np.zeros((labels.size, embedding.shape[1]), dtype=np.float32)
    count = np.zeros(labels.size, dtype=np.int64)
    for part, bits, rows in _chunks(embedding):
        code = code_of(identity[part], keep[part])
        bad = _add_rows(bits, rows, code, weight[part], total, count)
        _refuse_row(embedding, part.start, bad)
    return Centers(identity=labels, total=total, count=count)


def center_scores(
    embedding: FloatArray,
    identity: IntArray,
    keep: BoolArray,
    centers: Centers,
    *,
    leave_one_out: bool,
    weight: FloatArray | None = None,
) -> Float32Array:
    """Score each kept image against the centre of its identity, in one pass.

    Args:
        embedding: As for `sum_centers`, shape (N, D).
        identity: Who is on each image, shape (N,).
        keep: Which images are scored, shape (N,). With `leave_one_out` they must be in the sums.
        centers: Centres of these identities.
        leave_one_out: Take each image's own unit embedding out of its identity's sum first, so
            that an image does not vote for itself.
        weight: What each image counts in the sums, shape (N,); as `sum_centers` got it.

    Returns:
        Cosine of each image with its centre, shape (N,), float32, −1 to 1. NaN where not kept;
        where the identity has no centre; where the centre's images cancel each other; and with
        `leave_one_out` for an identity of one image, which has no other to be compared with.

    Raises:
        UserError: As `sum_centers`.

    Example:
        >>> embedding = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=np.float32)
        >>> identity, keep = np.array([0, 0, 1]), np.array([True, True, True])
        >>> centers = sum_centers(embedding, identity, keep)
        >>> center_scores(embedding, identity, keep, centers, leave_one_out=True).round(2).tolist()
        [0.6000000238418579, 0.6000000238418579, nan]
    """
    weight = _checked(embedding, identity, keep, weight)
    if centers.total.shape[1] != embedding.shape[1]:
        raise UserError(
            where="centres",
            found=f"dimension {centers.total.shape[1]}",
            allowed=f"that of the embeddings, {embedding.shape[1]}",
            next_step="make the centres from these embeddings",
        )
    code_of = _numbering(centers.identity, identity.size)
    score = np.full(identity.size, np.nan, dtype=np.float32)
    for part, bits, rows in _chunks(embedding):
        code = code_of(identity[part], keep[part])
        own = weight[part] if leave_one_out else np.zeros_like(weight[part])
        bad = _score_rows(bits, rows, code, own, centers.total, centers.count, score[part])
        _refuse_row(embedding, part.start, bad)
    return score


def _checked(
    embedding: FloatArray, identity: IntArray, keep: BoolArray, weight: FloatArray | None
) -> Float32Array:
    """Weights of all images, after a look at the shapes."""
    count = identity.size
    shapes = {"embeddings": embedding.shape[:1], "keep": keep.shape, "identities": identity.shape}
    if weight is not None:
        shapes["weights"] = weight.shape
    if embedding.ndim != 2 or any(shape != (count,) for shape in shapes.values()):
        raise UserError(
            where="embeddings",
            found=f"shape {embedding.shape}, with "
            + ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[1:]),
            allowed="(N, D), with (N,)",
            next_step="clean with the embeddings of the same labels",
        )
    if not keep.any():
        raise UserError(
            where="images",
            found="none that is kept",
            allowed="at least one",
            next_step="lower the thresholds",
        )
    if weight is None:
        # One number that looks like many: nothing is stored for each image.
        return np.broadcast_to(np.float32(1), (count,))
    bad = np.flatnonzero(keep & ~(np.isfinite(weight) & (weight >= 0)))
    if bad.size:
        raise UserError(
            where=f"weight {bad[0]}",
            found=f"{weight[bad[0]]:g}",
            allowed="finite numbers from 0",
            next_step="weigh images from 0 to 1",
        )
    return weight.astype(np.float32)


def _chunks(embedding: FloatArray) -> Iterator[tuple[slice, Any, Float32Array]]:
    """Rows to be worked on at once: as bits of float16, which numba does not know, or as float32.

    One of the two is empty.
    """
    plain = np.asarray(embedding)  # slices of a memmap object are slow to make
    for start in range(0, plain.shape[0], _CHUNK):
        part = slice(start, min(start + _CHUNK, plain.shape[0]))
        rows = np.ascontiguousarray(plain[part])
        bits = np.empty((0, plain.shape[1]), dtype=np.uint16)
        if rows.dtype == np.float16:
            yield part, rows.view(np.uint16), bits.astype(np.float32)
        else:
            yield part, bits, rows.astype(np.float32, copy=False)


CodeOf = Callable[[IntArray, BoolArray], IntArray]


def _numbered(identity: IntArray, keep: BoolArray) -> tuple[IntArray, CodeOf]:
    """Labels in use, ascending, and what numbers the images of a chunk by them."""
    highest = -1
    for start in range(0, identity.size, 2**16):
        part = slice(start, start + 2**16)
        used = identity[part][keep[part]]
        if not used.size:
            continue
        if used.min() < 0:
            row = start + int(np.flatnonzero(keep[part] & (identity[part] < 0))[0])
            raise UserError(
                where=f"image {row}",
                found=f"identity {identity[row]}",
                allowed="integers from 0",
                next_step="leave images of unknown people out",
            )
        highest = max(highest, int(used.max()))
    if highest >= _SPARSE * identity.size:
        labels = np.unique(identity[keep])
    else:
        is_used = np.zeros(highest + 1, dtype=np.bool_)
        for start in range(0, identity.size, 2**16):
            part = slice(start, start + 2**16)
            is_used[identity[part][keep[part]]] = True
        labels = np.flatnonzero(is_used)
    return labels, _numbering(labels, identity.size)


def _numbering(labels: IntArray, images: int) -> CodeOf:
    """Make a function from labels to their places in `labels`; −1 where not kept or not there."""
    is_sparse = bool(labels.size) and labels[-1] >= _SPARSE * max(images, labels.size)
    table = np.empty(0, dtype=np.int64)
    if not is_sparse:
        table = np.full(int(labels[-1]) + 2 if labels.size else 1, -1, dtype=np.int64)
        table[labels] = np.arange(labels.size)

    def code_of(identity: IntArray, keep: BoolArray) -> IntArray:
        if is_sparse:
            code = np.minimum(np.searchsorted(labels, identity), labels.size - 1)
            return np.where(keep & (labels[code] == identity), code, -1)
        # The last element of the table is -1, for labels that are beyond it.
        inside = (identity >= 0) & (identity < table.size)
        return np.where(keep, table[np.where(inside, identity, -1)], -1)

    return code_of


def _refuse_row(embedding: FloatArray, start: int, bad: int) -> None:
    if bad < 0:
        return
    row = start + bad
    length = float(np.linalg.norm(embedding[row].astype(np.float64)))
    raise UserError(
        where=f"embedding {row}",
        found=f"length {length:g}",
        allowed="1e-15 to 1e19",
        next_step="embed the image (labels may have left it out), or check the model",
    )


@compiled
def _read(bits: Any, rows: Any, i: int, row: Any) -> None:
    """Copy a row as float32: of float16 given by its bits, or of float32 if there are none.

    Exponent and mantissa are moved to where float32 has them; the biases differ by a factor, which
    also puts subnormal numbers right. What is infinite in float16 becomes NaN.
    """
    if bits.shape[0] == 0:
        row[:] = rows[i]
        return
    for j in range(row.size):
        half = np.uint32(bits[i, j])
        size = (half & np.uint32(0x7FFF)) << np.uint32(13)
        sign = (half & np.uint32(0x8000)) << np.uint32(16)
        value = np.uint32(size | sign).view(np.float32) * np.float32(2.0**112)
        row[j] = value if abs(value) < np.float32(65536) else np.float32(np.nan)


@_summing
def _dot(a: Any, b: Any) -> Any:
    total = np.float32(0)
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@compiled
def _read_squared(bits: Any, rows: Any, i: int, row: Any) -> Any:
    """Copy a row as `_read` does; returns its squared length, NaN if it has no direction."""
    _read(bits, rows, i, row)
    squared = _dot(row, row)
    return squared if _SHORTEST < squared < np.inf else np.float32(np.nan)


@compiled
def _add_rows(bits: Any, rows: Any, code: Any, weight: Any, total: Any, count: Any) -> int:
    """Add unit rows to their sums; returns the first row without a direction, or −1."""
    row = np.empty(total.shape[1], np.float32)
    for i in range(code.size):
        c = code[i]
        if c < 0:
            continue
        squared = _read_squared(bits, rows, i, row)
        if np.isnan(squared):
            return i
        factor = np.float32(weight[i] / np.sqrt(squared))
        for j in range(row.size):
            total[c, j] += factor * row[j]
        count[c] += weight[i] > 0
    return -1


@compiled
def _score_rows(
    bits: Any, rows: Any, code: Any, own: Any, total: Any, count: Any, score: Any
) -> int:
    """Score rows against their centres without themselves; returns as `_add_rows`."""
    row = np.empty(total.shape[1], np.float32)
    rest = np.empty(total.shape[1], np.float32)
    for i in range(code.size):
        c = code[i]
        if c < 0:
            continue
        squared = _read_squared(bits, rows, i, row)
        if np.isnan(squared):
            return i
        if count[c] - (own[i] > 0) < 1:
            continue
        length = np.sqrt(squared)
        factor = np.float32(own[i] / length)
        for j in range(row.size):
            rest[j] = total[c, j] - factor * row[j]
        squared = _dot(rest, rest)
        if squared > (_ROUNDING * count[c]) ** 2:
            cosine = _dot(rest, row) / (length * np.sqrt(squared))
            score[i] = min(max(cosine, -1.0), 1.0)
    return -1
