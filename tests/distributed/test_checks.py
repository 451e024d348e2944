"""Collectives, samples, fresh prototypes and faults, asked of 1, 2 and 3 ranks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from distributed.checks import LARGEST_TOTAL, numbers
from distributed.harness import Result
from heads.reference import relative_error

from openmfr.distributed import shard_bounds

Tables = Callable[[int], list[Result]]


def answers(table: list[Result], check: str) -> list[Result]:
    """What each rank answered."""
    for rank in table:
        assert "error" not in rank["checks"][check], rank["checks"][check]["error"]
    return [rank["checks"][check] for rank in table]


def test_gathering_puts_parts_together_on_every_rank(table: list[Result]) -> None:
    for answer in answers(table, "gathered"):
        for total, whole in enumerate(answer["wholes"], start=1):
            assert whole.equal(numbers(total))


def test_a_gathered_parts_gradient_is_the_sum_of_what_all_ranks_found(table: list[Result]) -> None:
    for rank, answer in enumerate(answers(table, "gathered")):
        for total, gradient in enumerate(answer["gradients"], start=1):
            assert gradient.equal(summed_rows(total, rank, ranks=len(table)))


def test_scattering_adds_up_and_leaves_what_it_was_given(table: list[Result]) -> None:
    for rank, answer in enumerate(answers(table, "scattered")):
        assert len(answer["parts"]) == LARGEST_TOTAL
        for total, part in enumerate(answer["parts"], start=1):
            assert part.equal(summed_rows(total, rank, ranks=len(table)))
            assert answer["left"][total - 1].equal(numbers(total, of_rank=rank))


def summed_rows(total: int, rank: int, *, ranks: int) -> torch.Tensor:
    """A rank's rows of the sum of all ranks' `numbers`."""
    whole = torch.stack([numbers(total, of_rank=other) for other in range(ranks)]).sum(0)
    first, last = shard_bounds(total, rank, ranks)
    return whole[first:last]


def test_a_sum_over_ranks_has_the_gradient_of_a_loss_that_all_hold(table: list[Result]) -> None:
    size = len(table)
    for rank, answer in enumerate(answers(table, "reduced")):
        total = size * (size + 1) / 2
        assert answer["sum"].tolist() == [total, -total]
        assert answer["gradient"].tolist() == [2.0, 3.0]
        assert answer["left"].tolist() == [rank + 1.0, -rank - 1.0]
        assert answer["max"].tolist() == [size, -1.0]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("path", ["fused", "dense"])
def test_fresh_prototypes_do_not_depend_on_the_number_of_ranks(
    tables: Tables, size: int, path: str
) -> None:
    (alone,) = answers(tables(1), "draws")
    shards = [answer[path] for answer in answers(tables(size), "draws")]
    assert torch.cat(shards).equal(alone["fused"])


def test_fresh_prototypes_are_normal_and_all_different(tables: Tables) -> None:
    (alone,) = answers(tables(1), "draws")
    assert alone["fused"].std().item() == pytest.approx(0.01, rel=0.03)
    assert len(alone["fused"].unique(dim=0)) == len(alone["fused"])


@pytest.mark.parametrize("size", [2, 3])
def test_samples_do_not_depend_on_the_number_of_ranks(tables: Tables, size: int) -> None:
    (alone,) = answers(tables(1), "samples")
    parts = [answer["samples"] for answer in answers(tables(size), "samples")]
    for step, sample in enumerate(alone["samples"]):
        assert torch.cat([part[step] for part in parts]).equal(sample)


@pytest.mark.parametrize("kind", ["softmax", "cosface", "adaface"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_embeddings_that_are_not_finite_are_named_on_all_ranks_and_nothing_moves(
    table: list[Result], kind: str, value: str
) -> None:
    for answer in answers(table, "not finite"):
        assert answer[f"{kind} {value}"] == {"rows": [5, 29], "moved": []}


def test_an_unknown_identity_is_named(table: list[Result]) -> None:
    for answer in answers(table, "unknown identity"):
        assert "allowed: 0 to 100, the prototypes of this head" in answer["message"]


def test_the_plain_softmax_is_that_of_torchs_own_sharded_loss(table: list[Result]) -> None:
    for answer in answers(table, "parallel loss"):
        ours, theirs = answer["ours"], answer["theirs"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
        assert relative_error(ours["gradient"], theirs["gradient"]) < 1e-5
        assert relative_error(ours["embeddings"], theirs["embeddings"]) < 1e-5
