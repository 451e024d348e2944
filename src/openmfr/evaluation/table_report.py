"""A page of tables, for protocols whose result is a few numbers; JSON and Markdown beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from openmfr.evaluation.difference import METHOD
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.wording import PERCENT, Unit, describe, measured_html
from openmfr.evaluation.writing import write_report
from openmfr.report import page as html
from openmfr.report.page import Cell, Html, Page


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of measured numbers.

    Attributes:
        caption: What they are.
        header: Names of the columns, that of the rows' names first.
        rows: Name of each row → its cells: numbers with intervals, or texts.
        unit: How numbers are written.
    """

    caption: str
    header: tuple[str, ...]
    rows: Mapping[str, Sequence[Measured | str]]
    unit: Unit = PERCENT

    def html(self) -> Html:
        """Write it for a page."""
        rows = [[name, *map(self._cell, cells)] for name, cells in self.rows.items()]
        return html.table(self.header, rows, caption=self.caption)

    def markdown(self) -> str:
        """Write it as Markdown; a flag that several numbers share is written once, below.

        Example:
            >>> few = Measured(value=0.25, flag="rests on 3 pairs")
            >>> rows = {"a": [few], "b": [few]}
            >>> print(Table(caption="Rates", header=("Model", "FNMR"), rows=rows).markdown())
            **Rates**
            <BLANKLINE>
            | Model | FNMR |
            | --- | --- |
            | a | 25.00 % ! 1 |
            | b | 25.00 % ! 1 |
            <BLANKLINE>
            ! 1: rests on 3 pairs
        """
        seen = Counter(
            cell.flag
            for cells in self.rows.values()
            for cell in cells
            if isinstance(cell, Measured) and cell.flag and not cell.is_refused
        )
        shared = [flag for flag, count in seen.items() if count > 1]
        marks = {flag: str(number) for number, flag in enumerate(shared, start=1)}
        rows = [
            [name, *(self._text(_marked(cell, marks)) for cell in cells)]
            for name, cells in self.rows.items()
        ]
        lines = [self.header, ["---"] * len(self.header), *rows]
        notes = [f"\n! {mark}: {flag}" for flag, mark in marks.items()]
        table = (f"| {' | '.join(row)} |" for row in lines)
        return "\n".join([f"**{self.caption}**", "", *table, *notes])

    def text(self) -> str:
        """Write it for a console, a line for each row."""
        lines = [f"{self.caption}:"]
        for name, cells in self.rows.items():
            columns = zip(self.header[1:], map(self._text, cells), strict=True)
            told = "; ".join(f"{column} {text}" for column, text in columns)
            lines.append(f"  {self.header[0].lower()} {name}: {told}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "caption": self.caption,
            "header": list(self.header),
            "rows": {
                name: [cell if isinstance(cell, str) else vars(cell) for cell in cells]
                for name, cells in self.rows.items()
            },
        }

    def _cell(self, value: Measured | str) -> Cell:
        return value if isinstance(value, str) else measured_html(value, self.unit)

    def _text(self, value: Measured | str) -> str:
        return value if isinstance(value, str) else describe(value, self.unit)


def _marked(cell: Measured | str, marks: Mapping[str, str]) -> Measured | str:
    """Shorten the flag of a number to its mark, if it has one."""
    if isinstance(cell, str) or cell.is_refused or cell.flag not in marks:
        return cell
    return replace(cell, flag=marks[cell.flag])


class Result(Protocol):
    """What a model reached."""

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""


def write_table_report(
    out: Path,
    *,
    title: str,
    subtitle: str,
    tables: Sequence[Table],
    results: Mapping[str, Result],
    configuration: Mapping[str, Any],
    method: Sequence[str],
    differences: Sequence[Table] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write `report.html`, `report.json` and `report.md`.

    Args:
        out: Folder for them; made if need be.
        title: Heading.
        subtitle: What was compared.
        tables: The numbers.
        results: The same, by model.
        configuration: What produced them.
        method: How to read them, a paragraph each.
        differences: Other models compared with the first.
        notes: What a reader must know.

    Returns:
        Path of the page.
    """
    shown = [*tables, *differences]
    page = Page(title, subtitle=subtitle)
    page.section("Numbers", *map(html.note, notes), *(table.html() for table in shown))
    parts = [f"# {title}", subtitle, *(table.markdown() for table in shown), *notes]
    return write_report(
        out,
        page,
        kind="table report",
        title=title,
        content={
            "results": {model: result.to_json() for model, result in results.items()},
            "differences": [table.to_json() for table in differences],
            "notes": list(notes),
        },
        markdown="\n\n".join(parts) + "\n",
        configuration=configuration,
        method=[*method, *(METHOD if differences else ())],
    )
