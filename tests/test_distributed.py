"""Shard arithmetic for any number of rows and ranks; the collectives are in distributed/."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openmfr.distributed import Ranks, gather, joined, shard_bounds, sum_over_ranks
from openmfr.errors import UserError

TOTALS = st.integers(0, 5_000_000)
SIZES = st.integers(1, 300)


@given(total=TOTALS, size=SIZES)
def test_shards_cover_every_row_once_in_order(total: int, size: int) -> None:
    bounds = [shard_bounds(total, rank, size) for rank in range(size)]
    edges = [0] + [last for _, last in bounds]
    assert [first for first, _ in bounds] == edges[:-1]
    assert edges == sorted(edges)
    assert edges[-1] == total


@given(total=st.integers(1, 5_000), size=SIZES)
def test_shards_are_as_large_as_those_of_torch_chunk(total: int, size: int) -> None:
    chunks = [len(chunk) for chunk in torch.arange(total).chunk(size)]
    chunks += [0] * (size - len(chunks))
    bounds = [shard_bounds(total, rank, size) for rank in range(size)]
    assert [last - first for first, last in bounds] == chunks


@given(total=TOTALS, size=SIZES)
def test_parts_padded_to_one_length_hold_the_whole_at_their_beginning(
    total: int, size: int
) -> None:
    # What a collective needs: all parts but the last ones are full, so padding stands at the end.
    length = -(-total // size)
    for rank in range(size):
        first, last = shard_bounds(total, rank, size)
        assert last - first <= length
        assert first == min(rank * length, total)
        assert Ranks(rank, size).bounds(total) == (first, last)


@given(row=st.integers(0, 4_999_999), more=st.integers(1, 1000), size=SIZES)
def test_each_row_has_one_rank(row: int, more: int, size: int) -> None:
    total = row + more
    owners = [
        rank
        for rank in range(size)
        if shard_bounds(total, rank, size)[0] <= row < shard_bounds(total, rank, size)[1]
    ]
    assert owners == [row // -(-total // size)]


def test_one_process_needs_no_collective() -> None:
    ranks = Ranks()
    part = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(
        (sum_over_ranks(gather(part, 2, ranks), ranks) ** 2).sum(), part
    )
    assert gradient.equal(2 * part.detach())
    assert ranks.max_(part.detach()).equal(part)
    assert ranks.scatter_sum(part).equal(part)
    ranks.barrier()
    assert not ranks.traffic
    assert ranks.is_first


@pytest.mark.parametrize(
    "given", [{"WORLD_SIZE": "4"}, {"WORLD_SIZE": "x", "RANK": "0"}, {"WORLD_SIZE": ""}]
)
def test_half_of_what_torchrun_says_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="MASTER_ADDR=unset"), joined(torch.device("cpu")):
        pass


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(torch.device("cpu")) as ranks:
        assert (ranks.rank, ranks.size, ranks.group) == (0, 1, None)
