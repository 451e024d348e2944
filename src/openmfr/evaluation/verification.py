"""From scored pairs to a result: accuracy, FNMR@FMR, EER and AUC, each with its interval.

A number says itself how far it can be trusted. An error rate at a false match rate that allows
fewer than ten false matches among the impostor pairs is flagged; at one that allows fewer than
one it is refused, and a reason stands where the number would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.evaluation.accuracy import FoldedPairs, Thresholds, assign_folds
from openmfr.evaluation.breakdown import Breakdown
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.det import DetBand, band_fmrs, fnmr_at, make_band
from openmfr.evaluation.intervals import Measured, check_draws, interval, resample_identities
from openmfr.evaluation.rates import ErrorCurve, RankedScores, check_fmrs

FloatArray = npt.NDArray[np.floating]

#: False match rates at which a pair list is measured unless others are asked for.
DEFAULT_FMRS = (1e-1, 1e-2, 1e-3)

#: The larger side's share of the pairs above which accuracy says little.
_UNBALANCED = 0.6


@dataclass(frozen=True, kw_only=True)
class RateAtFmr:
    """FNMR@FMR, and the same as TAR@FAR.

    Attributes:
        fmr: The false match rate asked for.
        threshold: Smallest score that matches; None where the rate is refused.
        expected_false_matches: How many the target allows among the impostor pairs.
        fnmr: False non-match rate there.
    """

    fmr: float
    threshold: float | None
    expected_false_matches: float
    fnmr: Measured

    @property
    def tar(self) -> Measured:
        """True accept rate at FAR = `fmr`."""
        return self.fnmr.complement()

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""
        return vars(self) | {"fnmr": vars(self.fnmr), "tar": vars(self.tar)}


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """k-fold accuracy.

    Attributes:
        mean: Mean over the folds.
        std: Population standard deviation over the folds, as results on LFW are quoted.
        folds: Accuracy of each fold.
        threshold: Mean of the thresholds that the folds were tested with.
        guessing: Accuracy of always answering what is right more often.
    """

    mean: Measured
    std: float
    folds: tuple[float, ...]
    threshold: float
    guessing: float


@dataclass(frozen=True, kw_only=True, eq=False)
class VerificationResult:
    """What a recogniser reached on one protocol.

    Attributes:
        comparisons: The scored pairs.
        genuine_pairs: Number of genuine pairs.
        impostor_pairs: Number of impostor pairs.
        identities: Number of identities in the pairs.
        accuracy: k-fold accuracy.
        rates: FNMR@FMR and TAR@FAR at each false match rate that was asked for.
        eer: Equal error rate.
        auc: Area under the ROC curve.
        kinds: The same for each kind of pair, where the protocol has kinds.
        drawn: The numbers of `measured` in each draw of identities, shape (replicates, S), NaN
            where undefined: for comparisons with other results on the same draws.
        confidence: Probability that the intervals are to cover.
        replicates: Draws of identities behind each interval; 0 for no intervals.
        seed: Of the draws.
        notes: What a reader must know about these numbers.
        band: Intervals along the DET curve; None without draws.
        breakdown: Groups of people and masks apart, at one threshold; None if nothing is known of
            either.
    """

    comparisons: Comparisons
    genuine_pairs: int
    impostor_pairs: int
    identities: int
    accuracy: Accuracy
    rates: tuple[RateAtFmr, ...]
    eer: Measured
    auc: Measured
    kinds: Mapping[str, VerificationResult]
    drawn: FloatArray
    confidence: float
    replicates: int
    seed: int
    notes: tuple[str, ...]
    band: DetBand | None = None
    breakdown: Breakdown | None = None

    @cached_property
    def curve(self) -> ErrorCurve:
        """Both error rates at every threshold."""
        return RankedScores(self.comparisons.genuine, self.comparisons.impostor).curve()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers that have intervals: "accuracy", "eer", "auc", "fnmr@0.01" …."""
        return ("accuracy", "eer", "auc", *(f"fnmr@{rate.fmr:g}" for rate in self.rates))

    @property
    def measured(self) -> tuple[Measured, ...]:
        """These numbers."""
        return (self.accuracy.mean, self.eer, self.auc, *(rate.fnmr for rate in self.rates))

    def headline(self) -> RateAtFmr:
        """Return the rate at the smallest false match rate that is supported, else the largest."""
        trusted = [rate for rate in self.rates if not rate.fnmr.flag]
        return min(trusted, key=_fmr) if trusted else max(self.rates, key=_fmr)

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""
        return {
            "genuine_pairs": self.genuine_pairs,
            "impostor_pairs": self.impostor_pairs,
            "identities": self.identities,
            "confidence": self.confidence,
            "replicates": self.replicates,
            "accuracy": vars(self.accuracy)
            | {"mean": vars(self.accuracy.mean), "folds": list(self.accuracy.folds)},
            "rates": [rate.to_json() for rate in self.rates],
            "eer": vars(self.eer),
            "auc": vars(self.auc),
            "kinds": {kind: result.to_json() for kind, result in self.kinds.items()},
            "notes": list(self.notes),
            "det": None if self.band is None else self.band.to_json(),
            "breakdown": None if self.breakdown is None else self.breakdown.to_json(),
        }


def measure(
    comparisons: Comparisons,
    *,
    fmrs: Sequence[float] = DEFAULT_FMRS,
    replicates: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
    thresholds: Thresholds = "exact",
) -> VerificationResult:
    """Measure scored pairs.

    Args:
        comparisons: What a protocol compared.
        fmrs: False match rates at which to give FNMR and TAR, each above 0 and below 1.
        replicates: Draws of identities for the intervals; 0 gives none, and is quick.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws, and of the folds where the protocol has none.
        thresholds: How accuracy searches a fold's threshold: exact, or on InsightFace's grid.

    Returns:
        The result; repeated with the same arguments it is the same.

    Raises:
        UserError: If there are no genuine or no impostor pairs, a score is not finite, or a false
            match rate or a number of draws is out of range.
    """
    check_fmrs(fmrs)
    check_draws(replicates, seed)
    folded, notes = _with_folds(comparisons, seed=seed)
    grid = band_fmrs(folded.impostor.size) if replicates and folded.impostor.size else np.empty(0)
    statistics = _Statistics(folded, fmrs, thresholds, grid)
    if thresholds == "insightface":
        notes.append("Accuracy is searched on InsightFace's grid of thresholds, not exactly.")
    drawn = resample_identities(
        statistics,
        folded.identity_a,
        folded.identity_b,
        replicates=replicates,
        seed=seed,
    ).reshape(replicates, 3 + len(fmrs) + grid.size)
    people = np.unique(folded.identity_a[folded.is_genuine]).size
    values = statistics(np.ones(len(folded)))
    rates = 3 + len(fmrs)
    measured = [
        with_interval(float(value), column, trials=people, confidence=confidence)
        for value, column in zip(values[:rates], drawn[:, :rates].T, strict=True)
    ]
    notes += _notes(folded, replicates=replicates)
    kinds, kind_notes = _measure_kinds(
        folded,
        fmrs=fmrs,
        replicates=replicates,
        confidence=confidence,
        seed=seed,
        thresholds=thresholds,
    )
    return VerificationResult(
        comparisons=folded,
        genuine_pairs=folded.genuine.size,
        impostor_pairs=folded.impostor.size,
        identities=np.unique(np.concatenate([folded.identity_a, folded.identity_b])).size,
        accuracy=statistics.accuracy(measured[0]),
        eer=measured[1],
        auc=measured[2],
        rates=tuple(
            rate_at(statistics.curve, fmr, fnmr)
            for fmr, fnmr in zip(fmrs, measured[3:], strict=True)
        ),
        kinds=kinds,
        drawn=drawn[:, :rates],
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        notes=tuple(notes + kind_notes),
        band=make_band(grid, values[rates:], drawn[:, rates:], trials=people, confidence=confidence)
        if grid.size
        else None,
    )


class _Statistics:
    """Accuracy, EER, AUC and FNMR at each FMR of weighted pairs, after sorting them once.

    The FNMR along a grid of false match rates follows, where one is given.
    """

    def __init__(
        self,
        comparisons: Comparisons,
        fmrs: Sequence[float],
        thresholds: Thresholds = "exact",
        grid: FloatArray | None = None,
    ) -> None:
        assert comparisons.fold is not None
        self._is_genuine = comparisons.is_genuine
        self._ranked = RankedScores(comparisons.genuine, comparisons.impostor)
        self._folded = FoldedPairs(
            comparisons.score, comparisons.is_genuine, comparisons.fold, thresholds=thresholds
        )
        self._fmrs, self._grid = fmrs, np.empty(0) if grid is None else grid
        self.curve = self._ranked.curve()

    def __call__(self, weight: FloatArray) -> FloatArray:
        genuine, impostor = weight[self._is_genuine], weight[~self._is_genuine]
        if not genuine.any() or not impostor.any():
            return np.full(3 + len(self._fmrs) + self._grid.size, np.nan)
        curve = self._ranked.curve(genuine, impostor)
        accuracies, _ = self._folded.accuracy(weight)
        fnmrs = [curve.at_fmr(fmr).fnmr for fmr in self._fmrs]
        whole = [np.nanmean(accuracies), curve.eer(), curve.auc()]
        return np.array([*whole, *fnmrs, *fnmr_at(curve, self._grid)])

    def accuracy(self, mean: Measured) -> Accuracy:
        accuracies, thresholds = self._folded.accuracy()
        share = float(self._is_genuine.mean())
        return Accuracy(
            mean=mean,
            std=float(accuracies.std()),
            folds=tuple(accuracies.tolist()),
            threshold=float(thresholds.mean()),
            guessing=max(share, 1 - share),
        )


def with_interval(value: float, drawn: FloatArray, *, trials: int, confidence: float) -> Measured:
    """Put a number together with the interval of its replicates; see `intervals.interval`."""
    ends = interval(value, drawn, trials=trials, confidence=confidence)
    low, high = ends or (None, None)
    return Measured(value=value, low=low, high=high)


def rate_at(curve: ErrorCurve, fmr: float, fnmr: Measured) -> RateAtFmr:
    """Flag a rate that rests on few expected false matches, or refuse it.

    Args:
        curve: Both error rates at every threshold.
        fmr: The false match rate that was asked for.
        fnmr: The false non-match rate there.
    """
    point = curve.at_fmr(fmr)
    expected = point.expected_false_matches
    if expected * (1 + 1e-12) < 1:
        reason = (
            f"refused: needs at least {1 / fmr:,.0f} impostor pairs, has {curve.impostors:,.0f}"
        )
        return RateAtFmr(
            fmr=fmr,
            threshold=None,
            expected_false_matches=expected,
            fnmr=Measured(value=None, flag=reason),
        )
    if not point.is_supported:
        fnmr = replace(fnmr, flag=f"rests on {expected:.2g} expected false matches")
    return RateAtFmr(fmr=fmr, threshold=point.threshold, expected_false_matches=expected, fnmr=fnmr)


def _with_folds(comparisons: Comparisons, *, seed: int) -> tuple[Comparisons, list[str]]:
    if comparisons.fold is not None and np.unique(comparisons.fold).size > 1:
        return comparisons, []
    smaller = min(comparisons.genuine.size, comparisons.impostor.size)
    folds = max(2, min(10, smaller))
    fold = assign_folds(comparisons.is_genuine, folds=folds, seed=seed)
    note = (
        f"The list has no folds: its pairs were dealt into {folds} at random (seed {seed}), so "
        "the folds share people."
    )
    return replace(comparisons, fold=fold), [note]


def _notes(comparisons: Comparisons, *, replicates: int) -> list[str]:
    notes = []
    share = float(comparisons.is_genuine.mean())
    if max(share, 1 - share) > _UNBALANCED:
        notes.append(
            f"{share:.0%} of the pairs are genuine: accuracy is ruled by the larger side; "
            "read the error rates instead."
        )
    impostors = np.flatnonzero(~comparisons.is_genuine)
    people = np.concatenate([comparisons.identity_a[impostors], comparisons.identity_b[impostors]])
    if replicates and np.median(np.unique(people, return_counts=True)[1]) <= 1:
        notes.append(
            "Most people are in a single impostor pair: intervals that depend on a threshold are "
            "up to about 1.7 times too wide, on the safe side."
        )
    return notes


def _measure_kinds(
    comparisons: Comparisons,
    *,
    fmrs: Sequence[float],
    replicates: int,
    confidence: float,
    seed: int,
    thresholds: Thresholds,
) -> tuple[dict[str, VerificationResult], list[str]]:
    if comparisons.kind is None:
        return {}, []
    results, notes = {}, []
    for kind in np.unique(comparisons.kind).tolist():
        part = replace(comparisons.only(comparisons.kind == kind), kind=None)
        if part.genuine.size and part.impostor.size:
            results[kind] = measure(
                part,
                fmrs=fmrs,
                replicates=replicates,
                confidence=confidence,
                seed=seed,
                thresholds=thresholds,
            )
        else:
            side = "impostor" if part.genuine.size else "genuine"
            notes.append(f"Kind {kind} has no {side} pairs and is not measured.")
    return results, notes


def _fmr(rate: RateAtFmr) -> float:
    return rate.fmr
