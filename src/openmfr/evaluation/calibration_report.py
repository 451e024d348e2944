"""The page, the JSON and the Markdown of a calibration: what a score means, and its range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openmfr.evaluation.calibration import FILE, Calibration, extent, fmr_for_fpir, rate_text
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.rates import check_fmrs
from openmfr.evaluation.table_report import Table
from openmfr.evaluation.tails import Calibrated, Condition
from openmfr.evaluation.wording import fmr_text
from openmfr.evaluation.writing import write_report
from openmfr.report import page as html
from openmfr.report.page import Page
from openmfr.report.plots import ScoreCurve, calibration_plot

#: Sizes of galleries that thresholds are shown for.
GALLERIES = (100, 1_000, 10_000, 100_000)

_MAX_CURVES = 4
_SCORES = tuple(round(0.1 * k, 1) for k in range(11))

_METHOD = (
    "A score's FMR is the share of pairs of two different people that reach it. It is measured "
    "down to the rate of ten false matches, and extrapolated to a hundredth of that, log-linearly; "
    "between two steps of the table the higher rate is given. Intervals resample identities.",
    "A search compares a probe with every template of a gallery, so a gallery's threshold grows "
    "with its size: FPIR = 1 − (1 − FMR)^size, if the comparisons are independent. They share the "
    "probe, and then the true FPIR is lower: the thresholds are on the safe side. All of it holds "
    "for people who are to each other as those measured are.",
)


def write_calibration_report(
    out: Path,
    calibration: Calibration,
    *,
    title: str,
    configuration: Mapping[str, Any],
    fmrs: Sequence[float] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
    fpir: float = 0.01,
    galleries: Sequence[int] = GALLERIES,
) -> Path:
    """Write `calibration.json`, `report.html`, `report.json` and `report.md`.

    Args:
        out: Folder for them; made if need be.
        calibration: What was learnt; `Calibration.load` reads `calibration.json` again.
        title: Heading of the page.
        configuration: What produced it.
        fmrs: False match rates to show thresholds for.
        fpir: False positive identification rate to show galleries' thresholds for.
        galleries: Their sizes in templates.

    Returns:
        Path of the page.
    """
    check_fmrs(fmrs)
    conditions = calibration.conditions
    thresholds = {name: _thresholds(calibration, name, fmrs) for name in conditions}
    searches = {
        name: _searches(calibration, name, fpir, galleries) for name in conditions if galleries
    }
    meanings = [_ranges(calibration), _meanings(calibration)]
    tables = [
        _table(f"Condition {name}: thresholds", "FMR wanted", map(fmr_text, fmrs), found)
        for name, found in thresholds.items()
    ]
    tables += [
        _table(
            f"Condition {name}: thresholds for FPIR {fmr_text(fpir)} in a gallery",
            "Templates",
            (f"{size:,}" for size in galleries),
            found,
        )
        for name, found in searches.items()
    ]
    page = Page(title, subtitle=_subtitle(calibration))
    page.section("Scores", html.figures([_plot(calibration)]), *(t.html() for t in meanings))
    page.section("Thresholds", *(table.html() for table in tables))
    out.mkdir(parents=True, exist_ok=True)
    calibration.save(out / FILE)
    texts = [f"# {title}", _subtitle(calibration), *(t.markdown() for t in [*meanings, *tables])]
    return write_report(
        out,
        page,
        kind="calibration report",
        title=title,
        content={
            "calibration": FILE,
            "ranges": {name: _range(part) for name, part in conditions.items()},
            "scores": {
                name: [vars(part.at(score)) for score in _SCORES]
                for name, part in conditions.items()
            },
            "thresholds": {
                name: [{"fmr": fmr, **_json(at)} for fmr, at in zip(fmrs, found, strict=True)]
                for name, found in thresholds.items()
            },
            "galleries": {
                name: [
                    {"fpir": fpir, "size": size, **_json(at)}
                    for size, at in zip(galleries, found, strict=True)
                ]
                for name, found in searches.items()
            },
        },
        markdown="\n\n".join(texts) + "\n",
        configuration=configuration,
        method=_METHOD,
    )


def calibration_summary(calibration: Calibration, fmrs: Sequence[float]) -> str:
    """Write thresholds as a few lines for a console.

    Args:
        calibration: What was learnt.
        fmrs: False match rates to show thresholds for.
    """
    lines = []
    for name, part in calibration.conditions.items():
        lines.append(f"{name}: {extent(part)}")
        for fmr, found in zip(fmrs, _thresholds(calibration, name, fmrs), strict=True):
            text = found if isinstance(found, str) else _said(found)
            lines.append(f"  threshold at FMR {fmr_text(fmr):<10} {text}")
    return "\n".join(lines)


def _said(found: Calibrated) -> str:
    return f"{found.score:.4f}" + (f" ! {found.flag}" if found.flag else "")


def _thresholds(
    calibration: Calibration, name: str, fmrs: Sequence[float]
) -> list[Calibrated | str]:
    """Find the threshold for each false match rate, or say why there is none."""
    part = calibration.conditions[name]
    return [
        part.reaching(fmr)
        if part.reaches(fmr)
        else f"refused: FMR {fmr:.2g} is below {part.lowest:.2g}, with {part.basis()}"
        for fmr in fmrs
    ]


def _searches(
    calibration: Calibration, name: str, fpir: float, galleries: Sequence[int]
) -> list[Calibrated | str]:
    """Find the threshold for a search in each gallery, or say why there is none."""
    return _thresholds(calibration, name, [fmr_for_fpir(fpir, size) for size in galleries])


def _json(found: Calibrated | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"threshold": None, "flag": found}
    return {"threshold": found.score, "reached": vars(found), "flag": found.flag}


def _measured(found: Calibrated) -> Measured:
    return Measured(value=found.fmr, low=found.low, high=found.high, flag=found.flag)


def _ranges(calibration: Calibration) -> Table:
    rows: dict[str, list[Measured | str]] = {
        name: [
            f"{part.impostors:,}",
            f"{part.identities:,}",
            f"{part.score[0]:.3f} to {part.score[-1]:.3f}",
            rate_text(part.lowest_measured),
            rate_text(part.lowest),
        ]
        for name, part in calibration.conditions.items()
    }
    header = ("Condition", "Impostor pairs", "People", "Scores measured", "FMR measured from",
              "extrapolated from")  # fmt: skip
    return Table(caption="How far it holds", header=header, rows=rows)


def _range(part: Condition) -> dict[str, Any]:
    return {
        "impostor_pairs": part.impostors,
        "identities": part.identities,
        "scores": [part.score[0], part.score[-1]],
        "lowest_measured": part.lowest_measured,
        "lowest": part.lowest,
    }


def _meanings(calibration: Calibration) -> Table:
    names = tuple(calibration.conditions)
    rows: dict[str, list[Measured | str]] = {
        f"{score:.1f}": [_measured(calibration.fmr(score, name)) for name in names]
        for score in _SCORES
    }
    return Table(caption="What a score means: its FMR", header=("Score", *names), rows=rows)


def _table(caption: str, what: str, labels: Any, found: Sequence[Calibrated | str]) -> Table:
    rows: dict[str, list[Measured | str]] = {
        label: ["–", at] if isinstance(at, str) else [f"{at.score:.4f}", _measured(at)]
        for label, at in zip(labels, found, strict=True)
    }
    return Table(caption=caption, header=(what, "Threshold", "FMR reached"), rows=rows)


def _plot(calibration: Calibration) -> html.Html:
    names = list(calibration.conditions)[:_MAX_CURVES]
    return html.plot(
        calibration_plot({name: _curve(calibration.conditions[name]) for name in names}),
        caption="FMR over the score. Dotted: extrapolated. Shaded: interval at each score.",
        alt=f"False match rate over the score of {', '.join(names)}",
    )


def _curve(part: Condition) -> ScoreCurve:
    ends = np.array([part.lowest_measured, part.lowest] if part.scale else [])
    return ScoreCurve(
        score=np.array(part.score),
        fmr=np.array(part.fmr),
        low=np.array(part.low),
        high=np.array(part.high),
        tail_score=part.score[-1] + part.scale * np.log(part.lowest_measured / ends),
        tail_fmr=ends,
    )


def _subtitle(calibration: Calibration) -> str:
    counts = [f"{name}: {part.impostors:,}" for name, part in calibration.conditions.items()]
    return f"Impostor pairs: {'; '.join(counts)}"
