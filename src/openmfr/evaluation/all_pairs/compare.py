"""Results on the same draws of people: which model is better, and what a sum of parts is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple

import numpy as np
import numpy.typing as npt

from openmfr.evaluation.all_pairs.counts import PairCounts
from openmfr.evaluation.all_pairs.rates import AllPairsResult, statistics_of
from openmfr.evaluation.all_pairs.tail import draw_together
from openmfr.evaluation.difference import not_the_same, paired_differences
from openmfr.evaluation.intervals import Measured

FloatArray = npt.NDArray[np.floating]


def compare_results(first: AllPairsResult, second: AllPairsResult) -> dict[float, Measured]:
    """Measure the second model's FNMR minus the first's, with paired intervals.

    Args:
        first: What one model reached.
        second: What another one reached on the same images, with the same draws.

    Returns:
        By false match rate; below 0 the second is better. An interval that excludes 0 is
        a difference.

    Raises:
        UserError: If images, rates or draws are not the same.

    Example:
        >>> from openmfr.evaluation.all_pairs.rates import measure_all_pairs
        >>> from openmfr.evaluation.all_pairs.scores import all_pairs
        >>> rng, identity = np.random.default_rng(0), np.repeat(np.arange(30), 4)
        >>> bad = rng.normal(size=(30, 8))[identity] + rng.normal(size=(120, 8))
        >>> good = bad + rng.normal(size=(30, 8))[identity]
        >>> models = [all_pairs(model, identity, fmrs=[0.01]) for model in (bad, good)]
        >>> results = [measure_all_pairs(model, replicates=50) for model in models]
        >>> change = compare_results(*results)[0.01]
        >>> change.low < change.value < change.high < 0
        True
    """
    if not _same(first.pairs.counts, second.pairs.counts):
        raise not_the_same("other images")
    fmrs = [rate.fmr for rate in first.rates]
    if fmrs != [rate.fmr for rate in second.rates]:
        raise not_the_same("other false match rates")
    return dict(zip(fmrs, paired_differences(first, second), strict=True))


def drawn_together(results: Sequence[AllPairsResult]) -> list[FloatArray]:
    """FNMR of several parts on the same draws; see `draw_together`.

    Args:
        results: The parts, measured with the same seed and replicates.

    Returns:
        For each part, shape (replicates, F).
    """
    first = results[0]
    if all(
        np.array_equal(part.pairs.counts.identities, first.pairs.counts.identities)
        for part in results
    ):
        return [part.drawn for part in results]  # these were the same draws already
    return draw_together(
        [statistics_of(part.pairs, [rate.fmr for rate in part.rates]) for part in results],
        replicates=first.replicates,
        seed=first.seed,
    )


def differences(
    results: Mapping[str, Mapping[str, AllPairsResult]],
) -> dict[str, dict[str, dict[float, Measured]]]:
    """Compare every other model with the first, wherever both were measured.

    Args:
        results: Model → comparison → result.

    Returns:
        Model → comparison → false match rate → difference; see `compare_results`.
    """
    (_, base), *others = results.items()
    return {
        model: {
            name: compare_results(base[name], part) for name, part in parts.items() if name in base
        }
        for model, parts in others
    }


def _same(first: PairCounts, second: PairCounts) -> bool:
    return all(
        np.array_equal(a, b) if a is not None and b is not None else a is b
        for a, b in zip(astuple(first), astuple(second), strict=True)
    )
