"""Thresholds for merging and moving, searched on noise that is planted for it.

Two halves of one identity, an image under a wrong name: what they look like to this model, on these
photos, can be tried. Images that fit their identity are taken as true; some identities are set
aside as strangers; flips, outliers and splits are planted in the rest; and the stages of a pass run
over it. Each threshold then has a known number of right and of wrong decisions. Of those that are
wrong no more often than was allowed, the one with the fewest errors is taken: what was missed, and
what was decided wrongly.

A small set is planted several times, as a few dozen decisions say little. The planted tables are
never used for anything else.

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
from openmfr.cleaning.stages import Fit, fit_images, propose_merges, propose_moves
from openmfr.data.labels import Labels
from openmfr.data.noise import FLIP, OUTLIER, SPLIT, NoiseConfig, PlantedNoise, plant_noise

if TYPE_CHECKING:
    from openmfr.distributed import Ranks

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

#: Thresholds for sets too small to search: found on CelebA with a model of another set.
DEFAULT_INTER, DEFAULT_RELABEL = 0.80, 0.60
#: The thresholds that are tried.
_INTER_GRID = np.round(np.arange(0.50, 1.001, 0.01), 2)
_RELABEL_GRID = np.round(np.arange(0.0, 1.501, 0.02), 2)
#: Decisions below which a share says nothing.
_LEAST_DECISIONS = 20
#: Splits after which noise is planted no further time, and most times.
_ENOUGH_SPLITS, _MOST_TIMES = 500, 4
#: A difference of errors among merges that means nothing: one of 500.
_SAME_MERGES = 0.002
#: Corrected score at which two identities are taken for one before noise is planted.
_SURELY_ONE = 0.90
#: One identity in so many lends its images as outliers.
_SET_ASIDE = 10
_NOISE = NoiseConfig(outliers=0.05, flips=0.10, splits=0.20)


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """What each threshold would have done with the planted noise.

    Attributes:
        threshold: Ascending, shape (T,).
        found: Share of the planted splits rejoined, or flips moved home, shape (T,).
        wrong: Share of the decisions that were wrong, shape (T,); 0 where there is none.
        decisions: How many there were, shape (T,).
        allowed: Share that was allowed to be wrong.
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


def search_thresholds(
    embedding: FloatArray,
    labels: Labels,
    fit: Fit,
    config: CleanConfig,
    *,
    ranks: Ranks | None = None,
) -> tuple[Curve, Curve]:
    """Search the thresholds for merging and for moving.

    Args:
        embedding: One row for each image, shape (N, D).
        labels: The table to be cleaned.
        fit: Which of its images fit.
        config: What may be wrong.
        ranks: Processes that share the searches.

    Returns:
        The curves for merging and for moving. Moves are only tried if their threshold is wanted.
    """
    base = _without_doubt(embedding, labels, fit, config, ranks)
    noise = _noise_for(base, config)
    if noise is None:
        return (
            Curve.given(DEFAULT_INTER, config.wrong_merges),
            Curve.given(DEFAULT_RELABEL, config.wrong_moves),
        )
    merging: list[_Try] = []
    moving: list[_Try] = []
    tries_moves = config.relabel and config.relabel_threshold is None
    for time in range(_MOST_TIMES):
        planted = plant_noise(base, replace(noise, seed=config.seed + time))
        noisy = planted.noisy
        noisy_fit = fit_images(embedding, noisy, config)
        candidates = propose_merges(
            embedding,
            noisy,
            noisy_fit,
            lowest=float(_INTER_GRID[0]),
            method=config.search,
            ranks=ranks,
        )
        merging.append(_try_merges(planted, candidates))
        inter = _choose(_INTER_GRID, merging, config.wrong_merges, same=_SAME_MERGES)
        if tries_moves:
            identity = apply_merges(noisy.identity, merge_identities(candidates, inter.chosen))
            again = fit_images(embedding, noisy, config, identity=identity)
            moves = propose_moves(
                embedding, noisy, again, identity, method=config.search, ranks=ranks
            )
            moving.append(_try_moves(planted, moves, identity))
        if sum(tried.planted for tried in merging) >= _ENOUGH_SPLITS:
            break
    if not tries_moves:
        return inter, Curve.given(DEFAULT_RELABEL, config.wrong_moves)
    return inter, _choose(_RELABEL_GRID, moving, config.wrong_moves, same=0.0)


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
    people, counts = np.unique(base.identity[base.keep], return_counts=True)
    splits = int(_NOISE.splits * (counts >= _NOISE.least_images).sum())
    if splits < _LEAST_DECISIONS or _NOISE.flips * counts.sum() < _LEAST_DECISIONS:
        return None
    return replace(_NOISE, outlier_identities=len(people) // _SET_ASIDE, seed=config.seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Try:
    """What each threshold did with noise that was planted once.

    Attributes:
        planted: Splits or flips that were planted.
        found: Those that were mended, shape (T,).
        wrong: Decisions that were wrong, shape (T,); an estimate where not all can be judged.
        decisions: Decisions that were judged, shape (T,).
    """

    planted: int
    found: FloatArray
    wrong: FloatArray
    decisions: IntArray


def _try_merges(planted: PlantedNoise, candidates: Candidates) -> _Try:
    noisy, truth = planted.noisy, planted.truth
    correct = noisy.keep & (truth.identity >= 0) & ~np.isin(truth.reason, (OUTLIER, FLIP))
    owner = owners(noisy.identity, truth, correct)
    parts = np.unique(noisy.identity[truth.reason == SPLIT]).size
    is_part = np.zeros(int(noisy.identity.max()) + 1, dtype=np.bool_)
    split = truth.reason == SPLIT
    is_part[noisy.identity[split]] = is_part[truth.identity[split]] = True
    # Wrong merges are only seen where one side is a part: what share of all pairs that is.
    whole = 1 - is_part[noisy.kept_identities].mean()
    coverage = max(1 - whole**2, 1e-9)
    found, wrong, decisions = [], [], []
    for threshold in _INTER_GRID:
        merges = merge_identities(candidates, float(threshold))
        # Others may be split by nature: nobody knows whether their merges are right.
        known = [merge for merge in merges if is_part[merge.into] or is_part[merge.other]]
        right = sum(owner.get(merge.into, -1) == owner.get(merge.other, -2) for merge in known)
        found.append(min(right, parts))
        decisions.append(len(known))
        wrong.append((len(known) - right) / coverage)
    return _Try(
        planted=parts,
        found=np.array(found, dtype=np.float64),
        wrong=np.array(wrong, dtype=np.float64),
        decisions=np.array(decisions),
    )


def _try_moves(planted: PlantedNoise, moves: Moves, identity: IntArray) -> _Try:
    noisy, truth = planted.noisy, planted.truth
    is_planted = np.isin(truth.reason, (OUTLIER, FLIP))
    owner = owners(identity, truth, noisy.keep & ~is_planted)
    shown = np.array([owner.get(label, -1) for label in moves.identity.tolist()])
    is_home = (shown == truth.identity[moves.image]) & (truth.reason[moves.image] == FLIP)
    # Of images on which nothing was planted nobody knows whether they are right where they are.
    reaches = (moves.evidence[None] >= _RELABEL_GRID[:, None]) & is_planted[moves.image]
    decisions, home = reaches.sum(axis=1), (reaches & is_home).sum(axis=1)
    return _Try(
        planted=int((truth.reason == FLIP).sum()),
        found=home.astype(np.float64),
        wrong=(decisions - home).astype(np.float64),
        decisions=decisions,
    )


def _choose(grid: FloatArray, tries: Sequence[_Try], allowed: float, *, same: float) -> Curve:
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
    first = min(int(too_wrong[-1]) + 1 if too_wrong.size else 0, grid.size - 1)
    errors = (1 - found_share + wrong)[first:]
    best = np.flatnonzero(errors <= errors.min() + same) + first
    return Curve(
        threshold=grid,
        found=found_share,
        wrong=wrong,
        decisions=decisions,
        allowed=allowed,
        chosen=float(grid[best[-1]]),
        is_searched=True,
    )
