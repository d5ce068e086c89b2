"""Our pages in Flower for everybody: by axe-core's rules, in light and dark, on a telephone, by keyboard."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from drakcelery.embedded.services import Services
from drakcelery.karton import submit
from drakcelery.karton.kept import Wishes
from drakcelery.model.analysis import State
from drakcelery.testing import RECORDED
from tests.acceptance.flower_page import (
    NARROW,
    Tab,
    Web,
    accessibility_faults,
    chromium,
    flower,
    one_host,
    push,
    tab,
)
from tests.faults.fleet import Fleet
from tests.faults.watch import wait_published, wait_state
from tests.objects import put_bytes
from tests.servers import lent

HOST = "rack-1"
DESK = 1280
LONGEST = 1200
"""Seconds: as long as a guest may run."""
STRANGE = "evil.example"
"""A name that leads to Flower, and is not its own."""


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host, and an analysis of each ending: published, refused, cancelled, under way, waiting."""
    options = one_host(HOST, slots=1, run_seconds=LONGEST, look_ahead="1")
    directory = tmp_path_factory.mktemp("flower-access")
    with lent(services) as ours, Fleet(directory / "fleet", ours, options) as made:
        made.plan("published", "run.running", "child")
        push(made, "published", name="invoice.bat", timeout=1)
        wait_published(made, "published")
        put_bytes(
            made.storage,
            made.settings.drakcelery.bucket,
            "published/report.json",
            (RECORDED / "report.json").read_bytes(),
        )
        refuse(made, "refused")
        push(made, "cancelled", name="gone.bat")
        wait_state(made, "cancelled", State.RUNNING)
        record = made.record("cancelled")
        assert record is not None
        made.ledger.cancel(record, reason="cancelled by flower:alice", crashed=None)
        push(made, "running", name="agent.bat", timeout=LONGEST)
        wait_state(made, "running", State.RUNNING)
        push(made, "queued", name="loader.bat")
        wait_state(made, "queued", State.QUEUED)
        yield made


def refuse(fleet: Fleet, uid: str) -> None:
    """Have a sample refused."""
    sample = fleet.directory / "letter.bat"
    sample.write_text("rem")
    task = submit.sample_task(sample, Wishes(timeout=1, profile="win10-22h2"))
    task.headers["extension"] = "unheard-of"
    task.payload["override_uid"] = uid
    assert fleet._producer.send_task(task)
    wait_state(fleet, uid, State.FAILED)


@pytest.fixture(scope="module")
def web(fleet: Fleet) -> Iterator[Web]:
    """Flower without a login."""
    with flower(fleet, "access", "drakcelery", "flower") as ours:
        yield ours


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the whole module."""
    expect.set_options(timeout=30_000)
    with chromium(f"--host-resolver-rules=MAP {STRANGE} 127.0.0.1") as ours:
        yield ours
    expect.set_options()


PAGES = {
    "/fleet": "Fleet",
    "/fleet?text=published&host=rack-1": "Fleet",
    "/fleet?host=nowhere": "Fleet",
    "/watching": "Watching",
    "/analysis/published": "invoice.bat",
    "/analysis/refused": "letter.bat",
    "/analysis/cancelled": "gone.bat",
    "/analysis/running": "agent.bat",
    "/analysis/queued": "loader.bat",
    "/analysis/nobody": "There is no analysis nobody",
    "/analysis/published/artifact/nothing": "There is nothing here",
    "/nothing": "There is nothing here",
}
"""With their heading."""


def go(opened: Tab, path: str, heading: str) -> None:
    """Open a page, and wait until it shows what it has."""
    page = opened.page
    page.goto(path)
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    if page.locator("#live-text").count():
        expect(page.locator("#live-text")).to_have_text("Live")
    if path == "/analysis/published":
        expect(page.get_by_role("treeitem").first).to_be_visible()
    if "?" in path:
        expect(page.locator("#analyses > *")).to_have_count(int("published" in path))


def levels(page: Page) -> list[int]:
    """The levels of the headings that are shown, in their order."""
    shown = "all => all.filter(one => one.checkVisibility()).map(one => Number(one.tagName[1]))"
    found: list[int] = page.locator("h1, h2, h3, h4, h5, h6").evaluate_all(shown)
    return found


LOOKS: tuple[tuple[Literal["light", "dark"], int], ...] = (
    *(("light", DESK), ("dark", DESK), ("dark", NARROW), ("light", NARROW)),
)
"""From one to the next the colours change, or the width."""


def faults(opened: Tab) -> dict[str, list[str]]:
    """What is amiss in the page, by the look of it."""
    found: dict[str, list[str]] = {}
    seen: set[int] = set()
    for scheme, width in LOOKS:
        opened.page.emulate_media(color_scheme=scheme)
        opened.page.set_viewport_size({"width": width, "height": 900})
        expect(opened.page.locator("html")).to_have_attribute("data-bs-theme", scheme)
        found[f"{scheme} {width}"] = accessibility_faults(opened, only_colours=width in seen)
        seen.add(width)
        wide = opened.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, (scheme, width)
    return {look: faults for look, faults in found.items() if faults}


@pytest.mark.parametrize("path", PAGES)
def test_no_page_keeps_anybody_out(web: Web, browser: Browser, path: str) -> None:
    """axe-core finds nothing, contrast and landmarks included; one first heading, and no level is skipped."""
    # Colours that are on their way from one scheme to the other are nobody's to judge
    with tab(browser, web, width=DESK, reduced_motion="reduce") as opened:
        go(opened, path, PAGES[path])
        assert faults(opened) == {}
        steps = levels(opened.page)
        assert steps.count(1) == 1, steps
        assert all(deeper - level <= 1 for level, deeper in itertools.pairwise(steps)), steps


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_a_refusal_keeps_nobody_out(
    web: Web, browser: Browser, scheme: Literal["light", "dark"], width: int
) -> None:
    """Nor does the page for who comes by another name, which has nothing of Flower's."""
    with tab(browser, web, width=width, scheme=scheme) as opened:
        opened.page.goto(f"{web.address.replace('127.0.0.1', STRANGE)}/fleet")
        expect(opened.page.get_by_role("heading", level=1)).to_have_text("This is not allowed")
        assert accessibility_faults(opened) == []
        assert (
            opened.page.evaluate("getComputedStyle(document.querySelector('.said')).borderLeftStyle")
            == "solid"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_opens_keeps_nobody_out(web: Web, browser: Browser, scheme: Literal["light", "dark"]) -> None:
    """Nor does a list of the report, the search's other fields, a dialog or the live log."""
    with tab(browser, web, width=DESK, scheme=scheme) as opened:
        page = opened.page
        go(opened, "/analysis/published", "invoice.bat")
        for name in ("timeline", "network", "indicators"):
            page.locator(f"#tab-{name}").click()
            expect(page.locator(f"#panel-{name} .report-status")).not_to_be_empty()
            assert accessibility_faults(opened) == [], name
        page.get_by_role("button", name="Read metadata.json").click()
        expect(page.locator("#text-lines")).to_contain_text("{")
        assert accessibility_faults(opened) == []
        page.keyboard.press("Escape")
        go(opened, "/fleet", "Fleet")
        page.get_by_text("More to search by").click()
        page.get_by_role("button", name="Drain").click()
        expect(page.locator("#confirm")).to_have_css("opacity", "1")
        assert accessibility_faults(opened) == []
        go(opened, "/analysis/running", "agent.bat")
        page.get_by_text("Log, as it comes").click()
        expect(page.locator("#live-status")).not_to_be_empty()
        assert accessibility_faults(opened) == []
        assert opened.complaints == []


def focused(page: Page) -> str:
    """What has the focus, for the eye of who looks: its text, and whether it is seen to have it."""
    found: str = page.evaluate(
        """() => {
            const one = document.activeElement;
            const style = getComputedStyle(one);
            const box = one.getBoundingClientRect();
            const isSeen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
            const isInside = box.bottom > 0 && box.top < innerHeight && box.width > 0;
            const name = one.getAttribute("aria-label") || one.textContent.trim() || one.name || one.id;
            return `${name.replace(/\\s+/g, " ").slice(0, 40)}|${isSeen && isInside ? "seen" : "not seen"}`;
        }"""
    )
    return found


@pytest.mark.parametrize("path", ["/fleet", "/analysis/published", "/analysis/nobody"])
def test_by_keyboard_alone(web: Web, browser: Browser, path: str) -> None:
    """Tab leads to everything, each time where one sees it, and out at the end: nothing holds it."""
    with tab(browser, web, width=DESK, reduced_motion="reduce") as opened:  # where it scrolls, it is at once
        page = opened.page
        go(opened, path, PAGES[path])
        page.keyboard.press("Tab")
        stops = [focused(page)]
        while len(stops) < 100:
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):
                break
            stops.append(focused(page))
        assert len(stops) < 100, stops
        assert stops[0] == "Skip to main content|seen"
        assert [stop for stop in stops if not stop.endswith("|seen")] == []
        page.keyboard.press("Shift+Tab")
        assert focused(page) == stops[-1]


def test_skip_to_the_content(web: Web, browser: Browser) -> None:
    """The first link leads past the navigation."""
    with tab(browser, web, width=DESK) as opened:
        page = opened.page
        go(opened, "/fleet", "Fleet")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_search_has_an_address(web: Web, browser: Browser) -> None:
    """What is searched for stands in the address, and what an address says is searched for."""
    with tab(browser, web, width=DESK) as opened:
        page = opened.page
        page.goto("/fleet?host=rack-1&text=cancelled&state=CANCELLED&colour=red")
        expect(page.locator("#analyses > *")).to_have_count(1)
        expect(page.locator('[data-uid="cancelled"]')).to_be_visible()
        page.get_by_label("Beginning of a uid").fill("publ")
        page.get_by_label("State").select_option("PUBLISHED")
        page.get_by_role("button", name="Find").click()
        expect(page.locator('[data-uid="published"]')).to_be_visible()
        assert page.url.endswith("/fleet?text=publ&state=PUBLISHED&host=rack-1")
        page.reload()
        expect(page.locator("#analyses > *")).to_have_count(1)
        expect(page.locator('[data-uid="published"]')).to_be_visible()
        page.get_by_role("button", name="Clear").click()
        expect(page.locator('[data-uid="cancelled"]')).to_be_visible()
        assert page.url.endswith("/fleet")
        page.goto("/analysis/nobody")
        page.get_by_role("link", name="Search for nobody").click()
        expect(page.locator("#find-empty")).to_be_visible()
        expect(page.get_by_label("Beginning of a uid")).to_have_value("nobody")
