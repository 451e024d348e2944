"""A page: one file, nothing fetched, nothing unescaped, and readable without seeing it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from openmfr.report import page as html
from openmfr.report.page import Html, Page, Tile

VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """Fails on tags that do not nest; keeps what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page() -> Page:
    """One of everything."""
    page = Page("Title <1>", subtitle="5 > 4")
    page.section("", html.tiles([Tile(label="EER", value=html.number(0.1, "10 %"), note="a & b")]))
    page.section(
        "Numbers & more",
        "plain <text>",
        html.note("careful"),
        html.table(["Name", "Value"], [["<b>", html.join("x", html.flag("too few"))]], caption="C"),
        html.listing({"model": {"depth": 18}, "path": "a<b"}),
        html.details("more", "hidden"),
    )
    picture = html.picture(Image.new("RGB", (8, 8)), caption="one", alt='a "face"')
    page.section("Pictures", html.figures([picture], kind="pictures"))
    page.section("Empty")
    return page


def test_a_page_is_well_formed_and_fetches_nothing(page: Page) -> None:
    text = page.html()
    outline = Outline(text)
    assert "http" not in text
    assert "<script" not in text
    for _, attributes in outline.attributes:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert not re.search(r"url\((?!#)|@import", text)


def test_what_is_not_html_is_escaped(page: Page) -> None:
    text = page.html()
    assert "plain &lt;text&gt;" in text
    assert "<title>Title &lt;1&gt;</title>" in text
    assert '<th scope="row" data-label="Name">&lt;b&gt;</th>' in text
    assert "<dt>model.depth</dt><dd>18</dd>" in text
    assert "<dd>a&lt;b</dd>" in text


def test_sections_are_in_the_navigation_and_empty_ones_are_left_out(page: Page) -> None:
    text = page.html()
    assert '<a href="#numbers-more">Numbers &amp; more</a>' in text
    assert '<section id="numbers-more">' in text
    assert "Empty" not in text


def test_pictures_and_plots_say_what_they_show(page: Page) -> None:
    outline = Outline(page.html())
    pictures = [attributes for tag, attributes in outline.attributes if tag == "img"]
    assert [picture["alt"] for picture in pictures] == ['a "face"']
    plot = html.plot('<svg viewBox="0 0 1 1"></svg>', caption="c", alt="a <plot>")
    assert plot.startswith('<figure><svg role="img" aria-label="a &lt;plot&gt;" viewBox')


def test_a_number_keeps_its_exact_value() -> None:
    assert html.number(1 / 3, "33 %") == f'<data value="{1 / 3!r}">33 %</data>'


def test_joining_keeps_html_and_escapes_the_rest() -> None:
    assert html.join("<", Html("<b>x</b>")) == "&lt;<b>x</b>"


def test_the_page_is_written_as_utf8(page: Page, tmp_path: Path) -> None:
    page.write(tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8") == page.html()


def contrast(one: str, other: str) -> float:
    """WCAG 2.1 contrast of two colours, #rgb or #rrggbb."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_texts_have_enough_contrast_in_both_themes(page: Page, theme: int) -> None:
    themes = re.findall(r":root \{(.*?)\}", page.html(), flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", themes[theme]))
    for ink in ("ink", "soft", "accent"):
        for paper in ("paper", "card"):
            assert contrast(colours[ink], colours[paper]) >= 4.5
    assert contrast(colours["flag"], colours["flag-paper"]) >= 4.5
    for series in ("series-1", "series-2", "series-3", "series-4"):
        assert contrast(colours[series], colours["card"]) >= 3
