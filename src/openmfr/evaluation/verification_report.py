"""The page and the JSON of a verification: what a person reads after `openmfr evaluate`.

The first result is what the page is about; others stand beside it for comparison, for example a
baseline that must be beaten. Every number on the page is in the JSON, and flags and refusals
follow a number into every table, tile and plot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.evaluation import breakdown_tables, difference
from openmfr.evaluation.breakdown import Breakdown
from openmfr.evaluation.difference_tables import verification_differences
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.rates import MIN_EXPECTED_FALSE_MATCHES
from openmfr.evaluation.table_report import Table
from openmfr.evaluation.verification import VerificationResult
from openmfr.evaluation.verification_markdown import verification_markdown
from openmfr.evaluation.wording import (
    PERCENT,
    PLAIN,
    Unit,
    fmr_text,
    interval_html,
    measured_html,
    pair_counts,
    percent,
    value_html,
)
from openmfr.evaluation.worst_pairs import WARNING, worst_pairs
from openmfr.evaluation.writing import write_report
from openmfr.report import page as html
from openmfr.report.page import Html, Page, Tile
from openmfr.report.plots import (
    Band,
    Curve,
    det_plot,
    roc_plot,
    score_histogram,
    threshold_plot,
    training_curves,
)

UInt8Array = npt.NDArray[np.uint8]

#: Metrics of a run that the page draws, and what it calls them.
TRAINING_PANELS = {
    "loss": "Loss",
    "learning_rate": "Learning rate",
    "holdout_accuracy": "Accuracy on held-out identities",
}

_MAX_CURVES = 4

_METHOD = (
    "A comparison matches when its score, the cosine similarity of two embeddings, reaches the "
    "threshold. FMR is the share of impostor pairs that match, FNMR the share of genuine pairs "
    "that do not; TAR is 1 − FNMR and FAR is FMR. The threshold at a fixed FMR is the smallest "
    "that does not exceed it. Accuracy is k-fold: each fold is tested with the threshold that "
    "decides most pairs of the other folds rightly; ± is the standard deviation over the folds. "
    "AUC counts tied pairs half.",
    "Intervals resample identities: people are drawn with replacement, a pair weighs the product "
    "of how often its identities were drawn, and every number is computed again, its threshold "
    "chosen anew. Where no error was seen, the interval's open end is the exact bound for as many "
    "independent trials as there are identities with a genuine pair.",
)


def write_verification_report(
    out: Path | str,
    *,
    title: str,
    results: Mapping[str, VerificationResult],
    configuration: Mapping[str, Any],
    metrics: Sequence[Mapping[str, float]] = (),
    image: Callable[[int], UInt8Array] | None = None,
    sources: Sequence[str] | None = None,
) -> Path:
    """Write `report.html`, `report.json` and `report.md`.

    Args:
        out: Folder for them; made if need be.
        title: Heading of the page.
        results: By name; the first is the page's subject, the others are compared with it.
        configuration: What produced the first result, shown and kept in the JSON.
        metrics: Rows of a run's metrics.jsonl for the training curves; none by default.
        image: Returns image i of the evaluated store, RGB; without it no pictures are shown.
        sources: Where each image came from, for captions; row numbers by default.

    Returns:
        Path of the page.
    """
    subject = next(iter(results.values()))
    worst = worst_pairs(subject.comparisons, subject.comparisons, sources=sources)
    against = verification_differences(results)
    page = Page(title, subtitle=pair_counts(subject))
    page.section("", html.tiles(_tiles(subject)), *(html.note(text) for text in subject.notes))
    page.section("Numbers", *_numbers(results, against))
    page.section("Curves", _curves(results))
    page.section("Groups", *_breakdown(results, breakdown_tables.group_tables))
    page.section("Masks", *_breakdown(results, breakdown_tables.mask_tables))
    page.section("Training", *_training(metrics))
    if image is not None:
        page.section("Worst pairs", html.note(WARNING), *worst.pictures(image))
    method = [*_METHOD, *(difference.METHOD if against else ())]
    if any(result.breakdown is not None for result in results.values()):
        method += breakdown_tables.METHOD
    return write_report(
        Path(out),
        page,
        kind="verification report",
        title=title,
        content={
            "results": {name: result.to_json() for name, result in results.items()},
            "differences": [table.to_json() for table in against],
            "worst": worst.to_json(),
        },
        markdown=verification_markdown(title, results, against),
        configuration=configuration,
        method=method,
    )


def _tiles(result: VerificationResult) -> list[Tile]:
    rate, accuracy = result.headline(), result.accuracy
    over_folds = html.join(
        " ± ", html.number(accuracy.std, f"{100 * accuracy.std:.2f}"), " by fold"
    )
    return [
        _tile("Accuracy", accuracy.mean, note=over_folds),
        _tile(f"FNMR at FMR {fmr_text(rate.fmr)}", rate.fnmr),
        _tile("Equal error rate", result.eer),
        _tile("AUC", result.auc, PLAIN),
    ]


def _tile(label: str, measured: Measured, unit: Unit = PERCENT, note: html.Cell = "") -> Tile:
    mark = html.flag(measured.flag) if measured.flag else ""
    return Tile(
        label=label,
        value=value_html(measured, unit),
        note=html.join(interval_html(measured, unit), note, mark),
        is_flagged=bool(measured.flag),
    )


def _numbers(results: Mapping[str, VerificationResult], differences: Sequence[Table]) -> list[Html]:
    name, subject = next(iter(results.items()))
    parts = []
    confidence = f"{subject.confidence:.0%}" if subject.replicates else "no"
    if len(results) > 1:
        parts.append(
            _overview("System", results, caption=f"Side by side, with {confidence} intervals")
        )
        parts += [table.html() for table in differences]
    parts.append(_rates(subject, caption=f"{name}: error rates at fixed false match rates"))
    if subject.kinds:
        kinds = {"all": subject, **subject.kinds}
        caption = f"{name}: by kind of pair, with {confidence} intervals"
        parts.append(_overview("Kind", kinds, caption=caption))
        parts.append(
            html.details(
                "Error rates of each kind",
                *(_rates(part, caption=f"Kind {kind}") for kind, part in subject.kinds.items()),
            )
        )
    parts.append(_accuracy(subject))
    return parts


def _overview(what: str, results: Mapping[str, VerificationResult], *, caption: str) -> Html:
    fmrs = sorted({r.headline().fmr for r in results.values()})
    rows = []
    for name, result in results.items():
        by_fmr = {rate.fmr: rate for rate in result.rates}
        rows.append(
            [
                name,
                html.join(
                    html.number(result.genuine_pairs, f"{result.genuine_pairs:,}"),
                    " / ",
                    html.number(result.impostor_pairs, f"{result.impostor_pairs:,}"),
                ),
                measured_html(result.accuracy.mean),
                *(measured_html(by_fmr[fmr].fnmr) if fmr in by_fmr else "–" for fmr in fmrs),
                measured_html(result.eer),
                measured_html(result.auc, PLAIN),
            ]
        )
    rates = [f"FNMR at FMR {fmr_text(fmr)}" for fmr in fmrs]
    header = [what, "Genuine / impostor", "Accuracy", *rates, "EER", "AUC"]
    return html.table(header, rows, caption=caption)


def _rates(result: VerificationResult, *, caption: str) -> Html:
    rows = [
        [
            html.number(rate.fmr, fmr_text(rate.fmr)),
            "–" if rate.threshold is None else html.number(rate.threshold, f"{rate.threshold:.3f}"),
            html.number(rate.expected_false_matches, f"{rate.expected_false_matches:,.4g}"),
            measured_html(rate.fnmr),
            measured_html(rate.tar) if not rate.fnmr.is_refused else "–",
        ]
        for rate in result.rates
    ]
    header = ["FMR (= FAR)", "Threshold", "Expected false matches", "FNMR", "TAR"]
    return html.table(header, rows, caption=caption)


def _accuracy(result: VerificationResult) -> Html:
    accuracy = result.accuracy
    assert accuracy.mean.value is not None
    summary = f"Accuracy of each of the {len(accuracy.folds)} folds"
    sentence = html.join(
        html.number(accuracy.mean.value, percent(accuracy.mean.value)),
        " ± ",
        html.number(accuracy.std, percent(accuracy.std)),
        " over the folds, at a mean threshold of ",
        html.number(accuracy.threshold, f"{accuracy.threshold:.3f}"),
        "; always guessing the larger side would reach ",
        html.number(accuracy.guessing, percent(accuracy.guessing)),
        ". Folds: ",
        *(
            html.join(", " if i else "", html.number(fold, percent(fold)))
            for i, fold in enumerate(accuracy.folds)
        ),
        ".",
    )
    return html.details(summary, html.paragraph(sentence))


def _breakdown(
    results: Mapping[str, VerificationResult], tables: Callable[[Breakdown], list[Table]]
) -> list[Html]:
    """Tables of the subject, the others' behind a line each; remarks go with the first of both."""
    parts: list[Html] = []
    for place, (name, result) in enumerate(results.items()):
        if result.breakdown is None:
            continue
        shown = [table.html() for table in tables(result.breakdown)]
        if shown and place == 0:
            notes = map(html.note, breakdown_tables.breakdown_notes(result.breakdown))
            parts += [*notes, *shown]
        elif shown:
            parts.append(html.details(f"The same of {name}", *shown))
    return parts


def _curves(results: Mapping[str, VerificationResult]) -> Html:
    name, subject = next(iter(results.items()))
    drawn = subject.kinds if len(results) == 1 and subject.kinds else results
    curves = {name: _curve(result) for name, result in list(drawn.items())[:_MAX_CURVES]}
    thin = f"Thin, on grey: fewer than {MIN_EXPECTED_FALSE_MATCHES} false matches expected."
    if subject.band is not None:
        thin += f" Shaded: {subject.confidence:.0%} interval at each FMR."
    thresholds = {"threshold of the accuracy": subject.accuracy.threshold}
    rate = subject.headline()
    if rate.threshold is not None:
        thresholds[f"threshold at FMR {fmr_text(rate.fmr)}"] = rate.threshold
    comparisons = subject.comparisons
    names, curve = ", ".join(curves), subject.curve
    return html.figures(
        [
            html.plot(
                det_plot(curves),
                caption=f"DET: lower is better. {thin}",
                alt=f"Detection error trade-off of {names}",
            ),
            html.plot(
                roc_plot(curves),
                caption=f"ROC: higher is better. {thin}",
                alt=f"Receiver operating characteristic of {names}",
            ),
            html.plot(
                score_histogram(comparisons.genuine, comparisons.impostor, thresholds=thresholds),
                caption=f"{name}: scores of both sides, each to its own total.",
                alt="Histogram of the scores of genuine and impostor pairs",
            ),
            html.plot(
                threshold_plot(curve.threshold[1:], curve.fmr[1:], curve.fnmr[1:]),
                caption=f"{name}: what a threshold costs on either side.",
                alt="FMR and FNMR over the threshold",
            ),
        ]
    )


def _curve(result: VerificationResult) -> Curve:
    impostors, band = result.impostor_pairs, result.band
    return Curve(
        fmr=result.curve.fmr,
        fnmr=result.curve.fnmr,
        smallest_fmr=1 / impostors,
        supported_fmr=min(1.0, MIN_EXPECTED_FALSE_MATCHES / impostors),
        band=None if band is None else Band(fmr=band.fmr, low=band.low, high=band.high),
    )


def _training(metrics: Sequence[Mapping[str, float]]) -> list[Html]:
    drawings = training_curves(metrics, TRAINING_PANELS)
    plots = [
        html.plot(svg, caption=label, alt=f"{label} over the steps of the training run")
        for label, svg in drawings.items()
    ]
    return [html.figures(plots, kind="plots small")] if plots else []
