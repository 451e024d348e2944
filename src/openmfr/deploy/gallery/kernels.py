"""The compiled loops of a search: products of one probe with all rows, and who might be the best.

A search is as fast as rows come from memory, so the loop over them must keep up, and memory must be
asked early. It takes four rows at a time, one of each quarter of a block: four streams, which the
processor fetches ahead (one alone reaches half the rate), and every number of the probe is used
four times. What is a little further on is asked for by hand, which gains a tenth.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np

from openmfr.deploy.gallery.four_rows import four_products
from openmfr.faces.code_cache import compiled

#: Sums may be taken in another order, which makes them fast.
_summing = partial(compiled, fastmath={"reassoc", "contract"})


@compiled
def products(rows: Any, probe: Any, product: Any) -> None:
    """Multiply rows with a probe.

    Args:
        rows: Shape (n, D), D a multiple of `COLUMNS`: float32, uint16 (bits of float16), or int8.
        probe: Shape (D,): float32, or int16 for rows of int8.
        product: Where to write, shape (n,): float32, or int32 for rows of int8.
    """
    n = rows.shape[0] // 4
    for i in range(n):
        found = four_products(rows, i, n, probe)
        product[i], product[n + i] = found[0], found[1]
        product[2 * n + i], product[3 * n + i] = found[2], found[3]
    for i in range(4 * n, rows.shape[0]):
        product[i] = four_products(rows, i, 0, probe)[0]


@_summing
def round_to_bytes(embedding: Any, rows: Any, scale: Any, rounding: Any) -> None:
    """Round rows to 255 steps up to their largest number.

    Args:
        embedding: Float32, shape (n, D).
        rows: Where to write int8, shape (n, at least D).
        scale: Where to write the size of a row's step, float32, shape (n,).
        rounding: Where to write the distance of step times bytes from the row, rounded up, float32.
    """
    for i in range(embedding.shape[0]):
        largest = np.float32(1e-30)
        for j in range(embedding.shape[1]):
            largest = max(largest, abs(embedding[i, j]))
        step = np.float32(largest / np.float32(127))
        squared = 0.0
        for j in range(embedding.shape[1]):
            steps = min(max(np.rint(embedding[i, j] / step), np.float32(-127)), np.float32(127))
            rows[i, j] = np.int8(steps)
            error = np.float64(embedding[i, j]) - np.float64(step) * np.float64(steps)
            squared += error * error
        scale[i] = step
        rounding[i] = np.float32(np.sqrt(squared) * (1 + 1e-6))


#: Rows that are looked at together.
_GLANCE: Final = 64


@compiled
def _reach(
    product: Any, scale: Any, rounding: Any, factors: Any, cut: float, start: int, stop: int
) -> Any:
    """Count rows whose upper ends reach the cut, in float32: its roundings are in the margin."""
    unit, slope = np.float32(factors[0]), np.float32(factors[1])
    least = np.float32(cut - factors[2])
    found = np.int32(0)
    for i in range(start, stop):
        upper = unit * (scale[i] * np.float32(product[i])) + slope * rounding[i]
        found = np.int32(found + np.int32(upper >= least))
    return found


@compiled
def choose(
    product: Any,
    scale: Any,
    rounding: Any,
    factors: Any,
    person: Any,
    first: int,
    best: Any,
    best_person: Any,
    row: Any,
    upper: Any,
    count: int,
) -> int:
    """Note the rows whose person may be among the k best, and how good those k are at least.

    A row's score lies within its margin of `factors[0] · scale · product`. `best` has the k highest
    lower ends of different people, unordered; a row whose upper end is below all of them cannot be
    needed, nor can it become so, as the least of `best` only rises.

    Args:
        product: Of a block of rows with the probe, shape (n,).
        scale: What each row is multiplied with, float32, shape (n,).
        rounding: How far each row is from the exact one, float32, shape (n,).
        factors: Of the product; of `rounding` in the margin; what else is in the margin.
        person: Number of each row's person, shape (n,).
        first: Number of the block's first row.
        best: Lower ends, float64, shape (k,); −inf where there is none yet.
        best_person: Whose they are, shape (k,); −1 where there is none yet.
        row: Where to note rows; it has room for n more.
        upper: Where to note their upper ends.
        count: How many are noted.

    Returns:
        How many are noted now.
    """
    least: Any = np.argmin(best)
    cut = best[least]
    for start in range(0, product.size, _GLANCE):
        stop = min(start + _GLANCE, product.size)
        # Few rows reach the cut: many are looked at together before each is.
        if not _reach(product, scale, rounding, factors, cut, start, stop):
            continue
        for i in range(start, stop):
            margin = factors[1] * rounding[i] + factors[2]
            score = factors[0] * (scale[i] * product[i])
            if score + margin < cut:
                continue
            row[count], upper[count] = first + i, score + margin
            count += 1
            lower = score - margin
            place = -1
            for j in range(best.size):
                if best_person[j] == person[i]:
                    place = j
            if place < 0 and lower > cut:
                place = least
                best_person[place], best[place] = person[i], lower
            if place >= 0:
                best[place] = max(best[place], lower)
                least = np.argmin(best)
                cut = best[least]
    return count


@compiled
def exact_scores(rows: Any, probe: Any) -> Any:
    """Multiply rows, float32 (n, D), with a probe, float32 (D,): the score, in float64.

    Numbers are added from the first to the last, so that a pair of rows has one score.
    """
    score = np.zeros(rows.shape[0])
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            score[i] += np.float64(rows[i, j]) * np.float64(probe[j])
    return score
