"""One self-contained HTML page: opens offline, reads on a phone and on paper, in light and dark.

A `Page` is a list of sections, put together by small functions that each return `Html`, text that
is known to be safe; every other text is escaped where it enters. A number is written as
`<data value="…">`, its exact value beside the rounded one that is shown, so a page can be checked
against the JSON that stands beside it.
"""

from __future__ import annotations

import base64
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


class Page:
    """A page under construction.

    Args:
        title: Heading and window title.
        subtitle: One line below the heading.
    """

    def __init__(self, title: str, *, subtitle: str = "") -> None:
        self._title = title
        self._subtitle = subtitle
        self._sections: list[tuple[str, tuple[Cell, ...]]] = []

    def section(self, heading: str, *parts: Cell) -> None:
        """Add a section; plain text becomes a paragraph, and a section without parts is left out.

        Args:
            heading: Its heading; also its entry in the navigation. Empty for the page's opening.
            parts: What stands in it, in order.
        """
        if parts:
            self._sections.append((heading, parts))

    def html(self) -> str:
        """Return the page."""
        headings = [heading for heading, _ in self._sections if heading]
        navigation = "".join(f'<a href="#{_slug(h)}">{escape(h)}</a>' for h in headings)
        body = "".join(_section(heading, parts) for heading, parts in self._sections)
        style = resources.files("openmfr.report").joinpath("page.css").read_text("utf-8")
        subtitle = f'<p class="subtitle">{escape(self._subtitle)}</p>' if self._subtitle else ""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            '<link rel="icon" href="data:,">\n'
            f"<title>{escape(self._title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
            f"<header><h1>{escape(self._title)}</h1>{subtitle}"
            f'<nav aria-label="Sections">{navigation}</nav></header>\n'
            f"<main>\n{body}</main>\n"
            "<footer>Made by openmfr. The same numbers as JSON stand beside this file.</footer>\n"
            "</body>\n</html>\n"
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
    """Lay figures out in a grid: `plots`, `plots small` or `pictures`."""
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
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Html(
        f'<figure><img src="data:image/jpeg;base64,{encoded}" width="{image.width}" '
        f'height="{image.height}" alt="{escape(alt)}">'
        f"<figcaption>{_safe(caption)}</figcaption></figure>"
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
