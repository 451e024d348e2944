"""What every plot shares: its colours and lines, where the legend stands, and how it becomes SVG.

matplotlib draws on a `Figure` of our own, so no global figure list or backend is touched. Colours
leave as CSS variables of the page, with the light theme's colour as fall-back: one drawing serves
both themes, and still shows when it is taken out of the page. Text stays text.
"""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Colour in matplotlib → CSS variable of the page; each occurs nowhere else in a drawing.
INK, _SOFT, GRID = "#1d1f23", "#5b6068", "#e3e4e6"
SERIES = ("#0b62c4", "#d1571f", "#2b8a3e", "#8250c4")
_VARIABLES = {INK: "ink", _SOFT: "soft", GRID: "grid"} | {
    colour: f"series-{i}" for i, colour in enumerate(SERIES, start=1)
}
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": _SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _SOFT,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.9,
}
#: Inches.
SIZE = (5.4, 3.7)


def style(name: str) -> AbstractContextManager[None]:
    """Apply our settings for one drawing; the salt makes the element ids repeatable."""
    return mpl.rc_context({**_STYLE, "svg.hashsalt": f"openmfr-{name}"})


def new_figure(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """Make an empty drawing, in inches."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def draw_legend(axes: Axes) -> None:
    """Put the legend above the plot, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)


def to_svg(figure: Figure, name: str) -> str:
    """Turn a drawing into an `<svg>` element; its ids begin with the name."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", r"<svg \1>", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)  # several drawings on a page
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)  # the page chooses the font
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable}, {colour})")
    return svg
