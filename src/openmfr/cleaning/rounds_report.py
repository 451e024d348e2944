"""The page and the tables of rounds of cleaning."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from openmfr.cleaning import passes
from openmfr.cleaning.rounds_result import CLEAN, REPORT, Round, RoundsResult, round_folder
from openmfr.config import to_dict
from openmfr.evaluation.difference_tables import ABOVE, POINTS, difference_table
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.table_report import Table
from openmfr.evaluation.wording import PERCENT, Unit, interval_html, value_html
from openmfr.evaluation.writing import write_report
from openmfr.report import page as html
from openmfr.report.page import Html, Page, Tile

_TITLE = "Rounds of cleaning"
_METHOD = (
    "Each round trains a network from its beginning on the labels of the pass before it, embeds "
    "the images and is measured; a pass then cleans the labels with its embeddings. Dropped, moved "
    "and merged are what the pass before a round changed of the table that it cleaned.",
    "The people measured were set aside before the first round: none is trained on, and no pass "
    "changes them. What is wrong in their own labels stays wrong in every round: it lowers each "
    "accuracy, and favours none.",
    "Intervals resample these people. Gains are paired: both rounds are measured on the same "
    "draws, so what makes a pair hard for both cancels out. A gain whose interval holds 0 may be "
    "chance.",
    "The best round was chosen by the accuracy that is shown, which flatters it a little: measure "
    "it on other people before you quote it.",
)


def rounds_tables(result: RoundsResult) -> list[Table]:
    """Say what each round was given and reached; from two rounds on, what each gained."""
    tables = [
        Table(
            caption="What each round was trained on, and how well it tells other people apart",
            header=("Round", "Images", "Identities", "Dropped", "Moved", "Merged", "Accuracy"),
            rows={str(made.number): _cells(made) for made in result.rounds},
        )
    ]
    if len(result.rounds) > 1:
        gains = {
            str(made.number): [made.gain or "–", made.total or "–"] for made in result.rounds[1:]
        }
        tables.append(
            difference_table(
                "Accuracy gained",
                ABOVE,
                header=("Round", "Over the round before", "Over round 1"),
                rows=gains,
            )
        )
    return tables


def _cells(made: Round) -> list[Measured | str]:
    counts = [made.images, made.identities, made.dropped, made.moved, made.merged]
    cells = [f"{count:,}" for count in counts]
    if made.number == 1:
        cells[2:] = ["–"] * 3
    return [*cells, made.accuracy]


def write_rounds_report(result: RoundsResult, *, people: int, settings: Mapping[str, Any]) -> None:
    """Write `report.html`, `report.json` and `report.md` into the folder of the rounds.

    Args:
        result: What there is to say.
        people: Identities that the rounds were measured on.
        settings: What determined the result, nested, as JSON values.
    """
    best, tables = result.best, rounds_tables(result)
    page = Page(_TITLE, subtitle=f"measured on {people:,} people that no round was trained on")
    stopped = f"Stopped: {result.stopped}."
    page.section("", html.tiles(_tiles(result)), *map(html.note, (stopped, *result.notes)))
    page.section("Rounds", *(table.html() for table in tables), _pages(result))
    remarks = [f"Best: round {best.number}. {stopped}", *result.notes]
    write_report(
        result.out,
        page,
        kind="cleaning rounds",
        title=_TITLE,
        content={
            "rounds": [to_dict(made) for made in result.rounds],
            "best": {
                "round": best.number,
                "run": str(result.run.relative_to(result.out)),
                "labels": str(result.labels.relative_to(result.out)),
            },
            "stopped": result.stopped,
            "notes": list(result.notes),
        },
        markdown="\n\n".join([f"# {_TITLE}", *(t.markdown() for t in tables), *remarks]) + "\n",
        configuration=settings,
        method=_METHOD,
    )


def _tiles(result: RoundsResult) -> list[Tile]:
    best = result.best
    tiles = [
        _tile(f"Accuracy of the best round, {best.number}", best.accuracy, PERCENT),
        Tile(
            label="Trained on",
            value=html.number(best.images, f"{best.images:,}"),
            note=html.join("images of ", html.number(best.identities, f"{best.identities:,}"))
            + " identities",
        ),
    ]
    if best.total is not None:
        tiles.insert(1, _tile("Points gained over round 1", best.total, POINTS))
    return tiles


def _tile(label: str, measured: Measured, unit: Unit) -> Tile:
    return Tile(label=label, value=value_html(measured, unit), note=interval_html(measured, unit))


def _pages(result: RoundsResult) -> Html:
    """Links to the pages of each round; they stand below this one, so the folder can be moved."""
    rows = []
    for made in result.rounds:
        folder = round_folder(result.out, made.number)
        cleaned = folder / CLEAN / passes.REPORT
        rows.append(
            [
                str(made.number),
                _link(folder / REPORT / "report.html", result.out, "pairs, errors and training"),
                _link(cleaned, result.out, "decisions in pictures") if cleaned.exists() else "–",
            ]
        )
    return html.table(["Round", "How it was measured", "The pass after it"], rows, caption="Pages")


def _link(page: Path, out: Path, text: str) -> Html:
    return Html(f'<a href="{escape(page.relative_to(out).as_posix())}">{escape(text)}</a>')
