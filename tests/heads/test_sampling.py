"""Which identities take part in a step, and where those that sat out end."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from heads.reference import ReferenceHead, relative_error
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from openmfr.errors import UserError
from openmfr.heads import HeadConfig, Step, StepSize, build_head, sampling
from openmfr.heads.sampling import SkippedSteps, sample_identities

NONE = torch.empty(0, dtype=torch.int64)


def sample(rate: float, *, step: int = 0, seed: int = 0, positives: Tensor = NONE) -> Tensor:
    return sample_identities(0, 20_000, rate=rate, seed=seed, step=step, positives=positives)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("step", [0, 1, 2, 100_000])
def test_the_share_of_a_sample_is_its_rate(rate: float, step: int) -> None:
    expected, deviation = 20_000 * rate, math.sqrt(20_000 * rate * (1 - rate))
    assert abs(len(sample(rate, step=step)) - expected) < 4.5 * deviation


@pytest.mark.parametrize(
    ("first", "second"), [((0, 0), (0, 1)), ((0, 0), (1, 0)), ((1, 0), (0, 1))]
)
def test_samples_of_other_steps_and_seeds_are_independent(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    one, other = (sample(0.3, step=step, seed=seed) for step, seed in (first, second))
    common = len(set(one.tolist()) & set(other.tolist()))
    assert abs(common - 20_000 * 0.09) < 4.5 * math.sqrt(20_000 * 0.09 * 0.91)


def test_neighbours_are_sampled_independently() -> None:
    takes_part = torch.zeros(20_000, dtype=torch.bool)
    takes_part[sample(0.3)] = True
    for distance in (1, 2, 3, 64, 4096):
        both = (takes_part[distance:] & takes_part[:-distance]).sum().item()
        pairs = 20_000 - distance
        assert abs(both - pairs * 0.09) < 4.5 * math.sqrt(pairs * 0.09 * 0.91)


def test_an_identity_takes_part_in_its_share_of_all_steps() -> None:
    counts = torch.zeros(20_000)
    for step in range(400):
        counts[sample(0.1, step=step)] += 1
    assert counts.mean().item() == pytest.approx(40, rel=0.01)
    assert counts.std().item() == pytest.approx(6, rel=0.05)  # that of independent draws
    assert counts.min() > 0


def test_a_sample_is_repeated_by_its_seed_and_step() -> None:
    assert sample(0.3, step=5, seed=9).equal(sample(0.3, step=5, seed=9))


@given(
    rate=st.floats(0, 1, exclude_min=True),
    total=st.integers(1, 500),
    cuts=st.lists(st.integers(0, 500), max_size=4),
    positives=st.lists(st.integers(0, 499), max_size=20),
    seed=st.integers(0, 2**31),
    step=st.integers(0, 2**31),
)
def test_any_cut_of_the_identities_has_its_part_of_the_one_sample(
    rate: float, total: int, cuts: list[int], positives: list[int], seed: int, step: int
) -> None:
    own = torch.tensor([p for p in positives if p < total], dtype=torch.int64)

    def part(first: int, last: int) -> Tensor:
        chosen = sample_identities(first, last, rate=rate, seed=seed, step=step, positives=own)
        return first + chosen

    whole = part(0, total)
    edges = [0, *sorted(min(cut, total) for cut in cuts), total]
    parts = [part(first, last) for first, last in pairwise(edges)]
    assert torch.cat(parts).equal(whole)
    assert set(own.tolist()) <= set(whole.tolist())
    assert (whole.diff() > 0).all()


@given(smaller=st.floats(0, 1, exclude_min=True), larger=st.floats(0, 1, exclude_min=True))
def test_a_larger_rate_keeps_all_that_a_smaller_one_takes(smaller: float, larger: float) -> None:
    smaller, larger = sorted((smaller, larger))
    assert set(sample(smaller).tolist()) <= set(sample(larger).tolist())


@pytest.mark.parametrize("rate", [1.0, math.nextafter(1.0, 0.0), 1 - 1e-10])
def test_all_take_part_at_rate_1_and_just_below(rate: float) -> None:
    assert sample(rate).equal(torch.arange(20_000))


def test_only_the_batch_takes_part_at_a_rate_near_0() -> None:
    positives = torch.tensor([19_999, 3, 3, 700])
    assert sample(1e-12, positives=positives).tolist() == [3, 700, 19_999]


def test_unsampled_prototypes_stay_when_sparse() -> None:
    config = HeadConfig(sample_rate=0.3, block=32)
    head = build_head(config, num_identities=200, embedding_dim=16)
    generator = torch.Generator().manual_seed(0)
    size = StepSize(learning_rate=0.1, momentum=0.9, weight_decay=1e-2)
    for number in range(4):
        embeddings = torch.randn(8, 16, generator=generator).requires_grad_()
        identity = torch.randint(200, (8,), generator=generator)
        before = {name: rows.clone() for name, rows in head.sharded_state().items()}
        head(embeddings, identity, Step(number=number, size=size)).backward()
        sampled = sample_identities(
            0, 200, rate=0.3, seed=head.seed, step=number, positives=identity
        )
        for name, rows in head.sharded_state().items():
            moved = (rows != before[name]).any(1).nonzero().squeeze(1)
            assert moved.equal(sampled)


def test_a_skipped_row_ends_where_sgd_with_zero_gradient_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 40 steps with at most 6 remembered: all rows are brought up to date in between.
    for most in (6, 4096):
        monkeypatch.setattr(sampling, "MOST_STEPS", most)
        generator = torch.Generator().manual_seed(1)
        prototypes = torch.randn(50, 8, generator=generator)
        momentum = torch.zeros(50, 8)
        exact = prototypes.double().requires_grad_()
        sgd = torch.optim.SGD([exact], lr=1.0, momentum=0.9, weight_decay=0.02)
        skipped = SkippedSteps(prototypes, momentum)
        for step in range(40):
            size = StepSize(learning_rate=0.2 / (1 + step), momentum=0.9, weight_decay=0.02)
            moved = (torch.rand(50, generator=generator) < 0.2).nonzero().squeeze(1)
            gradient = torch.randn(len(moved), 8, generator=generator)
            skipped.catch_up(moved, block=7)
            momentum[moved] = 0.9 * momentum[moved] + gradient + 0.02 * prototypes[moved]
            prototypes[moved] -= size.learning_rate * momentum[moved]
            skipped.record(moved, size, block=7)

            exact.grad = torch.zeros_like(exact).index_copy(0, moved, gradient.double())
            sgd.param_groups[0]["lr"] = size.learning_rate
            sgd.step()
            assert relative_error(prototypes[moved], exact.detach()[moved]) < 1e-5
        assert relative_error(prototypes, exact.detach()) > 1e-3 or most == 6
        skipped.settle(block=7)
        assert relative_error(prototypes, exact.detach()) < 1e-5
        assert relative_error(momentum, sgd.state[exact]["momentum_buffer"]) < 1e-5
        once = prototypes.clone()
        skipped.settle(block=7)
        assert prototypes.equal(once)


def test_a_head_that_remembers_few_steps_is_still_dense_equivalent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "MOST_STEPS", 4)
    config = HeadConfig(scale=16, sample_rate=0.2, unsampled="dense_equivalent", block=16)
    head = build_head(config, num_identities=60, embedding_dim=12)
    state = head.sharded_state()
    generator = torch.Generator().manual_seed(2)
    state["prototypes"].normal_(generator=generator)
    exact = ReferenceHead(config, state["prototypes"], is_sparse=False)
    for number in range(14):
        embeddings = torch.randn(6, 12, generator=generator)
        identity = torch.randint(60, (6,), generator=generator)
        size = StepSize(learning_rate=0.3 / (1 + number), momentum=0.9, weight_decay=1e-2)
        loss = head(embeddings.requires_grad_(), identity, Step(number=number, size=size))
        loss.backward()
        rows = sample_identities(0, 60, rate=0.2, seed=0, step=number, positives=identity)
        expected = exact.step(embeddings.detach(), identity, size, rows)
        assert loss.item() == pytest.approx(expected.loss, rel=1e-5)
    head.settle()
    assert relative_error(state["prototypes"], exact.prototypes) < 1e-5
    assert relative_error(state["momentum"], exact.momentum) < 1e-5


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match=r"head.sample_rate: found .*; allowed: above 0 to 1"):
        HeadConfig(sample_rate=rate)


def test_the_dense_head_takes_no_sample() -> None:
    with pytest.raises(UserError, match='only 1 with path="dense"'):
        HeadConfig(sample_rate=0.5, path="dense")
