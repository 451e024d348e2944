"""The page, as somebody uses it: in a real browser, against a real server."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from deploy.service.house import FLAT, House, photo
from starlette.testclient import TestClient

from openmfr.deploy.service import KeyRing, make_app
from openmfr.deploy.service.page_files import PAGE
from openmfr.deploy.service.server import address_of, bind

CHROMIUM_FLAGS = ["--no-sandbox"] if os.geteuid() == 0 else []


@contextmanager
def served(house: House, keys: KeyRing | None = None, **choices: Any) -> Iterator[str]:
    """A server in a thread; gives its address."""
    app = make_app(house.service(is_calibrated=True, **choices), keys=keys, has_page=True)
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_level="warning", access_log=False))
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]))
    thread.start()
    try:
        yield address_of(bound)
    finally:
        server.should_exit = True
        thread.join(60)


class Seen:
    """A page in a browser, what it said on the console, and what it asked others for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.on(
            "console", lambda said: self.errors.append(said.text) if said.type == "error" else None
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def give(self, panel: str, name: str, content: bytes) -> None:
        """Choose a photo."""
        place = self.page.locator(f"#{panel} .photo[data-name={name}] input[type=file]")
        place.set_input_files({"name": "p.png", "mimeType": "image/png", "buffer": content})

    def answer(self, panel: str) -> Any:
        return self.page.locator(f"#{panel} .answer")


@pytest.fixture(params=[pytest.param((1280, 900), id="desk"), pytest.param((360, 740), id="phone")])
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    width, height = request.param
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield Seen(browser.new_page(viewport={"width": width, "height": height}))
        browser.close()


@pytest.mark.slow
def test_two_photos_are_compared_and_a_person_enrolled_found_and_removed(
    seen: Seen, tmp_path: Path
) -> None:
    page = seen.page
    with served(House(tmp_path)) as url:
        page.goto(url)
        page.get_by_text("Model").wait_for()
        seen.give("compare", "first", photo(1, 0))
        seen.give("compare", "second", photo(1, 1))
        page.get_by_role("button", name="Compare", exact=True).click()
        seen.answer("compare").get_by_role("heading").wait_for()
        assert "Score 1.00" in seen.answer("compare").inner_text()
        assert "strangers" in seen.answer("compare").inner_text()
        assert page.locator("#compare .faces rect").count() == 2
        assert page.locator("#compare .faces circle").count() == 10
        wide = "document.documentElement.scrollWidth - innerWidth"
        assert page.evaluate(wide) <= 0

        page.get_by_role("tab", name="Enrol").click()
        seen.give("enrol", "photo", photo(2, 0))
        page.get_by_label("Name").fill("<b>ann</b>")
        page.get_by_role("button", name="Enrol", exact=True).click()
        page.get_by_text("<b>ann</b> is enrolled with this photo.").wait_for()

        page.get_by_role("tab", name="Search").click()
        seen.give("search", "photo", photo(2, 1))
        page.get_by_role("button", name="Search", exact=True).click()
        page.get_by_role("cell", name="<b>ann</b>").wait_for()
        assert page.evaluate(wide) <= 0

        page.get_by_role("tab", name="People").click()
        page.get_by_role("button", name="Remove <b>ann</b>").click()
        page.get_by_role("button", name="Remove for good").click()
        page.get_by_text("Nobody is enrolled.").wait_for()
        assert page.evaluate(wide) <= 0
        assert all(asked.startswith((url, "blob:", "data:")) for asked in seen.asked)
    assert seen.errors == []


@pytest.mark.slow
def test_everything_can_be_reached_by_keyboard(seen: Seen, tmp_path: Path) -> None:
    page = seen.page
    with served(House(tmp_path)) as url:
        page.goto(url)
        page.get_by_role("tab", name="Search").wait_for()
        page.get_by_role("tab", name="Compare").focus()
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("tab", name="Search").get_attribute("aria-selected") == "true"
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert page.get_by_role("tab", name="People").get_attribute("aria-selected") == "true"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Tab")
        focused = "document.activeElement.type ?? document.activeElement.tagName"
        assert page.evaluate(focused) == "file"
    assert seen.errors == []


@pytest.mark.slow
def test_a_key_is_asked_for_and_what_is_wrong_with_a_photo_is_said(
    seen: Seen, tmp_path: Path
) -> None:
    page, house = seen.page, House(tmp_path)
    ring, key = house.keys()
    with served(house, ring, has_gallery=False) as url:
        page.goto(url)
        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Use it").click()
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Use it").click()
        page.locator("#key").wait_for(state="hidden")
        assert page.get_by_role("tab", name="Search").is_hidden()
        seen.give("compare", "first", FLAT)
        seen.give("compare", "second", photo(1))
        page.get_by_role("button", name="Compare", exact=True).click()
        page.get_by_role("alert").wait_for()
        assert "no face found" in page.get_by_role("alert").inner_text()
        assert "no face found" in page.locator("[data-name=first] .told").inner_text()
        stored = page.evaluate("[...Object.values(sessionStorage), ...Object.values(localStorage)]")
        assert stored == [key]
    # The browser itself reports refused requests; the page's own code must not add to that.
    assert all("401" in error or "422" in error for error in seen.errors)


def test_the_page_loads_nothing_from_elsewhere_and_may_not_be_framed(tmp_path: Path) -> None:
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in text
    app = make_app(House(tmp_path).service(has_gallery=False), has_page=True)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        answer = client.get("/")
        assert answer.status_code == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert client.get("/page.js").headers["X-Content-Type-Options"] == "nosniff"
        assert client.get("/v1/nothing").json()["kind"] == "not_found"
        assert client.get("/../server.py").status_code == 404
