"""Models on the same draws of identities, and parts that are drawn together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.compare import compare_results, differences, drawn_together
from openmfr.evaluation.all_pairs.rates import AllPairsResult, measure_all_pairs, statistics_of
from openmfr.evaluation.all_pairs.scores import all_pairs
from openmfr.evaluation.all_pairs.tail import draw_together
from openmfr.evaluation.comparisons import Comparisons, cosine_of_pairs
from openmfr.evaluation.difference import measure_difference

Floats = npt.NDArray[np.float64]

IDENTITY = np.repeat(np.arange(50), 4)


def model(noise: float, *, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    center, spread = rng.normal(size=(50, 16))[IDENTITY], rng.normal(size=(200, 16))
    return center + noise * spread


def result(
    embedding: Floats, *, keep: npt.NDArray[np.bool_] | None = None, replicates: int = 200
) -> AllPairsResult:
    pairs = all_pairs(embedding, IDENTITY, fmrs=[0.02, 0.005], first=keep)
    return measure_all_pairs(pairs, replicates=replicates, seed=3)


def test_the_difference_of_two_models_is_that_of_the_list_of_all_pairs() -> None:
    models = (model(1.4), model(1.2))
    a, b = np.triu_indices(200, k=1)
    listed = [
        Comparisons(
            score=cosine_of_pairs(embedding, a, b),
            is_genuine=IDENTITY[a] == IDENTITY[b],
            index_a=a,
            index_b=b,
            identity_a=IDENTITY[a],
            identity_b=IDENTITY[b],
        )
        for embedding in models
    ]
    expected = measure_difference(*listed, fmrs=[0.02, 0.005], replicates=200, seed=3)
    found = compare_results(*(result(embedding) for embedding in models))
    for fmr, difference in found.items():
        assert difference == expected[f"fnmr@{fmr:g}"]
        assert difference.value is not None
        assert difference.value < 0


def test_a_paired_interval_is_shorter_than_two_own_ones() -> None:
    first, second = result(model(1.4)), result(model(1.3))
    difference = compare_results(first, second)[0.02]
    assert difference.low is not None
    assert difference.high is not None
    own = 0.0
    for part in (first, second):
        low, high = part.rates[0].fnmr.low, part.rates[0].fnmr.high
        assert low is not None
        assert high is not None
        own += high - low
    assert difference.high - difference.low < 0.7 * own


def test_a_model_does_not_differ_from_itself_and_flags_follow() -> None:
    same = compare_results(result(model(1.2)), result(model(1.2)))
    assert [(change.value, change.low, change.high) for change in same.values()] == 2 * [(0, 0, 0)]
    pairs = all_pairs(model(1.2), IDENTITY, fmrs=[1e-5, 1e-4])
    few = measure_all_pairs(pairs, replicates=20)
    refused, flagged = compare_results(few, few).values()
    assert refused.is_refused
    assert "refused: needs at least 100,000" in refused.flag
    assert flagged.flag == "rests on 2 expected false matches"


def test_without_draws_a_difference_has_no_interval() -> None:
    change = compare_results(result(model(1.4), replicates=0), result(model(1.2), replicates=0))[
        0.02
    ]
    assert change.value is not None
    assert (change.low, change.high) == (None, None)


def test_other_images_rates_or_draws_are_not_compared() -> None:
    whole, half = result(model(1.2)), result(model(1.2), keep=np.arange(200) < 100)
    with pytest.raises(UserError, match="found other images"):
        compare_results(whole, half)
    other = measure_all_pairs(whole.pairs, fmrs=[0.01], replicates=200, seed=3)
    with pytest.raises(UserError, match="found other false match rates"):
        compare_results(whole, other)
    with pytest.raises(UserError, match="200 draws of seed 4; allowed: 200 draws of seed 3"):
        compare_results(whole, measure_all_pairs(whole.pairs, replicates=200, seed=4))


def test_every_other_model_is_compared_with_the_first_where_both_were_measured() -> None:
    good, bad = result(model(1.2)), result(model(1.4))
    found = differences({"bad": {"uu": bad, "mm": bad}, "good": {"uu": good}})
    assert list(found) == ["good"]
    assert list(found["good"]) == ["uu"]
    assert found["good"]["uu"] == compare_results(bad, good)


def test_parts_with_the_same_people_share_their_own_draws() -> None:
    parts = [result(model(1.2)), result(model(1.4))]
    together = drawn_together(parts)
    for part, drawn in zip(parts, together, strict=True):
        assert np.array_equal(part.drawn, drawn, equal_nan=True)
    again = draw_together(
        [statistics_of(part.pairs, [0.02, 0.005]) for part in parts], replicates=200, seed=3
    )
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(together, again, strict=True))


def test_parts_that_share_nobody_vary_on_their_own_and_those_that_do_vary_together() -> None:
    embedding = model(1.3)
    halves = [result(embedding, keep=side) for side in (IDENTITY < 25, IDENTITY >= 25)]
    apart = drawn_together(halves)
    assert abs(np.corrcoef(apart[0][:, 0], apart[1][:, 0])[0, 1]) < 0.3
    overlapping = [result(embedding, keep=side) for side in (IDENTITY < 45, IDENTITY >= 5)]
    shared = drawn_together(overlapping)
    assert np.corrcoef(shared[0][:, 0], shared[1][:, 0])[0, 1] > 0.5


def test_the_band_of_the_det_holds_the_curve_and_meets_the_intervals_of_the_rates() -> None:
    embedding = model(1.3)
    pairs = all_pairs(embedding, IDENTITY, fmrs=[0.01])
    found = measure_all_pairs(pairs, replicates=100)
    band = found.band
    assert band is not None
    assert band.fmr[0] == pytest.approx(1 / found.impostor_pairs)
    assert band.fmr[-1] <= 0.01
    assert (band.low <= band.fnmr).all()
    assert (band.fnmr <= band.high).all()
    exactly = measure_all_pairs(pairs, fmrs=[float(band.fmr[-1])], replicates=100).rates[0].fnmr
    assert (exactly.low, exactly.high) == (band.low[-1], band.high[-1])
    assert measure_all_pairs(pairs, replicates=0).band is None
