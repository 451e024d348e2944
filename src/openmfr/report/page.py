"""One self-contained HTML page: opens offline, reads on a phone and on paper, in light and dark.

A `Page` is a list of sections, put together by small functions that each return `Html`, text that
is known to be safe; every other text is escaped where it enters. A number is written as
`<data value="…">`, its exact value beside the rounded one that is shown, so a page can be checked
against the JSON that stands beside it.

Decisions of a program are figures that a person can search, and refuse: only a page with such a bar
of filters carries a script, and without JavaScript it shows all that there is to see.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from PIL import Image

from openmfr.files import write_text


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


Cell = str | Html


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A headline number.

    Attributes:
        label: What it is.
        value: The number, as `number` makes it.
        note: One line below, for example its interval.
        is_flagged: Whether the number must not be trusted.
    """

    label: str
    value: Cell
    note: Cell = ""
    is_flagged: bool = False


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A picture that is a part of a decision.

    Attributes:
        image: What is decided about, or what it was held against.
        label: One line below it.
        alt: The picture for those who cannot see it.
        is_marked: Whether it is what is decided about.
    """

    image: Image.Image
    label: Cell
    alt: str
    is_marked: bool = False


class Page:
    """A page under construction.

    Args:
        title: Heading and window title.
        subtitle: One line below the heading.
    """

    def __init__(self, title: str, *, subtitle: str = "") -> None:
        self._title = title
        self._subtitle = subtitle
        self._headings: list[str] = []
        self._body: list[str] = []
        self._has_filters = False

    def section(self, heading: str, *parts: Cell) -> None:
        """Add a section; plain text becomes a paragraph, and a section without parts is left out.

        Args:
            heading: Its heading; also its entry in the navigation. Empty for the page's opening.
            parts: What stands in it, in order.
        """
        if parts:
            self._headings += [heading] if heading else []
            self._body.append(_section(heading, parts))

    def filters(self, kinds: Mapping[str, int], *, columns: Sequence[str], save_as: str) -> None:
        """Add a bar by which a person finds decisions in the sections below, and saves refusals.

        Args:
            kinds: Kinds of decisions, and how many of each are on the page.
            columns: Header of the file: names of the cells of every `decision`'s row.
            save_as: Name of the CSV that the browser is asked to save.
        """
        boxes = "".join(
            f'<label><input type="checkbox" value="{escape(kind)}" checked> {escape(kind)} '
            f'<span class="muted">{count:,}</span></label>'
            for kind, count in kinds.items()
        )
        self._has_filters = True
        self._body.append(
            '<form class="filters" aria-label="Filters" hidden>'
            '<input type="search" placeholder="name, file or number" aria-label="Search"> '
            f'<output></output><button type="button" data-name="{escape(save_as)}" '
            f'data-header="{escape(_csv_line(columns))}">Save vetoes</button>'
            f"<fieldset><legend>Kinds</legend>{boxes}</fieldset></form>\n"
            '<p class="note unscripted">Searching and ticking need JavaScript.</p>\n'
        )

    def html(self) -> str:
        """Return the page."""
        navigation = "".join(f'<a href="#{_slug(h)}">{escape(h)}</a>' for h in self._headings)
        body = "".join(self._body)
        script = f"<script>\n{_resource('filters.js')}</script>\n" if self._has_filters else ""
        subtitle = f'<p class="subtitle">{escape(self._subtitle)}</p>' if self._subtitle else ""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            '<link rel="icon" href="data:,">\n'
            f"<title>{escape(self._title)}</title>\n<style>\n{_resource('page.css')}</style>\n</head>\n<body>\n"
            f"<header><h1>{escape(self._title)}</h1>{subtitle}"
            f'<nav aria-label="Sections">{navigation}</nav></header>\n'
            f"<main>\n{body}</main>\n"
            "<footer>Made by openmfr. The same numbers as JSON stand beside this file.</footer>\n"
            f"{script}</body>\n</html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the page, atomically."""
        write_text(path, self.html())


def number(value: float, shown: str) -> Html:
    """Show a number, and keep its exact value beside it.

    Example:
        >>> number(0.98601, "98.6 %")
        '<data value="0.98601">98.6 %</data>'
    """
    return Html(f'<data value="{value!r}">{escape(shown)}</data>')


def join(*parts: Cell) -> Html:
    """Put texts and HTML one after the other."""
    return Html("".join(_safe(part) for part in parts))


def flag(reason: str) -> Html:
    """Mark what stands before it as not to be trusted, and say why."""
    return Html(f' <span class="flag" title="{escape(reason)}">⚑ {escape(reason)}</span>')


def muted(text: Cell) -> Html:
    """Show a text in the background, for example an interval."""
    return Html(f'<span class="muted">{_safe(text)}</span>')


def paragraph(text: Cell) -> Html:
    """Make a paragraph."""
    return Html(f"<p>{_safe(text)}</p>")


def note(text: Cell) -> Html:
    """Show a remark that a reader must not miss."""
    return Html(f'<p class="note">{_safe(text)}</p>')


def subheading(text: str) -> Html:
    """Head a part of a section."""
    return Html(f"<h3>{escape(text)}</h3>")


def tiles(row: Sequence[Tile]) -> Html:
    """Show headline numbers side by side."""
    return Html(f'<div class="tiles">{"".join(_tile(tile) for tile in row)}</div>')


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str) -> Html:
    """Show a table; the first column names the rows, all others are aligned right.

    Args:
        header: Column names.
        rows: Cells, each row as long as the header.
        caption: What the table shows.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row" data-label="{escape(header[0])}">{_safe(row[0])}</th>'
        + "".join(
            f'<td data-label="{escape(name)}"><div>{_safe(cell)}</div></td>'
            for name, cell in zip(header[1:], row[1:], strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return Html(
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def figures(parts: Sequence[Html], *, kind: str = "plots") -> Html:
    """Lay figures out in a grid: `plots`, `plots small`, `pictures` or `decisions`."""
    return Html(f'<div class="{kind}">{"".join(parts)}</div>')


def plot(svg: str, *, caption: Cell, alt: str) -> Html:
    """Show a drawing, given as an `<svg>` element.

    Args:
        svg: The element; its colours may be CSS variables of the page.
        caption: What to see in it.
        alt: The same for those who cannot see it.
    """
    labelled = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
    return Html(f"<figure>{labelled}<figcaption>{_safe(caption)}</figcaption></figure>")


def picture(image: Image.Image, *, caption: Cell, alt: str) -> Html:
    """Show a picture, embedded as JPEG."""
    return Html(
        f"<figure>{_embedded(image, alt, quality=90)}<figcaption>{_safe(caption)}</figcaption>"
        "</figure>"
    )


def decision(
    strips: Sequence[Strip], *, caption: Cell, kind: str, text: str, row: Sequence[str]
) -> Html:
    """Show what was decided, and what about, so that a person can find it and refuse it.

    Args:
        strips: Pictures, side by side where there is room.
        caption: What was decided, and why.
        kind: One of the kinds of the page's `filters`.
        text: What a search finds it by; a number in it is only found as a whole.
        row: Cells of the line that is saved when a person refuses it.
    """
    shown = "".join(
        f'<div class="{"strip marked" if strip.is_marked else "strip"}">'
        f"{_embedded(strip.image, strip.alt, quality=80)}<span>{_safe(strip.label)}</span></div>"
        for strip in strips
    )
    return Html(
        f'<figure class="decision" data-kind="{escape(kind)}" data-text="{escape(text)}">'
        f'<div class="strips">{shown}</div><figcaption>{_safe(caption)}</figcaption>'
        f'<label class="veto" hidden><input type="checkbox" value="{escape(_csv_line(row))}"> '
        "wrong</label></figure>"
    )


def listing(values: Mapping[str, object]) -> Html:
    """Show names and values, nested mappings with dotted names."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in _flatten(values)
    )
    return Html(f"<dl>{rows}</dl>")


def details(summary: str, *parts: Cell) -> Html:
    """Hide parts behind one line until it is clicked."""
    inner = "".join(_part(part) for part in parts)
    return Html(f"<details><summary>{escape(summary)}</summary>{inner}</details>")


def _resource(name: str) -> str:
    return resources.files("openmfr.report").joinpath(name).read_text("utf-8")


def _embedded(image: Image.Image, alt: str, *, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/jpeg;base64,{encoded}" width="{image.width}" '
        f'height="{image.height}" alt="{escape(alt)}">'
    )


def _csv_line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def _flatten(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows


def _safe(text: Cell) -> str:
    return text if isinstance(text, Html) else escape(text)


def _part(part: Cell) -> str:
    return part if isinstance(part, Html) else paragraph(part)


def _section(heading: str, parts: tuple[Cell, ...]) -> str:
    inner = "".join(_part(part) for part in parts)
    if not heading:
        return f"<section>{inner}</section>\n"
    return f'<section id="{_slug(heading)}"><h2>{escape(heading)}</h2>{inner}</section>\n'


def _tile(tile: Tile) -> str:
    flagged = ' class="flagged"' if tile.is_flagged else ""
    return (
        f"<div{flagged}><span>{escape(tile.label)}</span><strong>{_safe(tile.value)}</strong>"
        f"<small>{_safe(tile.note)}</small></div>"
    )


def _slug(heading: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in heading.lower()).split())
