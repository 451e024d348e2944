"""Rates and accuracies against scikit-learn, against counting, and against published procedures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmfr.evaluation.accuracy import FoldedPairs
from openmfr.evaluation.checks import align_by_path
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.protocols.lists import read_pairs
from openmfr.evaluation.rates import auc, eer, error_curve, fnmr_at_fmr
from openmfr.evaluation.verification import measure

Scores = npt.NDArray[np.float64]

#: From many ties to none; a strategy draws sides of different sizes from one of these alphabets.
ALPHABETS = {
    "one value": [0.25],
    "two values": [0.25, np.nextafter(0.25, 1)],
    "few values": [-1.0, -0.5, 0.0, 0.5, 1.0],
    "near each other": [0.1 + 0.2, 0.3, 0.3 - 2**-54],
}


@st.composite
def sides(draw: st.DrawFn) -> tuple[Scores, Scores]:
    """Genuine and impostor scores: ties within and between, one-sided, swapped, or smooth."""
    kind = draw(st.sampled_from([*ALPHABETS, "smooth", "apart", "swapped"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    genuines, impostors = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    if kind in ALPHABETS:
        values = np.array(ALPHABETS[kind])
        return rng.choice(values, genuines), rng.choice(values, impostors)
    gap = {"smooth": 0.2, "apart": 9.0, "swapped": -9.0}[kind]
    return rng.normal(gap, 0.2, genuines), rng.normal(0, 0.2, impostors)


def truth_and_score(genuine: Scores, impostor: Scores) -> tuple[npt.NDArray[np.int64], Scores]:
    truth = np.repeat([1, 0], [genuine.size, impostor.size])
    return truth, np.concatenate([genuine, impostor])


@given(drawn=sides())
def test_the_curve_is_scikit_learns_roc_curve(drawn: tuple[Scores, Scores]) -> None:
    metrics: Any = pytest.importorskip("sklearn.metrics", reason="a reference only")
    genuine, impostor = drawn
    fpr, tpr, threshold = metrics.roc_curve(
        *truth_and_score(genuine, impostor), drop_intermediate=False
    )
    curve = error_curve(genuine, impostor)
    assert np.array_equal(curve.fmr[::-1], fpr)
    assert curve.fnmr[::-1] == pytest.approx(1 - tpr, abs=1e-15)
    # Theirs is the lowest score accepted, ours lies just above the highest rejected.
    above = np.nextafter(np.unique(np.concatenate(drawn)), np.inf)
    assert np.array_equal(curve.threshold[1:], above)
    assert np.array_equal(np.nextafter(threshold[1:], np.inf), above[::-1])


@given(drawn=sides())
def test_the_area_is_scikit_learns(drawn: tuple[Scores, Scores]) -> None:
    metrics: Any = pytest.importorskip("sklearn.metrics", reason="a reference only")
    expected = metrics.roc_auc_score(*truth_and_score(*drawn))
    assert auc(*drawn) == pytest.approx(expected, abs=1e-12)


@given(drawn=sides())
def test_every_point_of_scikit_learns_det_curve_is_on_the_curve(
    drawn: tuple[Scores, Scores],
) -> None:
    metrics: Any = pytest.importorskip("sklearn.metrics", reason="a reference only")
    truth, score = truth_and_score(*drawn)
    if np.unique(score).size == 1:
        return  # it then refuses, or gives one point, by version
    fpr, fnr, _ = metrics.det_curve(truth, score)
    curve = error_curve(*drawn)
    for point in zip(fpr, fnr, strict=True):
        gap = np.abs(curve.fmr - point[0]) + np.abs(curve.fnmr - point[1])
        assert gap.min() < 1e-12


@given(drawn=sides(), percent=st.integers(1, 99))
def test_rates_agree_with_comparing_every_score_with_every_threshold(
    drawn: tuple[Scores, Scores], percent: int
) -> None:
    genuine, impostor = drawn
    candidates = np.concatenate([[-np.inf], np.nextafter(np.unique(np.concatenate(drawn)), np.inf)])
    false_matches = (impostor[None] >= candidates[:, None]).sum(axis=1)
    false_non_matches = (genuine[None] < candidates[:, None]).sum(axis=1)
    if percent * impostor.size > 100:
        allowed = false_matches * 100 <= percent * impostor.size
        first = int(np.argmax(allowed))
        point = fnmr_at_fmr(genuine, impostor, fmr=percent / 100)
        assert point.threshold == candidates[first]
        assert point.fmr == false_matches[first] / impostor.size
        assert point.fnmr == false_non_matches[first] / genuine.size
    wins = (genuine[:, None] > impostor).sum() + 0.5 * (genuine[:, None] == impostor).sum()
    assert auc(genuine, impostor) == pytest.approx(wins / genuine.size / impostor.size, abs=1e-12)


def comparisons_of(genuine: Scores, impostor: Scores, seed: int) -> Comparisons:
    """Each pair of people of its own; five folds, dealt by the pairs' number."""
    count = genuine.size + impostor.size
    is_genuine = np.arange(count) < genuine.size
    return Comparisons(
        score=np.concatenate([genuine, impostor]),
        is_genuine=is_genuine,
        index_a=2 * np.arange(count),
        index_b=2 * np.arange(count) + 1,
        identity_a=2 * np.arange(count),
        identity_b=2 * np.arange(count) + ~is_genuine,
        fold=np.random.default_rng(seed).integers(0, 5, count),
    )


@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 6))
def test_no_figure_depends_on_the_order_of_the_pairs(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    compared = comparisons_of(
        rng.normal(0.3, 0.2, 50).round(decimals), rng.normal(0, 0.2, 70).round(decimals), seed
    )
    order: Any = rng.permutation(len(compared))
    mixed = compared.only(order)
    first, second = (measure(part, replicates=0) for part in (compared, mixed))
    assert first.to_json() == second.to_json()


@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 3))
def test_no_figure_but_thresholds_depends_on_a_rising_map_of_the_scores(
    seed: int, decimals: int
) -> None:
    rng = np.random.default_rng(seed)
    compared = comparisons_of(
        rng.normal(0.3, 0.2, 50).round(decimals), rng.normal(0, 0.2, 70).round(decimals), seed
    )
    values, rank = np.unique(compared.score, return_inverse=True)
    rising = np.cumsum(rng.uniform(0.01, 10.0, values.size))[rank]
    first, second = (
        measure(replace(compared, score=s), replicates=0) for s in (values[rank], rising)
    )
    assert first.accuracy.folds == second.accuracy.folds
    assert (first.eer, first.auc) == (second.eer, second.auc)
    assert [rate.fnmr for rate in first.rates] == [rate.fnmr for rate in second.rates]


def test_duplicate_rates_that_cannot_be_interpolated_are_no_trouble() -> None:
    interpolate: Any = pytest.importorskip("scipy.interpolate", reason="a reference only")
    rng = np.random.default_rng(0)
    distance = np.concatenate([rng.uniform(0.5, 1.2, 300), rng.uniform(1.0, 2.0, 300)])
    grid = np.arange(0, 4, 0.001)
    far = np.array([np.mean(distance[300:] < t) for t in grid])
    # What InsightFace's calculate_val does: 0 and 1 come often in these rates.
    with pytest.raises(ValueError, match="duplicates"):
        interpolate.interp1d(far, grid, kind="slinear")
    genuine, impostor = 1 - distance[:300] / 2, 1 - distance[300:] / 2
    assert fnmr_at_fmr(genuine, impostor, fmr=0.01).fmr == 0.01
    assert 0 < eer(genuine, impostor) < 1


def reference_on(real_data: Path, embeddings: str, data: str) -> tuple[Comparisons, Scores]:
    """Compare the reference embeddings by their paths; also unit vectors in the list's order."""
    rows = (real_data / data / "pairs.csv").read_text(encoding="utf-8").splitlines()[1:]
    sources = sorted({name for row in rows for name in row.split(",")[:2]})
    with np.load(real_data / "reference" / embeddings) as stored:
        embedding = align_by_path(stored["embedding"], stored["path"].tolist(), sources)
    _, identity = np.unique([source.split("/")[0] for source in sources], return_inverse=True)
    pairs = read_pairs(real_data / data / "pairs.csv", sources)
    unit = embedding.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return pairs.compare(embedding, identity), unit


def test_the_published_procedure_on_lfw_gives_the_same_folds(real_data: Path) -> None:
    compared, unit = reference_on(real_data, "r1_lfw112.npz", "lfw-112")
    assert compared.fold is not None
    distance = np.sum(np.square(unit[compared.index_a] - unit[compared.index_b]), axis=1)
    grid, expected = np.arange(0, 4, 0.01), []
    for k in range(10):
        known, truth = distance[compared.fold != k], compared.is_genuine[compared.fold != k]
        best = grid[int(np.argmax([np.mean((known < t) == truth) for t in grid]))]
        tested = compared.fold == k
        expected.append(np.mean((distance[tested] < best) == compared.is_genuine[tested]))
    accuracies, _ = FoldedPairs(
        compared.score, compared.is_genuine, compared.fold, thresholds="insightface"
    ).accuracy()
    assert accuracies.tolist() == pytest.approx(expected, abs=1e-12)
    exact = measure(compared, replicates=0).accuracy
    assert exact.mean.value == pytest.approx(0.9860, abs=5e-5)
    assert exact.std == pytest.approx(0.0058, abs=5e-5)
    assert abs(accuracies.mean() - exact.mean.value) < 1e-3


def test_the_reference_embeddings_give_the_figures_that_other_code_measured(
    real_data: Path,
) -> None:
    lfw = measure(reference_on(real_data, "r1_lfw112.npz", "lfw-112")[0], replicates=0)
    fnmr = {rate.fmr: rate.fnmr for rate in lfw.rates}
    assert fnmr[1e-2].value == pytest.approx(0.017, abs=5e-4)
    assert fnmr[1e-3].value == pytest.approx(0.061, abs=5e-4)
    assert [fnmr[fmr].flag for fmr in (1e-2, 1e-3)] == ["", "rests on 3 expected false matches"]
    masked = measure(reference_on(real_data, "r1_mfr2dev.npz", "mfr2-dev")[0], replicates=0)
    mu = masked.kinds["mu"]
    fnmr = {rate.fmr: rate.fnmr for rate in mu.rates}
    assert fnmr[1e-2].value == pytest.approx(0.419, abs=5e-4)
    assert mu.auc.value == pytest.approx(0.941, abs=5e-4)
