"""Which of two recognisers is better on the same pairs, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.intervals import Measured, resample_identities
from openmfr.evaluation.verification import DEFAULT_FMRS, statistics_of


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
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn[1] - drawn[0], [tail, 1 - tail], axis=0)
    return {
        name: Measured(value=float(value), low=float(a), high=float(b))
        for name, value, a, b in zip(names, values[1] - values[0], low, high, strict=True)
    }
