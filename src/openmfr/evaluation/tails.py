"""Impostor scores as a table of false match rates, and the tail beyond it.

The table is measured, with a step wherever the rate falls by a fiftieth of a decade; between two
steps a score gets the higher rate. It ends at the rate of ten false matches. Beyond, the rate falls
by a factor e for each `scale` of score, the mean excess of the highest scores over the next one,
to a hundredth of the lowest measured rate, or to a score of 1 where that comes first.

How far that holds (tests/evaluation/test_calibration.py): fitted to 20,000 pairs of 550 people of a
training set, and tried on 11 million pairs of 552 others, thresholds for 1e-2 and 1e-3, measured,
reached 1.02 and 0.92 of the wanted rate, those for 1e-4 and 1e-5, extrapolated, 0.52 and 0.38.

Source:
    Pickands 1975 (the tail beyond a high threshold; its shape is held at 0 here: log-linear).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.intervals import resample_identities
from openmfr.evaluation.rates import MIN_EXPECTED_FALSE_MATCHES, RankedScores

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.intp]

#: How far below the lowest measured rate the tail is followed.
EXTRAPOLATION = 100

#: Scores are cosines: no pair reaches a higher threshold.
LARGEST_SCORE = 1.0

#: Fewer impostor pairs say nothing of a tail.
MIN_IMPOSTORS = 200

_STEPS_PER_DECADE = 50
#: Highest scores that the scale is estimated from: from this many to this share of all.
_SHALLOWEST, _DEEPEST_SHARE = 25, 0.01


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A score and the false match rate at it.

    Attributes:
        score: Smallest score that matches.
        fmr: False match rate there; where there is no answer, the most that it can be.
        low: Lower end of its interval; None if none was made.
        high: Upper end; None if none was made.
        is_extrapolated: Whether it lies beyond what the pairs have shown.
        flag: Why it must not be trusted; empty if it was measured.
    """

    score: float
    fmr: float
    low: float | None
    high: float | None
    is_extrapolated: bool
    flag: str


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The impostor scores of one condition, K steps.

    Attributes:
        impostors: Number of impostor pairs.
        identities: Number of identities in them.
        score: Ascending thresholds, K of them; the first is the lowest score.
        fmr: False match rate at each, falling from 1.
        low: Lower ends of their intervals; empty without.
        high: Upper ends; empty without.
        scale: Score that lowers the rate by a factor e beyond the last step; 0 if it is unknown,
            as where all high scores tie.
        scale_error: Relative standard error of the scale, as if its scores were independent.
        confidence: Probability that the intervals are to cover.
    """

    impostors: int
    identities: int
    score: tuple[float, ...]
    fmr: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    scale: float
    scale_error: float
    confidence: float

    @property
    def lowest_measured(self) -> float:
        """Smallest false match rate that the pairs show."""
        return self.fmr[-1]

    @property
    def lowest(self) -> float:
        """Smallest false match rate for which there is a threshold.

        It lies a hundredth below the measured ones, or where the tail meets the largest cosine: no
        score is above 1, so nothing can be said of rates beyond.
        """
        if not self.scale:
            return self.lowest_measured
        room = max(LARGEST_SCORE - self.score[-1], 0.0)
        at_the_end = self.lowest_measured * float(np.exp(-room / self.scale))
        return max(self.lowest_measured / EXTRAPOLATION, at_the_end)

    def reaches(self, fmr: float) -> bool:
        """Whether there is a threshold for a false match rate."""
        return self.lowest * (1 - 1e-12) <= fmr < 1

    def basis(self) -> str:
        """Say what `lowest` rests on: how many pairs, or that scores end there."""
        is_cut = self.scale and self.lowest > self.lowest_measured / EXTRAPOLATION
        told = f", of which the tail reaches {LARGEST_SCORE:g}, the largest score" if is_cut else ""
        return f"{self.impostors:,} impostor pairs{told}"

    def at(self, score: float) -> Calibrated:
        """Return the false match rate at a score."""
        step = int(np.searchsorted(self.score, score, side="right")) - 1
        beyond = score - self.score[-1]
        if beyond <= 0:
            step = max(step, 0)
            low, high = (self.low[step], self.high[step]) if self.low else (None, None)
            return Calibrated(
                score=score, fmr=self.fmr[step], low=low, high=high, is_extrapolated=False, flag=""
            )
        return self._extrapolated(score, beyond)

    def reaching(self, fmr: float) -> Calibrated:
        """Return the smallest score whose false match rate is at most `fmr`, from `lowest`."""
        if fmr >= self.lowest_measured:
            # A rate that was reached exactly must not be missed by rounding.
            step = int(np.argmax(np.array(self.fmr) <= fmr * (1 + 1e-12)))
            return self.at(self.score[step])
        beyond = self.scale * float(np.log(self.lowest_measured / fmr))
        score = min(self.score[-1] + beyond, max(LARGEST_SCORE, self.score[-1]))
        return self._extrapolated(score, beyond)

    def _extrapolated(self, score: float, beyond: float) -> Calibrated:
        measured = f"{self.impostors:,} impostor pairs show rates from {self.lowest_measured:.2g}"
        falls = float(np.exp(-beyond / self.scale)) if self.scale else 1.0
        fmr, low, high = self.lowest_measured * falls, None, None
        flag = f"extrapolated: {measured}"
        if self.low and self.scale:
            # The rate's logarithm is linear in 1 / scale.
            spread = float(np.exp(beyond / self.scale * 2 * self.scale_error))
            low, high = self.low[-1] * falls / spread, self.high[-1] * falls * spread
            high = min(high, self.high[-1])
        if fmr < self.lowest * (1 - 1e-9) or not self.scale:
            fmr, low, high = self.lowest, None, None
            flag = f"at most: {measured}, and the tail is followed to {self.lowest:.2g}"
        return Calibrated(score=score, fmr=fmr, low=low, high=high, is_extrapolated=True, flag=flag)


def fit_condition(
    impostors: Comparisons, *, kind: str, replicates: int, confidence: float, seed: int
) -> Condition:
    """Learn a table and a tail from scored impostor pairs.

    Args:
        impostors: The pairs, of different people alone.
        kind: What they compare, for the error.
        replicates: Draws of identities for the intervals; 0 gives none.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.

    Raises:
        UserError: If there are fewer than `MIN_IMPOSTORS` pairs, or a score is not finite.
    """
    score = impostors.score
    if score.size < MIN_IMPOSTORS:
        raise UserError(
            where=f"calibration, condition {kind}",
            found=f"{score.size:,} impostor pairs",
            allowed=f"at least {MIN_IMPOSTORS}",
            next_step="compare more identities",
        )
    ranked = RankedScores.of_impostors(score)
    curve = ranked.curve()
    steps = _steps(curve.fmr, score.size)
    threshold = curve.threshold[steps].astype(np.float64)
    threshold[0] = score.min()
    low, high = np.empty(0), np.empty(0)
    if replicates:
        drawn = resample_identities(
            lambda weight: (
                ranked.curve(impostor_weight=weight).fmr[steps]
                if weight.any()
                else np.full(steps.size, np.nan)
            ),
            impostors.identity_a,
            impostors.identity_b,
            replicates=replicates,
            seed=seed,
        )
        tail = (1 - confidence) / 2
        low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
        low, high = np.minimum(low, curve.fmr[steps]), np.maximum(high, curve.fmr[steps])
    scale, depth = _tail_scale(score)
    return Condition(
        impostors=score.size,
        identities=np.union1d(impostors.identity_a, impostors.identity_b).size,
        score=tuple(threshold.tolist()),
        fmr=tuple(curve.fmr[steps].tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        scale=scale,
        scale_error=depth**-0.5,
        confidence=confidence,
    )


def _steps(fmr: FloatArray, impostors: int) -> IntArray:
    """Points of a curve to keep: the first of each step of the rate, and the last measured one."""
    measured = np.flatnonzero(fmr * impostors >= MIN_EXPECTED_FALSE_MATCHES * (1 - 1e-9))
    level = np.floor(-np.log10(fmr[measured]) * _STEPS_PER_DECADE)
    _, first = np.unique(level, return_index=True)
    return np.union1d(measured[first], measured[-1:])


def _tail_scale(score: FloatArray) -> tuple[float, int]:
    """Score that lowers the rate by a factor e in the far tail, and from how many scores.

    The mean excess of the k highest scores over the next one, the largest over several k: where
    the tail bends downwards the largest belongs to the deepest k, where it is heavy to the
    shallowest, so the answer is on the safe side of both.
    """
    depth = max(_SHALLOWEST, int(_DEEPEST_SHARE * score.size))
    top = np.sort(score)[::-1][: depth + 1]
    depths = np.unique(np.geomspace(_SHALLOWEST, depth, 8).round().astype(int))
    excess = np.array([float(np.mean(top[:k] - top[k])) for k in depths])
    best = int(np.argmax(excess))
    return float(excess[best]), int(depths[best])


def read_condition(table: object, *, where: str) -> Condition:
    """Make a condition of the JSON object that it was written as.

    Raises:
        UserError: If fields are missing or unknown, or scores and rates are not in order.
    """
    names = Condition.__dataclass_fields__
    if not isinstance(table, dict) or set(table) != set(names):
        raise UserError(
            where=where,
            found="other fields" if isinstance(table, dict) else type(table).__name__,
            allowed=", ".join(names),
            next_step="make the calibration again",
        )
    columns: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in table.items()
    }
    if not _are_numbers(columns.values()):
        raise UserError(
            where=where,
            found="something else than numbers",
            allowed="numbers",
            next_step="make the calibration again",
        )
    condition = Condition(**columns)
    score, fmr = np.array(condition.score), np.array(condition.fmr)
    is_whole = score.shape == fmr.shape and score.size > 0
    if not is_whole or np.any(np.diff(score) <= 0) or np.any(np.diff(fmr) >= 0) or fmr[-1] <= 0:
        raise UserError(
            where=where,
            found="scores or rates out of order",
            allowed="ascending scores and falling rates, equally many",
            next_step="make the calibration again",
        )
    return condition


def _are_numbers(values: Iterable[object]) -> bool:
    """Whether all are finite numbers, or tuples of them."""
    each = (one for value in values for one in (value if isinstance(value, tuple) else (value,)))
    return all(isinstance(one, int | float) and np.isfinite(one) for one in each)
