"""Verification accuracy by k-fold cross-validation, as LFW defines it.

The threshold for a fold's pairs is chosen on the pairs of all other folds: the one that decides
most of them rightly. The search is exact, and its conventions are those of the rates: a threshold
lies just above a score of the other folds, and the smallest of several equally good ones is taken.
(Half-way between two scores would be as right; on LFW the choice moves the result by 0.05 points.)
Nothing about the tested fold is looked at.

Most published figures do not come from an exact search but from a grid of thresholds, 0, 0.01, …,
3.99 of the squared Euclidean distance of unit vectors, that InsightFace's `verification.py` took
over from FaceNet's. `thresholds="insightface"` repeats it to the last pair: the smallest of equally
good distances is taken, and a pair matches below it. (A distance within rounding of a threshold may
fall to its other side: distances are made of cosines here.) Its steps are 0.005 of cosine, so it
differs from the exact search by some 0.05 points, to either side.

Source:
    Huang et al., "Labeled Faces in the Wild", UMass TR 07-49, view 2; InsightFace,
    recognition/arcface_torch/eval/verification.py (the grid).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError, nearest

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: How a fold's threshold is searched: among all that tell two scores apart, or on the grid.
Thresholds = Literal["exact", "insightface"]

#: Squared Euclidean distances that InsightFace tries, made as there: rounding is part of it.
_GRID = np.arange(0, 4, 0.01)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """What is sorted once for one tested fold, so that each weighting is two sums and a search."""

    chosen_on: IntArray  # pairs of the other folds, by ascending score
    cuts: IntArray  # how many of them a candidate threshold rejects
    thresholds: FloatArray
    tested: IntArray  # pairs of this fold, by ascending score
    tested_cuts: IntArray  # how many of them each candidate threshold rejects


class FoldedPairs:
    """Pairs in folds, sorted once, so that many weightings can be evaluated quickly.

    Args:
        score: Shape (P,), finite.
        is_genuine: Shape (P,).
        fold: Fold of each pair, shape (P,), any integers; at least two different ones.
        thresholds: How to search a fold's threshold: exact, or as InsightFace does; the latter
            needs cosine scores.

    Raises:
        UserError: If there is only one fold, `thresholds` is unknown, or a score is no cosine
            where it must be.

    Example:
        >>> score, is_genuine = np.array([0.7, 0.1, 0.6, 0.2]), np.array([True, False] * 2)
        >>> fold = np.array([0, 0, 1, 1])
        >>> _, exact = FoldedPairs(score, is_genuine, fold).accuracy()
        >>> _, grid = FoldedPairs(score, is_genuine, fold, thresholds="insightface").accuracy()
        >>> exact.round(3).tolist(), grid.round(3).tolist()
        ([0.2, 0.1], [0.595, 0.695])
    """

    def __init__(
        self,
        score: FloatArray,
        is_genuine: BoolArray,
        fold: IntArray,
        *,
        thresholds: Thresholds = "exact",
    ) -> None:
        names = np.unique(fold)
        if names.size < 2:
            raise UserError(
                where="folds",
                found=f"{names.size}",
                allowed="at least two",
                next_step="number the folds from 0 in the list, or leave the column out",
            )
        self._gain = np.where(is_genuine, 1.0, -1.0)
        self._is_genuine = is_genuine
        score = score.astype(np.float64)
        _check_thresholds(score, thresholds)
        cut = _cut_exactly if thresholds == "exact" else _cut_on_grid
        self._folds = [_sort_fold(score, fold == name, cut) for name in names]

    def accuracy(self, weight: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Choose each fold's threshold on the others and test it.

        Args:
            weight: How often each pair counts, whole numbers from 0, shape (P,); once by default.

        Returns:
            Accuracy of each fold, shape (F,), NaN where the fold has no weight; and the chosen
            thresholds, shape (F,).
        """
        weight = np.ones(self._gain.size) if weight is None else weight
        signed = weight * self._gain
        accuracies = np.full(len(self._folds), np.nan)
        thresholds = np.empty(len(self._folds))
        for i, fold in enumerate(self._folds):
            # Rejecting a pair loses a right decision if it is genuine and wins one if it is not.
            lost = _cumulate(signed[fold.chosen_on])[fold.cuts]
            cut = int(np.argmin(lost))
            thresholds[i] = fold.thresholds[cut]
            total = weight[fold.tested].sum()
            if total:
                genuine = weight[fold.tested] @ self._is_genuine[fold.tested]
                lost_here = signed[fold.tested[: fold.tested_cuts[cut]]].sum()
                accuracies[i] = (genuine - lost_here) / total
        return accuracies, thresholds


def assign_folds(is_genuine: BoolArray, *, folds: int = 10, seed: int = 0) -> IntArray:
    """Deal pairs into folds, genuine and impostor pairs evenly; the same for the same list.

    Args:
        is_genuine: Shape (P,).
        folds: How many.
        seed: Of the shuffle.

    Returns:
        Fold of each pair, 0 to folds − 1, shape (P,).

    Example:
        >>> fold = assign_folds(np.array([True] * 4 + [False] * 4), folds=2)
        >>> sorted(fold[:4].tolist()), sorted(fold[4:].tolist())
        ([0, 0, 1, 1], [0, 0, 1, 1])
    """
    rng = np.random.default_rng(seed)
    fold = np.empty(is_genuine.size, dtype=np.int64)
    for side in (True, False):
        pairs = rng.permutation(np.flatnonzero(is_genuine == side))
        fold[pairs] = np.arange(pairs.size) % folds
    return fold


def _check_thresholds(score: FloatArray, thresholds: str) -> None:
    if thresholds not in ("exact", "insightface"):
        raise UserError(
            where="thresholds",
            found=repr(thresholds),
            allowed="exact, insightface",
            next_step=nearest(thresholds, ["exact", "insightface"]),
        )
    if thresholds == "insightface" and score.size and np.abs(score).max() > 1:
        raise UserError(
            where="thresholds",
            found=f"insightface, with a score of {score[np.abs(score).argmax()]:g}",
            allowed="cosines, from -1 to 1: the grid is one of distances between unit vectors",
            next_step='use thresholds="exact"',
        )


#: From scores in ascending order to candidate thresholds, how many of these scores each rejects,
#: and the same for other scores in ascending order.
_Cut = Callable[[FloatArray, FloatArray], tuple[FloatArray, IntArray, IntArray]]


def _sort_fold(score: FloatArray, is_tested: BoolArray, cut: _Cut) -> _Fold:
    chosen_on = _by_score(score, ~is_tested)
    tested = _by_score(score, is_tested)
    thresholds, cuts, tested_cuts = cut(score[chosen_on], score[tested])
    return _Fold(
        chosen_on=chosen_on,
        cuts=cuts,
        thresholds=thresholds,
        tested=tested,
        tested_cuts=tested_cuts,
    )


def _cut_exactly(known: FloatArray, tested: FloatArray) -> tuple[FloatArray, IntArray, IntArray]:
    above_all = np.nextafter(known[-1:], np.inf)
    inner = np.flatnonzero(known[1:] > known[:-1]) + 1
    thresholds = np.concatenate([known[:1], np.nextafter(known[inner - 1], np.inf), above_all])
    cuts = np.concatenate([[0], inner, [known.size]])
    return thresholds, cuts, np.searchsorted(tested, thresholds, side="left")


def _cut_on_grid(known: FloatArray, tested: FloatArray) -> tuple[FloatArray, IntArray, IntArray]:
    def rejected(score: FloatArray) -> IntArray:
        distance = (2 - 2 * score)[::-1]  # ascending; a pair matches strictly below a threshold
        return score.size - np.searchsorted(distance, _GRID, side="left")

    return 1 - _GRID / 2, rejected(known), rejected(tested)


def _by_score(score: FloatArray, keep: BoolArray) -> IntArray:
    pairs = np.flatnonzero(keep)
    return pairs[np.argsort(score[pairs], kind="stable")]


def _cumulate(values: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], np.cumsum(values)])
