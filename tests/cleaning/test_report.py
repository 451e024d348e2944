"""The page of a pass: what it shows is what was decided, and what is ticked is what is refused."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from toys import pattern_face

from openmfr.cleaning.changes import COLUMNS, DROP, MERGE, MOVE, read_vetoes
from openmfr.cleaning.clean import OUTSIDER, CleanResult, clean
from openmfr.cleaning.config import CleanConfig
from openmfr.cleaning.report import write_pass_report
from openmfr.cleaning.thresholds import Curve
from openmfr.data.labels import Labels
from openmfr.data.store import Store, UInt8Array, encode_jpeg
from openmfr.data.store_writer import StoreWriter

CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
CHROMIUM_FLAGS += [f"--disable-{part}" for part in ("background-networking", "component-update")]
IDENTITIES, IMAGES = 40, 10
FLIPPED, STRANGER, SPLIT, COPY, ALONE = (0, 57), (13, 101, 222), (70, 75), 205, 399
CONFIG = CleanConfig(
    inter_threshold=0.8, relabel_threshold=1.2, duplicate_threshold=0.9999, least_images=2
)


class Watched(Store):
    """A store that remembers which images were decoded."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.decoded: list[int] = []

    def decode(self, index: int, *, out: UInt8Array | None = None) -> UInt8Array:
        self.decoded.append(index)
        return super().decode(index, out=out)


class Reader(HTMLParser):
    """Fails on tags that do not nest; keeps figures of decisions, numbers and pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.figures: list[dict[str, str]] = []
        self.numbers: list[float] = []
        self.alts: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if tag not in ("meta", "link", "img", "br", "input"):
            self.open.append(tag)
        if tag == "figure" and found.get("class") == "decision":
            self.figures.append({"kind": found["data-kind"], "text": found["data-text"]})
        elif tag == "input" and self.open[-1] == "label" and self.open[-2] == "figure":
            self.figures[-1]["row"] = found["value"]
        elif tag == "data":
            self.numbers.append(float(found["value"]))
        elif tag == "img":
            self.alts.append(found["alt"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def rows(self) -> list[list[str]]:
        """Lines that are saved when decisions are ticked, in the order of the page."""
        return [next(csv.reader([figure["row"]])) for figure in self.figures]

    @property
    def said(self) -> str:
        return " ".join("".join(self.words).split())


def source_of(row: int) -> str:
    return f'{row // IMAGES:03d}/<b>"{row:04d}", it\'s & so.jpg'


def name_of(identity: int) -> str:
    return f"O'Brien & <i>Söhne</i>, {chr(97 + identity % 26)}{identity // 26}"


def make_faces(path: Path) -> Store:
    """A store of pictures whose sources and names are as nasty as a file system allows."""
    writer = StoreWriter(path, image_size=32, settings={})
    rows = range(IDENTITIES * IMAGES)
    names = [name_of(row // IMAGES) for row in rows]
    faces = [encode_jpeg(pattern_face(row // IMAGES, row, 32)) for row in rows]
    writer.write_shard(0, faces, {"source": list(map(source_of, rows)), "identity_name": names})
    return writer.commit(shards=1)


def embed() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((IDENTITIES, 64)).repeat(IMAGES, axis=0)
    return (centers + 0.7 * rng.standard_normal(centers.shape)).astype(np.float32)


@dataclass(frozen=True)
class Passed:
    store: Store
    result: CleanResult
    embedding: npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Passed:
    """A pass with decisions of every kind and for every reason."""
    store = make_faces(tmp_path_factory.mktemp("faces") / "store")
    embedding = embed()
    identity = np.arange(len(store)) // IMAGES
    identity[list(FLIPPED)] = 21, 22
    identity[SPLIT[0] : SPLIT[1]] = 100
    identity[ALONE] = 200
    embedding[list(STRANGER)] = np.random.default_rng(1).standard_normal((len(STRANGER), 64))
    embedding[ALONE] = np.random.default_rng(2).standard_normal(64)
    embedding[COPY] = 2 * embedding[COPY - 1]
    labels = Labels.from_identity(identity, store=store)
    return Passed(store, clean(labels, embedding, CONFIG), embedding)


def write(folder: Path, result: CleanResult, store: Store, *, pictures: int = 60) -> str:
    path = folder / "report.html"
    write_pass_report(path, result, store, pictures=pictures, configuration={"model": "m<1>"})
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(passed: Passed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write(folder, passed.result, passed.store)
    return folder / "report.html"


@pytest.fixture(scope="module")
def seen(page: Path) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


def test_the_numbers_of_the_page_are_those_of_the_pass(passed: Passed, seen: Reader) -> None:
    before, after, changes = passed.result.before, passed.result.labels, passed.result.changes
    dropped, moved, merged = (int((changes.kind == kind).sum()) for kind in (DROP, MOVE, MERGE))
    assert min(dropped, moved, merged) > 0
    images, people = before.keep.sum(), before.kept_identities.size
    left = after.kept_identities.size
    tiles = [after.keep.sum(), images, left, people, merged, people - left - merged]
    tiles += [dropped, dropped / images, moved, moved / images]
    assert seen.numbers[: len(tiles)] == tiles


def test_every_decision_is_shown_the_closest_first_as_in_the_csv(
    passed: Passed, seen: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "changes.csv"
    passed.result.changes.write(path, passed.store.column("source"))
    with path.open(newline="") as file:
        header, *decisions = csv.reader(file)
    assert header == list(COLUMNS)
    for kind in (DROP, MOVE, MERGE):
        told = [[*row[:-1], "no"] for row in decisions if row[0] == kind]
        assert [row for row in seen.rows if row[0] == kind] == told
    assert len(seen.figures) == len(decisions)
    assert len({figure["kind"] for figure in seen.figures}) == 5


def test_no_more_pictures_are_shown_or_decoded_than_asked_for(
    passed: Passed, tmp_path: Path
) -> None:
    store = Watched(passed.store.path)
    seen = Reader(write(tmp_path, passed.result, store, pictures=1))
    kinds = [figure["kind"] for figure in seen.figures]
    assert len(kinds) == len(set(kinds)) == 5, "one of each kind and reason"
    assert len(store.decoded) <= 5 * (1 + 2 * 4)
    drops = int((passed.result.changes.reason == OUTSIDER).sum())
    assert f"{drops} images; the closest 1 shown here, all of them in changes.csv" in seen.said
    store.decoded.clear()
    text = write(tmp_path, passed.result, store, pictures=0)
    assert store.decoded == []
    assert "<script" not in text
    assert "none shown here, all of them in changes.csv" in Reader(text).said


def test_beside_a_dropped_image_stand_the_best_of_its_identity(
    passed: Passed, tmp_path: Path
) -> None:
    store, after = Watched(passed.store.path), passed.result.labels
    write(tmp_path, passed.result, store, pictures=1)
    image = int(passed.result.changes.of(DROP).image[0])
    own = np.flatnonzero(after.keep & (after.identity == passed.result.before.identity[image]))
    best = own[np.argsort(-after.center_score[own])][:3]
    assert store.decoded[:4] == [image, *best.tolist()]


def test_a_repeated_image_stands_beside_the_one_that_it_repeats(
    passed: Passed, tmp_path: Path
) -> None:
    store, changes = Watched(passed.store.path), passed.result.changes
    repeats = np.char.startswith(changes.reason, "repeats")
    write(tmp_path, passed.result, store)
    at = store.decoded.index(int(changes.image[repeats].item()))
    assert sorted(store.decoded[at : at + 2]) == [COPY - 1, COPY]


def test_names_and_sources_are_shown_as_they_are_and_are_never_markup(
    page: Path, seen: Reader
) -> None:
    assert not {"b", "i"} & seen.tags
    assert any(name_of(7) in alt for alt in seen.alts)
    for row in STRANGER:
        assert Path(source_of(row)).name in seen.alts
    move = next(figure for figure in seen.figures if source_of(FLIPPED[0]) in figure["text"])
    for part in ("identity 21", name_of(21), "identity 0", name_of(0)):
        assert part in move["text"]
    text = page.read_text(encoding="utf-8")
    assert "http" not in text
    assert "<dd>m&lt;1&gt;</dd>" in text
    assert "Do not publish" in text


def test_the_lines_beside_the_pictures_are_vetoes(
    passed: Passed, seen: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "vetoes.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *seen.rows])
    vetoes, changes = read_vetoes(path, len(passed.result.before)), passed.result.changes
    images = changes.image[changes.kind != MERGE]
    assert np.flatnonzero(vetoes.spared).tolist() == sorted(images.tolist())
    assert vetoes.never == {frozenset((7, 100))}


def test_a_pass_without_decisions_has_neither_pictures_nor_a_script(
    passed: Passed, tmp_path: Path
) -> None:
    labels = Labels.from_identity(np.arange(len(passed.store)) // IMAGES, store=passed.store)
    config = CleanConfig(intra_threshold=-1.0, merge=False, relabel_threshold=5.0)
    text = write(tmp_path, clean(labels, embed(), config), passed.store)
    seen = Reader(text)
    assert "<script" not in text
    assert "img" not in seen.tags
    assert "Nothing was changed." in seen.said
    assert "No image was dropped." in seen.said
    assert "No image was moved to another identity." in seen.said
    assert "Identities were not merged: that was turned off." in seen.said
    assert "Do not publish" not in text


def test_one_image_of_each_identity_can_be_reported(passed: Passed, tmp_path: Path) -> None:
    labels = Labels.from_identity(np.arange(len(passed.store)), store=passed.store)
    result = clean(labels, embed(), replace(CONFIG, least_images=1, inter_threshold=1.0))
    seen = Reader(write(tmp_path, result, passed.store))
    assert "There is nobody to score images against." in seen.said


def test_a_searched_threshold_is_shown_with_what_it_did_in_its_trial(
    passed: Passed, tmp_path: Path
) -> None:
    grid = np.linspace(0.5, 1.0, 6)
    curve = Curve(
        threshold=grid,
        found=np.linspace(1.0, 0.5, 6),
        wrong=np.array([0.5, 0.25, 0.0123, 0.0, 0.0, 0.0]),
        decisions=np.array([90, 80, 70, 60, 50, 0]),
        allowed=0.02,
        chosen=float(grid[2]),
        is_searched=True,
    )
    searched = Reader(write(tmp_path, replace(passed.result, inter=curve), passed.store))
    assert {float(grid[2]), 0.02, 0.0123, float(curve.found[2]), 70.0} <= set(searched.numbers)
    assert "splits rejoined" in searched.said
    assert "Merge: the threshold was given" not in searched.said
    assert "Move: the threshold was given, or there were too few images" in searched.said


def test_masked_and_unmasked_faces_have_their_own_line_and_plot(
    passed: Passed, tmp_path: Path
) -> None:
    is_masked = np.arange(len(passed.result.before)) % 3 == 0
    embedding = passed.embedding.copy()
    embedding[is_masked] += 2 * np.random.default_rng(3).standard_normal(64).astype(np.float32)
    result = clean(replace(passed.result.before, is_masked=is_masked), embedding, CONFIG)
    text = write(tmp_path, result, passed.store)
    lines = {float(result.fit.threshold[is_masked][0]), float(result.fit.threshold[~is_masked][0])}
    assert len(lines) == 2
    assert lines <= set(Reader(text).numbers)
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


@pytest.fixture
def open_page(page: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page offline in a browser; what that complains of fails the test."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    complaints: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)

        def open_page(**settings: Any) -> Any:
            opened = browser.new_context(offline=True, **settings).new_page()
            opened.on("console", lambda message: complaints.append(message.text))
            opened.on("pageerror", lambda error: complaints.append(str(error)))
            opened.goto(page.as_uri())
            return opened

        yield open_page
        browser.close()
    assert complaints == []


def shown(opened: Any) -> list[str]:
    """Sources, or pairs of identities, of the decisions that can be seen."""
    figures = opened.locator("figure.decision").filter(visible=True)
    values = figures.locator(".veto input").evaluate_all("boxes => boxes.map(box => box.value)")
    rows = [next(csv.reader([value])) for value in values]
    return [row[2] or "+".join(row[3:5]) for row in rows]


@pytest.mark.slow
def test_a_person_finds_decisions_in_a_browser(seen: Reader, open_page: Callable[..., Any]) -> None:
    opened = open_page()
    search = opened.get_by_role("searchbox")
    everything = shown(opened)
    assert len(everything) == len(seen.figures)
    search.fill(f"  {Path(source_of(FLIPPED[1])).name[:8].upper()}")
    assert shown(opened) == [source_of(FLIPPED[1])]
    search.fill("identity 7")
    assert shown(opened) == ["100+7"], "a number is found as a whole"
    search.fill("nobody is called that")
    assert shown(opened) == []
    assert f"0 of {len(everything)}" in opened.locator(".filters").inner_text()
    search.fill("")
    for kind in ("Moved", "Merged"):
        opened.locator(".filters label", has_text=kind).click()
    drops = sum(row[0] == DROP for row in seen.rows)
    assert len(shown(opened)) == drops < len(everything)


@pytest.mark.slow
def test_what_is_ticked_in_a_browser_is_refused_by_the_next_pass(
    passed: Passed, open_page: Callable[..., Any], tmp_path: Path
) -> None:
    opened = open_page(accept_downloads=True)
    save = opened.locator(".filters button")
    assert save.is_disabled()
    for text in (Path(source_of(STRANGER[0])).name, "100 7"):
        opened.get_by_role("searchbox").fill(text)
        opened.locator(".veto input").filter(visible=True).check()
    opened.get_by_role("searchbox").fill("nothing of it")
    assert "(2)" in save.inner_text()
    with opened.expect_download() as download:
        save.click()
    assert download.value.suggested_filename == "vetoes.csv"
    download.value.save_as(tmp_path / "vetoes.csv")
    vetoes = read_vetoes(tmp_path / "vetoes.csv", len(passed.result.before))
    assert np.flatnonzero(vetoes.spared).tolist() == [STRANGER[0]]
    assert vetoes.never == {frozenset((7, 100))}
    again = clean(passed.result.before, passed.embedding, CONFIG, vetoes=vetoes)
    assert again.labels.keep[STRANGER[0]]
    assert not (again.changes.kind == MERGE).any()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window(open_page: Callable[..., Any], width: int, theme: str) -> None:
    opened = open_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0


@pytest.mark.slow
def test_without_javascript_all_is_shown_and_nothing_pretends_to_work(
    seen: Reader, open_page: Callable[..., Any]
) -> None:
    opened = open_page(java_script_enabled=False)
    assert opened.locator("figure.decision").filter(visible=True).count() == len(seen.figures)
    assert not opened.locator(".filters, .veto").filter(visible=True).count()
    assert opened.get_by_text("need JavaScript").is_visible()
