"""A search in any precision finds what a slow, plain float64 search finds, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmfr.deploy.gallery import kernels, screen, unit_rows
from openmfr.deploy.gallery.records import Float32Array, IntArray
from openmfr.deploy.gallery.screen import Precision, best_people, make_matrix

Int32Array = npt.NDArray[np.int32]

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")


def plain_score(row: Float32Array, probe: Float32Array) -> float:
    """The definition: products in float64, added from the first to the last."""
    score = 0.0
    for a, b in zip(row.tolist(), probe.tolist(), strict=True):
        score += a * b
    return score


def plain_search(
    rows: Float32Array, person: Int32Array, probe: Float32Array, k: int
) -> tuple[list[int], list[float]]:
    scores = [plain_score(row, probe) for row in rows]
    places: list[int] = []
    for place in sorted(range(len(rows)), key=lambda i: (-scores[i], i)):
        if person[place] not in [person[other] for other in places]:
            places.append(place)
        if len(places) == k:
            break
    return places, [scores[place] for place in places]


def search(
    rows: Float32Array, person: Int32Array, probes: Float32Array, k: int, precision: Precision
) -> list[tuple[list[int], list[float]]]:
    matrix = make_matrix(rows, person, precision)
    found = best_people(matrix, probes, k, rows.__getitem__)
    return [(best.place.tolist(), best.score.tolist()) for best in found]


def make(
    seed: int, count: int, dim: int, people: int, probes: int
) -> tuple[Float32Array, Int32Array, Float32Array]:
    """Rows of people, some of them twice, some of them hardly different, and probes near some."""
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng.standard_normal((count, dim)))
    rows[count // 2 : count // 2 + count // 8] = rows[: count // 8]
    near = rows[: count // 8] + 1e-4 * rng.standard_normal((count // 8, dim)).astype(np.float32)
    rows[-(count // 8) :] = unit_rows(near) if count >= 8 else rows[count:]
    noise = rng.standard_normal((probes, dim)) / np.sqrt(dim)
    return (
        rows,
        rng.integers(people, size=count).astype(np.int32),
        unit_rows(rows[rng.integers(count, size=probes)] + noise),
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(8, 300),
    dim=st.sampled_from([1, 3, 64, 100, 192]),
    people=st.integers(1, 60),
    probes=st.integers(1, 3),
    k=st.integers(1, 12),
)
@settings(max_examples=25)
def test_the_best_people_and_scores_are_those_of_a_plain_search(
    precision: Precision, seed: int, count: int, dim: int, people: int, probes: int, k: int
) -> None:
    rows, person, probe = make(seed, count, dim, people, probes)
    expected = [plain_search(rows, person, each, k) for each in probe]
    assert search(rows, person, probe, k, precision) == expected


@pytest.mark.parametrize("precision", PRECISIONS)
def test_results_do_not_depend_on_blocks_or_on_probes_searched_together(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, person, probes = make(0, 5_000, 128, 900, 7)
    alone = [search(rows, person, probe[None], 10, precision)[0] for probe in probes]
    assert search(rows, person, probes, 10, precision) == alone
    monkeypatch.setattr(screen, "BLOCK", 333)
    monkeypatch.setattr(screen, "_CACHED", 7 * 128 * 4)
    assert search(rows, person, probes, 10, precision) == alone
    assert [search(rows, person, probe[None], 10, precision)[0] for probe in probes] == alone


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ties_are_told_apart_by_order(precision: Precision) -> None:
    row = unit_rows(np.random.default_rng(0).standard_normal(64))
    rows = np.repeat(row[None], 1_000, axis=0)
    person = np.arange(1_000, dtype=np.int32)
    places, scores = search(rows, person, row[None], 10, precision)[0]
    assert places == list(range(10))
    assert len(set(scores)) == 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_in_the_worst_order_are_found_too(precision: Precision) -> None:
    """By rising score, so that each row is better than all before it."""
    rng = np.random.default_rng(0)
    probe = unit_rows(rng.standard_normal(64))
    other = unit_rows(rng.standard_normal((20_000, 64)))
    rows = unit_rows(np.linspace(-1, 1, 20_000)[:, None] * probe + other)
    rows = rows[np.argsort(rows @ probe)]
    person = np.arange(20_000, dtype=np.int32)
    assert search(rows, person, probe[None], 5, precision)[0] == plain_search(
        rows, person, probe, 5
    )


def awkward(dim: int) -> Float32Array:
    """Rows that round badly: one large number, tiny ones, all the same, alternating."""
    rng = np.random.default_rng(1)
    one = np.full(dim, 1e-6)
    one[0] = 1
    subnormal = np.full(dim, 1e-30)
    subnormal[-1] = 1
    halves = np.where(np.arange(dim) % 2, 0.4999, 0.5001)
    powers = 2.0 ** -np.arange(dim)
    return unit_rows(
        np.stack([one, -one, subnormal, halves, -halves, powers, *rng.standard_cauchy((50, dim))])
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [3, 128, 2_048])
def test_the_margin_covers_what_the_screen_errs(precision: Precision, dim: int) -> None:
    rows = awkward(dim)
    matrix = make_matrix(rows, np.zeros(len(rows), np.int32), precision)
    worst = 0.0
    for probe in awkward(dim):
        wide = np.zeros(matrix.rows.shape[1], dtype=np.float32)
        wide[:dim] = probe
        rounded, (unit, slope, rest) = screen._rounded_probe(wide, precision)
        product = np.empty(len(rows), dtype=np.int32 if precision == "int8" else np.float32)
        kernels.products(matrix.rows, rounded, product)
        exact = rows.astype(np.float64) @ probe.astype(np.float64)
        error = np.abs(unit * matrix.scale * product.astype(np.float64) - exact)
        margin = slope * matrix.rounding + rest
        assert (error <= margin).all()
        worst = max(worst, float((error / margin).max()))
    assert worst > 0.001  # and it is no number that would cover anything


def test_products_of_bytes_are_exact_where_they_are_largest() -> None:
    dim = 576
    rows = np.full((9, dim), 127, dtype=np.int8)
    rows[4:] = -127
    probe = np.full(dim, (2**31 - 1) // (127 * dim), dtype=np.int16)
    product = np.empty(9, dtype=np.int32)
    kernels.products(rows, probe, product)
    assert product.tolist() == (rows.astype(np.int64) @ probe.astype(np.int64)).tolist()


def test_few_rows_are_read_exactly() -> None:
    rows, person, probes = make(3, 20_000, 512, 20_000, 1)
    read: list[int] = []

    def read_exact(places: IntArray) -> Float32Array:
        read.extend(places.tolist())
        return rows[places]

    best_people(make_matrix(rows, person, "int8"), probes, 10, read_exact)
    assert len(read) == len(set(read)) < 200


def test_a_row_that_is_gone_meanwhile_is_left_out() -> None:
    rows, person, probes = make(3, 100, 64, 100, 1)
    best = plain_search(rows, person, probes[0], 1)[0][0]

    def read_exact(places: IntArray) -> Float32Array:
        return np.where((places == best)[:, None], np.float32(np.nan), rows[places])

    found = best_people(make_matrix(rows, person, "int8"), probes, 10, read_exact)[0]
    assert best not in found.place
    assert np.isfinite(found.score).all()


GENERIC = """
import numpy as np
from deploy.gallery.test_screen import PRECISIONS, make, plain_search, search
rows, person, probes = make(0, 300, 100, 90, 2)
for precision in PRECISIONS:
    found = search(rows, person, probes, 5, precision)
    assert found == [plain_search(rows, person, probe, 5) for probe in probes]
print("the same")
"""


@pytest.mark.slow
def test_a_processor_without_special_instructions_finds_the_same(tmp_path: Path) -> None:
    environment: dict[str, Any] = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", GENERIC],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "the same", done.stderr
