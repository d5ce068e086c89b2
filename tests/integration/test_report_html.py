"""The page as one file of HTML, in a browser: nothing runs, nothing is loaded, and it fits on a telephone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from drakcelery.behaviour.report import Report
from drakcelery.operators.report.html import html
from drakcelery.operators.report.sections import document
from drakcelery.testing import RECORDED
from tests.acceptance.flower_page import ARGUMENTS, CHROMIUM, HOSTILE, NARROW, WIDE
from tests.reports import hostile

LONG = "C:\\" + "x" * 900


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("chosen", [None, HOSTILE, LONG], ids=["recorded", "hostile", "long"])
def test_the_page(browser: Browser, tmp_path: Path, width: int, scheme: str, chosen: str | None) -> None:
    """Its own style is allowed, all else is text; nothing is wider than the window."""
    given = Report.model_validate_json((RECORDED / "report.json").read_bytes())
    made = html(document(given if chosen is None else hostile(chosen)))
    (tmp_path / "report.html").write_text(made, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.title().endswith(": what was seen")
    assert (said, asked) == ([], [(tmp_path / "report.html").as_uri()])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(21, 24, 28)" if scheme == "dark" else "rgb(255, 255, 255)")
    assert page.locator("script, img").count() == 0
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    page.close()
