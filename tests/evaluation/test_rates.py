"""What a user of the rates relies on, each checked against something slower or obvious."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmfr.errors import UserError
from openmfr.evaluation.rates import (
    RankedScores,
    auc,
    eer,
    error_curve,
    fnmr_at_fmr,
    tar_at_far,
)

Scores = npt.NDArray[np.float64]


def drawn_scores(seed: int, decimals: int) -> tuple[Scores, Scores]:
    """Overlapping scores; few decimals make ties, within a side and between the sides."""
    rng = np.random.default_rng(seed)
    genuine: Scores = rng.normal(0.3, 0.2, 50).round(decimals)
    impostor: Scores = rng.normal(0.0, 0.2, 100).round(decimals)
    return genuine, impostor


def fnmr_by_counting(genuine: Scores, impostor: Scores, fmr: Fraction) -> float:
    """Try every threshold, from low to high, in exact arithmetic: slow, and plainly right."""
    for threshold in np.unique(impostor):
        if Fraction(int(np.sum(impostor > threshold)), impostor.size) <= fmr:
            return float(np.mean(genuine <= threshold))
    raise AssertionError("unreachable: nothing exceeds the largest score")


@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 6), percent=st.integers(1, 99))
def test_fnmr_agrees_with_counting_even_when_scores_tie(
    seed: int, decimals: int, percent: int
) -> None:
    genuine, impostor = drawn_scores(seed, decimals)
    expected = fnmr_by_counting(genuine, impostor, Fraction(percent, 100))
    assert fnmr_at_fmr(genuine, impostor, fmr=percent / 100).fnmr == expected


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 6), percent=st.integers(1, 99))
def test_the_returned_threshold_reproduces_both_rates(
    dtype: type[np.floating], seed: int, decimals: int, percent: int
) -> None:
    genuine, impostor = (scores.astype(dtype) for scores in drawn_scores(seed, decimals))
    point = fnmr_at_fmr(genuine, impostor, fmr=percent / 100)
    assert float(np.mean(impostor >= point.threshold)) == pytest.approx(point.fmr, abs=1e-12)
    assert float(np.mean(genuine < point.threshold)) == pytest.approx(point.fnmr, abs=1e-12)
    assert point.fmr <= percent / 100 + 1e-12


@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 6))
def test_a_weight_counts_like_a_repeated_comparison(seed: int, decimals: int) -> None:
    genuine, impostor = drawn_scores(seed, decimals)
    rng = np.random.default_rng(seed)
    often_genuine, often_impostor = rng.integers(0, 4, 50), rng.integers(0, 4, 100)
    weighted = RankedScores(genuine, impostor).curve(
        often_genuine.astype(np.float64), often_impostor.astype(np.float64)
    )
    repeated = error_curve(np.repeat(genuine, often_genuine), np.repeat(impostor, often_impostor))
    assert weighted.eer() == pytest.approx(repeated.eer(), abs=1e-12)
    assert weighted.auc() == pytest.approx(repeated.auc(), abs=1e-12)
    for fmr in (0.01, 0.1, 0.5):
        assert weighted.at_fmr(fmr) == repeated.at_fmr(fmr)


@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 6))
def test_auc_is_the_share_of_rightly_ordered_pairs_with_ties_half(seed: int, decimals: int) -> None:
    genuine, impostor = drawn_scores(seed, decimals)
    above = np.sum(genuine[:, None] > impostor)
    tied = np.sum(genuine[:, None] == impostor)
    assert auc(genuine, impostor) == pytest.approx((above + tied / 2) / 5_000, abs=1e-12)


@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 6))
def test_eer_lies_on_the_straight_line_between_the_points_around_it(
    seed: int, decimals: int
) -> None:
    genuine, impostor = drawn_scores(seed, decimals)
    curve = error_curve(genuine, impostor)
    fine = np.linspace(0, 1, 200_001)
    fnmr = np.interp(fine, curve.fmr[::-1], curve.fnmr[::-1])
    crossing = fine[np.argmin(np.abs(fnmr - fine))]
    is_vertical = np.any(np.diff(curve.fmr) == 0)  # np.interp cannot follow a vertical line
    assert eer(genuine, impostor) == pytest.approx(crossing, abs=0.021 if is_vertical else 2e-5)


@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 6))
def test_swapping_the_sides_swaps_the_errors(seed: int, decimals: int) -> None:
    genuine, impostor = drawn_scores(seed, decimals)
    assert auc(genuine, impostor) == pytest.approx(1 - auc(impostor, genuine), abs=1e-12)
    assert eer(genuine, impostor) == pytest.approx(eer(-impostor, -genuine), abs=1e-12)


def test_rate_never_exceeds_the_target_when_every_impostor_ties() -> None:
    assert fnmr_at_fmr(np.array([0.9]), np.full(1_000, 0.3), fmr=0.1).fmr == 0.0


def test_perfect_separation_has_no_error_and_useless_scores_have_one_half() -> None:
    high, low = np.linspace(0.5, 1, 30), np.linspace(-1, 0, 40)
    assert (eer(high, low), auc(high, low)) == (0.0, 1.0)
    assert (eer(low, high), auc(low, high)) == (1.0, 0.0)
    same = np.full(20, 0.2)
    assert (eer(same, same), auc(same, same)) == (0.5, 0.5)


@pytest.mark.parametrize("count", [7, 53, 1_001])
def test_the_auc_of_perfect_scores_is_one_and_not_nearly_one(count: int) -> None:
    assert auc(np.linspace(0.5, 1, count), np.linspace(-1, 0.4, count + 6)) == 1


def test_tar_at_far_says_the_same_as_fnmr_at_fmr() -> None:
    genuine, impostor = drawn_scores(0, 3)
    fnmr = fnmr_at_fmr(genuine, impostor, fmr=0.05).fnmr
    assert tar_at_far(genuine, impostor, far=0.05) == 1 - fnmr


def test_the_curve_runs_from_accepting_all_to_rejecting_all() -> None:
    curve = error_curve(*drawn_scores(1, 2))
    assert (curve.fmr[0], curve.fnmr[0], curve.fmr[-1], curve.fnmr[-1]) == (1, 0, 0, 1)
    assert np.all(np.diff(curve.fmr) <= 0)
    assert np.all(np.diff(curve.fnmr) >= 0)


@pytest.mark.parametrize(("impostors", "is_supported"), [(9_999, False), (10_000, True)])
def test_a_rate_resting_on_fewer_than_ten_false_matches_is_flagged(
    impostors: int, is_supported: bool
) -> None:
    scores = np.linspace(-1, 1, impostors)
    assert fnmr_at_fmr(scores, scores, fmr=1e-3).is_supported is is_supported


@pytest.mark.parametrize("fmr", [0.0, 1e-5, 1.0, float("nan")])
def test_an_impossible_rate_is_refused_with_what_is_possible(fmr: float) -> None:
    with pytest.raises(UserError, match=r"from 0\.01 to below 1"):
        fnmr_at_fmr(np.ones(5), np.zeros(100), fmr=fmr)


def test_a_rate_of_exactly_one_false_match_is_given() -> None:
    assert fnmr_at_fmr(np.ones(5), np.linspace(0, 0.9, 100), fmr=0.01).fmr == 0.01


def test_missing_sides_and_broken_scores_are_named() -> None:
    with pytest.raises(UserError, match="genuine scores: found none"):
        eer(np.array([]), np.zeros(3))
    with pytest.raises(UserError, match="impostor scores: found none"):
        auc(np.zeros(3), np.array([]))
    with pytest.raises(UserError, match="impostor score 1: found nan"):
        error_curve(np.zeros(3), np.array([0.1, np.nan]))


def test_impostors_alone_have_false_match_rates_and_no_fnmr() -> None:
    rng = np.random.default_rng(0)
    impostor, weight = rng.normal(size=500).round(1), rng.integers(0, 3, 500).astype(np.float64)
    alone = RankedScores.of_impostors(impostor)
    both = RankedScores(impostor, impostor)
    for mine, theirs in (
        (alone.curve(), both.curve()),
        (alone.curve(impostor_weight=weight), both.curve(weight, weight)),
    ):
        assert np.array_equal(mine.threshold, theirs.threshold)
        assert np.array_equal(mine.fmr, theirs.fmr)
        assert mine.at_fmr(0.05).threshold == theirs.at_fmr(0.05).threshold
        assert np.isnan(mine.fnmr).all()
    with pytest.raises(UserError, match="impostor scores: found none"):
        RankedScores.of_impostors(np.empty(0))


def test_above_the_floor_the_highest_scores_and_a_count_give_the_whole_curve() -> None:
    rng = np.random.default_rng(1)
    genuine, impostor = rng.normal(1, 1, 300).round(1), rng.normal(0, 1, 2_000).round(1)
    floor = 0.8
    held = impostor[impostor > floor]
    whole = RankedScores(genuine, impostor).curve()
    part = RankedScores(genuine, held, floor=floor).curve(rest=impostor.size - held.size)
    above = whole.threshold > np.nextafter(floor, 0)
    assert above.sum() > 10
    assert set(whole.threshold[above]) <= set(part.threshold)
    for fmr in (0.1, 0.01, 0.001):
        assert part.at_fmr(fmr) == whole.at_fmr(fmr)
    assert part.impostors == impostor.size
    tied = RankedScores(genuine, np.empty(0), floor=floor).curve(rest=10)
    assert tied.at_fmr(0.05).threshold == np.nextafter(floor, 1)
