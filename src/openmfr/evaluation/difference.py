"""Which of two recognisers is better on the same pairs, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.intervals import Measured, resample_identities
from openmfr.evaluation.verification import DEFAULT_FMRS, statistics_of

FloatArray = npt.NDArray[np.floating]

#: Share of the draws in which a difference must be defined for its interval to be given.
_MIN_DEFINED = 0.9


def measure_difference(
    first: Comparisons,
    second: Comparisons,
    *,
    fmrs: Sequence[float] = DEFAULT_FMRS,
    replicates: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Measured]:
    """Measure the second's rates minus the first's, with paired intervals.

    Both are resampled with the same draws of identities, so what makes a pair hard for both cancels
    out, and the interval is much shorter than the two recognisers' own.

    Args:
        first: Pairs as one recogniser scored them.
        second: The same pairs in the same order, as another one scored them.
        fmrs: False match rates at which to compare the FNMR.
        replicates: Draws of identities, from 1.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.

    Returns:
        "accuracy", "eer", "auc" and "fnmr@…" for each false match rate: differences from −1 to 1.
        An interval that excludes 0 is a difference.

    Raises:
        UserError: If the pairs are not the same.
    """
    same = len(first) == len(second) and all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("index_a", "index_b", "is_genuine")
    )
    if not same:
        raise UserError(
            where="comparison of two recognisers",
            found=f"{len(first):,} and {len(second):,} pairs that are not the same",
            allowed="the same pairs in the same order",
            next_step="evaluate both on one list",
        )
    names = ["accuracy", "eer", "auc", *(f"fnmr@{fmr:g}" for fmr in fmrs)]
    values, drawn = [], []
    for side in (first, second):
        statistics, folded = statistics_of(side, fmrs, seed=seed)
        values.append(statistics(np.ones(len(folded))))
        drawn.append(
            resample_identities(
                statistics, folded.identity_a, folded.identity_b, replicates=replicates, seed=seed
            )
        )
    changes = (drawn[1] - drawn[0]).reshape(replicates, len(names))
    return {
        name: paired_difference(
            Measured(value=float(a)), Measured(value=float(b)), change, confidence=confidence
        )
        for name, a, b, change in zip(names, *values, changes.T, strict=True)
    }


def paired_difference(
    first: Measured, second: Measured, drawn: FloatArray, *, confidence: float = 0.95
) -> Measured:
    """Give a difference its interval, and the flags of both sides.

    Args:
        first: What is subtracted.
        second: What it is subtracted from.
        drawn: Second minus first on the same draws of identities, shape (replicates,); NaN where
            either is undefined.
        confidence: Probability that the interval is to cover.

    Returns:
        −1 to 1; refused if either is, without an interval if few draws define it.

    Example:
        >>> change = np.linspace(-0.02, 0.0, 1001)
        >>> found = paired_difference(Measured(value=0.05), Measured(value=0.04), change)
        >>> round(found.value, 4), round(found.low, 4), round(found.high, 4)
        (-0.01, -0.0195, -0.0005)
    """
    flag = "; ".join(dict.fromkeys(side.flag for side in (first, second) if side.flag))
    if first.value is None or second.value is None:
        return Measured(value=None, flag=flag)
    defined = drawn[np.isfinite(drawn)]
    low, high = None, None
    if defined.size and defined.size >= _MIN_DEFINED * drawn.size:
        tail = (1 - confidence) / 2
        low, high = (float(end) for end in np.quantile(defined, [tail, 1 - tail]))
    return Measured(value=second.value - first.value, low=low, high=high, flag=flag)
