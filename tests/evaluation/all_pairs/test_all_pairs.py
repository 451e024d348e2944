"""All pairs without holding them: exact whatever the way, and measured as a list would be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.rates import measure_all_pairs
from openmfr.evaluation.all_pairs.scores import AllPairs, all_pairs
from openmfr.evaluation.all_pairs.screen import (
    NO_CUT,
    Precision,
    check_accumulation,
)
from openmfr.evaluation.all_pairs.sets import group_sets, masked_sets, measure_sets
from openmfr.evaluation.comparisons import Comparisons, cosine_of_pairs
from openmfr.evaluation.verification import measure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BOTH: tuple[Precision, ...] = ("float32", "bfloat16")


def people(
    images: int, identities: int, *, dim: int = 16, seed: int = 0, noise: float = 0.8
) -> tuple[Floats, Ints]:
    """Embeddings of people in random order, with a duplicate in every tenth row."""
    rng = np.random.default_rng(seed)
    identity = rng.integers(identities, size=images)
    embedding = rng.normal(size=(identities, dim))[identity]
    embedding += noise * rng.normal(size=(images, dim))
    embedding[::10] = embedding[rng.integers(images, size=len(embedding[::10]))]
    return embedding, identity


def listed(
    embedding: Floats, identity: Ints, first: Bools | None = None, second: Bools | None = None
) -> Comparisons:
    """All pairs as a list, made in the obvious way."""
    every = np.ones(identity.size, dtype=np.bool_)
    first = every if first is None else first
    second = first if second is None else second
    if np.array_equal(first, second):
        rows = np.flatnonzero(first)
        a, b = (rows[side] for side in np.triu_indices(rows.size, k=1))
    else:
        grid = np.meshgrid(np.flatnonzero(first), np.flatnonzero(second), indexing="ij")
        a, b = (side.ravel() for side in grid)
    return Comparisons(
        score=cosine_of_pairs(embedding, a, b),
        is_genuine=identity[a] == identity[b],
        index_a=a,
        index_b=b,
        identity_a=identity[a],
        identity_b=identity[b],
    )


def same(first: AllPairs, second: AllPairs) -> bool:
    """Whether two are equal to the last bit."""
    return (first.floor, first.depth) == (second.floor, second.depth) and all(
        np.array_equal(getattr(getattr(first, side), name), getattr(getattr(second, side), name))
        for side in ("genuine", "tail")
        for name in ("score", "index_a", "index_b", "identity_a", "identity_b")
    )


def check_against_list(found: AllPairs, pairs: Comparisons) -> None:
    assert (found.counts.genuine, found.counts.impostors) == (
        pairs.genuine.size,
        pairs.impostor.size,
    )
    assert np.array_equal(np.sort(found.genuine.score), np.sort(pairs.genuine))
    expected = np.sort(pairs.impostor)[::-1]
    assert np.array_equal(found.tail.score, expected[: len(found.tail)])
    if found.floor == -np.inf:
        assert len(found.tail) == expected.size
    else:
        assert found.floor == expected[found.depth - 1]
        assert len(found.tail) == np.count_nonzero(expected > found.floor)
    for side in (found.genuine, found.tail):
        again = cosine_of_pairs(embedding_of[id(pairs)], side.index_a, side.index_b)
        assert np.array_equal(side.score, again)


embedding_of: dict[int, Floats] = {}


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_tail_and_the_genuine_scores_are_those_of_the_obvious_list(
    precision: Precision, dtype: type[np.floating]
) -> None:
    embedding, identity = people(400, 30)
    embedding = embedding.astype(dtype)
    pairs = listed(embedding, identity)
    embedding_of[id(pairs)] = embedding
    found = all_pairs(embedding, identity, fmrs=[0.01], precision=precision, block=(64, 128))
    assert found.floor > -np.inf
    check_against_list(found, pairs)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), images=st.integers(4, 60), values=st.integers(2, 5))
def test_ties_and_duplicates_without_end_change_nothing(
    seed: int, images: int, values: int
) -> None:
    rng = np.random.default_rng(seed)
    embedding = rng.integers(1, values + 1, size=(images, 2)).astype(np.float64)
    identity = rng.integers(4, size=images)
    identity[:2] = [0, 1]
    pairs = listed(embedding, identity)
    embedding_of[id(pairs)] = embedding
    for precision in BOTH:
        found = all_pairs(
            embedding, identity, fmrs=[0.05], depth=1, precision=precision, block=(7, 9)
        )
        check_against_list(found, pairs)


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few impostor pairs be held, as they are of a large set."""
    monkeypatch.setattr("openmfr.evaluation.all_pairs.scores._MIN_TAIL", 1)


def test_a_threshold_amid_tied_impostors_is_that_of_the_list(shallow: None) -> None:
    rng = np.random.default_rng(0)
    embedding = rng.integers(1, 4, size=(120, 2)).astype(np.float64)
    identity = rng.integers(10, size=120)
    pairs = listed(embedding, identity)
    for fmr in (0.001, 0.01, 0.1, 0.3):
        found = all_pairs(embedding, identity, fmrs=[fmr], depth=1)
        mine = measure_all_pairs(found, replicates=0).rates
        assert mine == measure(pairs, fmrs=[fmr], replicates=0).rates


def test_block_sizes_and_precision_do_not_change_a_bit() -> None:
    embedding, identity = people(900, 40, dim=32)
    base = all_pairs(embedding, identity, fmrs=[1e-3])
    for precision in BOTH:
        for block in ((5, 2048), (33, 100), (512, 512)):
            other = all_pairs(embedding, identity, fmrs=[1e-3], precision=precision, block=block)
            assert same(base, other)


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_do_not_change_a_bit(workers: int) -> None:
    embedding, identity = people(600, 40)
    first = np.arange(600) < 250
    for precision, second in (("float32", first), ("bfloat16", ~first))[: workers - 1]:
        alone, shared = (
            all_pairs(
                embedding,
                identity,
                fmrs=[1e-3],
                first=first,
                second=second,
                precision=precision,  # type: ignore[arg-type]
                workers=count,
                block=(64, 256),
            )
            for count in (1, workers)
        )
        assert same(alone, shared)


def test_the_order_of_images_and_the_length_of_embeddings_do_not_matter() -> None:
    embedding, identity = people(500, 30)
    order = np.random.default_rng(1).permutation(500)
    scale = 2.0 ** np.random.default_rng(2).integers(-20, 20, size=(500, 1))
    fmrs = [0.01, 0.001]
    mine, other = (
        measure_all_pairs(all_pairs(e, i, fmrs=fmrs), replicates=20)
        for e, i in ((embedding, identity), ((embedding * scale)[order], identity[order]))
    )
    assert mine.rates == other.rates
    assert mine.notes == other.notes


def test_rates_and_intervals_are_those_of_the_list_of_all_pairs(shallow: None) -> None:
    embedding, identity = people(300, 40, noise=1.2)
    fmrs = [0.02, 0.005, 0.001, 1e-5]
    found = all_pairs(embedding, identity, fmrs=fmrs, depth=10)
    assert found.floor > -np.inf
    mine = measure_all_pairs(found, replicates=40)
    assert mine.rates == measure(listed(embedding, identity), fmrs=fmrs, replicates=40).rates
    assert mine.notes == ()
    assert mine.rates[0].fnmr.low != mine.rates[0].fnmr.high
    assert mine.rates[-1].fnmr.is_refused
    assert "refused: needs at least 100,000 impostor pairs" in mine.rates[-1].fnmr.flag
    assert "rests on" in measure_all_pairs(found, fmrs=[1e-4], replicates=0).rates[0].fnmr.flag


def test_a_set_against_another_gives_the_list_of_pairs_between_them() -> None:
    embedding, identity = people(400, 25)
    is_masked = np.random.default_rng(3).random(400) < 0.4
    for first, second in masked_sets(is_masked).values():
        pairs = listed(embedding, identity, first, second)
        embedding_of[id(pairs)] = embedding
        for precision in BOTH:
            found = all_pairs(
                embedding, identity, fmrs=[0.01], first=first, second=second, precision=precision
            )
            check_against_list(found, pairs)
            assert first[found.tail.index_a].all()
            assert second[found.tail.index_b].all()
        mine = measure_all_pairs(found, replicates=20).rates
        assert mine == measure(pairs, fmrs=[0.01], replicates=20).rates


def test_groups_are_measured_within_themselves() -> None:
    embedding, identity = people(200, 20)
    group = np.where(identity < 8, "a", "b")
    results = measure_sets(embedding, identity, group_sets(group), fmrs=[0.01], replicates=0)
    assert [r.identities for r in results.values()] == [8, 12]
    alone = measure_all_pairs(
        all_pairs(embedding[identity < 8], identity[identity < 8], fmrs=[0.01]), replicates=0
    )
    assert results["a"].rates == alone.rates


def test_draws_that_run_out_of_tail_are_left_out_and_reported(shallow: None) -> None:
    embedding, identity = people(300, 40, noise=1.2)
    found = all_pairs(embedding, identity, fmrs=[0.01], depth=1)
    result = measure_all_pairs(found, replicates=50)
    assert result.rates[0].fnmr.value is not None
    assert "ran out of impostor scores" in result.notes[0]
    deeper = measure_all_pairs(all_pairs(embedding, identity, fmrs=[0.01]), replicates=50)
    assert deeper.notes == ()
    assert deeper.rates[0].fnmr.value == result.rates[0].fnmr.value


def test_a_guess_that_was_too_high_is_made_again_from_lower_down(
    shallow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding, identity = people(300, 20)
    right = all_pairs(embedding, identity, fmrs=[0.02])
    guesses = iter([0.9999, 0.9, NO_CUT])
    monkeypatch.setattr("openmfr.evaluation.all_pairs.scores._guess_cut", lambda *_: next(guesses))
    assert same(right, all_pairs(embedding, identity, fmrs=[0.02]))
    assert list(guesses) == []


def test_a_screen_that_sums_in_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def sum_in_bfloat16(
        a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        total = torch.zeros(len(a), b.shape[1], dtype=a.dtype)
        for k in range(a.shape[1]):
            total = total + a[:, k : k + 1] * b[k]
        return total if out is None else out.copy_(total)

    check_accumulation.cache_clear()
    check_accumulation(9, 11, 16)
    check_accumulation.cache_clear()
    monkeypatch.setattr(torch, "mm", sum_in_bfloat16)
    embedding, identity = people(20, 5)
    with pytest.raises(UserError, match=r"precision: found bfloat16 sums .* screen in float32"):
        all_pairs(embedding, identity, precision="bfloat16")


def test_a_caller_that_allows_rough_products_gets_the_same_figures() -> None:
    embedding, identity = people(300, 20)
    right = all_pairs(embedding, identity, fmrs=[0.001])
    torch.set_float32_matmul_precision("medium")
    try:
        assert same(right, all_pairs(embedding, identity, fmrs=[0.001]))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_self_pairs_would_make_the_fnmr_look_smaller() -> None:
    embedding, identity = people(200, 40, noise=1.5)
    result = measure_all_pairs(all_pairs(embedding, identity, fmrs=[0.01]), replicates=0)
    value = result.rates[0].fnmr.value
    assert value is not None
    misses = value * result.genuine_pairs
    expected = 2 * misses / (2 * result.genuine_pairs + 200)
    assert result.with_self_pairs()[0.01] == pytest.approx(expected)
    assert expected < value
    assert result.to_json()["totals"]["webface260m"]["self_pairs"] == 200


def test_faults_are_named() -> None:
    embedding, identity = people(40, 5)
    half = np.arange(40) < 20
    with pytest.raises(UserError, match=r"embeddings: found shape \(40, 16\)"):
        all_pairs(embedding, identity[:-1])
    with pytest.raises(UserError, match="first set: found bool of shape"):
        all_pairs(embedding, identity, first=half[:-1])
    with pytest.raises(UserError, match="image 0: found it and 19 others in both sets"):
        all_pairs(embedding, identity, first=half, second=np.ones(40, dtype=np.bool_))
    with pytest.raises(UserError, match="image 3: found identity -1"):
        all_pairs(embedding, np.where(np.arange(40) == 3, -1, identity))
    with pytest.raises(UserError, match="impostor pairs: found none"):
        all_pairs(embedding, np.zeros(40, dtype=np.int64))
    for fmr in (0.0, 1.0, np.nan):
        with pytest.raises(UserError, match="fmr: found"):
            all_pairs(embedding, identity, fmrs=[fmr])
    with pytest.raises(UserError, match=r"depth: found 0\.5"):
        all_pairs(embedding, identity, depth=0.5)
    with pytest.raises(UserError, match="embedding 7: found length nan"):
        all_pairs(np.where(np.arange(40)[:, None] == 7, np.nan, embedding), identity)
    with pytest.raises(UserError, match="genuine scores: found none"):
        measure_all_pairs(all_pairs(embedding, np.arange(40)))


def test_a_rate_that_the_tail_does_not_reach_is_refused(shallow: None) -> None:
    embedding, identity = people(100, 10)
    found = all_pairs(embedding, identity, fmrs=[0.01], depth=2)
    with pytest.raises(UserError, match=r"fmr: found 0\.1; allowed: above 0 and below 0\.02"):
        measure_all_pairs(found, fmrs=[0.1])
    assert measure_all_pairs(found, fmrs=[0.015], replicates=0).rates[0].fnmr.value is not None


def test_pairs_that_would_not_fit_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openmfr.evaluation.all_pairs.scores._MAX_HELD", 2_000)
    embedding, identity = people(200, 20)
    with pytest.raises(UserError, match="impostor pairs to hold: found"):
        all_pairs(embedding, identity, fmrs=[0.5])
    capped = all_pairs(embedding, identity, fmrs=[0.05])
    assert capped.depth == 2_000
    assert same(capped, replace(capped))
