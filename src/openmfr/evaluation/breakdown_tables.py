"""Tables of groups of people and of masks: the same for a page, for Markdown and for a console."""

from __future__ import annotations

from openmfr.evaluation.breakdown import Breakdown
from openmfr.evaluation.differentials import Differential, Inequality
from openmfr.evaluation.groups import JOINT, GroupRates, GroupResult
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.masked import MASKED_BARE
from openmfr.evaluation.table_report import Table
from openmfr.evaluation.wording import Unit, describe, fmr_text

_RATIO = Unit(1, 2, "")
_SUMMARIES = {
    "max_over_min": "Largest over smallest",
    "max_over_geometric_mean": "Largest over geometric mean",
    "gini": "Gini coefficient",
}
_HEADER = ("People", "Genuine pairs", "Impostor pairs", "FMR", "FNMR")

#: How to read the tables, for a page's last section.
METHOD = (
    "Groups are compared at one threshold. It is set once, on all impostor pairs or those of a "
    "reference group, and a group's pairs are those within it; pairs across two groups are easier "
    "to tell apart and stand apart. Masks are compared at the threshold of bare faces: a gate that "
    "was set up for bare faces meets masked ones. A summary such as the largest over the smallest "
    "rate is above its ideal by noise alone; only a number above what chance would reach shows a "
    "difference.",
)


def group_tables(breakdown: Breakdown) -> list[Table]:
    """Tables of groups of people: rates, summaries, and pairs across groups.

    Args:
        breakdown: The results.
    """
    tables = []
    for name, result in breakdown.groups.items():
        tables.append(_rates(f"By {name}: {_at(result)}", "Group", result.groups))
        if result.fmr is not None or result.fnmr is not None:
            tables.append(_summaries(f"By {name}: how unequal", result))
        if result.cross:
            tables.append(_rates(f"By {name}: pairs across groups", "Groups", result.cross))
    return tables


def mask_tables(breakdown: Breakdown) -> list[Table]:
    """Tables of masks by what they look like; of masked pairs (mm) those of masks that are alike.

    Args:
        breakdown: The results.
    """
    return [
        _rates(f"By {name}: {_at(result)}", "Mask", _alike(result))
        for name, result in breakdown.masks.items()
    ]


def breakdown_summary(model: str, breakdown: Breakdown | None) -> str:
    """Write a breakdown as a few whole lines for a console; empty without one.

    Masks are shown against bare faces; pairs of two masks are left to the report.

    Args:
        model: Whose it is.
        breakdown: The results.
    """
    if breakdown is None:
        return ""
    lines = []
    masks = {name: part for name, part in breakdown.masks.items() if name.endswith(MASKED_BARE)}
    for name, result in {**breakdown.groups, **masks}.items():
        lines.append(f"{model} by {name}: {_at(result)}")
        lines += [
            f"  {part.name:<18} FMR {describe(part.fmr)}; FNMR {describe(part.fnmr)}"
            for part in result.groups
        ]
        for rate, side in (("FMR", result.fmr), ("FNMR", result.fnmr)):
            if side is not None and name in breakdown.groups:
                lines.append(f"  {rate}, largest over smallest {_inequality(side.max_over_min)}")
        lines += [f"  note: {text}" for text in result.notes]
    return "\n".join([*lines, *(f"note: {note}" for note in breakdown.notes)])


def breakdown_notes(breakdown: Breakdown) -> list[str]:
    """What a reader must know beside the tables.

    Args:
        breakdown: The results.
    """
    results = {**breakdown.groups, **breakdown.masks}
    told = [f"By {name}: {text}" for name, result in results.items() for text in result.notes]
    return [*told, *breakdown.notes]


def _alike(result: GroupResult) -> tuple[GroupRates, ...]:
    """Leave pairs of two unlike masks to the JSON: eight colours make twenty-eight of them."""
    return tuple(part for part in result.groups if JOINT not in part.name)


def _at(result: GroupResult) -> str:
    if result.fmr_asked is None:
        return f"at the threshold {result.threshold:.3f}"
    return (
        f"at one threshold, {result.threshold:.3f}, set at FMR {fmr_text(result.fmr_asked)} on "
        f"{result.reference}"
    )


def _rates(caption: str, what: str, parts: tuple[GroupRates, ...]) -> Table:
    rows: dict[str, list[Measured | str]] = {
        part.name: [
            f"{part.identities:,}",
            f"{part.genuine_pairs:,}",
            f"{part.impostor_pairs:,}",
            part.fmr,
            part.fnmr,
        ]
        for part in parts
    }
    return Table(caption=caption, header=(what, *_HEADER), rows=rows)


def _summaries(caption: str, result: GroupResult) -> Table:
    sides = (result.fmr, result.fnmr)
    rows: dict[str, list[Measured | str]] = {
        label: [cell for side in sides for cell in _cells(side, name)]
        for name, label in _SUMMARIES.items()
    }
    rows["Worst, best group"] = [
        cell
        for side in sides
        for cell in (f"{side.worst}, {side.best}" if side is not None else "–", "")
    ]
    if result.inequity is not None:
        rows["Inequity rate, both"] = [result.inequity, "", "", ""]
    if result.garbe is not None:
        rows["GARBE, both"] = [result.garbe, "", "", ""]
    header = ("Summary", "FMR", "by chance up to", "FNMR", "by chance up to")
    return Table(caption=caption, header=header, rows=rows, unit=_RATIO)


def _cells(side: Differential | None, name: str) -> tuple[Measured | str, str]:
    if side is None:
        return "–", ""
    found: Inequality = getattr(side, name)
    return found.measured, "–" if found.chance is None else f"{found.chance:.2f}"


def _inequality(found: Inequality) -> str:
    chance = "" if found.chance is None else f"; by chance up to {found.chance:.2f}"
    return describe(found.measured, _RATIO) + chance
