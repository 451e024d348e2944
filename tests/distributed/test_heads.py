"""Heads on 1, 2 and 3 ranks against float64 on one process; the scenarios are in table.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from distributed.harness import Result
from distributed.table import EXACT, FINITE, PRECISE, ROUNDED, SAMPLED, SKIPPED, WHOLE_SAMPLES
from heads.reference import Outcome, relative_error
from torch import Tensor

References = Callable[[str], list[Outcome]]


def losses(table: list[Result], name: str) -> list[float]:
    """Of each step, when all ranks agree on it to the last bit."""
    first, *others = (rank["scenarios"][name]["losses"] for rank in table)
    assert all(other == first for other in others)
    return list(first)


def whole(table: list[Result], name: str, what: str) -> list[Tensor]:
    """Of each step, the parts of all ranks put together."""
    parts = [rank["scenarios"][name][what] for rank in table]
    return [torch.cat(step) for step in zip(*parts, strict=True)]


def worst(ours: list[Tensor], exact: list[Tensor]) -> float:
    """The largest relative error of the steps."""
    return max(relative_error(a, b) for a, b in zip(ours, exact, strict=True))


@pytest.mark.parametrize("name", [*EXACT, *SAMPLED])
def test_losses_gradients_and_prototypes_are_those_of_float64(
    table: list[Result], references: References, name: str
) -> None:
    exact = references(name)
    assert losses(table, name) == pytest.approx([step.loss for step in exact], rel=2e-6)
    gradients = whole(table, name, "gradients")
    assert worst(gradients, [step.gradient for step in exact]) < 5e-6
    prototypes = whole(table, name, "prototypes")
    if name not in SAMPLED:  # rows that sat out are late until they take part again
        assert worst(prototypes, [step.prototypes for step in exact]) < 1e-6


@pytest.mark.parametrize("name", SAMPLED)
def test_prototypes_that_sat_out_end_where_float64_has_them(
    table: list[Result], references: References, name: str
) -> None:
    settled = torch.cat([rank["scenarios"][name]["settled"] for rank in table])
    assert relative_error(settled, references(name)[-1].prototypes) < 1e-6


@pytest.mark.parametrize("name", [name for name in EXACT if name.startswith(("fused", "deferred"))])
def test_the_momentum_is_that_of_float64(
    table: list[Result], references: References, name: str
) -> None:
    momentum = whole(table, name, "momentum")
    assert worst(momentum, [step.momentum for step in references(name)]) < 5e-6


@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_to_bfloat16_costs_what_is_promised(
    table: list[Result], references: References, name: str
) -> None:
    exact = references(name)
    is_exp = name.startswith("keep_exp")
    expected = [step.loss for step in exact]
    # Kept exponentials leave the first loss as it is; later ones follow rounded gradients.
    assert losses(table, name)[:1] == pytest.approx(expected[:1], rel=2e-6 if is_exp else 1e-3)
    gradients = whole(table, name, "gradients")
    assert relative_error(gradients[0], exact[0].gradient) < (5e-4 if is_exp else 1e-2)
    moved = whole(table, name, "momentum")[0]
    assert relative_error(moved, exact[0].momentum) < (5e-4 if is_exp else 1e-2)
    assert losses(table, name) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("name", "bound"), [("cosface", 1e-6), ("arcface", 1e-5)])
def test_gradients_are_as_exact_as_promised(
    table: list[Result], references: References, name: str, bound: float
) -> None:
    assert name in PRECISE
    (exact,) = references(name)
    (gradient,) = whole(table, name, "gradients")
    (momentum,) = whole(table, name, "momentum")
    assert relative_error(gradient, exact.gradient) <= bound
    assert relative_error(momentum, exact.momentum) <= bound


@pytest.mark.parametrize("name", FINITE)
def test_numbers_are_finite_where_formulas_have_no_slope(table: list[Result], name: str) -> None:
    assert all(map(torch.isfinite, map(torch.tensor, losses(table, name))))
    for what in ("gradients", "prototypes"):
        assert all(step.isfinite().all() for step in whole(table, name, what))


@pytest.mark.parametrize("name", FINITE)
def test_they_do_not_depend_on_the_ranks_there_either(
    tables: Callable[[int], list[Result]], name: str
) -> None:
    alone = losses(tables(1), name)
    for size in (2, 3):
        # A zero prototype moves by 1e12 times its gradient: the first loss alone is comparable.
        steps = 1 if name.endswith("zeros") else None
        assert losses(tables(size), name)[:steps] == pytest.approx(alone[:steps], rel=1e-4)


@pytest.mark.parametrize("name", SKIPPED)
def test_a_skipped_step_moves_prototypes_unless_deferred(
    table: list[Result], references: References, name: str
) -> None:
    exact = references(name)
    assert losses(table, name) == pytest.approx([step.loss for step in exact], rel=2e-6)
    settled = torch.cat([rank["scenarios"][name]["settled"] for rank in table])
    assert relative_error(settled, exact[-1].prototypes) < 1e-6
    prototypes = whole(table, name, "prototypes")
    momentum = whole(table, name, "momentum")
    if name == "deferred sparse":
        assert prototypes[1].equal(prototypes[0])
        assert momentum[1].equal(momentum[0])
    if name == "fused sparse":
        assert not prototypes[1].equal(prototypes[0])
    assert not prototypes[2].equal(prototypes[1])


@pytest.mark.parametrize("name", WHOLE_SAMPLES)
def test_a_sample_of_everything_is_the_full_head_bit_for_bit(
    table: list[Result], name: str
) -> None:
    for rank in table:
        full, sampled = rank["whole"][name]
        assert "error" not in sampled, sampled["error"]
        assert full["losses"] == sampled["losses"]
        for what in ("gradients", "prototypes", "momentum"):
            assert all(map(torch.equal, full[what], sampled[what]))


def test_adaface_has_one_batch_of_statistics_on_all_ranks(
    table: list[Result], references: References
) -> None:
    for name in ("fused adaface", "dense adaface", "keep_exp adaface"):
        first, *others = (rank["scenarios"][name]["statistics"] for rank in table)
        assert set(first) == {"norm_mean", "norm_std"}
        assert all(other == first for other in others)


@pytest.mark.parametrize("path", ["fused", "dense"])
@pytest.mark.parametrize("size", [2, 3])
def test_a_step_sends_two_floats_an_image_and_the_embeddings(
    tables: Callable[[int], list[Result]], path: str, size: int
) -> None:
    for rank in tables(size):
        for sent in rank["scenarios"][f"{path} cosface"]["traffic"]:
            images, dim, per_rank = 31, 24, -(-31 // size)
            # The paper's batch × 4 bytes, for the largest logit and for the sum of exponentials.
            # Beside the sum goes the sum of the targets' logits: one float if fused, G if dense.
            assert sent["max"] == images * 4
            assert sent["sum"] == images * 4 + (4 if path == "fused" else images * 4)
            assert sent["gather"] == per_rank * (dim * 4 + 8)
            assert sent["scatter_sum"] == size * per_rank * dim * 4
            assert set(sent) == {"max", "sum", "gather", "scatter_sum"}


def test_one_rank_sends_nothing(tables: Callable[[int], list[Result]]) -> None:
    (alone,) = tables(1)
    assert all(not any(result["traffic"]) for result in alone["scenarios"].values())
