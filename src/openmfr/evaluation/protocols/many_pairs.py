"""Lists of millions of pairs: scored in blocks, measured from the impostors' highest scores.

Lists such as IJB-C's hold a fair share of all pairs between two sets of templates. Multiplying
whole blocks and taking the listed pairs from the products is then far quicker than comparing pair
by pair. And of many million impostors only those above the loosest threshold need sorting: a count
of the others is all that a rate wants of them.

Products are taken in float32, whose error has a bound. A rate hangs on which impostors are above a
threshold, and on the genuine scores. So genuine pairs, and impostors that the error might carry
over a threshold, are scored again, each by one float64 sum: the rates are exact, whatever the
blocks. Only the draws behind an interval, each with a threshold of its own, take scores as they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.evaluation.all_pairs.tail import TailStatistics, draw_together
from openmfr.evaluation.comparisons import Comparisons, cosine_of_pairs
from openmfr.evaluation.difference import not_the_same, paired_differences
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.rates import check_fmrs
from openmfr.evaluation.verification import RateAtFmr, rate_at, with_interval

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

#: Rows that are multiplied at once.
_BLOCK: Final = 128
#: Products per listed pair beyond which comparing pair by pair is quicker.
_SPARSE: Final = 64
#: Impostors that are kept, as a multiple of what the largest rate allows: in a draw of people the
#: high scores may weigh less than they do in the list, and the threshold must be among them.
_ROOM: Final = 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class ManyPairsResult:
    """TAR@FAR of a long list.

    Attributes:
        genuine_pairs: Number of genuine pairs.
        impostor_pairs: Number of impostor pairs.
        identities: Number of identities in the pairs.
        rates: FNMR@FMR and TAR@FAR at each rate that was asked for.
        drawn: FNMR at each of the rates in each draw of identities, shape (replicates, F), NaN
            where it is undefined: for comparisons with other results on the same draws.
        confidence: Probability that the intervals are to cover.
        replicates: Draws of identities behind each interval; 0 for no intervals.
        seed: Of the draws.
        notes: What a reader must know about these numbers.
    """

    genuine_pairs: int
    impostor_pairs: int
    identities: int
    rates: tuple[RateAtFmr, ...]
    drawn: FloatArray
    confidence: float
    replicates: int
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[Measured, ...]:
        """The FNMR at each of the rates."""
        return tuple(rate.fnmr for rate in self.rates)

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""
        numbers = {name: value for name, value in vars(self).items() if name != "drawn"}
        rates = [rate.to_json() for rate in self.rates]
        return numbers | {"rates": rates, "notes": list(self.notes)}


def score_many(direction: FloatArray, index_a: IntArray, index_b: IntArray) -> FloatArray:
    """Score pairs of unit vectors by the cosine of their angle, in float32.

    Args:
        direction: Unit vectors, shape (T, D).
        index_a: First row of each pair, shape (P,).
        index_b: Second row, shape (P,).

    Returns:
        Shape (P,), float32, −1 to 1; off by less than `score_margin(D)`.

    Example:
        >>> direction = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> score_many(direction, np.array([0, 0]), np.array([0, 1])).tolist()
        [1.0, 0.0]
    """
    rows, row = _numbered(index_a, len(direction))
    columns, column = _numbered(index_b, len(direction))
    if rows.size * columns.size > _SPARSE * index_a.size:
        return cosine_of_pairs(direction, index_a, index_b).astype(np.float32)
    right = np.ascontiguousarray(direction[columns], dtype=np.float32).T
    order = np.argsort(row, kind="stable")
    firsts = range(0, rows.size, _BLOCK)
    begin = np.searchsorted(row, [*firsts, rows.size], sorter=order)
    score = np.empty(index_a.size, dtype=np.float32)
    product = np.empty((_BLOCK, columns.size), dtype=np.float32)
    for first, (start, stop) in zip(firsts, pairwise(begin.tolist()), strict=True):
        left = direction[rows[first : first + _BLOCK]].astype(np.float32)
        np.dot(left, right, out=product[: len(left)])
        pairs = order[start:stop]
        place = (row[pairs].astype(np.int64) - first) * columns.size + column[pairs]
        score[pairs] = product.ravel().take(place)
    return np.clip(score, -1, 1, out=score)


def score_margin(dimension: int) -> float:
    """Bound the error of `score_many` for vectors of D numbers, D up to some thousands.

    With u = 2⁻²⁴: rounding two unit vectors to float32 costs 2u, a sum of D products in any order
    D·u, rounding a float64 score u; what is of second order, D²·u², is below another u.
    """
    return (dimension + 4) * 2.0**-24


def measure_many(
    comparisons: Comparisons,
    *,
    fmrs: Sequence[float],
    replicates: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
    rescore: Callable[[IntArray], FloatArray] | None = None,
    margin: float = 0.0,
) -> ManyPairsResult:
    """Measure FNMR@FMR and TAR@FAR of many pairs, exactly.

    Args:
        comparisons: The scored pairs.
        fmrs: False match rates, each above 0 and below 1. Time and memory grow with the largest.
        replicates: Draws of identities for the intervals; 0 gives none, and is quick.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.
        rescore: Gives exact scores of some pairs, by their places in `comparisons`; None if the
            scores are exact.
        margin: How far the scores may be off.

    Returns:
        What `verification.measure` finds at these rates, without what needs every impostor sorted.

    Raises:
        UserError: If there are no genuine or no impostor pairs, a score is not finite, or a rate
            is out of range.
    """
    check_fmrs(fmrs)
    tail = _Tail(comparisons, max(fmrs) * (_ROOM if replicates else 1), margin)
    statistics = tail.statistics(fmrs)
    if rescore is not None:
        curve = statistics.curve()
        tail.rescore(rescore, [curve.at_fmr(fmr).threshold for fmr in fmrs])
        statistics = tail.statistics(fmrs)
    curve = statistics.curve()
    (drawn,) = draw_together([statistics], replicates=replicates, seed=seed)
    people = statistics.people
    rates = []
    for fmr, column in zip(fmrs, drawn.T, strict=True):
        value = curve.at_fmr(fmr).fnmr
        fnmr = with_interval(value, column, trials=people, confidence=confidence)
        rates.append(rate_at(curve, fmr, fnmr))
    return ManyPairsResult(
        genuine_pairs=tail.genuine.size,
        impostor_pairs=tail.impostors,
        identities=tail.identities.size,
        rates=tuple(rates),
        drawn=drawn,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        notes=tuple(statistics.notes(fmrs, replicates, remedy="ask for a larger one beside it")),
    )


def compare_many(first: ManyPairsResult, second: ManyPairsResult) -> dict[float, Measured]:
    """Measure the second model's TAR minus the first's, with paired intervals.

    Args:
        first: What one model reached.
        second: What another one reached on the same list, with the same draws.

    Returns:
        By false accept rate; above 0 the second is better. An interval that excludes 0 is
        a difference.

    Raises:
        UserError: If pairs, rates or draws are not the same.
    """
    counts = [(r.genuine_pairs, r.impostor_pairs, r.identities) for r in (first, second)]
    if counts[0] != counts[1]:
        raise not_the_same("other pairs")
    fars = [rate.fmr for rate in first.rates]
    if fars != [rate.fmr for rate in second.rates]:
        raise not_the_same("other false accept rates")
    changes = (change.negated() for change in paired_differences(first, second))
    return dict(zip(fars, changes, strict=True))


class _Tail:
    """All genuine pairs and the impostors with the highest scores, in float64.

    Args:
        comparisons: The pairs.
        share: Of the impostors that are kept.
        margin: How far scores may be off.

    Attributes:
        genuine: Places of the genuine pairs.
        impostors: Number of all impostor pairs.
        identities: Identities in the pairs, ascending.
    """

    def __init__(self, comparisons: Comparisons, share: float, margin: float) -> None:
        is_genuine, score = comparisons.is_genuine, comparisons.score
        impostor = comparisons.impostor
        self.impostors = impostor.size
        count = min(int(share * impostor.size) + 2, impostor.size)
        keep, self._floor = ~is_genuine, -np.inf
        if count < impostor.size:
            # What is not a number sorts last: it is kept, and found by the check of the scores.
            cut = float(np.partition(impostor, impostor.size - count)[-count]) - 3 * margin
            keep &= ~(score < cut)
            self._floor = float(np.nextafter(cut, -np.inf))
        kept = np.flatnonzero(keep)
        self._kept = kept[np.argsort(score[kept])]  # ranks in order are counted fast
        self.genuine = np.flatnonzero(is_genuine)
        self._margin = margin
        self._comparisons = comparisons
        self._scores: tuple[FloatArray, FloatArray] = (
            comparisons.genuine.astype(np.float64),
            score[self._kept].astype(np.float64),
        )
        self.identities = _occurring(comparisons.identity_a, comparisons.identity_b)

    def rescore(self, exact: Callable[[IntArray], FloatArray], thresholds: Sequence[float]) -> None:
        """Make the genuine scores exact, and those impostors' that may be beyond a threshold.

        The exact threshold is within a margin of the one found, and so is each score of its exact
        value: two margins away, a pair is on the right side of it.
        """
        _, impostor = self._scores
        near = np.zeros(impostor.size, dtype=np.bool_)
        for threshold in thresholds:
            ends = np.searchsorted(impostor, threshold + np.array([-2.1, 2.1]) * self._margin)
            near[ends[0] : ends[1]] = True
        impostor[near] = exact(self._kept[near])
        self._scores = (exact(self.genuine), impostor)

    def statistics(self, fmrs: Sequence[float]) -> TailStatistics:
        """Sort the scores, to measure them under any weights."""
        genuine, impostor = self._scores
        a, b = self._comparisons.identity_a, self._comparisons.identity_b
        return TailStatistics(
            genuine,
            a[self.genuine],
            impostor,
            lambda: (a[self._kept], b[self._kept]),
            floor=self._floor,
            identities=self.identities,
            total=float(self.impostors),
            weigh=lambda multiplicity: self._weigh(multiplicity),
            fmrs=fmrs,
        )

    @cached_property
    def _weigh(self) -> _TotalWeight:
        return _TotalWeight(self._comparisons, self.identities)


class _TotalWeight:
    """Weight of all impostor pairs, from how often each identity was drawn."""

    def __init__(self, comparisons: Comparisons, names: IntArray) -> None:
        impostor = np.flatnonzero(~comparisons.is_genuine)
        code = np.zeros(int(names[-1]) + 1, dtype=np.int64)
        code[names] = np.arange(names.size)
        code_a, code_b = (
            code[side[impostor]] for side in (comparisons.identity_a, comparisons.identity_b)
        )
        self._first, place = _numbered(code_a, names.size)
        order = np.argsort(place, kind="stable")
        self._start = np.searchsorted(place, np.arange(self._first.size), sorter=order)
        self._second = code_b[order]

    def __call__(self, drawn: FloatArray) -> float:
        others = np.add.reduceat(drawn[self._second], self._start)
        return float(drawn[self._first] @ others)


def _occurring(*identities: IntArray) -> IntArray:
    """Identities that occur, ascending; for long lists much quicker than sorting."""
    occurs = np.zeros(max(int(part.max(initial=-1)) for part in identities) + 1, dtype=np.bool_)
    for part in identities:
        occurs[part] = True
    return np.flatnonzero(occurs).astype(np.int64)


def _numbered(index: IntArray, count: int) -> tuple[IntArray, npt.NDArray[Any]]:
    """Rows that occur, ascending, and each pair's place among them, in the smallest type.

    Sorting 16-bit numbers takes a tenth of the time of sorting 64-bit ones.
    """
    occurs = np.zeros(count, dtype=np.bool_)
    occurs[index] = True
    place = (np.cumsum(occurs) - 1).astype(np.uint16 if count <= 65_536 else np.int64)
    return np.flatnonzero(occurs).astype(np.int64), place[index]
