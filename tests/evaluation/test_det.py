"""The band around a DET curve: the same rates as the curve, and intervals that hold them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.det import band_fmrs, fnmr_at
from openmfr.evaluation.rates import error_curve
from openmfr.evaluation.verification import measure


@given(seed=st.integers(0, 10_000), decimals=st.integers(0, 6))
def test_rates_along_a_curve_are_those_at_each_fmr(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    genuine, impostor = (rng.normal(m, 0.3, 60).round(decimals) for m in (0.4, 0.0))
    curve = error_curve(genuine, impostor)
    fmr = np.concatenate([band_fmrs(60), np.arange(61) / 60])
    assert fnmr_at(curve, fmr).tolist() == [curve.at_fmr(float(f)).fnmr for f in fmr]


def test_a_band_holds_its_curve_and_agrees_with_the_rates(comparisons: Comparisons) -> None:
    result = measure(comparisons, fmrs=(0.1,), replicates=100)
    band = result.band
    assert band is not None
    assert np.all(np.diff(band.fmr) > 0)
    assert np.all(np.diff(band.fnmr) <= 0)
    assert np.all((band.low <= band.fnmr) & (band.fnmr <= band.high))
    rate = result.rates[0].fnmr
    near = int(np.argmin(np.abs(np.log(band.fmr / 0.1))))
    assert rate.high is not None
    assert abs(band.high[near] - rate.high) < 0.05


def test_a_band_is_open_upwards_where_no_error_was_seen(comparisons: Comparisons) -> None:
    perfect = replace(comparisons, score=np.where(comparisons.is_genuine, 0.9, -0.1))
    band = measure(perfect, replicates=20).band
    assert band is not None
    assert band.fnmr.max() == 0
    assert 0.05 < band.high[0] < 0.07  # 1 − 0.025^(1/60)
    assert band.to_json()["high"][0] == band.high[0]


def test_without_draws_there_is_no_band(comparisons: Comparisons) -> None:
    result = measure(comparisons, replicates=0)
    assert result.band is None
    assert result.to_json()["det"] is None
