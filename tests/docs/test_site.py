"""The documentation builds without a warning, and what is built loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: What a browser fetches by itself; a link that somebody clicks is no asset.
ASSET = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\s\">]+)")
LINK = re.compile(r"<link\b[^>]*\bhref=\"?([^\s\">]+)")
IN_STYLE = re.compile(r"url\(\"?([^)\"]+)")


@pytest.mark.slow
def test_the_site_builds_strictly_and_needs_no_network(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", tmp_path / "site"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
        timeout=300,
    )
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = ASSET.findall(text) + LINK.findall(text)
        assert not [url for url in fetched if "//" in url], f"{page.name} loads from elsewhere"
    for style in (tmp_path / "site").rglob("*.css"):
        urls = IN_STYLE.findall(style.read_text(encoding="utf-8"))
        assert not [url for url in urls if re.match(r"(https?:)?//", url)], style.name
