"""Balanced pair lists from labels: what makes a threshold chosen on them honest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmfr.errors import UserError
from openmfr.evaluation.sampling import sample_pairs


@given(
    seed=st.integers(0, 10_000),
    people=st.integers(4, 30),
    pairs=st.integers(1, 200),
    folds=st.integers(2, 10),
)
def test_pairs_are_balanced_distinct_truthful_and_in_folds_that_share_nobody(
    seed: int, people: int, pairs: int, folds: int
) -> None:
    rng = np.random.default_rng(seed)
    identity = rng.permutation(np.repeat(np.arange(people), rng.integers(2, 6, people)))
    keep = np.full(identity.size, True)
    drawn = sample_pairs(identity, keep, pairs=pairs, folds=folds, seed=seed)
    assert drawn.fold is not None
    a, b = identity[drawn.index_a], identity[drawn.index_b]
    assert np.array_equal(a == b, drawn.is_genuine)
    assert 2 * drawn.is_genuine.sum() == len(drawn) <= 2 * pairs
    images = np.sort(np.stack([drawn.index_a, drawn.index_b], axis=1), axis=1)
    assert np.unique(images, axis=0).shape == images.shape
    fold_of: dict[int, int] = {}
    for fold, person in zip(np.tile(drawn.fold, 2), np.concatenate([a, b]), strict=True):
        assert fold_of.setdefault(int(person), int(fold)) == fold


def test_the_wanted_number_is_reached_and_shared_out_evenly() -> None:
    identity = np.repeat(np.arange(100), 20)
    drawn = sample_pairs(identity, np.full(2_000, True), pairs=3_000)
    assert len(drawn) == 6_000
    assert drawn.fold is not None
    assert np.bincount(drawn.fold).tolist() == [600] * 10
    of_person = np.bincount(identity[drawn.index_a[drawn.is_genuine]], minlength=100)
    assert of_person.tolist() == [30] * 100


def test_a_person_with_many_images_does_not_crowd_out_the_others() -> None:
    identity = np.concatenate([np.zeros(500, np.int64), np.repeat(np.arange(1, 20), 4)])
    drawn = sample_pairs(identity, np.full(identity.size, True), pairs=100)
    of_person = np.bincount(identity[drawn.index_a[drawn.is_genuine]])
    assert of_person.max() <= 6


def test_only_kept_images_with_a_known_identity_are_drawn() -> None:
    identity = np.tile(np.repeat(np.arange(-1, 9), 3), 2)
    keep = np.arange(identity.size) % 4 != 0
    drawn = sample_pairs(identity, keep, pairs=50, folds=2)
    used = np.concatenate([drawn.index_a, drawn.index_b])
    assert keep[used].all()
    assert (identity[used] >= 0).all()


def test_the_list_is_the_same_for_the_same_seed_alone() -> None:
    identity, keep = np.repeat(np.arange(40), 5), np.full(200, True)
    first, again = (sample_pairs(identity, keep, pairs=90, seed=5) for _ in range(2))
    other = sample_pairs(identity, keep, pairs=90, seed=6)
    assert np.array_equal(first.index_a, again.index_a)
    assert np.array_equal(first.index_b, again.index_b)
    assert not np.array_equal(first.index_a, other.index_a)


def test_too_few_people_are_refused() -> None:
    with pytest.raises(UserError, match="3 identities with at least two kept images"):
        sample_pairs(np.array([0, 0, 1, 1, 2, 2, 3]), np.full(7, True))
