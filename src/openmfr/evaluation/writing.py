"""What every report is: a page, the same numbers as JSON, and its tables as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openmfr.files import write_json, write_text
from openmfr.report import page as html
from openmfr.report.page import Page
from openmfr.version import __version__

FORMAT_VERSION = 1


def write_report(
    out: Path,
    page: Page,
    *,
    kind: str,
    title: str,
    content: Mapping[str, Any],
    markdown: str,
    configuration: Mapping[str, Any],
    method: Sequence[str],
) -> Path:
    """Write `report.html`, `report.json` and `report.md`.

    Args:
        out: Folder for them; made if need be.
        page: What was found; what produced it, and how to read it, are added.
        kind: What `openmfr inspect` calls it.
        title: Heading of the page.
        content: Every number of the page, as JSON values.
        markdown: The tables.
        configuration: What produced the numbers.
        method: How to read them, a paragraph each.

    Returns:
        Path of the page.
    """
    settings = {"openmfr": __version__, **configuration}
    page.section("Configuration", html.listing(settings))
    page.section("How to read this", *method)
    head = {"format_version": FORMAT_VERSION, "kind": kind, "title": title}
    write_json(out / "report.json", {**head, **content, "configuration": settings})
    write_text(out / "report.md", markdown)
    page.write(out / "report.html")
    return out / "report.html"
