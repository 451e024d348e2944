"""The screen before the exact scores: its margin is a bound, and its pool keeps the best."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openmfr.evaluation.all_pairs.scores import all_pairs
from openmfr.evaluation.all_pairs.screen import (
    NO_CUT,
    Pool,
    Precision,
    make_side,
    margin,
    round_down,
)
from openmfr.evaluation.comparisons import cosine_of_pairs

Floats = npt.NDArray[np.float64]

BOTH: tuple[Precision, ...] = ("float32", "bfloat16")


def test_a_pool_keeps_the_best_and_raises_its_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openmfr.evaluation.all_pairs.screen._SLACK", 0)
    rng = np.random.default_rng(0)
    score = rng.integers(50, size=1_000).astype(np.float64)
    pool, rows = Pool(30, NO_CUT), np.arange(1_000)
    for start in range(0, 1_000, 10):
        part = slice(start, start + 10)
        pool.add(score[part], rows[part], rows[part])
        assert len(pool) <= 60
    best, a, _ = pool.tighten()
    assert np.array_equal(np.sort(best), np.sort(score)[-30:])
    assert np.array_equal(best, score[a])
    assert pool.cut == best.min()


def adversarial(dim: int) -> Floats:
    """Unit-free rows whose bfloat16 rounding errs as much as it can, in both directions."""
    step = 2.0**-8  # half the distance of bfloat16 numbers from 1 to 2
    rng = np.random.default_rng(dim)
    up, down = 1 + 1.01 * step, 1 + 0.99 * step
    rows = [np.full(dim, up), np.full(dim, down), np.resize([up, down], dim)]
    rows += [rng.choice([up, down, -up, -down], size=dim) for _ in range(30)]
    rows += [np.eye(dim)[0] + 1e-30, np.eye(dim)[0] * 3, np.full(dim, 1e-3) + np.eye(dim)[0]]
    return np.array(rows)


@pytest.mark.parametrize("dim", [1, 3, 64, 512])
@pytest.mark.parametrize("precision", BOTH)
def test_the_margin_covers_embeddings_made_to_break_it(dim: int, precision: Precision) -> None:
    embedding = adversarial(dim)
    rows = np.arange(len(embedding))
    # Rows are made again at lengths at which their components lie amid two numbers of the grid.
    side = make_side(embedding, rows, rows, precision=precision)
    low = torch.from_numpy(side.matrix)
    low = low.view(torch.bfloat16) if precision == "bfloat16" else low
    product = torch.mm(low, low.t()).double().numpy()
    a, b = np.triu_indices(len(rows), k=1)
    score = cosine_of_pairs(embedding, a, b)
    for p, q, exact in zip(a, b, score, strict=True):
        allowed = margin(float(side.error[p]), float(side.error[q]), dim)
        assert product[p, q] >= round_down(exact - allowed, precision)
        assert side.error[p] <= 2**-8


def test_two_equal_faces_are_found_though_all_their_rounding_errors_agree() -> None:
    # Each component, 1/√1017, lies just below the middle of two bfloat16 numbers. The margin
    # 2⁻⁸ + 2⁻⁹, which a screen without a proof once used, loses this pair.
    embedding = np.ones((2, 1017))
    side = make_side(embedding, np.arange(2), np.arange(2), precision="bfloat16")
    low = torch.from_numpy(side.matrix).view(torch.bfloat16)
    product = float(torch.mm(low, low.t())[0, 1])
    assert product < 1 - (2**-8 + 2**-9)
    allowed = margin(float(side.error[0]), float(side.error[1]), 1017)
    assert product >= round_down(1 - allowed, "bfloat16")
    rest = np.random.default_rng(0).normal(size=(300, 1017)) + 20 * np.eye(300, 1017)
    found = all_pairs(
        np.concatenate([embedding, rest]), np.arange(302), fmrs=[1e-4], precision="bfloat16"
    )
    assert (found.tail.index_a[0], found.tail.index_b[0]) == (0, 1)


@given(value=st.floats(-1, 1))
def test_rounding_down_finds_the_number_of_the_grid_below(value: float) -> None:
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        low = round_down(value, precision)  # type: ignore[arg-type]
        on_grid = torch.tensor([low], dtype=torch.float64).to(dtype)
        assert float(on_grid[0]) == low <= value
        above = torch.nextafter(on_grid, torch.tensor([torch.inf]).to(dtype))
        assert float(above[0]) > value or value == 0
