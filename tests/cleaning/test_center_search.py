"""All pairs of similar centres, and the nearest centres, held against plain float64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed.centers import THRESHOLD, Floats, search_on_ranks, split_people
from distributed.harness import run_on_ranks
from hypothesis import given, settings
from hypothesis import strategies as st

from openmfr.cleaning import center_search as module
from openmfr.cleaning.center_search import CenterPairs, nearest_centers, similar_centers
from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.screen import Precision
from openmfr.evaluation.comparisons import cosine_of_pairs


def plain_pairs(centers: Floats, threshold: float) -> list[tuple[int, int]]:
    a, b = np.triu_indices(len(centers), k=1)
    score = cosine_of_pairs(centers, a, b)
    order = np.lexsort((b, a, -score))
    order = order[score[order] >= threshold]
    return list(zip(a[order].tolist(), b[order].tolist(), strict=True))


def listed(pairs: CenterPairs) -> list[tuple[int, int]]:
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


@given(
    count=st.integers(1, 40),
    dim=st.integers(1, 5),
    block=st.sampled_from([(1, 1), (3, 5), (7, 2), (768, 768)]),
    threshold=st.floats(-0.9, 0.99),
    seed=st.integers(0, 99),
    precision=st.sampled_from(["float32", "bfloat16"]),
)
@settings(deadline=None, max_examples=40)
def test_the_exact_way_finds_every_pair_whatever_block_and_precision(
    count: int,
    dim: int,
    block: tuple[int, int],
    threshold: float,
    seed: int,
    precision: Precision,
) -> None:
    # Few different numbers: many pairs score the same, and some exactly the threshold.
    centers = np.random.default_rng(seed).integers(1, 4, size=(count, dim)).astype(np.float32)
    pairs = similar_centers(centers, threshold, precision=precision, block=block)
    assert listed(pairs) == plain_pairs(centers, threshold)
    assert np.array_equal(pairs.score, cosine_of_pairs(centers, pairs.first, pairs.second))
    assert pairs.recall == 1


def test_a_pair_that_scores_exactly_the_threshold_belongs_to_the_result() -> None:
    centers = split_people(60, 16)
    pairs = similar_centers(centers, THRESHOLD)
    again = similar_centers(centers, float(pairs.score[-1]))
    assert listed(again) == listed(pairs)
    above = similar_centers(centers, float(np.nextafter(pairs.score[-1], 1)))
    assert listed(above) == listed(pairs)[:-1]


def test_processes_and_threads_change_nothing_and_leave_the_setting() -> None:
    centers = split_people(300, 32)
    before = torch.get_num_threads()
    alone = similar_centers(centers, THRESHOLD, block=(64, 64), threads=1)
    shared = similar_centers(centers, THRESHOLD, block=(64, 64), processes=2, threads=1)
    assert torch.get_num_threads() == before
    assert listed(shared) == listed(alone) == plain_pairs(centers, THRESHOLD)
    assert len(alone) > 20


@pytest.mark.parametrize("dim", [32, 30, 7])
def test_the_approximate_way_finds_nearly_all_and_nothing_else(dim: int) -> None:
    pytest.importorskip("faiss")
    centers = split_people(2_000, dim)
    threshold = THRESHOLD if dim > 7 else 0.98
    pairs = similar_centers(centers, threshold, method="approximate", threads=1)
    exact = similar_centers(centers, threshold)
    found = set(listed(pairs))
    assert found <= set(listed(exact))
    assert len(found) >= 0.97 * len(exact)
    assert pairs.recall >= 0.95
    assert np.array_equal(pairs.score, cosine_of_pairs(centers, pairs.first, pairs.second))
    assert pairs.score.tolist() == sorted(pairs.score.tolist(), reverse=True)


@pytest.mark.parametrize("count", [1, 2, 17])
def test_the_approximate_way_takes_few_centres(count: int) -> None:
    pytest.importorskip("faiss")
    centers = split_people(count, 8)
    pairs = similar_centers(centers, THRESHOLD, method="approximate")
    assert listed(pairs) == plain_pairs(centers, THRESHOLD)


def test_ranks_share_the_work_and_all_receive_the_same(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    (alone,) = run_on_ranks(search_on_ranks, 1, tmp_path)
    assert len(alone["exact 700"][0]) > 20
    for size in (2, 3):
        folder = tmp_path / str(size)
        folder.mkdir()
        for result in run_on_ranks(search_on_ranks, size, folder):
            for name, columns in alone.items():
                assert all(map(torch.equal, result[name], columns)), (size, name)


@given(
    queries=st.integers(1, 30),
    count=st.integers(1, 40),
    dim=st.integers(1, 4),
    wanted=st.integers(1, 5),
    columns=st.sampled_from([1, 3, 16, 8_192]),
    rows=st.sampled_from([1, 4, 512]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_the_nearest_are_those_of_plain_float64_and_ties_go_to_the_lowest_row(
    queries: int, count: int, dim: int, wanted: int, columns: int, rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    centers = rng.integers(1, 4, size=(count, dim)).astype(np.float32)
    query = rng.integers(1, 4, size=(queries, dim)).astype(np.float16)
    wanted = min(wanted, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_COLUMNS", columns)
        patch.setattr(module, "_ROWS", rows)
        patch.setattr(module, "_SPARE", 1)
        index, score = nearest_centers(query, centers, count=wanted)
    both = np.concatenate([query.astype(np.float32), centers])
    a, b = np.indices((queries, count)).reshape(2, -1)
    exact = cosine_of_pairs(both, a, b + queries).reshape(queries, count)
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :wanted]
    assert np.array_equal(index, expected)
    assert np.array_equal(score, np.take_along_axis(exact, expected, axis=1))


def test_many_equal_centres_do_not_hide_the_lowest_row() -> None:
    centers = np.ones((5_000, 3), dtype=np.float32)
    centers[:2] = [[1, 0, 0], [-1, 1, 0]]
    index, score = nearest_centers(np.ones((2, 3)), centers, count=3)
    assert index.tolist() == [[2, 3, 4]] * 2
    assert score == pytest.approx(1)


def test_bad_input_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    centers = split_people(40, 8)
    for threshold in (-1.0, 1.0, float("nan")):
        with pytest.raises(UserError, match="inter_threshold"):
            similar_centers(centers, threshold)
    for count in (0, 41):
        with pytest.raises(UserError, match=f"found {count}; allowed: 1 to 40"):
            nearest_centers(centers, centers, count=count)
    bad = centers.copy()
    bad[7, 1] = np.nan
    with pytest.raises(UserError, match="centre 7: found length nan"):
        similar_centers(bad, THRESHOLD)
    with pytest.raises(UserError, match="query 7: found length nan"):
        nearest_centers(bad, centers, count=1)
    monkeypatch.setattr(module, "MAX_PAIRS", 3)
    with pytest.raises(UserError, match="more than 3 pairs of centres reach"):
        similar_centers(centers, -0.9)


def test_the_search_needs_faiss_only_where_it_is_asked_for() -> None:
    code = "import sys, openmfr.cleaning.center_search; print('faiss' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_approximate_way_finds_nearly_all_of_the_nearest_and_scores_them_exactly() -> None:
    pytest.importorskip("faiss")
    centers = split_people(2_000, 32)
    rng = np.random.default_rng(5)
    queries = centers[:300] + 0.3 * rng.normal(size=(300, 32)).astype(np.float32)
    index, score = nearest_centers(queries, centers, count=3, method="approximate")
    exact_index, exact_score = nearest_centers(queries, centers, count=3)
    is_found = index[:, 0] == exact_index[:, 0]
    assert is_found.mean() >= 0.95
    assert np.array_equal(score[is_found, 0], exact_score[is_found, 0])
