"""Thresholds for merging and moving, found by what would go wrong.

*Merging* is tried on noise that is planted for it: what two halves of one identity look like to
this model, on these photos, can be seen. Images that fit their identity are taken as true; flips,
outliers and splits are planted among them; and the stages of a pass run over it. Each threshold
then has a known number of right and of wrong decisions. Of those that are wrong no more often than
was allowed, the one with the fewest errors is taken: what was missed, and what was decided wrongly.
A small set is planted several times, as a few dozen decisions say little. The planted tables are
never used for anything else.

*Moving* is not tried like that, as nobody knows how many of the wrong images show people of the
set: a table with more strangers than was planted would get too bold a threshold. The doubtful
images themselves say how many find an identity by chance (`choose_moves`).

Source: paper section 2.2 ("thresholds are pre-defined and can be searched according to clean
results").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.config import CleanConfig
from openmfr.cleaning.inter import Candidates, apply_merges, merge_identities
from openmfr.cleaning.judge import owners
from openmfr.cleaning.relabel import Moves
from openmfr.cleaning.stages import Fit, fit_images, propose_merges
from openmfr.data.labels import Labels
from openmfr.data.noise import FLIP, OUTLIER, SPLIT, NoiseConfig, PlantedNoise, plant_noise

if TYPE_CHECKING:
    from openmfr.distributed import Ranks

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

#: For sets too small to search: of merging, found on CelebA with a model of another set; of moving,
#: as much as hardly any stranger finds.
DEFAULT_INTER, DEFAULT_RELABEL = 0.80, 1.50
#: The thresholds that are tried; corrected scores scatter around 1.
_INTER_GRID = np.round(np.arange(0.50, 1.201, 0.01), 2)
_RELABEL_GRID = np.round(np.arange(0.0, 5.001, 0.02), 2)
#: Decisions below which a share says nothing.
_LEAST_DECISIONS = 20
#: Splits after which noise is planted no further time, and most times.
_ENOUGH_SPLITS, _MOST_TIMES = 500, 4
#: A difference of errors among merges that means nothing: one of 500.
_SAME_MERGES = 0.002
#: Corrected score at which two identities are taken for one before noise is planted.
_SURELY_ONE = 0.90
#: Of the share of images with a home: the most, a change that ends the search for it, and steps.
_MOST_HOME, _SAME_HOME, _MOST_STEPS = 0.99, 1e-5, 200
#: One identity in so many lends its images as outliers.
_SET_ASIDE = 10
_NOISE = NoiseConfig(outliers=0.05, flips=0.10, splits=0.20)


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """What each threshold did with the planted noise, or would do with the table.

    Attributes:
        threshold: Ascending, shape (T,).
        found: Share of the planted splits that is rejoined, or of the images with a home that move,
            shape (T,).
        wrong: Share of the decisions that is wrong, shape (T,); 0 where there is none.
        decisions: How many there are, shape (T,).
        allowed: Share that may be wrong.
        chosen: The threshold taken.
        is_searched: False if it was given, or the set too small for a search.
    """

    threshold: FloatArray
    found: FloatArray
    wrong: FloatArray
    decisions: IntArray
    allowed: float
    chosen: float
    is_searched: bool

    @classmethod
    def given(cls, threshold: float, allowed: float) -> Curve:
        """A threshold without a curve."""
        nothing = np.empty(0)
        return cls(
            threshold=nothing,
            found=nothing,
            wrong=nothing,
            decisions=np.empty(0, dtype=np.int64),
            allowed=allowed,
            chosen=threshold,
            is_searched=False,
        )


def search_merges(
    embedding: FloatArray,
    labels: Labels,
    fit: Fit,
    config: CleanConfig,
    *,
    ranks: Ranks | None = None,
) -> Curve:
    """Search the threshold for merging on planted noise.

    Args:
        embedding: One row for each image, shape (N, D).
        labels: The table to be cleaned.
        fit: Which of its images fit.
        config: What may be wrong.
        ranks: Processes that share the searches.

    Returns:
        The curve; `DEFAULT_INTER` without one if the set is too small.
    """
    base = _without_doubt(embedding, labels, fit, config, ranks)
    noise = _noise_for(base, config)
    if noise is None:
        return Curve.given(DEFAULT_INTER, config.wrong_merges)
    tries: list[_Try] = []
    for time in range(_MOST_TIMES):
        planted = plant_noise(base, replace(noise, seed=config.seed + time))
        candidates = propose_merges(
            embedding,
            planted.noisy,
            fit_images(embedding, planted.noisy, config),
            lowest=float(_INTER_GRID[0]),
            method=config.search,
            ranks=ranks,
        )
        tries.append(_try_merges(planted, candidates))
        if sum(tried.planted for tried in tries) >= _ENOUGH_SPLITS:
            break
    return _choose(tries, config.wrong_merges)


def choose_moves(moves: Moves, allowed: float) -> Curve:
    """Choose the threshold for moving from what doubtful images find by chance.

    Let h be the share of the images that have a home in the set, and S(t) the probability that an
    image finds evidence of t or more in a half without its home. Of a share x(t) the home is found:
    it gives evidence of t or more. In both halves as much is found for a share
    M = x·S + (1 − h)·S² of the images, which can be counted, and S follows. In one half or the
    other it is found for P = x + (1 − h)·(1 − (1 − S)²), which is counted as well: the second term
    are the wrong moves. What is left of P is x, and h is its maximum over t.

    One image more than was seen is counted for M: that none was seen does not mean that there can
    be none. So a table in which few images have a home moves little or nothing.

    Args:
        moves: All that are proposed.
        allowed: Share of the moves that may be wrong, 0 to 1.

    Returns:
        The curve, with the lowest threshold at which no more are wrong than allowed; the highest
        of all, at which nothing moves, if there is none. Fewer than twenty images say nothing of
        chance: `DEFAULT_RELABEL` then, without a curve.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> halves = rng.normal(0, 0.2, (2, 1000))
        >>> halves[0, :600] += 1.5  # six of ten have a home
        >>> rows = np.arange(1000)
        >>> curve = choose_moves(
        ...     Moves(
        ...         image=rows,
        ...         identity=rows,
        ...         evidence=halves.max(axis=0),
        ...         by_chance=halves.min(axis=0),
        ...         score=halves[0],
        ...     ),
        ...     allowed=0.05,
        ... )
        >>> 0.3 < curve.chosen < 0.8
        True
    """
    if moves.image.size < _LEAST_DECISIONS:
        return Curve.given(DEFAULT_RELABEL, allowed)
    grid, count = _RELABEL_GRID, moves.image.size
    decisions = _reaching(moves.evidence, grid)
    both = np.minimum((_reaching(moves.by_chance, grid) + 1) / count, 1)
    share = decisions / count
    chance, found = np.zeros(grid.size), share
    for _ in range(_MOST_STEPS):
        homeless = 1 - min(float(found.max()), _MOST_HOME)
        one = 2 * both / (found + np.sqrt(found**2 + 4 * homeless * both))
        chance = homeless * (1 - (1 - one) ** 2)
        before, found = found, np.clip(share - chance, 0, 1)
        if np.abs(found - before).max() < _SAME_HOME:
            break
    wrong = np.minimum(chance / np.maximum(share, 1e-9), 1) * (decisions > 0)
    fine = np.flatnonzero((wrong <= allowed) & (decisions > 0))
    return Curve(
        threshold=grid,
        found=found / max(float(found.max()), 1e-9),
        wrong=wrong,
        decisions=decisions,
        allowed=allowed,
        chosen=float(grid[fine[0] if fine.size else -1]),
        is_searched=True,
    )


def _reaching(value: FloatArray, threshold: FloatArray) -> IntArray:
    """How many values reach each threshold."""
    return value.size - np.searchsorted(np.sort(value), threshold, side="left")


def _without_doubt(
    embedding: FloatArray, labels: Labels, fit: Fit, config: CleanConfig, ranks: Ranks | None
) -> Labels:
    """The images that fit, and identities that are surely one person under one number.

    A half that finds its true other half would otherwise be counted as wrong.
    """
    sure = propose_merges(
        embedding, labels, fit, lowest=_SURELY_ONE, method=config.search, ranks=ranks
    )
    identity = apply_merges(labels.identity, merge_identities(sure, _SURELY_ONE))
    return labels.child(identity=identity).without(fit.is_doubtful, reason="doubtful")


def _noise_for(base: Labels, config: CleanConfig) -> NoiseConfig | None:
    """How much to plant; None if there are too few people or images for it."""
    people, counts = base.kept_counts
    splits = int(_NOISE.splits * (counts >= _NOISE.least_images).sum())
    if splits < _LEAST_DECISIONS or _NOISE.flips * counts.sum() < _LEAST_DECISIONS:
        return None
    return replace(_NOISE, outlier_identities=len(people) // _SET_ASIDE, seed=config.seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Try:
    """What each threshold did with noise that was planted once.

    Attributes:
        planted: Splits that were planted.
        found: Those that were rejoined, shape (T,).
        wrong: Merges that were wrong, shape (T,); an estimate, as not all can be judged.
        decisions: Merges that were judged, shape (T,).
    """

    planted: int
    found: FloatArray
    wrong: FloatArray
    decisions: IntArray


def _try_merges(planted: PlantedNoise, candidates: Candidates) -> _Try:
    noisy, truth = planted.noisy, planted.truth
    correct = noisy.keep & (truth.identity >= 0) & ~truth.reason.isin((OUTLIER, FLIP))
    owner = owners(noisy.identity, truth, correct)
    parts = np.unique(noisy.identity[truth.reason == SPLIT]).size
    is_part = np.zeros(int(noisy.identity.max()) + 1, dtype=np.bool_)
    split = truth.reason == SPLIT
    is_part[noisy.identity[split]] = is_part[truth.identity[split]] = True
    # Wrong merges are only seen where one side is a part: what share of all pairs that is.
    whole = 1 - is_part[noisy.kept_identities].mean()
    coverage = max(1 - whole**2, 1e-9)
    found, wrong, decisions = (np.zeros(_INTER_GRID.size) for _ in range(3))
    for at in reversed(range(_INTER_GRID.size)):
        threshold = float(_INTER_GRID[at])
        merges = merge_identities(candidates.above(threshold), threshold)
        # Others may be split by nature: nobody knows whether their merges are right.
        known = [merge for merge in merges if is_part[merge.into] or is_part[merge.other]]
        right = sum(owner.get(merge.into, -1) == owner.get(merge.other, -2) for merge in known)
        below = slice(0, at + 1)  # no better than this, if they are not looked at
        found[below], decisions[below] = min(right, parts), len(known)
        wrong[below] = (len(known) - right) / coverage
        if len(known) >= _LEAST_DECISIONS and right < len(known) / 2:
            break  # a network that knows little finds half of all pairs similar, further down
    return _Try(planted=parts, found=found, wrong=wrong, decisions=decisions.astype(np.int64))


def _choose(tries: Sequence[_Try], allowed: float) -> Curve:
    """Take the threshold with the fewest errors among those that are wrong no more than allowed.

    Where several are as good, the highest: a wrong merge costs two identities, and the people of
    the real table look more alike than the few that were split.
    """
    found = np.sum([tried.found for tried in tries], axis=0)
    bad = np.sum([tried.wrong for tried in tries], axis=0)
    decisions = np.sum([tried.decisions for tried in tries], axis=0)
    found_share = found / max(sum(tried.planted for tried in tries), 1)
    wrong = bad / np.maximum(found + bad, 1)
    too_wrong = np.flatnonzero((wrong > allowed) & (decisions >= _LEAST_DECISIONS))
    first = min(int(too_wrong[-1]) + 1 if too_wrong.size else 0, _INTER_GRID.size - 1)
    errors = (1 - found_share + wrong)[first:]
    best = np.flatnonzero(errors <= errors.min() + _SAME_MERGES) + first
    return Curve(
        threshold=_INTER_GRID,
        found=found_share,
        wrong=wrong,
        decisions=decisions,
        allowed=allowed,
        chosen=float(_INTER_GRID[best[-1]]),
        is_searched=True,
    )
