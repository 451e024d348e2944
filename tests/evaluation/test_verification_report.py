"""The report: the page and the JSON say the same, and warnings follow their numbers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmfr.data.store import UInt8Array
from openmfr.evaluation.breakdown import Traits, break_down
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.verification import measure
from openmfr.evaluation.verification_report import write_verification_report

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def face(index: int) -> UInt8Array:
    return np.random.default_rng(index).integers(0, 255, (112, 112, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, comparisons: Comparisons) -> Path:
    """A report with everything: two systems, kinds, groups, masks, training curves, pictures."""
    kind = np.where(np.arange(len(comparisons)) % 3 == 0, "mu", "uu")
    ours = replace(comparisons, kind=kind)
    noise = np.random.default_rng(1).normal(0, 0.4, len(comparisons))
    baseline = replace(comparisons, score=np.clip(comparisons.score + noise, -1, 1))
    out = tmp_path_factory.mktemp("report")
    fmrs = (0.1, 0.01, 0.001)
    traits = Traits(
        people={"region": np.repeat(np.array(["north", "south & <east>"])[np.arange(60) % 2], 6)},
        masks={"mask_style": np.tile(np.array(["", "", "", "cloth", "kn95", "scarf"]), 60)},
    )
    parts = [break_down(side, traits, fmrs=(0.1,), replicates=30) for side in (ours, baseline)]
    write_verification_report(
        out,
        title="Held-out people & <others>",
        results={
            name: replace(measure(side, fmrs=fmrs, replicates=30), breakdown=part)
            for name, side, part in zip(("ours", "thumbnail"), (ours, baseline), parts, strict=True)
        },
        configuration={"recipe": "tiny", "model": {"depth": 18}},
        metrics=[{"step": s, "loss": 3 / (s + 1), "learning_rate": 0.1} for s in range(50)],
        image=face,
        sources=[f"person/{'long_' * 8}{i:04d}.jpg" for i in range(360)],
    )
    return out


def test_every_number_on_the_page_is_in_the_json(
    written: Path, numbers_in: Callable[[object], set[float]]
) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r'<data value="([^"]+)">', page)
    known = numbers_in(json.loads((written / "report.json").read_text(encoding="utf-8")))
    assert len(shown) > 100
    assert {float(value) for value in shown} <= known


def test_flags_and_refusals_stand_wherever_their_number_does(written: Path) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    content = json.loads((written / "report.json").read_text(encoding="utf-8"))
    flagged, refused = content["results"]["ours"]["rates"][1:]
    assert flagged["fnmr"]["flag"] == "rests on 5 expected false matches"
    assert flagged["tar"]["flag"] == flagged["fnmr"]["flag"]
    assert (refused["fnmr"]["value"], refused["tar"]["value"]) == (None, None)
    for value in (flagged["fnmr"]["value"], flagged["tar"]["value"]):
        for cell in re.findall(rf'<data value="{value!r}">.*?</(?:td|strong)>', page):
            assert "⚑ rests on 5 expected false matches" in cell
    assert "⚑ refused: needs at least 1,000 impostor pairs, has 500" in page


def test_groups_and_masks_have_sections_and_the_other_system_stands_behind_a_line(
    written: Path,
) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    assert page.count("The same of thumbnail") == 2
    assert "south &amp; &lt;east&gt;" in page
    content = json.loads((written / "report.json").read_text(encoding="utf-8"))
    for name in ("ours", "thumbnail"):
        result = content["results"][name]
        assert set(result["breakdown"]["groups"]) == {"region, uu", "region, mu", "region, mm"}
        assert len(result["det"]["low"]) == len(result["det"]["fmr"])


def test_markdown_has_the_tables_of_the_page(written: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# Held-out people & <others>\n")
    for line in ("| ours | 500 / 500 |", "| mu |", "| scarf |", "## thumbnail, taken apart"):
        assert line in text
    assert "refused: needs at least 1,000 impostor pairs, has 500" in text


def test_the_json_names_the_worst_pairs_by_their_sources(
    written: Path, comparisons: Comparisons
) -> None:
    worst = json.loads((written / "report.json").read_text(encoding="utf-8"))["worst"]
    assert worst["false_matches"][0]["score"] == comparisons.impostor.max()
    assert worst["false_non_matches"][0]["score"] == comparisons.genuine.min()
    pair = worst["false_matches"][0]
    assert pair["source_a"].endswith(f"{pair['index_a']:04d}.jpg")


def test_the_page_is_one_file_and_warns_about_its_pictures(written: Path) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    assert "http" not in page
    assert "Do not publish" in page
    assert page.count("data:image/jpeg;base64,") == 16
    assert sorted(path.name for path in written.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_the_same_results_make_the_same_page(comparisons: Comparisons, tmp_path: Path) -> None:
    result = measure(comparisons, replicates=10)
    pages = []
    for name in ("one", "two"):
        path = write_verification_report(
            tmp_path / name, title="t", results={"ours": result}, configuration={}
        )
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]


def test_a_perfect_and_a_refused_result_can_be_reported(
    comparisons: Comparisons, tmp_path: Path
) -> None:
    perfect = replace(comparisons, score=np.where(comparisons.is_genuine, 0.9, -0.1))
    result = measure(perfect, fmrs=(1e-4,), replicates=0)
    path = write_verification_report(
        tmp_path, title="t", results={"ours": result}, configuration={}
    )
    page = path.read_text(encoding="utf-8")
    assert "refused: needs at least 10,000 impostor pairs, has 500" in page
    assert "Worst pairs" not in page


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_without_network_shows_the_page(
    written: Path, tmp_path: Path, width: int, theme: Any
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    from PIL import Image

    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, offline=True
        )
        page = context.new_page()
        complaints: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((written / "report.html").as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        wide = page.evaluate("document.documentElement.scrollWidth")
        unloaded = page.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
        cut = page.evaluate(
            "[...document.querySelectorAll('svg text')].filter(t => {"
            " const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();"
            " return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1"
            " || a.bottom > b.bottom + 1; }).map(t => t.textContent)"
        )
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        browser.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert wide <= width
    assert unloaded == 0
    assert cut == []
    with Image.open(tmp_path / "page.png") as screenshot:
        seen = np.asarray(screenshot.convert("L"))
    is_dark = theme == "dark"
    assert (np.median(seen) < 60) if is_dark else (np.median(seen) > 200)
    assert seen.std() > 10
