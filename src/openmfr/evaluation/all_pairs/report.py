"""The page, the JSON and the Markdown of all-pairs results and of the challenge tracks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from openmfr.evaluation.all_pairs.compare import differences
from openmfr.evaluation.all_pairs.rates import AllPairsResult
from openmfr.evaluation.difference import METHOD, paired_difference
from openmfr.evaluation.difference_tables import ABOVE, BELOW, difference_table
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.published import PublishedTable
from openmfr.evaluation.rates import MIN_EXPECTED_FALSE_MATCHES
from openmfr.evaluation.table_report import Table
from openmfr.evaluation.wording import describe, fmr_text, measured_html, pair_counts, percent
from openmfr.evaluation.worst_pairs import WARNING, UInt8Array, WorstPairs, worst_pairs
from openmfr.evaluation.writing import write_report
from openmfr.report import page as html
from openmfr.report.page import Html, Page, Tile
from openmfr.report.plots import Band, Curve, det_plot

FloatArray = npt.NDArray[np.floating]

#: Curves in one drawing, and comparisons whose worst pairs are shown.
_MAX_CURVES, _MAX_PICTURED = 4, 3

_METHOD = (
    "Every image is compared with every other one, each pair once and no image with itself; scores "
    "are cosines in float64, and no score was binned or sampled. FNMR is read at the smallest "
    "threshold whose false match rate does not exceed the one asked for.",
    "Intervals resample identities: a pair weighs the product of how often its identities were "
    f"drawn. Rates that rest on fewer than {MIN_EXPECTED_FALSE_MATCHES} expected false matches are "
    "flagged, on fewer than one refused.",
)

#: Comparison → result, of one model.
Results = Mapping[str, AllPairsResult]


class Track(Protocol):
    """What a model reached on a track: `protocols.tracks.TrackResult`."""

    @property
    def metric(self) -> str:
        """What the score is made of: "fnmr", the lower the better, or "tar"."""

    @property
    def score(self) -> Measured:
        """What the track ranks by."""

    @property
    def drawn(self) -> FloatArray:
        """The score on each draw of identities, shape (replicates,); empty if it is refused."""


def write_all_pairs_report(
    out: Path,
    *,
    title: str,
    results: Mapping[str, Results],
    configuration: Mapping[str, Any],
    tracks: Mapping[str, Track] | None = None,
    published: PublishedTable | None = None,
    notes: Sequence[str] = (),
    image: Callable[[int], UInt8Array] | None = None,
    sources: Sequence[str] | None = None,
) -> Path:
    """Write `report.html`, `report.json` and `report.md`.

    Args:
        out: Folder for them; made if need be.
        title: Heading of the page.
        results: Model → comparison → result; the first model is the page's subject.
        configuration: What produced the results.
        tracks: Model → what it reached on a track, if they were measured on one.
        published: The track's table, our rows among the published ones.
        notes: What a reader must know beside the results' own notes.
        image: Returns image i of the evaluated store, RGB; without it no pictures are shown.
        sources: Where each image came from, for captions; row numbers by default.

    Returns:
        Path of the page.
    """
    subject = next(iter(results.values()))
    scores = {model: track.score for model, track in (tracks or {}).items()}
    against = difference_tables(results, tracks or {})
    worst = {
        name: worst_pairs(part.pairs.genuine, part.pairs.tail, sources=sources)
        for name, part in subject.items()
    }
    page = Page(title, subtitle=_counted(subject))
    page.section("", html.tiles(_tiles(subject, next(iter(scores.values()), None))))
    said = [*notes, *(f"{name}: {note}" for name, part in subject.items() for note in part.notes)]
    page.section(
        "Numbers",
        *(html.note(text) for text in said),
        *(_table(model, parts) for model, parts in results.items()),
        *(table.html() for table in against),
    )
    page.section("Curves", _curves(results))
    page.section("How pairs are counted", _conventions(subject))
    if published is not None:
        page.section("Beside the paper", published.html(), *map(html.note, published.remarks))
    page.section("Worst pairs", *_pictures(worst, image))
    return write_report(
        out,
        page,
        kind="all-pairs report",
        title=title,
        content={
            "score": {model: vars(score) for model, score in scores.items()},
            "results": {
                model: {name: part.to_json() for name, part in parts.items()}
                for model, parts in results.items()
            },
            "differences": [table.to_json() for table in against],
            "worst": {name: pairs.to_json() for name, pairs in worst.items()},
            "notes": said,
        },
        markdown=_markdown(title, results, scores, published, said, against),
        configuration=configuration,
        method=(*_METHOD, *(METHOD if against else ())),
    )


def difference_tables(
    results: Mapping[str, Results], tracks: Mapping[str, Track] | None = None
) -> list[Table]:
    """Compare each other model's rates with the first's, and so the scores of tracks.

    Args:
        results: Model → comparison → result.
        tracks: Model → what it reached on a track.
    """
    if len(results) == 1:
        return []
    base = next(iter(results))
    tables = []
    for model, parts in differences(results).items():
        fmrs = sorted({fmr for change in parts.values() for fmr in change}, reverse=True)
        rows: dict[str, list[Measured | str]] = {
            name: [change.get(fmr, "–") for fmr in fmrs] for name, change in parts.items()
        }
        tables.append(
            difference_table(
                f"{model} minus {base}: difference of FNMR",
                BELOW,
                header=("Comparison", *(f"FMR {fmr_text(fmr)}" for fmr in fmrs)),
                rows=rows,
            )
        )
    if tracks and base in tracks:
        first = tracks[base]
        scores: dict[str, list[Measured | str]] = {
            model: [paired_difference(first.score, track.score, track.drawn - first.drawn)]
            for model, track in tracks.items()
            if model != base and track.drawn.shape == first.drawn.shape
        }
        tables.append(
            difference_table(
                f"Score minus that of {base}",
                BELOW if first.metric == "fnmr" else ABOVE,
                header=("System", "Score"),
                rows=scores,
            )
        )
    return tables


def _pictures(
    worst: Mapping[str, WorstPairs], image: Callable[[int], UInt8Array] | None
) -> list[Html]:
    """The worst pairs of the first comparisons, as far as a page should show."""
    if image is None:
        return []
    parts = [html.note(WARNING)]
    for name, pairs in list(worst.items())[:_MAX_PICTURED]:
        parts.append(html.details(name, *pairs.pictures(image)))
    return parts


def summary(model: str, parts: Results, score: Measured | None = None) -> str:
    """Write a model's results as a few lines for a console.

    Args:
        model: Its name.
        parts: Its results.
        score: A track's score, if there is one.
    """
    lines = [f"{model}: score {describe(score)}" if score is not None else f"{model}:"]
    for name, part in parts.items():
        lines.append(f"  {name}: {pair_counts(part)}")
        lines += [
            f"    FNMR at FMR {fmr_text(rate.fmr):<10} {describe(rate.fnmr)}" for rate in part.rates
        ]
        lines += [f"    note: {text}" for text in part.notes]
    return "\n".join(lines)


def _counted(parts: Results) -> str:
    return "; ".join(f"{name}: {pair_counts(part)}" for name, part in list(parts.items())[:3])


def _tiles(parts: Results, score: Measured | None) -> list[Tile]:
    tiles = []
    if score is not None:
        mark = html.flag(score.flag) if score.flag else ""
        tiles.append(Tile(label="Score", value=describe(Measured(value=score.value)), note=mark))
    for name, part in list(parts.items())[:3]:
        trusted = [rate for rate in part.rates if not rate.fnmr.flag] or list(part.rates)
        rate = min(trusted, key=lambda rate: rate.fmr)
        tiles.append(
            Tile(
                label=f"{name}: FNMR at FMR {fmr_text(rate.fmr)}",
                value=measured_html(rate.fnmr),
                is_flagged=bool(rate.fnmr.flag),
            )
        )
    return tiles


def _table(model: str, parts: Results) -> Html:
    fmrs = sorted({rate.fmr for part in parts.values() for rate in part.rates}, reverse=True)
    rows = []
    for name, part in parts.items():
        by_fmr = {rate.fmr: rate for rate in part.rates}
        cells: list[html.Cell] = [
            name,
            html.number(part.genuine_pairs, f"{part.genuine_pairs:,}"),
            html.number(part.impostor_pairs, f"{part.impostor_pairs:,}"),
        ]
        cells += [measured_html(by_fmr[fmr].fnmr) if fmr in by_fmr else "–" for fmr in fmrs]
        rows.append(cells)
    header = ["Comparison", "Genuine", "Impostor", *(f"FNMR at FMR {fmr_text(f)}" for f in fmrs)]
    return html.table(header, rows, caption=f"{model}: error rates, each with its interval")


def _curves(results: Mapping[str, Results]) -> Html:
    alone = len(results) == 1
    curves = {
        name if alone else f"{model}, {name}": _curve(part)
        for model, parts in results.items()
        for name, part in parts.items()
    }
    drawn = dict(list(curves.items())[:_MAX_CURVES])
    subject = next(iter(next(iter(results.values())).values()), None)
    shade = ""
    if subject is not None and subject.band is not None:
        shade = f" Shaded: {subject.confidence:.0%} interval at each FMR."
    plot = html.plot(
        det_plot(drawn),
        caption="DET as far as impostor scores are held: lower is better. Thin, on grey: fewer "
        f"than {MIN_EXPECTED_FALSE_MATCHES} false matches expected.{shade}",
        alt=f"Detection error trade-off of {', '.join(drawn)}",
    )
    return html.figures([plot])


def _curve(part: AllPairsResult) -> Curve:
    curve, band = part.curve(), part.band
    return Curve(
        fmr=curve.fmr,
        fnmr=curve.fnmr,
        smallest_fmr=1 / part.impostor_pairs,
        supported_fmr=min(1.0, MIN_EXPECTED_FALSE_MATCHES / part.impostor_pairs),
        largest_fmr=part.reach,
        band=None if band is None else Band(fmr=band.fmr, low=band.low, high=band.high),
    )


def _conventions(parts: Results) -> Html:
    rows = [
        [
            f"{name}, {convention}",
            *(html.number(count, f"{count:,}") for count in totals),
            ", ".join(
                f"{percent(fnmr)} at {fmr_text(fmr)}"
                for fmr, fnmr in (
                    part.with_self_pairs() if convention == "webface260m" else {}
                ).items()
            ),
        ]
        for name, part in parts.items()
        for convention, totals in part.totals.items()
    ]
    header = ["Counted as", "Genuine", "Impostor", "Self-pairs", "FNMR if self-pairs counted"]
    return html.table(
        header, rows, caption="One measurement; published totals count its pairs in these ways"
    )


def _markdown(
    title: str,
    results: Mapping[str, Results],
    scores: Mapping[str, Measured],
    published: PublishedTable | None,
    notes: Sequence[str],
    against: Sequence[Table],
) -> str:
    lines = [f"# {title}", ""]
    lines += [f"{model}: score {describe(score)}\n" for model, score in scores.items()]
    lines += [
        "| Model | Comparison | Genuine | Impostor | FMR | FNMR |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {model} | {name} | {part.genuine_pairs:,} | {part.impostor_pairs:,} | "
        f"{fmr_text(rate.fmr)} | {describe(rate.fnmr)} |"
        for model, parts in results.items()
        for name, part in parts.items()
        for rate in part.rates
    ]
    lines += [f"\n{table.markdown()}" for table in against]
    lines += ["", *(f"- {note}" for note in notes)]
    if published is not None:
        lines += ["", published.markdown()]
    return "\n".join(lines) + "\n"
