"""The whole measurement: published figures, flags, refusals, kinds, and repeatability."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.verification import VerificationResult, measure


def fnmr(result: VerificationResult, fmr: float) -> Measured:
    return next(rate.fnmr for rate in result.rates if rate.fmr == fmr)


def test_the_reference_model_reaches_its_published_figures_on_lfw(
    reference: Callable[[str, str], Any],
) -> None:
    lfw = reference("r1_lfw112.npz", "lfw-112")
    result = measure(lfw.pairs.compare(lfw.embedding, lfw.identity), replicates=200)
    assert result.accuracy.mean.value == pytest.approx(0.9860, abs=5e-5)
    assert result.accuracy.std == pytest.approx(0.0058, abs=5e-5)
    assert fnmr(result, 1e-2).value == pytest.approx(0.0167, abs=5e-5)
    assert fnmr(result, 1e-3).value == pytest.approx(0.061, abs=5e-4)
    assert fnmr(result, 1e-3).flag == "rests on 3 expected false matches"
    assert result.auc.value == pytest.approx(0.9981, abs=5e-5)
    assert result.identities == 4_281
    assert any("single impostor pair" in note for note in result.notes)
    low, high = result.accuracy.mean.low, result.accuracy.mean.high
    assert low is not None
    assert high is not None
    assert 0.975 < low < 0.986 < high < 0.995


@pytest.mark.parametrize(
    ("kind", "fnmr_1_percent", "auc"),
    [("mu", 0.419, 0.941), ("mm", 0.606, 0.898), ("uu", 0.0, 1.0)],
)
def test_the_reference_model_reaches_its_published_figures_on_masked_faces(
    reference: Callable[[str, str], Any], kind: str, fnmr_1_percent: float, auc: float
) -> None:
    mfr2 = reference("r1_mfr2dev.npz", "mfr2-dev")
    compared = mfr2.pairs.compare(mfr2.embedding, mfr2.identity)
    result = measure(compared, replicates=0).kinds[kind]
    assert fnmr(result, 1e-2).value == pytest.approx(fnmr_1_percent, abs=5e-4)
    assert result.auc.value == pytest.approx(auc, abs=5e-4)


def test_the_same_pairs_are_measured_the_same_again(comparisons: Comparisons) -> None:
    first, again = (measure(comparisons, replicates=50).to_json() for _ in range(2))
    assert json.dumps(first) == json.dumps(again)


def test_the_order_of_the_pairs_does_not_matter(comparisons: Comparisons) -> None:
    order = np.random.default_rng(0).permutation(len(comparisons))
    columns: dict[str, Any] = vars(comparisons)
    columns = {name: None if c is None else c[order] for name, c in columns.items()}
    shuffled = measure(Comparisons(**columns), replicates=50)
    original = measure(comparisons, replicates=50)
    assert shuffled.eer == original.eer
    assert shuffled.accuracy == original.accuracy
    assert shuffled.rates == original.rates


def test_a_rate_is_given_flagged_or_refused_by_its_expected_false_matches(
    comparisons: Comparisons,
) -> None:
    result = measure(comparisons, fmrs=(0.02, 0.0198, 0.002, 0.0019), replicates=50)
    given, flagged, barely, refused = (rate.fnmr for rate in result.rates)
    assert given.flag == ""
    assert flagged.flag == "rests on 9.9 expected false matches"
    assert barely.flag == "rests on 1 expected false matches"
    assert barely.value is not None
    assert refused == Measured(
        value=None, flag="refused: needs at least 526 impostor pairs, has 500"
    )
    assert result.rates[3].tar.is_refused
    assert result.headline().fmr == 0.02


def test_values_lie_in_their_intervals_and_tar_mirrors_fnmr(comparisons: Comparisons) -> None:
    result = measure(comparisons, fmrs=(0.1, 0.002), replicates=100)
    for measured in (
        result.accuracy.mean,
        result.eer,
        result.auc,
        *(rate.fnmr for rate in result.rates),
        *(rate.tar for rate in result.rates),
    ):
        assert measured.value is not None
        assert measured.low is not None
        assert measured.high is not None
        assert 0 <= measured.low <= measured.value <= measured.high <= 1


def test_no_error_seen_still_has_a_wide_interval(comparisons: Comparisons) -> None:
    perfect = replace(comparisons, score=np.where(comparisons.is_genuine, 0.9, -0.1))
    result = measure(perfect, replicates=50)
    assert (result.eer.value, result.auc.value, result.accuracy.mean.value) == (0.0, 1.0, 1.0)
    assert result.eer.high == pytest.approx(1 - 0.025 ** (1 / 60))


def test_without_replicates_there_are_numbers_and_no_intervals(comparisons: Comparisons) -> None:
    quick, full = measure(comparisons, replicates=0), measure(comparisons, replicates=20)
    assert quick.eer.value == full.eer.value
    assert (quick.eer.low, quick.eer.high) == (None, None)


def test_two_people_are_too_few_for_an_interval() -> None:
    two = Comparisons(
        score=np.array([0.9, 0.8, 0.1, 0.2]),
        is_genuine=np.array([True, True, False, False]),
        index_a=np.array([0, 2, 0, 1]),
        index_b=np.array([1, 3, 2, 3]),
        identity_a=np.array([0, 1, 0, 0]),
        identity_b=np.array([0, 1, 1, 1]),
    )
    result = measure(two, fmrs=(0.5,), replicates=100)
    assert result.auc == Measured(value=1.0)


def test_a_list_without_folds_gets_some_and_says_so(comparisons: Comparisons) -> None:
    result = measure(replace(comparisons, fold=None), replicates=0)
    assert len(result.accuracy.folds) == 10
    assert any("has no folds" in note for note in result.notes)


def test_an_unbalanced_list_says_what_guessing_would_reach(comparisons: Comparisons) -> None:
    keep = ~comparisons.is_genuine | (np.arange(len(comparisons)) % 10 == 0)
    result = measure(comparisons.only(keep), replicates=0)
    assert result.accuracy.guessing == pytest.approx(500 / keep.sum())
    assert any("accuracy is ruled by the larger side" in note for note in result.notes)


def test_each_kind_is_measured_on_its_own_pairs(comparisons: Comparisons) -> None:
    kind = np.where(np.arange(len(comparisons)) % 2 == 0, "mu", "uu").astype("U8")
    kind[-1] = "lone"
    result = measure(replace(comparisons, kind=kind), replicates=0)
    assert set(result.kinds) == {"mu", "uu"}
    alone = measure(comparisons.only(kind == "mu"), replicates=0)
    assert result.kinds["mu"].eer == alone.eer
    assert "Kind lone has no genuine pairs and is not measured." in result.notes


def test_one_sided_and_broken_comparisons_are_refused(comparisons: Comparisons) -> None:
    with pytest.raises(UserError, match="impostor scores: found none"):
        measure(comparisons.only(comparisons.is_genuine))
    broken = replace(comparisons, score=np.where(comparisons.score > 0.5, np.nan, 0.1))
    with pytest.raises(UserError, match="found nan"):
        measure(broken)
    with pytest.raises(UserError, match=r"fmr: found 1\.5"):
        measure(comparisons, fmrs=(1.5,))
