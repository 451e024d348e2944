"""Plots: repeatable, themed, self-contained, and honest about where they rest on little."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from openmfr.report.plots import (
    Band,
    Curve,
    ScoreCurve,
    calibration_plot,
    det_plot,
    roc_plot,
    score_histogram,
    threshold_plot,
    training_curves,
)

RNG = np.random.default_rng(0)
GENUINE, IMPOSTOR = RNG.normal(0.5, 0.1, 200), RNG.normal(0.0, 0.1, 1_000)


def curve(shift: float = 0.0) -> Curve:
    fmr = np.linspace(1, 0, 1_001)
    return Curve(
        fmr=fmr,
        fnmr=np.clip((1 - fmr) ** 6 - shift, 0, 1),
        smallest_fmr=1e-3,
        supported_fmr=1e-2,
    )


def banded(low: float, high: float) -> Curve:
    fmr = np.geomspace(1e-3, 1, 20)
    return replace(curve(), band=Band(fmr=fmr, low=np.full(20, low), high=np.full(20, high)))


def calibrated() -> ScoreCurve:
    score = np.linspace(-0.5, 0.4, 60)
    fmr = np.geomspace(1, 1e-3, 60)
    return ScoreCurve(
        score=score,
        fmr=fmr,
        low=fmr / 2,
        high=np.minimum(fmr * 2, 1),
        tail_score=np.array([0.4, 0.6]),
        tail_fmr=np.array([1e-3, 1e-5]),
    )


def drawings() -> dict[str, str]:
    rows = [{"step": s, "loss": 1.0 / (s + 1)} for s in range(1_000)]
    return {
        "det": det_plot({"ours": curve(), "baseline": curve(0.1)}),
        "roc": roc_plot({"ours": curve()}),
        "scores": score_histogram(GENUINE, IMPOSTOR, thresholds={"at 1 %": 0.3}),
        "threshold": threshold_plot(np.linspace(-1, 1, 1_001), curve().fmr, curve().fnmr),
        "calibration": calibration_plot({"uu": calibrated(), "mm": calibrated()}),
        "training": training_curves(rows, {"loss": "Loss"})["Loss"],
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return drawings()


@pytest.mark.parametrize("name", ["det", "roc", "scores", "threshold", "calibration", "training"])
def test_a_drawing_is_small_themed_and_whole_in_itself(drawn: dict[str, str], name: str) -> None:
    svg = drawn[name]
    ET.fromstring(svg)
    assert len(svg) < 100_000
    assert "http" not in svg
    assert "<text" in svg
    assert "font-family" not in svg
    assert not re.search(r"(?:fill|stroke): #(?!fff)", svg)
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', svg):
        assert f'id="{target}"' in svg


def test_the_same_numbers_are_drawn_as_the_same_bytes(drawn: dict[str, str]) -> None:
    assert drawings() == drawn


def test_drawings_on_one_page_do_not_share_element_ids(drawn: dict[str, str]) -> None:
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in drawn.values()]
    assert len(set.union(*ids)) == sum(len(part) for part in ids)


def test_drawing_leaves_the_callers_settings_alone() -> None:
    before = dict(mpl.rcParams)
    det_plot({"ours": curve()})
    assert dict(mpl.rcParams) == before


def test_the_part_that_rests_on_few_false_matches_is_marked() -> None:
    assert "&lt; 10 false matches" in det_plot({"ours": curve()})
    assert "&lt; 10 false matches" in roc_plot({"ours": curve()})


def shades(svg: str) -> int:
    return svg.count('id="det-FillBetween') + svg.count('id="roc-FillBetween')


@pytest.mark.parametrize("draw", [det_plot, roc_plot])
def test_intervals_are_shaded_where_there_are_some(draw: Callable[..., str]) -> None:
    for low, high in ((0.1, 0.3), (0.0, 0.2), (0.0, 0.0), (np.nan, np.nan)):
        svg = draw({"ours": banded(low, high), "other": curve()})
        assert shades(svg) == 1
        assert "nan" not in svg
    assert shades(draw({"ours": curve()})) == 0


def test_a_calibration_without_intervals_or_tail_can_be_drawn() -> None:
    bare = replace(calibrated(), low=np.empty(0), high=np.empty(0))
    bare = replace(bare, tail_score=np.empty(0), tail_fmr=np.empty(0))
    ET.fromstring(calibration_plot({"all": bare}))


def test_a_perfect_system_can_be_drawn() -> None:
    perfect = Curve(
        fmr=np.array([1.0, 0.0, 0.0]),
        fnmr=np.array([0.0, 0.0, 1.0]),
        smallest_fmr=0.01,
        supported_fmr=0.1,
    )
    for svg in (det_plot({"ours": perfect}), roc_plot({"ours": perfect})):
        ET.fromstring(svg)
    ET.fromstring(score_histogram(np.ones(3), np.ones(3), thresholds={}))


def test_training_curves_draw_what_the_rows_have() -> None:
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "accuracy": 0.5}, {"loss": 3.0}]
    panels = {"loss": "Loss", "accuracy": "Accuracy", "learning_rate": "Learning rate"}
    assert list(training_curves(rows, panels)) == ["Loss", "Accuracy"]
    assert training_curves([], panels) == {}
