"""Error rates of a verification system, from scores to FNMR at a fixed FMR.

A *score* is the cosine similarity of two embeddings; a comparison *matches* when its score is at
least the threshold. Genuine comparisons are between images of one identity, impostor comparisons
between images of two. All rates lie in 0–1.

Every rate is read off one curve: the two error rates at every threshold that tells two scores
apart. The curve counts comparisons by weight, so the bootstrap, where a comparison counts several
times or not at all, uses the very code that the plain rate uses.

Definitions leave two freedoms. When several impostor scores tie at the threshold of a fixed FMR,
we take the smallest threshold whose false match rate does not exceed the target, so a reported
FNMR is never better than the target allows. Between two thresholds the curve is a straight line:
that gives the EER one value, and makes the AUC count a tied pair half, as Mann and Whitney do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError

FloatArray = npt.NDArray[np.floating]

#: With fewer expected false matches than this, the threshold is mostly luck.
MIN_EXPECTED_FALSE_MATCHES = 10

#: 0.29 × 100 is 28.999…: a rate that was reached exactly must not be missed by rounding.
_ROUNDING = 1 + 1e-12


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold and the two error rates that it causes.

    Attributes:
        threshold: Smallest score that counts as a match.
        fmr: False match rate reached, at most the one asked for.
        fnmr: False non-match rate.
        expected_false_matches: False matches that the target allows among these impostors.
    """

    threshold: float
    fmr: float
    fnmr: float
    expected_false_matches: float

    @property
    def is_supported(self) -> bool:
        """Whether at least `MIN_EXPECTED_FALSE_MATCHES` are allowed; tables flag it otherwise."""
        return self.expected_false_matches * _ROUNDING >= MIN_EXPECTED_FALSE_MATCHES


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorCurve:
    """Both error rates at every threshold that matters, from accepting all to rejecting all.

    Attributes:
        threshold: Ascending, shape (T,); the first is −inf, each other lies just above a score.
        fmr: False match rates, falling from 1 to 0, shape (T,).
        fnmr: False non-match rates, rising from 0 to 1, shape (T,).
        impostors: Number, or total weight, of the impostor comparisons.
    """

    threshold: FloatArray
    fmr: FloatArray
    fnmr: FloatArray
    impostors: float

    def at_fmr(self, fmr: float) -> OperatingPoint:
        """Return the point at the smallest threshold whose false match rate is at most `fmr`."""
        # The rates fall: looking at each of some million for every draw would take long.
        limit = fmr * _ROUNDING
        point = bisect_left(range(self.fmr.size), True, key=lambda i: bool(self.fmr[i] <= limit))
        return OperatingPoint(
            threshold=float(self.threshold[point]),
            fmr=float(self.fmr[point]),
            fnmr=float(self.fnmr[point]),
            expected_false_matches=fmr * self.impostors,
        )

    def eer(self) -> float:
        """Return the rate at which the straight-line curve has equal FMR and FNMR."""
        gap = self.fmr - self.fnmr
        after = int(np.argmax(gap <= 0))
        before = after - 1  # the curve starts with a gap of 1, so there is a point before
        share = gap[before] / (gap[before] - gap[after])
        return float(self.fmr[before] + share * (self.fmr[after] - self.fmr[before]))

    def auc(self) -> float:
        """Return the probability that a genuine score exceeds an impostor score, ties half."""
        # What is missing from 1, as a perfect curve must give 1 without a rounding error.
        missing = -np.sum(np.diff(self.fmr) * (self.fnmr[1:] + self.fnmr[:-1])) / 2
        return float(1 - missing)


class RankedScores:
    """Scores sorted once, so that many weightings of the same comparisons are counted quickly.

    Args:
        genuine: Scores of genuine comparisons, shape (Pg,), any order.
        impostor: Scores of impostor comparisons, shape (Pi,), any order.
        floor: Where only the highest impostor scores are given: no other one exceeds it. The
            others are counted there as the curve's `rest`; below it the curve means nothing.

    Raises:
        UserError: If a score is not finite or a side is empty.
    """

    def __init__(
        self, genuine: FloatArray, impostor: FloatArray, *, floor: float | None = None
    ) -> None:
        _check_scores(genuine, "genuine")
        _check_scores(impostor, "impostor", allow_none=floor is not None)
        self._rank(genuine, impostor, floor)

    @classmethod
    def of_impostors(cls, impostor: FloatArray) -> RankedScores:
        """Sort impostors alone: their curves have false match rates and no FNMR (NaN).

        Args:
            impostor: Scores of impostor comparisons, shape (Pi,), any order.

        Raises:
            UserError: If a score is not finite or there is none.

        Example:
            >>> curve = RankedScores.of_impostors(np.array([0.1, 0.2, 0.4])).curve()
            >>> curve.fmr.round(3).tolist(), curve.fnmr.tolist()
            ([1.0, 0.667, 0.333, 0.0], [nan, nan, nan, nan])
        """
        _check_scores(impostor, "impostor")
        ranked = cls.__new__(cls)
        ranked._rank(np.empty(0, dtype=impostor.dtype), impostor, None)
        return ranked

    def _rank(self, genuine: FloatArray, impostor: FloatArray, floor: float | None) -> None:
        rest = [] if floor is None else [np.array([floor], dtype=impostor.dtype)]
        scores = np.concatenate([genuine, impostor, *rest])
        values, rank = np.unique(scores, return_inverse=True)
        above = np.nextafter(values, np.array(np.inf, dtype=values.dtype))
        self._threshold = np.concatenate([np.array([-np.inf], dtype=values.dtype), above])
        self._genuine_rank = rank[: genuine.size]
        self._impostor_rank = rank[genuine.size : genuine.size + impostor.size]
        self._floor_rank = int(rank[-1])

    def curve(
        self,
        genuine_weight: FloatArray | None = None,
        impostor_weight: FloatArray | None = None,
        *,
        rest: float = 0.0,
    ) -> ErrorCurve:
        """Count the errors at every threshold.

        Args:
            genuine_weight: How often each genuine comparison counts: whole numbers from 0 with a
                positive sum, shape (Pg,); once each by default.
            impostor_weight: The same for the impostor comparisons, shape (Pi,).
            rest: Together with this, for the impostor comparisons that were not given and score at
                most the floor: their weight, a whole number.
        """
        rejected_impostor = self._cumulate(self._impostor_rank, impostor_weight)
        rejected_impostor[self._floor_rank + 1 :] += rest
        impostors = rejected_impostor[-1]
        fmr = (impostors - rejected_impostor) / impostors
        if self._genuine_rank.size:
            rejected_genuine = self._cumulate(self._genuine_rank, genuine_weight)
            fnmr = rejected_genuine / rejected_genuine[-1]
        else:
            fnmr = np.full(fmr.size, np.nan)
        return ErrorCurve(threshold=self._threshold, fmr=fmr, fnmr=fnmr, impostors=float(impostors))

    def _cumulate(self, rank: npt.NDArray[np.intp], weight: FloatArray | None) -> FloatArray:
        """Weight of the scores below each threshold; whole numbers, so exact in float64."""
        counted = np.zeros(self._threshold.size)
        np.cumsum(np.bincount(rank, weights=weight, minlength=counted.size - 1), out=counted[1:])
        return counted


def check_fmrs(fmrs: Sequence[float]) -> None:
    """Check false match rates that are asked for.

    Raises:
        UserError: If there is none, or one is not above 0 and below 1.
    """
    bad = [fmr for fmr in fmrs if not 0 < fmr < 1]
    if bad or not len(fmrs):
        raise UserError(
            where="fmr",
            found=f"{bad[0]:g}" if bad else "none",
            allowed="at least one, each above 0 and below 1",
            next_step="ask for rates such as 1e-2 and 1e-4",
        )


def error_curve(genuine: FloatArray, impostor: FloatArray) -> ErrorCurve:
    """Count both errors at every threshold: the points of the DET and of the ROC curve.

    Args:
        genuine: Scores of genuine comparisons, shape (Pg,), any order.
        impostor: Scores of impostor comparisons, shape (Pi,), any order.

    Raises:
        UserError: If a score is not finite or a side is empty.

    Example:
        >>> curve = error_curve(np.array([0.4, 0.8]), np.array([0.1, 0.4]))
        >>> curve.fmr.tolist(), curve.fnmr.tolist()
        ([1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 1.0])
    """
    return RankedScores(genuine, impostor).curve()


def fnmr_at_fmr(genuine: FloatArray, impostor: FloatArray, *, fmr: float) -> OperatingPoint:
    """Find the false non-match rate at a fixed false match rate.

    Args:
        genuine: Scores of genuine comparisons, shape (Pg,), any order.
        impostor: Scores of impostor comparisons, shape (Pi,), any order.
        fmr: Target false match rate, above 0 and below 1.

    Returns:
        The operating point at the smallest threshold whose false match rate is at most `fmr`.

    Raises:
        UserError: If a score is not finite, a side is empty, `fmr` is out of range, or the
            impostors are so few that the target allows not a single false match.

    Source:
        ISO/IEC 19795-1; MFR paper, §3.2 (both tracks rank by it).

    Example:
        >>> impostor = np.linspace(-1.0, 0.5, 1001)
        >>> point = fnmr_at_fmr(np.array([0.2, 0.6, 0.9, 0.95]), impostor, fmr=0.1)
        >>> point.fnmr, point.fmr <= 0.1, point.is_supported
        (0.25, True, True)
    """
    ranked = RankedScores(genuine, impostor)
    smallest = 1 / impostor.size
    if not smallest <= fmr * _ROUNDING or not fmr < 1:
        raise UserError(
            where="fmr",
            found=f"{fmr:g} with {impostor.size:,} impostor comparisons",
            allowed=f"from {smallest:.2g} to below 1",
            next_step="compare more identities, or ask for a larger fmr",
        )
    return ranked.curve().at_fmr(fmr)


def tar_at_far(genuine: FloatArray, impostor: FloatArray, *, far: float) -> float:
    """Find the true accept rate at a fixed false accept rate: 1 − FNMR at FMR = `far`.

    The two pairs of names say the same of a single comparison; see `fnmr_at_fmr` for the
    arguments, the convention for ties and what is refused.

    Example:
        >>> tar_at_far(np.array([0.2, 0.6, 0.9, 0.95]), np.linspace(-1, 0.5, 1001), far=0.1)
        0.75
    """
    return 1 - fnmr_at_fmr(genuine, impostor, fmr=far).fnmr


def eer(genuine: FloatArray, impostor: FloatArray) -> float:
    """Find the equal error rate: where the curve, straight between its points, has FMR = FNMR.

    Example:
        >>> eer(np.array([0.3, 0.7, 0.8, 0.9]), np.array([0.0, 0.1, 0.2, 0.5]))
        0.25
    """
    return error_curve(genuine, impostor).eer()


def auc(genuine: FloatArray, impostor: FloatArray) -> float:
    """Find the probability that a genuine score exceeds an impostor score; a tie counts half.

    Source:
        Mann & Whitney 1947; it is the area under the ROC curve.

    Example:
        >>> auc(np.array([0.5, 0.9]), np.array([0.1, 0.5]))
        0.875
    """
    return error_curve(genuine, impostor).auc()


def _check_scores(scores: FloatArray, side: str, *, allow_none: bool = False) -> None:
    if scores.size == 0 and not allow_none:
        raise UserError(
            where=f"{side} scores",
            found="none",
            allowed="at least one",
            next_step=f"check that the protocol has {side} pairs among the embedded images",
        )
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise UserError(
            where=f"{side} score {row}",
            found=str(scores[row]),
            allowed="finite numbers",
            next_step="embed again; a non-finite score comes from a non-finite embedding",
        )
