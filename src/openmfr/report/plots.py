"""Plots of error rates, scores and training curves, as SVG for a page.

The same bytes for the same numbers, readable in light and dark; see `openmfr.report.drawing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from openmfr.report.drawing import DASHES, GRID, INK, SERIES, draw_legend, new_figure, style, to_svg

FloatArray = npt.NDArray[np.floating]

_SMALL = (4.3, 2.7)

#: Points of a curve that are drawn; more only make the page larger.
_MAX_POINTS = 400
#: Up to so many points of a training curve are marked one by one.
_MARKED_POINTS = 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """Intervals along a curve.

    Attributes:
        fmr: Rising false match rates, shape (K,).
        low: Lower ends of the FNMR at each, shape (K,); NaN where there is none.
        high: Upper ends, shape (K,).
    """

    fmr: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreCurve:
    """False match rates of scores, for the plot of a calibration.

    Attributes:
        score: Rising scores, shape (K,).
        fmr: False match rate at each, shape (K,).
        low: Lower ends of their intervals, shape (K,); empty without.
        high: Upper ends; empty without.
        tail_score: Rising scores beyond, where rates are extrapolated; may be empty.
        tail_fmr: False match rate at each.
    """

    score: FloatArray
    fmr: FloatArray
    low: FloatArray
    high: FloatArray
    tail_score: FloatArray
    tail_fmr: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Both error rates of one system, for the DET and the ROC plot.

    Attributes:
        fmr: False match rates, falling, shape (T,).
        fnmr: False non-match rates, rising, shape (T,).
        smallest_fmr: Where the curve ends, because fewer than one false match is expected below.
        supported_fmr: Below it the curve is drawn thin: it rests on few false matches.
        largest_fmr: Where the curve begins; beyond it nothing is known.
        band: Intervals of the FNMR along it, drawn as a shade; None for none.
    """

    fmr: FloatArray
    fnmr: FloatArray
    smallest_fmr: float
    supported_fmr: float
    largest_fmr: float = 1.0
    band: Band | None = None


def det_plot(curves: Mapping[str, Curve]) -> str:
    """Draw FNMR over FMR, both logarithmic.

    Args:
        curves: By name, at most four.

    Returns:
        An `<svg>` element.
    """
    with style("det"):
        figure, axes = new_figure()
        lowest = 1.0
        for i, (name, curve) in enumerate(curves.items()):
            is_known = (curve.fmr >= curve.smallest_fmr) & (curve.fmr <= curve.largest_fmr)
            seen = curve.fnmr[(curve.fnmr > 0) & is_known]
            lowest = min([lowest, *seen[:1].tolist()])
            _draw_curve(axes, name, curve, _positive(curve.fnmr), i)
        bottom = max(lowest / 1.5, 1e-5)
        for i, curve in enumerate(curves.values()):
            if curve.band is not None:
                band = curve.band
                _shade(axes, i, band.fmr, band.low, band.high, least=bottom / 10)
        axes.set(xscale="log", yscale="log", ylim=(bottom, 1))
        axes.set(xlabel="FMR: strangers taken for one person", ylabel="FNMR: people not recognised")
        _percent(axes, "xy")
        _finish_curves(axes, curves)
        return to_svg(figure, "det")


def roc_plot(curves: Mapping[str, Curve]) -> str:
    """Draw TAR over FAR, the latter logarithmic.

    Args:
        curves: By name, at most four.

    Returns:
        An `<svg>` element.
    """
    with style("roc"):
        figure, axes = new_figure()
        lowest = 1.0
        for i, (name, curve) in enumerate(curves.items()):
            tar = 1 - curve.fnmr
            lowest = min([lowest, *tar[curve.fmr >= curve.smallest_fmr].tolist()])
            _draw_curve(axes, name, curve, tar, i)
            if curve.band is not None:
                _shade(axes, i, curve.band.fmr, 1 - curve.band.high, 1 - curve.band.low)
        bottom = 0.0 if lowest < 0.5 else lowest - 0.1 * (1 - lowest)
        axes.set(xscale="log", xlabel="FAR (= FMR)", ylabel="TAR (= 1 − FNMR)")
        axes.set_ylim(bottom, 1 + 0.02 * (1 - bottom) + 1e-4)
        _percent(axes, "xy")
        _finish_curves(axes, curves)
        return to_svg(figure, "roc")


def score_histogram(
    genuine: FloatArray,
    impostor: FloatArray,
    *,
    thresholds: Mapping[str, float],
    names: Sequence[str] = ("genuine pairs", "impostor pairs"),
    salt: str = "scores",
) -> str:
    """Draw how the scores of both sides are distributed, each side to its own total.

    Args:
        genuine: Scores of genuine pairs, shape (Pg,).
        impostor: Scores of impostor pairs, shape (Pi,).
        thresholds: Vertical lines, by name; at most two.
        names: What the sides are.
        salt: A word that keeps element ids apart where a page has several such plots.

    Returns:
        An `<svg>` element.
    """
    with style(salt):
        figure, axes = new_figure()
        low = min(float(genuine.min()), float(impostor.min()))
        high = max(float(genuine.max()), float(impostor.max()))
        bins = np.linspace(low, high if high > low else low + 1e-3, 61)
        for i, (name, scores) in enumerate(zip(names, (genuine, impostor), strict=True)):
            share = np.histogram(scores, bins)[0] / scores.size
            axes.stairs(share, bins, fill=True, alpha=0.3, color=SERIES[i])
            axes.stairs(share, bins, color=SERIES[i], linewidth=1.4, label=name)
        axes.set(xlabel="score (cosine similarity)", ylabel="share of each side", ylim=(0, None))
        _mark(axes, thresholds)
        return to_svg(figure, salt)


def threshold_plot(threshold: FloatArray, fmr: FloatArray, fnmr: FloatArray) -> str:
    """Draw both error rates over the threshold, for a person who must choose one.

    Args:
        threshold: Ascending, shape (T,).
        fmr: False match rate at each, shape (T,).
        fnmr: False non-match rate at each, shape (T,).

    Returns:
        An `<svg>` element.
    """
    shown = np.unique(np.linspace(0, threshold.size - 1, _MAX_POINTS).astype(np.int64))
    return shares_plot(
        threshold[shown],
        {"FNMR": _positive(fnmr[shown]), "FMR": _positive(fmr[shown])},
        labels=("threshold (cosine similarity)", "error rate"),
        salt="threshold",
        scale="log",
    )


def shares_plot(
    threshold: FloatArray,
    shares: Mapping[str, FloatArray],
    *,
    labels: tuple[str, str],
    salt: str,
    marks: Mapping[str, float] | None = None,
    scale: str = "linear",
) -> str:
    """Draw shares over a threshold, for a person who must choose one or asks why it was chosen.

    Args:
        threshold: Ascending, shape (T,).
        shares: By name, 0 to 1, NaN where there is none; each of shape (T,); at most four.
        labels: What the axes show.
        salt: As for `score_histogram`.
        marks: Vertical lines, by name; at most two.
        scale: Of the shares, "linear" or "log".

    Returns:
        An `<svg>` element.
    """
    with style(salt):
        figure, axes = new_figure()
        for i, (name, share) in enumerate(shares.items()):
            axes.plot(threshold, share, color=SERIES[i], linestyle=DASHES[i], label=name)
        axes.set(xlabel=labels[0], ylabel=labels[1], yscale=scale)
        _mark(axes, marks or {})
        return to_svg(figure, salt)


def calibration_plot(curves: Mapping[str, ScoreCurve]) -> str:
    """Draw the false match rate over the score, dashed where it is extrapolated.

    Args:
        curves: By condition, at most four.

    Returns:
        An `<svg>` element.
    """
    with style("calibration"):
        figure, axes = new_figure()
        for i, (name, curve) in enumerate(curves.items()):
            if curve.low.size:
                _shade(axes, i, curve.score, curve.low, curve.high, least=curve.fmr[-1] / 10)
            axes.step(curve.score, curve.fmr, where="post", color=SERIES[i], label=name)
            tail: dict[str, Any] = {"color": SERIES[i], "linestyle": DASHES[2], "linewidth": 1.2}
            axes.plot(curve.tail_score, curve.tail_fmr, **tail)
        least = [rate for c in curves.values() for rate in (*c.fmr[-1:], *c.tail_fmr[-1:])]
        # Up to a rate of one half the scores tell nothing.
        shown = [c.score[np.argmax(c.fmr <= 0.5)] for c in curves.values()]
        axes.set(xlabel="score (cosine similarity)", ylabel="FMR", yscale="log")
        axes.set(ylim=(min(least) / 1.5, 1), xlim=(min(shown), 1))
        _percent(axes, "y")
        draw_legend(axes)
        return to_svg(figure, "calibration")


def training_curves(
    rows: Sequence[Mapping[str, float]], panels: Mapping[str, str], *, x: str = "step"
) -> dict[str, str]:
    """Draw a run's metrics, each on its own.

    Args:
        rows: A run's metrics, in order; a row may lack some.
        panels: Names of metrics → what to call them; those that no row has are left out.
        x: Name of the horizontal axis in the rows.

    Returns:
        What each drawing shows → an `<svg>` element.
    """
    drawings = {}
    for name, label in panels.items():
        points = np.array([(row[x], row[name]) for row in rows if name in row and x in row])
        if not points.size:
            continue
        with style(name):
            figure, axes = new_figure(_SMALL)
            step = max(1, len(points) // _MAX_POINTS)
            marker = "o" if len(points) <= _MARKED_POINTS else ""
            axes.plot(*points[::step].T, color=SERIES[0], marker=marker, markersize=3.5)
            axes.set_xlabel(x)
            axes.locator_params(axis="x", nbins=5, integer=True)
            drawings[label] = to_svg(figure, name)
    return drawings


def _draw_curve(axes: Axes, name: str, curve: Curve, height: FloatArray, i: int) -> None:
    fmr = np.geomspace(curve.smallest_fmr, curve.largest_fmr, _MAX_POINTS)
    reached = height[np.searchsorted(-curve.fmr, -fmr * (1 + 1e-12))]  # at most this FMR
    firm = fmr >= curve.supported_fmr
    style: dict[str, Any] = {"color": SERIES[i], "linestyle": DASHES[i]}
    axes.plot(fmr[firm], reached[firm], label=name, **style)
    axes.plot(fmr[~firm], reached[~firm], linewidth=0.9, **style)


def _mark(axes: Axes, thresholds: Mapping[str, float]) -> None:
    """Finish a plot of shares with vertical lines."""
    for i, (name, threshold) in enumerate(thresholds.items()):
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=DASHES[i + 1], label=name)
    axes.margins(x=0)
    _percent(axes, "y")
    draw_legend(axes)


def _shade(
    axes: Axes, i: int, x: FloatArray, low: FloatArray, high: FloatArray, *, least: float = 0.0
) -> None:
    """Draw intervals behind a curve; a logarithmic axis has no place for less than `least`."""
    ends = np.maximum(low, least), np.maximum(high, least)
    axes.fill_between(x, *ends, color=SERIES[i], alpha=0.15, linewidth=0)


def _positive(rate: FloatArray) -> FloatArray:
    """Leave zero out: it has no place on a logarithmic axis."""
    return np.where(rate > 0, rate, np.nan)


def _finish_curves(axes: Axes, curves: Mapping[str, Curve]) -> None:
    largest = max(curve.largest_fmr for curve in curves.values())
    axes.set_xlim(min(curve.smallest_fmr for curve in curves.values()), largest)
    supported = max(curve.supported_fmr for curve in curves.values())
    axes.axvspan(0, supported, color=GRID, alpha=0.45, linewidth=0, label="< 10 false matches")
    if len(curves) == 1:
        axes.lines[0].set_label("_")
    draw_legend(axes)


def _percent(axes: Axes, which: str) -> None:
    formatter = FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
    if "x" in which:
        axes.xaxis.set_major_formatter(formatter)
    if "y" in which:
        axes.yaxis.set_major_formatter(formatter)
        axes.yaxis.set_minor_formatter(lambda *_: "")
