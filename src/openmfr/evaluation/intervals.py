"""Confidence intervals that know that pairs share people.

Pairs are not independent: one person with an unusual face spoils every pair that she is in. What
is independent is the people, so the bootstrap draws identities, with replacement, as many as there
are. An identity drawn m times counts m times, and a pair weighs the product of the multiplicities
of the identities in it: m_a × m_b for an impostor pair, m for a genuine pair, in which there is
one identity. (The vertex bootstrap; a genuine pair is not squared, because drawing a person twice
gives two copies of her genuine pairs, not four.)

Two limits, both on the safe side, stand in every report that they touch:

- In a list where most identities are in one impostor pair, as in LFW, the product varies more than
  the pairs do (its variance is 3, that of independent pairs 1), and what rests on the impostors,
  the threshold above all, gets an interval up to about √3 times too wide (simulated, every person
  in one pair: 1.8 times for the threshold with 1,000 pairs, 1.7 with 3,000; 1.5 for the FNMR).
- Resampling cannot show an error that was never seen: for a rate of exactly 0 the interval would
  be [0, 0]. Its open end is closed by the exact bound for n independent trials without an error,
  where n is the number of identities with a genuine pair.

With few people, percentile intervals are a little too short: in a simulation with 50 people who
differ in how hard they are to recognise, 95 % intervals of FNMR, EER and AUC covered the truth in
93, 94 and 90 % of 400 data sets (tests/evaluation/test_intervals.py).

Source:
    Fogliato, Patil & Perona, "Confidence Intervals for Error Rates in 1:1 Matching Tasks",
    IJCV 2024 (vertex bootstrap); Snijders & Borgatti 1999; Clopper & Pearson 1934.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError, raise_together
from openmfr.run import progress

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

#: Share of the replicates in which a statistic must be defined for its interval to be given.
_MIN_DEFINED = 0.9


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number with its confidence interval.

    Attributes:
        value: The number; None where it is refused.
        low: Lower end of the interval; None where there is none.
        high: Upper end of the interval; None where there is none.
        flag: Why the number must not be trusted, or why it is refused; empty if all is well.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    flag: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether there is no number, only a reason."""
        return self.value is None

    def complement(self) -> Measured:
        """Return the same measurement of 1 − value.

        Example:
            >>> Measured(value=0.25, low=0.25, high=0.5).complement()
            Measured(value=0.75, low=0.5, high=0.75, flag='')
        """
        return self._from(1)

    def negated(self) -> Measured:
        """Return the same measurement of −value: a difference of TAR from that of FNMR.

        Example:
            >>> Measured(value=0.25, low=0.125, high=0.5).negated()
            Measured(value=-0.25, low=-0.5, high=-0.125, flag='')
        """
        return self._from(0)

    def _from(self, start: float) -> Measured:
        """The measurement of `start` − value: the ends of the interval change places."""
        value, low, high = (
            None if number is None else start - number
            for number in (self.value, self.high, self.low)
        )
        return Measured(value=value, low=low, high=high, flag=self.flag)


def check_draws(replicates: int, seed: int) -> None:
    """Check what decides the draws of identities, before anything is measured for hours.

    Args:
        replicates: How many draws, from 0.
        seed: Of the draws, from 0.

    Raises:
        UserError: If either is negative.
    """
    raise_together(
        [
            UserError(where=name, found=str(number), allowed="integers from 0", next_step=next_step)
            for name, number, next_step in (
                ("replicates", replicates, "use 1000; 0 gives no intervals"),
                ("seed", seed, "leave it out"),
            )
            if number < 0
        ]
    )


def resample_identities(
    statistics: Callable[[FloatArray], FloatArray],
    identity_a: IntArray,
    identity_b: IntArray,
    *,
    replicates: int,
    seed: int = 0,
) -> FloatArray:
    """Compute statistics of pairs again and again, each time on newly drawn identities.

    Args:
        statistics: Takes one weight per pair, float64 of shape (P,), whole numbers; returns S
            numbers, NaN where the draw leaves one undefined.
        identity_a: Identity of each pair's first image, shape (P,).
        identity_b: Identity of each pair's second image, shape (P,).
        replicates: How many draws.
        seed: The draws depend on it and on the number of identities alone.

    Returns:
        Shape (replicates, S); (0,) without draws.

    Raises:
        UserError: If `replicates` or `seed` is negative.
    """
    check_draws(replicates, seed)
    identities, code = np.unique(np.concatenate([identity_a, identity_b]), return_inverse=True)
    code_a, code_b = code[: identity_a.size], code[identity_a.size :]
    is_genuine = code_a == code_b
    rng = np.random.default_rng(seed)
    rows = []
    with progress("resample identities", total=replicates, unit="replicates") as advance:
        for _ in range(replicates):
            drawn = rng.integers(identities.size, size=identities.size)
            multiplicity = np.bincount(drawn, minlength=identities.size).astype(np.float64)
            weight = multiplicity[code_a] * np.where(is_genuine, 1.0, multiplicity[code_b])
            rows.append(statistics(weight))
            advance(1)
    return np.array(rows)


def interval(
    value: float, replicates: FloatArray, *, trials: int, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Make a percentile interval, closed where resampling is blind.

    Args:
        value: The rate measured on all pairs, 0 to 1.
        replicates: The same rate on each draw of identities, shape (B,); NaN where undefined.
        trials: Number of independent trials that showed no error, if the rate is exactly 0 or 1.
        confidence: Probability that the interval is to cover, above 0 and below 1.

    Returns:
        Lower and upper end; None if fewer than 90 % of the draws define the rate, as happens
        with very few identities.

    Example:
        >>> low, high = interval(0.0, np.zeros(1000), trials=20)
        >>> low, round(high, 3)
        (0.0, 0.168)
    """
    if not 0 < confidence < 1:
        raise UserError(
            where="confidence",
            found=f"{confidence:g}",
            allowed="above 0 and below 1",
            next_step="use 0.95",
        )
    defined = replicates[np.isfinite(replicates)]
    if defined.size == 0 or defined.size < _MIN_DEFINED * replicates.size:
        return None
    tail = (1 - confidence) / 2
    low, high = (float(end) for end in np.quantile(defined, [tail, 1 - tail]))
    unseen = 1 - tail ** (1 / trials)
    if value == 0:
        high = max(high, unseen)
    if value == 1:
        low = min(low, 1 - unseen)
    return min(low, value), max(high, value)
