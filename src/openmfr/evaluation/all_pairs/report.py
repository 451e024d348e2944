"""The page, the JSON and the Markdown of all-pairs results and of the challenge tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openmfr.evaluation.all_pairs.rates import AllPairsResult
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.published import PublishedTable
from openmfr.evaluation.rates import MIN_EXPECTED_FALSE_MATCHES
from openmfr.evaluation.wording import describe, fmr_text, measured_html, percent
from openmfr.files import write_json, write_text
from openmfr.report import page as html
from openmfr.report.page import Html, Page, Tile
from openmfr.report.plots import Curve, det_plot
from openmfr.version import __version__

FORMAT_VERSION = 1

#: Curves in one drawing.
_MAX_CURVES = 4

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


def write_all_pairs_report(
    out: Path,
    *,
    title: str,
    results: Mapping[str, Results],
    configuration: Mapping[str, Any],
    headline: Mapping[str, Measured] | None = None,
    published: PublishedTable | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write `report.html`, `report.json` and `report.md`.

    Args:
        out: Folder for them; made if need be.
        title: Heading of the page.
        results: Model → comparison → result; the first model is the page's subject.
        configuration: What produced the results.
        headline: Model → a track's score, if there is one.
        published: The track's table, our rows among the published ones.
        notes: What a reader must know beside the results' own notes.

    Returns:
        Path of the page.
    """
    settings = {"openmfr": __version__, **configuration}
    subject = next(iter(results.values()))
    page = Page(title, subtitle=_counted(subject))
    page.section("", html.tiles(_tiles(subject, next(iter((headline or {}).values()), None))))
    said = [*notes, *(f"{name}: {note}" for name, part in subject.items() for note in part.notes)]
    page.section(
        "Numbers",
        *(html.note(text) for text in said),
        *(_table(model, parts) for model, parts in results.items()),
    )
    page.section("Curves", _curves(results))
    page.section("How pairs are counted", _conventions(subject))
    if published is not None:
        page.section("Beside the paper", published.html(), *map(html.note, published.remarks))
    page.section("Configuration", html.listing(settings))
    page.section("How to read this", *_METHOD)
    write_json(
        out / "report.json",
        {
            "format_version": FORMAT_VERSION,
            "kind": "all-pairs report",
            "title": title,
            "score": {model: vars(score) for model, score in (headline or {}).items()},
            "results": {
                model: {name: part.to_json() for name, part in parts.items()}
                for model, parts in results.items()
            },
            "notes": said,
            "configuration": settings,
        },
    )
    write_text(out / "report.md", _markdown(title, results, headline or {}, published, said))
    page.write(out / "report.html")
    return out / "report.html"


def summary(model: str, parts: Results, score: Measured | None = None) -> str:
    """Write a model's results as a few lines for a console.

    Args:
        model: Its name.
        parts: Its results.
        score: A track's score, if there is one.
    """
    lines = [f"{model}: score {describe(score)}" if score is not None else f"{model}:"]
    for name, part in parts.items():
        lines.append(f"  {name}: {_counts(part)}")
        lines += [
            f"    FNMR at FMR {fmr_text(rate.fmr):<10} {describe(rate.fnmr)}" for rate in part.rates
        ]
        lines += [f"    note: {text}" for text in part.notes]
    return "\n".join(lines)


def _counted(parts: Results) -> str:
    return "; ".join(f"{name}: {_counts(part)}" for name, part in list(parts.items())[:3])


def _counts(part: AllPairsResult) -> str:
    return (
        f"{part.genuine_pairs:,} genuine and {part.impostor_pairs:,} impostor pairs of "
        f"{part.identities:,} people"
    )


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
    plot = html.plot(
        det_plot(drawn),
        caption="DET as far as impostor scores are held: lower is better. Thin, on grey: fewer "
        f"than {MIN_EXPECTED_FALSE_MATCHES} false matches expected.",
        alt=f"Detection error trade-off of {', '.join(drawn)}",
    )
    return html.figures([plot])


def _curve(part: AllPairsResult) -> Curve:
    curve = part.curve()
    return Curve(
        fmr=curve.fmr,
        fnmr=curve.fnmr,
        smallest_fmr=1 / part.impostor_pairs,
        supported_fmr=min(1.0, MIN_EXPECTED_FALSE_MATCHES / part.impostor_pairs),
        largest_fmr=part.reach,
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
    headline: Mapping[str, Measured],
    published: PublishedTable | None,
    notes: Sequence[str],
) -> str:
    lines = [f"# {title}", ""]
    lines += [f"{model}: score {describe(score)}\n" for model, score in headline.items()]
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
    lines += ["", *(f"- {note}" for note in notes)]
    if published is not None:
        lines += ["", published.markdown()]
    return "\n".join(lines) + "\n"
