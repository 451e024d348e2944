"""Plots of a search: accuracy against cost, and the best reward so far of each controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.report.drawing import DASHES, SERIES, draw_legend, new_figure, style, to_svg

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A candidate.

    Attributes:
        cost: In the unit of the axis.
        accuracy: 0 to 1.
        is_best: Whether no other is both cheaper and better.
    """

    cost: float
    accuracy: float
    is_best: bool


def front_plot(points: Sequence[Point], *, label: str, target: float) -> str:
    """Draw accuracy over cost, and a line through the candidates that no other one beats in both.

    Args:
        points: Candidates, at least one.
        label: What the cost is.
        target: Of the cost, a vertical line.

    Returns:
        An `<svg>` element.
    """
    with style("front"):
        figure, axes = new_figure()
        others = np.array([(p.cost, p.accuracy) for p in points if not p.is_best])
        best = np.array(sorted((p.cost, p.accuracy) for p in points if p.is_best))
        if others.size:
            axes.scatter(
                others[:, 0], others[:, 1], s=14, color=SERIES[0], alpha=0.45, label="candidates"
            )
        axes.plot(*best.T, color=SERIES[1], marker="o", markersize=4, label="Pareto front")
        axes.axvline(target, color=SERIES[2], linewidth=1.2, linestyle=DASHES[1], label="target")
        axes.set(xlabel=label, ylabel="accuracy (area under the ROC curve)")
        draw_legend(axes)
        return to_svg(figure, "front")


def progress_plot(rewards: Mapping[str, FloatArray]) -> str:
    """Draw the best reward so far over the number of candidates.

    Args:
        rewards: By controller, at most four: the reward of each candidate, in order.

    Returns:
        An `<svg>` element.
    """
    with style("progress"):
        figure, axes = new_figure()
        for i, (name, found) in enumerate(rewards.items()):
            number = np.arange(1, found.size + 1)
            axes.scatter(number, found, s=9, color=SERIES[i], alpha=0.35, linewidth=0)
            axes.step(
                number,
                np.maximum.accumulate(found),
                where="post",
                color=SERIES[i],
                linestyle=DASHES[i],
                label=f"{name}: best so far",
            )
        axes.set(xlabel="candidates", ylabel="reward")
        axes.locator_params(axis="x", integer=True)
        draw_legend(axes)
        return to_svg(figure, "progress")
