"""How measured numbers are written, on a console and on a page: never better than they are."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.verification import VerificationResult
from openmfr.report import page as html
from openmfr.report.page import Html


class Unit(NamedTuple):
    """How a number is written, a rate in 0–1 for example.

    Attributes:
        whole: What 1 is written as.
        decimals: Digits behind the point.
        suffix: What follows the number.
    """

    whole: float
    decimals: int
    suffix: str


PERCENT = Unit(100, 2, " %")
PLAIN = Unit(1, 4, "")

#: What differences of equal numbers come to, by rounding.
_ROUNDING = 1e-12


def percent(value: float) -> str:
    """Write a rate in 0–1 as a percentage; what is not quite 0 or 1 never looks like it.

    Example:
        >>> percent(0.98601), percent(1.0), percent(0.99998), percent(0.3 - 0.1 - 0.2)
        ('98.60 %', '100.00 %', '99.998 %', '0.00 %')
    """
    return _digits(value, PERCENT) + PERCENT.suffix


def fmr_text(fmr: float) -> str:
    """Write a false match rate that was asked for.

    Example:
        >>> fmr_text(0.001)
        '0.1 %'
    """
    return f"{100 * fmr:.6g} %"


def describe(measured: Measured, unit: Unit = PERCENT) -> str:
    """Write a number with its interval and its flag on one line, for a console.

    Example:
        >>> describe(Measured(value=0.061, low=0.03, high=0.2, flag="rests on 3 false matches"))
        '6.10 % [3.00, 20.00] ! rests on 3 false matches'
    """
    if measured.value is None:
        return measured.flag
    text = _digits(measured.value, unit) + unit.suffix
    if measured.low is not None and measured.high is not None:
        text += f" [{_digits(measured.low, unit)}, {_digits(measured.high, unit)}]"
    return text + (f" ! {measured.flag}" if measured.flag else "")


def summary(name: str, result: VerificationResult) -> str:
    """Write a result as a few lines for a console, kinds of pairs below the whole.

    Args:
        name: What was measured.
        result: Its result.
    """
    accuracy = result.accuracy
    rows = [
        ("accuracy", f"{describe(accuracy.mean)}, ± {percent(accuracy.std)} by fold"),
        ("EER", describe(result.eer)),
        ("AUC", describe(result.auc, PLAIN)),
        *((f"FNMR at FMR {fmr_text(rate.fmr)}", describe(rate.fnmr)) for rate in result.rates),
    ]
    lines = [f"{name}: {pair_counts(result)}", *(f"  {label:<18} {text}" for label, text in rows)]
    lines += [f"  note: {text}" for text in result.notes]
    lines += [summary(f"{name}, kind {kind}", part) for kind, part in result.kinds.items()]
    return "\n".join(lines)


class Counted(Protocol):
    """A result that says how many pairs it rests on."""

    @property
    def genuine_pairs(self) -> int:
        """Number of genuine pairs."""

    @property
    def impostor_pairs(self) -> int:
        """Number of impostor pairs."""

    @property
    def identities(self) -> int:
        """Number of identities in them."""


def pair_counts(result: Counted) -> str:
    """Write what was compared."""
    return (
        f"{result.genuine_pairs:,} genuine and {result.impostor_pairs:,} impostor pairs of "
        f"{result.identities:,} people"
    )


def measured_html(measured: Measured, unit: Unit = PERCENT) -> Html:
    """Write a number with its interval and its flag for a table."""
    mark = html.flag(measured.flag) if measured.flag else ""
    if measured.value is None:
        return html.join(mark)
    return html.join(value_html(measured, unit), " ", interval_html(measured, unit), mark)


def value_html(measured: Measured, unit: Unit = PERCENT) -> html.Cell:
    """Write a number alone."""
    if measured.value is None:
        return "refused"
    return html.number(measured.value, _digits(measured.value, unit) + unit.suffix)


def interval_html(measured: Measured, unit: Unit = PERCENT) -> Html:
    """Write an interval alone."""
    if measured.low is None or measured.high is None:
        return html.muted("" if measured.value is None else "no interval")
    low = html.number(measured.low, _digits(measured.low, unit))
    high = html.number(measured.high, _digits(measured.high, unit))
    return html.muted(html.join("[", low, ", ", high, "]"))


def _digits(value: float, unit: Unit) -> str:
    scaled, decimals = unit.whole * value, unit.decimals
    is_whole = min(abs(value), abs(1 - value)) < _ROUNDING
    while not is_whole and round(scaled, decimals) in (0, unit.whole) and decimals < 8:
        decimals += 1
    return f"{round(scaled, decimals) + 0.0:.{decimals}f}"  # adding 0 makes −0 one
