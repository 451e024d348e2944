"""How unequal an error rate is over groups of people, in a few numbers.

Each summary is scale-free: twice the errors for everybody leave it as it is. And each is above its
ideal even if the groups are alike, as the largest of several noisy rates is too large. So beside
each stands what chance alone would reach: around one common rate every group is given the noise of
its own draws, and the summary of these is the measure. In a simulation of 300 data sets with three
groups of twenty people that were alike, 3 to 5 % of those in which it was defined were above it
with their FNMR, at 95 %, and none with their FMR: draws of identities overestimate its noise where
pairs vary more than people do.

The interval of a summary is that of the noisy number, and inherits its bias: in the same simulation
the interval of the largest over the smallest FMR lay above 1 in all data sets. So an interval above
1 shows no difference; a number above what chance would reach does.

Source:
    Grother, NISTIR 8429, 2022 (largest over smallest rate, over the geometric mean, and the
    inequity rate); Howard et al., "Evaluating proposed fairness models for face recognition
    algorithms", arXiv 2203.05051 (Gini coefficient, GARBE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.evaluation.intervals import Measured

FloatArray = npt.NDArray[np.floating]

#: Share of the replicates in which a summary must be defined for its interval to be given.
_MIN_DEFINED = 0.9

_SUMMARIES = ("max_over_min", "max_over_geometric_mean", "gini")


@dataclass(frozen=True, kw_only=True)
class Inequality:
    """One number for how much a rate differs between the groups.

    Attributes:
        measured: The number; its interval has no upper end where a group may have no error at all.
        chance: What only 1 − confidence of data sets like this one would exceed if the groups were
            alike. None where a group has no error, or often has none when people are drawn anew.
    """

    measured: Measured
    chance: float | None


@dataclass(frozen=True, kw_only=True)
class Differential:
    """How unequal one error rate is over K groups.

    Attributes:
        worst: Group with the largest rate.
        best: Group with the smallest rate.
        max_over_min: Largest over smallest rate, from 1: worst over best.
        max_over_geometric_mean: Largest rate over the geometric mean of all, from 1.
        gini: Gini coefficient, corrected for K groups, 0 (alike) to 1 (one group has all errors).
    """

    worst: str
    best: str
    max_over_min: Inequality
    max_over_geometric_mean: Inequality
    gini: Inequality


def gini(rate: FloatArray) -> float:
    """Measure how unequally errors fall on K groups.

    Args:
        rate: Error rate of each group, from 0, shape (K,), K from 2.

    Returns:
        0 if all are alike, 1 if one group has all errors; NaN if no group has any.

    Source:
        Howard et al., arXiv 2203.05051: mean absolute difference over twice the mean, times
        K ÷ (K − 1), so that the largest value is 1 for any K.

    Example:
        >>> gini(np.array([0.1, 0.1])), gini(np.array([0.0, 0.0, 0.3])), gini(np.array([0.1, 0.3]))
        (0.0, 1.0, 0.5)
    """
    total = float(rate.sum())
    if total == 0:
        return float("nan")
    differences = float(np.abs(rate[:, None] - rate).sum())
    return round(differences / (2 * (rate.size - 1) * total), 15)


class Summary:
    """How unequal both rates of K groups are.

    Args:
        names: Of the groups, K of them.
        value: False match and false non-match rates, shape (2, K); NaN where a group has no pairs.
        drawn: The same on each draw of identities, shape (R, 2, K).
        confidence: Probability that the intervals are to cover.
    """

    def __init__(
        self, names: Sequence[str], value: FloatArray, drawn: FloatArray, confidence: float
    ) -> None:
        self._names, self._value, self._drawn = names, value, drawn
        self._confidence = confidence

    def differential(self, side: int) -> Differential | None:
        """Sum up one rate, 0: FMR, 1: FNMR; None if fewer than two groups have it."""
        has_rate = np.isfinite(self._value[side])
        if has_rate.sum() < 2:
            return None
        value, drawn = self._value[side, has_rate], self._drawn[:, side, has_rate]
        named = [name for name, has in zip(self._names, has_rate, strict=True) if has]
        by_chance = _as_if_alike(value, drawn) if value.all() else None
        summaries = {}
        for name in _SUMMARIES:
            chance = None if by_chance is None else _spread(name, by_chance)
            summaries[name] = Inequality(
                measured=_open(
                    _spread(name, value[None]), _spread(name, drawn), confidence=self._confidence
                ),
                chance=_quantile(chance, self._confidence),
            )
        return Differential(
            worst=named[int(np.argmax(value))], best=named[int(np.argmin(value))], **summaries
        )

    def inequity(self) -> Measured | None:
        """√(largest over smallest FMR × largest over smallest FNMR), over groups with both."""
        both = self._both("max_over_min")
        if both is None:
            return None
        return _open(*(np.sqrt(x * y) for x, y in both), confidence=self._confidence)

    def garbe(self) -> Measured | None:
        """Mean of the Gini coefficients of both rates, over groups with both."""
        both = self._both("gini")
        if both is None:
            return None
        return _open(*((x + y) / 2 for x, y in both), confidence=self._confidence)

    def _both(self, name: str) -> list[tuple[FloatArray, FloatArray]] | None:
        """One summary of both rates: of the value, shapes (1,), and of the draws, shapes (R,)."""
        has_both = np.isfinite(self._value).all(axis=0)
        if has_both.sum() < 2:
            return None
        return [
            (_spread(name, rates[:, 0, has_both]), _spread(name, rates[:, 1, has_both]))
            for rates in (self._value[None], self._drawn)
        ]


def _as_if_alike(value: FloatArray, drawn: FloatArray) -> FloatArray:
    """Draws of groups that all have the mean rate, (R, K), in units of it.

    A group's relative noise is taken from its own draws; as that of counted errors it is the
    smaller the more errors there are, by the square root.
    """
    noise = (drawn / value - 1) * np.sqrt(value / value.mean())
    alike: FloatArray = np.maximum(1 + noise, 0)
    return alike


def _spread(name: str, rate: FloatArray) -> FloatArray:
    """One summary of each row of rates, (R, K) → (R,): infinite over a 0, NaN if undefined."""
    if name == "gini":
        return np.array([gini(row) for row in rate])
    with np.errstate(divide="ignore", invalid="ignore"):
        against = rate.min(axis=1) if name == "max_over_min" else np.exp(np.log(rate).mean(axis=1))
        spread: FloatArray = rate.max(axis=1) / against
    return spread


def _open(found: FloatArray, drawn: FloatArray, *, confidence: float) -> Measured:
    """A number that may be infinite, with an interval that may have no upper end."""
    value, tail = float(found[0]), (1 - confidence) / 2
    low, high = _quantile(drawn, tail), _quantile(drawn, 1 - tail)
    if np.isnan(value):
        return Measured(value=None, flag="refused: no group has an error")
    if np.isinf(value):
        least = "" if low is None else f"; at least {low:.3g}"
        return Measured(value=None, low=low, flag=f"refused: a group has no error{least}")
    if low is None:
        return Measured(value=value)
    low = min(low, value)
    if high is None:
        return Measured(
            value=value, low=low, flag=f"at least {low:.3g}; the interval has no upper end"
        )
    return Measured(value=value, low=low, high=max(high, value))


def _quantile(drawn: FloatArray | None, share: float) -> float | None:
    """A drawn value, without interpolating towards infinity; None if undefined or infinite."""
    if drawn is None:
        return None
    defined = drawn[~np.isnan(drawn)]
    if defined.size == 0 or defined.size < _MIN_DEFINED * drawn.size:
        return None
    found = float(np.quantile(defined, share, method="inverted_cdf"))
    return found if np.isfinite(found) else None
