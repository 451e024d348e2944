"""Impostor pairs to calibrate on: of two people, each once, as many as asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmfr.errors import UserError
from openmfr.evaluation.calibrating import impostor_pairs


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12),
    pairs=st.integers(1, 400),
    seed=st.integers(0, 99),
)
def test_pairs_are_of_two_people_each_once_and_as_many_as_there_are(
    sizes: list[int], pairs: int, seed: int
) -> None:
    identity = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    listed = impostor_pairs(identity, np.full(identity.size, True), pairs=pairs, seed=seed)
    available = sum(identity[a] != identity[b] for a in range(identity.size) for b in range(a))
    assert len(listed) == min(pairs, available)
    assert np.all(identity[listed.index_a] != identity[listed.index_b])
    couples = {
        frozenset(c) for c in zip(listed.index_a.tolist(), listed.index_b.tolist(), strict=True)
    }
    assert len(couples) == len(listed)
    assert not listed.is_genuine.any()


def test_a_person_with_many_images_is_drawn_no_more_often_than_others() -> None:
    identity = np.concatenate([np.zeros(500, dtype=np.int64), np.repeat(np.arange(1, 51), 10)])
    listed = impostor_pairs(identity, np.full(identity.size, True), pairs=2_000, seed=1)
    people = np.concatenate([identity[listed.index_a], identity[listed.index_b]])
    assert np.mean(people == 0) == pytest.approx(1 / 51, abs=0.01)
    again = impostor_pairs(identity, np.full(identity.size, True), pairs=2_000, seed=1)
    assert np.array_equal(listed.index_a, again.index_a)


def test_left_out_and_unknown_images_are_not_drawn() -> None:
    identity = np.array([0, 0, 1, 1, 2, -1])
    keep = np.array([True, False, True, True, True, True])
    assert set(impostor_pairs(identity, keep).rows().tolist()) == {0, 2, 3, 4}
    with pytest.raises(UserError, match="1 identities with kept images"):
        impostor_pairs(np.array([0, 0, -1]), np.full(3, True))
