"""Error rates of several parts of the pairs at one threshold that all of them share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.rates import RankedScores

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class CommonThreshold:
    """What sets the threshold for all parts: a number, or a false match rate on some pairs.

    Args:
        comparisons: The pairs.
        is_reference: The impostor pairs that a false match rate refers to, shape (P,).
        fmr: False match rate that sets the threshold, above 0 and below 1.
        threshold: Smallest score that matches, instead of `fmr`.

    Attributes:
        fmr: As given.
        expected: False matches that it allows among the reference pairs.

    Raises:
        UserError: If not exactly one of `fmr` and `threshold` is given, or `fmr` allows less than
            one false match.
    """

    def __init__(
        self,
        comparisons: Comparisons,
        is_reference: BoolArray,
        fmr: float | None,
        threshold: float | None,
    ) -> None:
        if (fmr is None) == (threshold is None):
            raise UserError(
                where="threshold",
                found="both fmr and threshold" if fmr is not None else "neither fmr nor threshold",
                allowed="one of them",
                next_step="give fmr to set the threshold on these pairs",
            )
        self.fmr, self._fixed, self._pairs = fmr, threshold, np.flatnonzero(is_reference)
        self.expected = 0.0 if fmr is None else fmr * self._pairs.size
        if fmr is None:
            return
        if not 0 < fmr < 1 or self.expected * (1 + 1e-12) < 1:
            raise UserError(
                where="fmr",
                found=f"{fmr:g} with {self._pairs.size:,} impostor pairs that set the threshold",
                allowed="below 1, and at least one false match among them",
                next_step="compare more identities, ask for a larger fmr, or give the threshold",
            )
        score = comparisons.score[self._pairs]
        self._ranked = RankedScores.of_impostors(score)

    def of(self, weight: FloatArray) -> float:
        """Threshold for weighted pairs, weight of shape (P,); NaN where no reference is left."""
        if self.fmr is None:
            assert self._fixed is not None
            return self._fixed
        weight = weight[self._pairs]
        if not weight.any():
            return float("nan")
        return self._ranked.curve(impostor_weight=weight).at_fmr(self.fmr).threshold


class PartRates:
    """Both rates of every part at the common threshold, for weighted pairs.

    Args:
        comparisons: The pairs.
        code: The part that each pair belongs to, 0 to K − 1, or −1 for none, shape (P,).
        count: Number of parts, K.
        setting: What sets the threshold.
    """

    def __init__(
        self, comparisons: Comparisons, code: IntArray, count: int, setting: CommonThreshold
    ) -> None:
        self.code, self._count = code, count
        self._comparisons, self._setting = comparisons, setting

    def sums(self, weight: FloatArray) -> FloatArray:
        """False matches, impostor pairs, false non-matches, genuine pairs: shape (4, K)."""
        threshold = self._setting.of(weight)
        if np.isnan(threshold):
            return np.full((4, self._count), np.nan)
        is_match = self._comparisons.score >= threshold
        is_genuine = self._comparisons.is_genuine
        keeps = (~is_genuine & is_match, ~is_genuine, is_genuine & ~is_match, is_genuine)
        size = self._count + 1
        counts = [np.bincount(self.code[k] + 1, weights=weight[k], minlength=size) for k in keeps]
        return np.array(counts, dtype=np.float64)[:, 1:]

    def rates(self, weight: FloatArray) -> FloatArray:
        """False match and false non-match rates, shape (2 · K,), NaN without pairs."""
        wrong_impostor, impostors, wrong_genuine, genuines = self.sums(weight)
        with np.errstate(invalid="ignore"):
            return np.concatenate([wrong_impostor / impostors, wrong_genuine / genuines])
