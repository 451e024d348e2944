"""FNMR@FMR of all pairs, each with its interval, from the genuine scores and the impostors' tail.

Rates, flags and refusals are those of `verification.measure`, and so are the numbers: measured on a
list of all pairs, it gives the same, interval for interval. What needs the whole impostor side,
accuracy, EER and AUC, is not measured here.

A draw of identities changes the weight of every impostor pair, also of the billions that are not
held. Their sum is known in closed form (`PairCounts.weighted_impostors`), and the tail is deep
enough for most draws; see `all_pairs.tail`. A deeper one (`all_pairs(depth=…)`) mends the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.counts import Convention, Totals
from openmfr.evaluation.all_pairs.scores import AllPairs
from openmfr.evaluation.all_pairs.tail import TailStatistics, draw_together
from openmfr.evaluation.det import DetBand, band_fmrs, fnmr_at, make_band
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.rates import ErrorCurve
from openmfr.evaluation.verification import RateAtFmr, rate_at, with_interval

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, eq=False)
class AllPairsResult:
    """What a recogniser reached on all pairs.

    Attributes:
        pairs: The scores that it was measured on.
        genuine_pairs: Number of genuine pairs, each once, without self-pairs.
        impostor_pairs: Number of impostor pairs, each once.
        identities: Number of identities with an image in either set.
        rates: FNMR@FMR and TAR@FAR at each false match rate that was asked for.
        band: Intervals along the DET curve, as far as `rates` go; None without draws.
        drawn: FNMR at each of the rates in each draw of identities, shape (replicates, F), NaN
            where it is undefined: for comparisons with other results on the same draws.
        confidence: Probability that the intervals are to cover.
        replicates: Draws of identities behind each interval; 0 for no intervals.
        seed: Of the draws.
        notes: What a reader must know about these numbers.
    """

    pairs: AllPairs
    genuine_pairs: int
    impostor_pairs: int
    identities: int
    rates: tuple[RateAtFmr, ...]
    band: DetBand | None
    drawn: FloatArray
    confidence: float
    replicates: int
    seed: int
    notes: tuple[str, ...]

    @property
    def measured(self) -> tuple[Measured, ...]:
        """The FNMR at each of the rates."""
        return tuple(rate.fnmr for rate in self.rates)

    @property
    def totals(self) -> dict[str, Totals]:
        """Numbers of pairs under each convention that fits: all for a set with itself."""
        names: tuple[Convention, ...] = get_args(Convention)
        fitting = names[:1] if self.pairs.counts.second is not None else names
        return {name: self.pairs.counts.total(name) for name in fitting}

    @property
    def reach(self) -> float:
        """The false match rate up to which `curve` holds; 1 if every impostor score is held."""
        if self.pairs.floor == -np.inf:
            return 1.0
        return len(self.pairs.tail) / self.impostor_pairs

    def curve(self) -> ErrorCurve:
        """Both error rates at every threshold, for false match rates up to `reach`."""
        return statistics_of(self.pairs, ()).curve()

    def with_self_pairs(self) -> dict[float, float]:
        """FNMR by FMR if each image were compared with itself too, as WebFace260M's track does.

        A self-pair scores 1 and always matches: it adds to the genuine pairs and to no error.
        Empty for two sets, which have no self-pairs; a refused rate is left out.
        """
        if self.pairs.counts.second is not None:
            return {}
        totals = self.pairs.counts.total("webface260m")
        share = (totals.genuine - totals.self_pairs) / totals.genuine
        return {
            rate.fmr: rate.fnmr.value * share for rate in self.rates if rate.fnmr.value is not None
        }

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""
        return {
            "genuine_pairs": self.genuine_pairs,
            "impostor_pairs": self.impostor_pairs,
            "identities": self.identities,
            "confidence": self.confidence,
            "replicates": self.replicates,
            "rates": [rate.to_json() for rate in self.rates],
            "det": None if self.band is None else self.band.to_json(),
            "totals": {name: total._asdict() for name, total in self.totals.items()},
            "with_self_pairs": [
                {"fmr": fmr, "fnmr": fnmr} for fmr, fnmr in self.with_self_pairs().items()
            ],
            "impostor_scores_held": len(self.pairs.tail),
            "notes": list(self.notes),
        }


def measure_all_pairs(
    pairs: AllPairs,
    *,
    fmrs: Sequence[float] | None = None,
    replicates: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> AllPairsResult:
    """Measure all pairs.

    Args:
        pairs: Their genuine scores and the impostors' tail.
        fmrs: False match rates at which to give FNMR and TAR; by default those that the tail was
            made for. Larger ones need a deeper tail.
        replicates: Draws of identities for the intervals; 0 gives none, and is quick.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.

    Returns:
        The result; repeated with the same arguments it is the same, in whatever order the images
        stand.

    Raises:
        UserError: If there are no genuine pairs, or a false match rate is out of range or needs
            more impostor scores than the tail has.

    Example:
        >>> from openmfr.evaluation.all_pairs.scores import all_pairs
        >>> embedding = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> pairs = all_pairs(embedding, np.array([0, 0, 1, 1]), fmrs=[0.25])
        >>> rate = measure_all_pairs(pairs, replicates=0).rates[0]
        >>> rate.fnmr.value, rate.fnmr.flag, round(rate.threshold, 6)
        (0.0, 'rests on 1 expected false matches', 0.0)
    """
    fmrs = pairs.fmrs if fmrs is None else tuple(fmrs)
    _check_reach(pairs, fmrs)
    grid = _grid(pairs, fmrs) if replicates else np.empty(0)
    statistics = statistics_of(pairs, (*fmrs, *grid.tolist()))
    (drawn,) = draw_together([statistics], replicates=replicates, seed=seed)
    curve, people, asked = statistics.curve(), statistics.people, len(fmrs)
    rates = []
    for fmr, column in zip(fmrs, drawn.T, strict=False):
        value = curve.at_fmr(fmr).fnmr
        fnmr = with_interval(value, column, trials=people, confidence=confidence)
        rates.append(rate_at(curve, fmr, fnmr))
    band = None
    if grid.size:
        band = make_band(
            grid,
            fnmr_at(curve, grid),
            drawn[:, asked:],
            trials=people,
            confidence=confidence,
        )
    return AllPairsResult(
        pairs=pairs,
        genuine_pairs=pairs.counts.genuine,
        impostor_pairs=pairs.counts.impostors,
        identities=pairs.counts.identities.size,
        rates=tuple(rates),
        band=band,
        drawn=drawn[:, :asked],
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        notes=tuple(statistics.notes(fmrs, replicates, remedy="keep more (depth)")),
    )


def _grid(pairs: AllPairs, fmrs: Sequence[float]) -> FloatArray:
    """False match rates along the DET that the tail reaches in most draws."""
    grid = band_fmrs(pairs.counts.impostors)
    return grid if pairs.floor == -np.inf else grid[grid <= max(fmrs)]


def statistics_of(pairs: AllPairs, fmrs: Sequence[float]) -> TailStatistics:
    """Prepare to measure all pairs under many weights of their identities.

    Args:
        pairs: The scores.
        fmrs: False match rates.
    """
    return TailStatistics(
        pairs.genuine.score,
        pairs.genuine.identity_a,
        pairs.tail.score,
        lambda: (pairs.tail.identity_a, pairs.tail.identity_b),
        floor=pairs.floor,
        identities=pairs.counts.identities,
        total=pairs.counts.impostors,
        weigh=pairs.counts.weighted_impostors,
        fmrs=fmrs,
    )


def _check_reach(pairs: AllPairs, fmrs: Sequence[float]) -> None:
    """Refuse rates whose threshold may lie below the scores that are held."""
    for fmr in fmrs:
        if not 0 < fmr < 1 or (
            pairs.floor > -np.inf and fmr * pairs.counts.impostors * (1 + 1e-12) >= pairs.depth
        ):
            reach = pairs.depth / pairs.counts.impostors
            raise UserError(
                where="fmr",
                found=f"{fmr:g}",
                allowed=f"above 0 and below {min(reach, 1):.2g}",
                next_step="name it when the pairs are scored: all_pairs(fmrs=…)",
            )
