"""In which order images are trained on: every one once, or every identity equally often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import make_store

from openmfr.data.damage import find_damage, quarantine
from openmfr.data.labels import Labels
from openmfr.data.order import BalancedStream, Sampling, Stream, order_of, training_images
from openmfr.data.store import Store
from openmfr.errors import UserError

PEOPLE = st.lists(st.integers(1, 7), min_size=2, max_size=9)


def balanced(counts: list[int], *, seed: int = 0) -> tuple[BalancedStream, np.ndarray]:
    """A balanced order over people with so many images each, whose rows are mixed."""
    identity = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    return BalancedStream(np.arange(identity.size), identity, seed=seed), identity


@given(size=st.integers(1, 40), epoch=st.integers(0, 3), seed=st.integers(0, 9))
def test_an_epoch_holds_every_image_once(size: int, epoch: int, seed: int) -> None:
    images = np.arange(100, 100 + size)
    taken = Stream(images, seed=seed).draw(epoch * size, size).images
    assert sorted(taken) == images.tolist()


@given(size=st.integers(1, 40), position=st.integers(0, 120), count=st.integers(1, 90))
def test_the_order_depends_on_the_position_alone(size: int, position: int, count: int) -> None:
    images = np.arange(size)
    once = Stream(images, seed=3).draw(0, position + count)
    again = Stream(images, seed=3).draw(position, count)
    assert again.images.tolist() == once.images[position:].tolist()
    assert again.epochs.tolist() == once.epochs[position:].tolist()


def test_epochs_and_seeds_shuffle_differently() -> None:
    stream = Stream(np.arange(50), seed=0)
    orders = [stream.draw(0, 50), stream.draw(50, 50), Stream(np.arange(50), seed=1).draw(0, 50)]
    assert len({tuple(order.images) for order in orders}) == 3


def test_an_epoch_begins_where_the_images_have_all_been_seen() -> None:
    draw = Stream(np.arange(4), seed=0).draw(3, 6)
    assert draw.epochs.tolist() == [0, 1, 1, 1, 1, 2]


def test_neighbours_in_the_store_are_no_neighbours_in_the_order() -> None:
    order = Stream(np.arange(20_000), seed=0).draw(0, 20_000).images
    # Two random places are a third of the whole apart; a window of 1,000 would keep them near.
    assert np.abs(np.diff(order)).mean() == pytest.approx(20_000 / 3, rel=0.02)


@given(counts=PEOPLE, seed=st.integers(0, 9))
def test_balanced_every_identity_comes_equally_often(counts: list[int], seed: int) -> None:
    stream, identity = balanced(counts, seed=seed)
    rounds = 5
    drawn = identity[stream.draw(0, rounds * len(counts)).images]
    assert np.bincount(drawn).tolist() == [rounds] * len(counts)


@given(counts=PEOPLE)
def test_balanced_an_identity_shows_all_her_images_in_turn(counts: list[int]) -> None:
    stream, identity = balanced(counts)
    draw = stream.draw(0, max(counts) * len(counts))
    for person, count in enumerate(counts):
        shown = draw.images[identity[draw.images] == person]
        assert Counter(shown[:count].tolist()) == Counter(np.flatnonzero(identity == person))
    assert len({*zip(draw.images.tolist(), draw.epochs.tolist(), strict=True)}) == len(draw.images)


@given(counts=PEOPLE, position=st.integers(0, 60), count=st.integers(1, 40))
def test_a_balanced_order_depends_on_the_position_alone(
    counts: list[int], position: int, count: int
) -> None:
    once = balanced(counts)[0].draw(0, position + count).images[position:]
    assert balanced(counts)[0].draw(position, count).images.tolist() == once.tolist()


def test_a_configuration_chooses_the_order() -> None:
    images, identity = np.arange(6), np.array([0, 0, 0, 0, 0, 1])
    kinds = [order_of(images, identity, sampling=s, seed=0) for s in ("images", "identities")]
    assert [(kind.draw(0, 6).images == 5).sum() for kind in kinds] == [1, 3]


def test_damaged_images_give_their_places_to_whole_ones(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    labels = Labels.from_names(store)
    (store.path / "shard-000001.arrow").unlink()
    quarantine(store, find_damage(store, workers=1))
    images = training_images(labels, Store(store.path))
    assert np.array_equal(np.delete(images, range(10, 20)), np.delete(labels.kept(), range(10, 20)))
    assert not np.isin(images, range(10, 20)).any()
    assert len(set(images[10:20].tolist())) > 3  # not one image ten times


@pytest.mark.parametrize("sampling", ["images", "identities"])
def test_damage_moves_nobody_else(tmp_path: Path, sampling: Sampling) -> None:
    store = make_store(tmp_path / "s")
    labels = Labels.from_names(store)
    whole = order_of(labels.kept(), labels.identity[labels.kept()], sampling=sampling, seed=0)
    before = whole.draw(0, 300).images
    (store.path / "shard-000001.arrow").unlink()  # all of person 2, some of 1 and 3
    quarantine(store, find_damage(store, workers=1))
    images = training_images(labels, Store(store.path))
    after = order_of(images, labels.identity[labels.kept()], sampling=sampling, seed=0)
    drawn = after.draw(0, 300).images
    is_lost = (before >= 10) & (before < 20)
    assert np.array_equal(drawn[~is_lost], before[~is_lost])
    has_kin = is_lost & (labels.identity[before] != 2)
    assert has_kin.any()
    assert np.array_equal(labels.identity[drawn[has_kin]], labels.identity[before[has_kin]])


def test_a_store_without_a_whole_image_cannot_be_trained_on(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", identities=2, images=2)
    (store.path / "shard-000000.arrow").unlink()
    quarantine(store, find_damage(store, workers=1))
    with pytest.raises(UserError, match="damaged images only"):
        training_images(Labels.from_identity([0, 0, 1, 1], store=store), Store(store.path))


def test_an_order_is_that_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [5, 1, 7, 3, 2, 9]
    whole = balanced(counts)[0].draw(0, 80)
    monkeypatch.setattr("openmfr.data.order._CHUNK", 4)
    parts = balanced(counts)[0].draw(0, 80)
    assert np.array_equal(parts.images, whole.images)
