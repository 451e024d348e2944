"""Which of two recognisers is better on the same pairs, and whether that is more than chance.

Draws of identities depend on the seed and on the number of identities alone. So two results on the
same pairs have their draws in common, and the difference of a number in each draw gives a paired
interval: what makes a pair hard for both cancels out, and the interval is much shorter than the two
recognisers' own. Every protocol's results are compared by `paired_differences`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.verification import DEFAULT_FMRS, VerificationResult, measure

FloatArray = npt.NDArray[np.floating]

#: How to read differences, for a page's last section.
METHOD = (
    "Models are compared on the same draws of people, so what makes a pair hard for both cancels "
    "out. Only a difference whose interval excludes 0 is more than chance.",
)

#: Share of the draws in which a difference must be defined for its interval to be given.
_MIN_DEFINED = 0.9


class Resampled(Protocol):
    """A result whose numbers were measured again on each draw of identities."""

    @property
    def measured(self) -> Sequence[Measured]:
        """S numbers."""

    @property
    def drawn(self) -> FloatArray:
        """The same on each draw, shape (replicates, S), NaN where undefined."""

    @property
    def confidence(self) -> float:
        """Probability that intervals are to cover."""

    @property
    def replicates(self) -> int:
        """Number of draws."""

    @property
    def seed(self) -> int:
        """Of the draws."""


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

    Args:
        first: Pairs as one recogniser scored them.
        second: The same pairs in the same order, as another one scored them.
        fmrs: False match rates at which to compare the FNMR.
        replicates: Draws of identities; 0 gives no intervals.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.

    Returns:
        "accuracy", "eer", "auc" and "fnmr@…" for each false match rate: differences from −1 to 1,
        with the flags of both sides. An interval that excludes 0 is a difference.

    Raises:
        UserError: If the pairs are not the same.
    """
    _check_same_pairs(first, second)
    results = [
        measure(
            replace(side, kind=None),
            fmrs=fmrs,
            replicates=replicates,
            confidence=confidence,
            seed=seed,
        )
        for side in (first, second)
    ]
    return compare_verifications(*results)


def compare_verifications(
    first: VerificationResult, second: VerificationResult
) -> dict[str, Measured]:
    """Compare two results on a list of pairs; see `measure_difference`.

    Args:
        first: What one recogniser reached.
        second: What another one reached on the same pairs, with the same draws.

    Raises:
        UserError: If pairs, rates or draws are not the same.
    """
    _check_same_pairs(first.comparisons, second.comparisons)
    if first.names != second.names:
        raise not_the_same("other false match rates")
    return dict(zip(first.names, paired_differences(first, second), strict=True))


def are_same_pairs(first: Comparisons, second: Comparisons) -> bool:
    """Whether both are of the same pairs in the same order."""
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("index_a", "index_b", "is_genuine")
    )


def _check_same_pairs(first: Comparisons, second: Comparisons) -> None:
    if not are_same_pairs(first, second):
        raise not_the_same(f"{len(first):,} and {len(second):,} pairs that are not the same")


def paired_differences(first: Resampled, second: Resampled) -> list[Measured]:
    """Measure every number of the second result minus that of the first, with paired intervals.

    Args:
        first: What one recogniser reached.
        second: What another one reached, on the same pairs: the caller has checked that.

    Raises:
        UserError: If their draws are not the same.
    """
    if (first.seed, first.replicates) != (second.seed, second.replicates):
        raise UserError(
            where="comparison of two models",
            found=f"{second.replicates:,} draws of seed {second.seed}",
            allowed=f"{first.replicates:,} draws of seed {first.seed}, as the other has",
            next_step="measure both with the same replicates and seed",
        )
    return [
        paired_difference(a, b, change, confidence=first.confidence)
        for a, b, change in zip(
            first.measured, second.measured, (second.drawn - first.drawn).T, strict=True
        )
    ]


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


def not_the_same(found: str) -> UserError:
    """Refuse to compare results that are not on the same pairs.

    Args:
        found: What differs.
    """
    return UserError(
        where="comparison of two models",
        found=found,
        allowed="results on the same pairs in the same order, at the same false match rates",
        next_step="measure both with the same call",
    )
