"""k-fold accuracy: the exact search against trying every threshold."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmfr.errors import UserError
from openmfr.evaluation.accuracy import FoldedPairs, Thresholds, assign_folds
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.verification import measure

NAMES: tuple[Thresholds, Thresholds] = ("exact", "insightface")


@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 6), folds=st.sampled_from([2, 3, 10]))
def test_accuracy_agrees_with_trying_every_threshold(seed: int, decimals: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    is_genuine = rng.random(60) < 0.5
    score = (rng.normal(0, 0.2, 60) + 0.3 * is_genuine).round(decimals)
    fold = np.arange(60) % folds
    accuracies, thresholds = FoldedPairs(score, is_genuine, fold).accuracy()
    for k in range(folds):
        known, truth = score[fold != k], is_genuine[fold != k]
        candidates = np.concatenate([[known.min()], np.nextafter(np.unique(known), np.inf)])
        right = [int(np.sum((known >= t) == truth)) for t in candidates]
        threshold = candidates[int(np.argmax(right))]
        tested = (score[fold == k] >= threshold) == is_genuine[fold == k]
        assert thresholds[k] == threshold
        assert accuracies[k] == pytest.approx(tested.mean(), abs=1e-12)


@given(seed=st.integers(0, 10_000))
def test_a_weight_counts_like_a_repeated_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_genuine, fold = rng.random(40) < 0.5, np.arange(40) % 4
    score, often = rng.normal(0, 0.2, 40).round(2), rng.integers(1, 4, 40)
    weighted, _ = FoldedPairs(score, is_genuine, fold).accuracy(often.astype(np.float64))
    repeated, _ = FoldedPairs(
        score.repeat(often), is_genuine.repeat(often), fold.repeat(often)
    ).accuracy()
    assert weighted == pytest.approx(repeated, abs=1e-12)


def test_a_fold_without_weight_has_no_accuracy() -> None:
    pairs = FoldedPairs(np.arange(6.0), np.arange(6) > 2, np.array([0, 1, 2, 0, 1, 2]))
    accuracies, _ = pairs.accuracy(np.array([0.0, 1, 1, 0, 1, 1]))
    assert np.isnan(accuracies).tolist() == [True, False, False]


def test_the_tested_fold_does_not_choose_its_own_threshold() -> None:
    score = np.array([0.9, 0.8, 0.2, 0.1, -0.5, -0.6, -0.8, -0.9])
    is_genuine = np.array([True, True, False, False, True, True, False, False])
    accuracies, thresholds = FoldedPairs(score, is_genuine, np.repeat([0, 1], 4)).accuracy()
    assert thresholds == pytest.approx([-0.8, 0.2])
    assert accuracies.tolist() == [0.5, 0.5]


def test_one_fold_is_refused() -> None:
    with pytest.raises(UserError, match="folds: found 1"):
        FoldedPairs(np.zeros(4), np.array([True, False] * 2), np.zeros(4, dtype=np.int64))


def test_folds_are_dealt_evenly_and_the_same_each_time() -> None:
    is_genuine = np.arange(1_003) < 203
    fold = assign_folds(is_genuine, folds=10)
    assert np.array_equal(fold, assign_folds(is_genuine, folds=10))
    for side in (is_genuine, ~is_genuine):
        sizes = np.bincount(fold[side], minlength=10)
        assert sizes.max() - sizes.min() <= 1


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), folds=st.sampled_from([2, 3, 10]), decimals=st.integers(1, 6))
def test_the_grid_agrees_with_trying_every_distance_of_it(
    seed: int, folds: int, decimals: int
) -> None:
    rng = np.random.default_rng(seed)
    is_genuine, fold = rng.random(60) < 0.5, np.arange(60) % folds
    score = (rng.normal(0, 0.2, 60) + 0.3 * is_genuine).clip(-1, 1).round(decimals)
    accuracies, thresholds = FoldedPairs(
        score, is_genuine, fold, thresholds="insightface"
    ).accuracy()
    distance, grid = 2 - 2 * score, np.arange(0, 4, 0.01)
    for k in range(folds):
        known, truth = distance[fold != k], is_genuine[fold != k]
        best = int(np.argmax([np.mean((known < t) == truth) for t in grid]))
        tested = (distance[fold == k] < grid[best]) == is_genuine[fold == k]
        assert thresholds[k] == 1 - grid[best] / 2
        assert accuracies[k] == pytest.approx(tested.mean(), abs=1e-12)


@given(seed=st.integers(0, 10_000))
def test_a_weight_counts_like_a_repeated_pair_on_the_grid_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_genuine, fold = rng.random(40) < 0.5, np.arange(40) % 4
    score, often = rng.normal(0, 0.2, 40).clip(-1, 1), rng.integers(1, 4, 40)
    weighted, _ = FoldedPairs(score, is_genuine, fold, thresholds="insightface").accuracy(
        often.astype(np.float64)
    )
    repeated, _ = FoldedPairs(
        score.repeat(often), is_genuine.repeat(often), fold.repeat(often), thresholds="insightface"
    ).accuracy()
    assert weighted == pytest.approx(repeated, abs=1e-12)


def test_identical_and_opposite_embeddings_are_on_the_grid() -> None:
    score, is_genuine = np.array([1.0, -1.0, 1.0, -1.0]), np.array([True, False] * 2)
    fold = np.array([0, 0, 1, 1])
    accuracies, thresholds = FoldedPairs(
        score, is_genuine, fold, thresholds="insightface"
    ).accuracy()
    assert accuracies.tolist() == [1.0, 1.0]
    assert thresholds == pytest.approx([0.995, 0.995])  # the smallest distance that accepts a 0


def test_measuring_on_the_grid_moves_accuracy_alone_and_says_so(comparisons: Comparisons) -> None:
    exact, grid = (
        measure(comparisons, replicates=20, thresholds=thresholds) for thresholds in NAMES
    )
    assert grid.accuracy.threshold != exact.accuracy.threshold
    assert (grid.eer, grid.auc, grid.rates) == (exact.eer, exact.auc, exact.rates)
    assert [note for note in grid.notes if "InsightFace's grid" in note]
    assert not [note for note in exact.notes if "InsightFace's grid" in note]


def test_the_grid_is_refused_for_scores_that_are_no_cosines() -> None:
    score, is_genuine = np.array([0.1, 37.0] * 2), np.array([True, False] * 2)
    with pytest.raises(UserError, match="insightface, with a score of 37"):
        FoldedPairs(score, is_genuine, np.array([0, 0, 1, 1]), thresholds="insightface")
    with pytest.raises(UserError, match="did you mean insightface"):
        FoldedPairs(
            score, is_genuine, np.array([0, 0, 1, 1]), thresholds=cast("Any", "insight-face")
        )
