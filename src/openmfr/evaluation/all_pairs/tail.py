"""Error rates from genuine scores and the highest impostor scores; the other impostors are counted.

Of many million impostor pairs, a rate at a small FMR wants the highest scores, and how many pairs
there are in all. `TailStatistics` holds just that, and measures it under any weights of identities:
for all pairs of images (`all_pairs.rates`) and for long lists (`protocols.many_pairs`) alike.

A draw of identities changes the weight of every impostor pair, also of those that are not held. All
of these score at most the tail's floor; so a draw's threshold is exact as long as it lies above the
floor. A draw in which it would lie lower, because few of the look-alikes in the tail were drawn,
has run out of tail: it is left out, and a note says how many were. A deeper tail mends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from openmfr.evaluation.intervals import resample_identities
from openmfr.evaluation.rates import ErrorCurve, RankedScores

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

#: Outside the scores: where genuine pairs go whose exact score changes no rate.
_LOWEST, _HIGHEST = -2.0, 2.0


class TailStatistics:
    """FNMR at each FMR when identities weigh so much, after sorting the scores once.

    Args:
        genuine: Score of every genuine pair, shape (Pg,), float64.
        identity: Identity of each, shape (Pg,).
        tail: Scores of the impostor pairs that are held, shape (Pi,), float64.
        tail_identities: Gives both identities of each of these, two of shape (Pi,); asked when
            identities are weighed.
        floor: No other impostor pair scores above it; −inf if all are held.
        identities: Those in the pairs, held or not, ascending, shape (C,).
        total: Number of the impostor pairs, held or not.
        weigh: Maps how often each identity counts, shape (C,), to the weight of all impostor
            pairs, held or not.
        fmrs: The false match rates.

    Attributes:
        identities: As given.
        ran_out: For each false match rate, in how many draws the threshold was not in the tail.

    Raises:
        UserError: If a score is not finite, there are no genuine pairs, or no impostor pairs.
    """

    def __init__(
        self,
        genuine: FloatArray,
        identity: IntArray,
        tail: FloatArray,
        tail_identities: Callable[[], tuple[IntArray, IntArray]],
        *,
        floor: float,
        identities: IntArray,
        total: float,
        weigh: Callable[[FloatArray], float],
        fmrs: Sequence[float] = (),
    ) -> None:
        self._tail, self._tail_identities, self._floor = tail, tail_identities, floor
        self.identities, self._total = identities, total
        self._weigh, self._fmrs = weigh, tuple(fmrs)
        self._is_complete = floor == -np.inf
        self.ran_out = np.zeros(len(self._fmrs), dtype=np.int64)
        score, self._code, self._count = self._gathered(genuine, identity)
        self._ranked = RankedScores(score, tail, floor=None if self._is_complete else floor)

    def _gathered(
        self, score: FloatArray, identity: IntArray
    ) -> tuple[FloatArray, IntArray, FloatArray]:
        """Count genuine pairs of one identity together where no threshold can divide them.

        Thresholds lie just above the floor or a score of the tail. What scores no more than the
        floor is always rejected, what scores more than the whole tail is always accepted.
        """
        top = float(self._tail.max(initial=self._floor))
        is_sure = np.isfinite(score) & np.isfinite(top)
        score = np.where(is_sure & (score <= self._floor), _LOWEST, score)
        score = np.where(is_sure & (score > top), _HIGHEST, score)
        code = np.searchsorted(self.identities, identity)
        order = np.lexsort((score, code))
        score, code = score[order], code[order]
        is_new = np.ones(score.size, dtype=np.bool_)
        is_new[1:] = (np.diff(score) != 0) | (np.diff(code) != 0)
        starts = np.flatnonzero(is_new)
        count = np.diff(np.append(starts, score.size)).astype(np.float64)
        return score[starts], code[starts], count

    @cached_property
    def _codes(self) -> tuple[IntArray, IntArray]:
        """Both identities of the tail's pairs, as places among all identities."""
        first, second = self._tail_identities()
        return np.searchsorted(self.identities, first), np.searchsorted(self.identities, second)

    @property
    def people(self) -> int:
        """Number of identities with a genuine pair."""
        return int(np.unique(self._code).size)

    def curve(self) -> ErrorCurve:
        """Count the errors above the floor; below it the curve means nothing."""
        return self._ranked.curve(self._count, rest=self._total - self._tail.size)

    def __call__(self, multiplicity: FloatArray) -> FloatArray:
        """Measure weighted identities.

        Args:
            multiplicity: How often each identity counts: whole numbers from 0, shape (C,).

        Returns:
            The FNMR at each FMR; NaN where the draw has no pairs or runs out of tail.
        """
        fnmr = np.full(len(self._fmrs), np.nan)
        total = self._weigh(multiplicity)
        if not multiplicity[self._code].any() or total == 0:
            return fnmr
        code_a, code_b = self._codes
        held = multiplicity[code_a] * multiplicity[code_b]
        rest = 0.0 if self._is_complete else total - held.sum()
        curve = self._ranked.curve(multiplicity[self._code] * self._count, held, rest=rest)
        lowest = np.nextafter(self._floor, np.inf)
        for i, fmr in enumerate(self._fmrs):
            point = curve.at_fmr(fmr)
            if not self._is_complete and point.threshold <= lowest:
                self.ran_out[i] += 1
            else:
                fnmr[i] = point.fnmr
        return fnmr

    def notes(self, fmrs: Sequence[float], replicates: int, *, remedy: str) -> list[str]:
        """Say of false match rates how many draws ran out of tail, if any did.

        Args:
            fmrs: Which of them.
            replicates: How many draws there were.
            remedy: What gives a deeper tail.
        """
        ran_out = dict(zip(self._fmrs, self.ran_out.tolist(), strict=True))
        return [
            f"At FMR {fmr:g}, {ran_out[fmr]:,} of {replicates:,} draws of identities ran out of "
            f"impostor scores and are left out of the interval: {remedy}."
            for fmr in fmrs
            if ran_out[fmr]
        ]


def draw_together(
    parts: Sequence[TailStatistics], *, replicates: int, seed: int
) -> list[FloatArray]:
    """Measure several comparisons again and again, each time on the same newly drawn identities.

    The identities of all parts are one population, and as many are drawn as it has. One that is in
    several parts counts equally often in each, so what makes her hard moves them together; parts
    that share nobody vary on their own.

    Args:
        parts: The comparisons.
        replicates: How many draws; may be 0.
        seed: Of the draws.

    Returns:
        For each part the FNMR at its F false match rates, shape (replicates, F), NaN where a draw
        leaves it undefined.
    """
    everyone = np.unique(np.concatenate([part.identities for part in parts]))
    places = [np.searchsorted(everyone, part.identities) for part in parts]
    sizes = [part.ran_out.size for part in parts]

    def statistics(multiplicity: FloatArray) -> FloatArray:
        return np.concatenate(
            [part(multiplicity[place]) for part, place in zip(parts, places, strict=True)]
        )

    # Pairs (i, i) weigh what identity i weighs: so the statistics get the multiplicities.
    drawn = resample_identities(statistics, everyone, everyone, replicates=replicates, seed=seed)
    return np.split(drawn.reshape(replicates, sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
