"""The band around a DET curve: intervals of the FNMR at many false match rates.

Each point has an interval of its own; that all of them hold the truth together is not promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.evaluation.intervals import interval
from openmfr.evaluation.rates import ErrorCurve

FloatArray = npt.NDArray[np.floating]

#: Points of a band.
POINTS = 60

#: A rate that was reached exactly must not be missed by rounding.
_ROUNDING = 1 + 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class DetBand:
    """FNMR at rising false match rates, each with its interval.

    Attributes:
        fmr: False match rates, rising to 1, shape (K,).
        fnmr: False non-match rate at each, shape (K,).
        low: Lower ends of the intervals, shape (K,); NaN where there is none.
        high: Upper ends, shape (K,).
    """

    fmr: FloatArray
    fnmr: FloatArray
    low: FloatArray
    high: FloatArray

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values, None where there is none."""
        return {
            name: [None if np.isnan(value) else float(value) for value in column]
            for name, column in vars(self).items()
        }


def band_fmrs(impostors: int) -> FloatArray:
    """Choose false match rates for a band: even in their logarithm, from one false match on.

    Args:
        impostors: Number of impostor pairs, from 1.

    Example:
        >>> fmr = band_fmrs(1_000)
        >>> fmr.size, round(float(fmr[0]), 6), float(fmr[-1])
        (60, 0.001, 1.0)
    """
    return np.geomspace(1 / impostors, 1, POINTS)


def fnmr_at(curve: ErrorCurve, fmr: FloatArray) -> FloatArray:
    """Read the FNMR at the smallest thresholds whose false match rates are at most these.

    Args:
        curve: Both error rates at every threshold.
        fmr: False match rates, shape (K,).

    Returns:
        Shape (K,).
    """
    reached = np.searchsorted(curve.fmr[::-1], fmr * _ROUNDING, side="right")
    fnmr: FloatArray = curve.fnmr[curve.fmr.size - reached]
    return fnmr


def make_band(
    fmr: FloatArray,
    fnmr: Sequence[float] | FloatArray,
    drawn: FloatArray,
    *,
    trials: int,
    confidence: float,
) -> DetBand:
    """Put intervals around a curve.

    Args:
        fmr: False match rates, shape (K,).
        fnmr: False non-match rate at each, shape (K,).
        drawn: The same on each draw of identities, shape (R, K), NaN where undefined.
        trials: Number of identities with a genuine pair.
        confidence: Probability that each interval is to cover.
    """
    ends = [
        interval(float(value), column, trials=trials, confidence=confidence) or (np.nan, np.nan)
        for value, column in zip(fnmr, drawn.T, strict=True)
    ]
    low, high = np.array(ends).T
    return DetBand(fmr=fmr, fnmr=np.asarray(fnmr), low=low, high=high)
