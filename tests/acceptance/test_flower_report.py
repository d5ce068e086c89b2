"""What a sample did, on the page of its analysis: on a real fleet, from a real bucket, in a real browser."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import re
import time
import urllib.request
import zipfile
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from drakcelery.embedded.services import Services
from drakcelery.flower.application import HANDLERS
from drakcelery.karton.kept import KEPT
from drakcelery.model.analysis import State
from drakcelery.testing import RECORDED
from tests.acceptance.flower_page import (
    HOSTILE,
    LONG,
    NARROW,
    WIDE,
    Tab,
    Web,
    assert_fits,
    chromium,
    flower,
    one_host,
    push,
    tab,
)
from tests.faults.fleet import Fleet
from tests.faults.watch import wait_published, wait_state
from tests.large_reports import EVIL, hostile_report
from tests.objects import put_bytes
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"
SMALL, LARGE = "small", "large"
"""Analyses: of a sample of ours, and of one that made as much of everything as a report has room for."""
SECOND = 1.0
LOG = "".join(f'{{"Plugin": "procmon", "Number": {one}, "Name": "{EVIL}"}}\n' for one in range(3000)).encode()
"""A log of several pieces."""
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
"""The smallest image."""


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host with published analyses."""
    options = one_host(HOST)
    directory = tmp_path_factory.mktemp("flower-report")
    with lent(services) as ours, Fleet(directory / "fleet", ours, options) as made:
        push(made, SMALL, name="invoice.bat", timeout=1)
        push(made, LARGE, name=HOSTILE, timeout=1)
        wait_published(made, SMALL, LARGE)
        store(made, SMALL, "report.json", (RECORDED / "report.json").read_bytes())
        store(made, LARGE, "report.json", hostile_report(LARGE).model_dump_json().encode())
        store(made, LARGE, "procmon.log", LOG)
        store(made, LARGE, "screenshots.zip", screenshots(image_0=PNG, image_1=PNG))
        yield made


def screenshots(**images: bytes) -> bytes:
    """The zip of these."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, data in images.items():
            made.writestr(f"screenshots/{name}.png", data)
    return file.getvalue()


def store(fleet: Fleet, uid: str, name: str, data: bytes) -> None:
    """Replace an artifact."""
    put_bytes(fleet.storage, fleet.settings.drakcelery.bucket, f"{uid}/{name}", data)


@pytest.fixture(scope="module")
def web(fleet: Fleet) -> Iterator[Web]:
    """Flower without a login."""
    with flower(fleet, "report", "celery", "-A", "drakcelery", "flower") as ours:
        yield ours


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the whole module."""
    expect.set_options(timeout=30_000)
    with chromium() as ours:
        yield ours
    expect.set_options()


def open_list(page: Page, name: str) -> None:
    """Open a tab, and wait for its list."""
    page.locator(f"#tab-{name}").click()
    expect(page.locator(f"#panel-{name} .report-status")).not_to_be_empty()


def assert_harmless(opened: Tab, title: str) -> None:
    """Nothing that the sample called something has become more than text."""
    assert_fits(opened)
    assert opened.page.locator("main img:not([src^='/analysis/']), main a[href*='evil']").count() == 0
    assert opened.page.title() == title


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_what_the_sample_did(web: Web, browser: Browser, width: int) -> None:
    """How it ended, and each list in its tab, on a telephone and on a desk."""
    with tab(browser, web, width=width) as opened:
        page = opened.page
        page.goto(f"/analysis/{SMALL}")
        expect(page.locator("#report-ending")).to_contain_text("was watched until the run ended")
        expect(page.locator("#report-facts")).to_contain_text("hxxp://sample[.]drakcelery[.]invalid/hello")
        tree = page.get_by_role("tree", name="Processes")
        expect(tree.get_by_role("treeitem")).to_have_count(2)
        expect(tree.get_by_role("treeitem").first).to_contain_text("the sample")
        open_list(page, "timeline")
        timeline = page.get_by_role("table", name="Timeline of the run")
        expect(timeline.get_by_role("row").nth(1)).to_contain_text("drakcelery-sample.txt")
        expect(page.locator("#panel-timeline [role=img]")).to_have_accessible_name(
            re.compile("^Events from ")
        )
        page.locator("#panel-timeline").get_by_role("combobox").select_option("registry")
        expect(timeline.get_by_role("row")).to_have_count(2)
        open_list(page, "registry")
        expect(page.get_by_role("table", name="Registry")).to_contain_text("drakcelery was here")
        open_list(page, "network")
        expect(page.get_by_role("table", name="Network").get_by_role("row")).to_have_count(4)
        page.locator("#panel-network").get_by_label("Only").select_option("HTTP")
        expect(page.get_by_role("table", name="Network").get_by_role("row")).to_have_count(2)
        assert_fits(opened)
        page.goto(f"/analysis/{SMALL}#files")
        expect(page.get_by_role("table", name="Files")).to_contain_text("drakcelery-sample.txt")


def test_indicators_are_copied_as_the_button_says(web: Web, browser: Browser) -> None:
    """Defanged, or as seen; one, or all that the filter leaves."""
    with tab(browser, web) as opened:
        page = opened.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"/analysis/{SMALL}#indicators")
        panel = page.locator("#panel-indicators")

        def copied(name: str, said: str) -> str:
            panel.get_by_role("button", name=name).click()
            expect(panel.locator(".report-said")).to_have_text(said)
            return str(page.evaluate("navigator.clipboard.readText()"))

        url = "Defanged: copy hxxp://sample[.]drakcelery[.]invalid/hello"
        assert copied(url, "Copied.") == "hxxp://sample[.]drakcelery[.]invalid/hello"
        assert (
            copied(url.replace("Defanged", "As seen"), "Copied.") == "http://sample.drakcelery.invalid/hello"
        )
        assert copied("Copy all, as seen", "Copied 4 lines.").startswith("sample.drakcelery.invalid\n")
        panel.get_by_label("Only").select_option("host")
        expect(panel.locator("tbody tr")).to_have_count(1)
        assert copied("Copy all, defanged", "Copied.") == "sample[.]drakcelery[.]invalid\n"
        assert opened.complaints == []


def test_by_keyboard(web: Web, browser: Browser) -> None:
    """Tabs by arrows, the tree as ARIA says, each with a focus that is seen."""
    with tab(browser, web) as opened:
        page = opened.page
        page.goto(f"/analysis/{LARGE}")
        expect(page.get_by_role("treeitem")).to_have_count(100)
        page.locator("#tab-processes").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#tab-timeline")).to_be_focused()
        expect(page.locator("#panel-timeline tbody tr")).to_have_count(100)
        page.keyboard.press("ArrowLeft")
        page.get_by_role("treeitem").first.focus()
        page.keyboard.press("ArrowDown")
        second = page.get_by_role("treeitem").nth(1)
        expect(second).to_be_focused()
        assert second.evaluate("item => getComputedStyle(item).outlineStyle") != "none"
        expect(second).to_have_attribute("aria-level", "2")
        page.keyboard.press("ArrowLeft")
        expect(second).to_have_attribute("aria-expanded", "false")
        expect(second).to_be_focused()
        expect(page.get_by_role("treeitem").nth(2)).to_have_attribute("aria-level", "2")
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("treeitem").first).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("treeitem")).to_have_count(1)
        assert opened.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(NARROW, "dark"), (WIDE, "light")])
def test_the_largest_report(web: Web, browser: Browser, width: int, scheme: str) -> None:
    """A sample that did as much as a report has room for, by hostile names: each list comes soon."""
    with tab(browser, web, width=width) as opened:
        page = opened.page
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(f"/analysis/{LARGE}")
        expect(page.locator("#panel-processes .report-status")).to_have_text(re.compile("^1 to 100 of 15,"))
        took: dict[str, float] = {}
        for name in (
            "capabilities",
            "files",
            "registry",
            "network",
            "system",
            "calls",
            "dumps",
            "indicators",
        ):
            begun = time.monotonic()
            page.locator(f"#tab-{name}").evaluate("tab => tab.click()")
            expect(page.locator(f"#panel-{name} tbody tr")).to_have_count(100)
            took[name] = time.monotonic() - begun
            assert_harmless(opened, "Analysis large · Flower")
        begun = time.monotonic()
        page.locator("#tab-processes").evaluate("tab => tab.click()")
        page.locator("#panel-processes").get_by_label("Search processes").fill("19998.exe")
        expect(page.locator("#panel-processes .report-status")).to_contain_text("1 found")
        took["search"] = time.monotonic() - begun
        assert_harmless(opened, "Analysis large · Flower")
        assert max(took.values()) < 10 * SECOND, took  # a tenth of it where nothing else runs


def test_what_there_is_no_report_of(fleet: Fleet, web: Web) -> None:
    """A sentence, whatever is wrong; and nothing for who may not see the page."""
    assert web.ask("/analysis/nobody/report/overview").status == 404
    assert web.ask(f"/analysis/{SMALL}/report/nothing").status == 404
    for query in ("offset=-1", "offset=x", "search=" + "x" * 201, "turned=1,x"):
        answer = web.ask(f"/analysis/{SMALL}/report/files?{query}")
        assert (answer.status, answer.headers.get_content_type()) == (400, "text/plain"), query
    assert web.ask(f"/analysis/{SMALL}/indicators?form=other").status == 400
    push(fleet, "damaged", name="damaged.bat", timeout=1)
    wait_published(fleet, "damaged")
    store(fleet, "damaged", "report.json", b'{"version": 1, "analysis_uid": "<b>"}')
    answer = web.ask("/analysis/damaged/report/overview")
    assert (answer.status, answer.headers.get_content_type()) == (409, "text/plain")
    assert b"report.json is wrong in" in answer.body


ADDRESSES = (
    *("/fleet", "/fleet?json=1", "/fleet/find", "/fleet/host/rack-9/drain", "/fleet/submit"),
    *(f"/analysis/{SMALL}{rest}" for rest in ("", "?json=1", "/cancel", "/artifact/report.json")),
    *(f"/analysis/{SMALL}{rest}" for rest in ("/report/overview", "/indicators", "/text/report.json")),
    *(f"/analysis/{SMALL}{rest}" for rest in ("/artifacts.zip", "/live", "/screenshots")),
    *("/fleet/static/page.js", f"/analysis/{SMALL}/screenshot/image_0.png"),
    *("/analysis/nobody", "/analysis/nobody?json=1"),
    *("/watching", "/watching?json=1", "/api/watching"),
    *("/api/fleet", "/api/find", "/api/analyses", f"/api/analysis/{SMALL}"),
)
"""One or more of each of our handlers."""


def test_no_other_site_reads_an_analysis(fleet: Fleet) -> None:
    """No handler of ours lets a page of another site read it, whatever Flower's own do: not even where
    programs may use Flower's API without a login."""
    addressed = {one for one in HANDLERS for path in ADDRESSES if one.regex.match(path.partition("?")[0])}
    assert addressed == set(HANDLERS)
    stranger = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    options = {"FLOWER_UNAUTHENTICATED_API": "true"}
    with flower(fleet, "open-report", "drakcelery", "flower", **options) as open_api:
        assert open_api.ask("/api/workers").headers["Access-Control-Allow-Origin"] == "*"
        for method in ("GET", "OPTIONS"):
            for path in ADDRESSES:
                answer = open_api.ask(path, method=method, headers=stranger)
                names = [name.lower() for name in answer.headers]
                assert not [name for name in names if name.startswith("access-control-")], (method, path)
                is_static = path.startswith("/fleet/static/")
                assert is_static or answer.headers["Cross-Origin-Resource-Policy"] == "same-origin", path
        overview = open_api.ask(f"/analysis/{SMALL}/report/overview")
        assert overview.status == 200
        assert "default-src 'self'" in (overview.headers["Content-Security-Policy"] or "")


def test_a_log_is_read_in_pieces(web: Web, browser: Browser) -> None:
    """From the first to the last, by keyboard as well; what a sample wrote into it stays text."""
    with tab(browser, web, width=NARROW) as opened:
        page = opened.page
        page.goto(f"/analysis/{LARGE}")
        button = page.get_by_role("button", name="Read procmon.log")
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="procmon.log")
        status, lines = dialog.get_by_role("status"), dialog.locator("#text-lines")
        expect(status).to_contain_text("Bytes 0 to 65,")
        expect(lines).to_contain_text('"Number": 0, "Name": "<img src=x')
        assert dialog.locator("img").count() == 0
        dialog.get_by_role("button", name="Last").click()
        expect(lines).to_contain_text('"Number": 2999,')
        expect(status).to_contain_text(f"to {len(LOG):,} of {len(LOG):,}")
        dialog.get_by_role("button", name="Previous").click()
        expect(lines).not_to_contain_text('"Number": 2999,')
        dialog.get_by_role("button", name="First").click()
        expect(lines).to_contain_text('"Number": 0,')
        dialog.get_by_role("button", name="Next").click()
        expect(lines).not_to_contain_text('"Number": 0,')
        assert_harmless(opened, "Analysis large · Flower")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()
    assert len(web.ask(f"/analysis/{LARGE}/text/report.json").body) < 200_000
    assert web.ask(f"/analysis/{LARGE}/text/procmon.log?start={10**14}").json()["lines"] == []
    for path, status_code in (("dumps.zip", 409), ("nothing.log", 409), ("procmon.log?start=-1", 400)):
        assert web.ask(f"/analysis/{LARGE}/text/{path}").status == status_code, path


def test_the_answer_for_another_text(web: Web, browser: Browser) -> None:
    """If it is late, it is not shown below the name of the one that was opened since."""
    with tab(browser, web) as opened:
        page = opened.page
        page.route("**/text/procmon.log*", lambda _: None)
        page.goto(f"/analysis/{LARGE}")
        page.get_by_role("button", name="Read procmon.log").click()
        expect(page.get_by_role("dialog", name="procmon.log")).to_contain_text("Loading")
        page.keyboard.press("Escape")
        with page.expect_event("requestfailed", lambda request: "procmon.log" in request.url):
            page.get_by_role("button", name="Read metadata.json").click()
        dialog = page.get_by_role("dialog", name="metadata.json")
        expect(dialog.locator("#text-lines")).to_contain_text("analysis_uid")
        assert opened.complaints == []


def test_all_artifacts_as_one_zip(fleet: Fleet, web: Web, browser: Browser) -> None:
    """What the browser saves is whole: each artifact as in the bucket; what is kept for a retry is none."""
    listed = fleet.storage.list(fleet.settings.drakcelery.bucket, f"{LARGE}/")
    stored = {key: size for key, size in listed.items() if key.removeprefix(f"{LARGE}/") not in KEPT}
    assert len(stored) < len(listed)
    with tab(browser, web) as opened:
        opened.page.goto(f"/analysis/{LARGE}")
        with opened.page.expect_download() as download:
            opened.page.get_by_role("link", name="All of them as one zip").click()
        assert download.value.suggested_filename == f"{LARGE}.zip"
        with zipfile.ZipFile(download.value.path()) as made:
            assert made.testzip() is None
            assert {one.filename: one.file_size for one in made.infolist()} == stored
            assert made.read(f"{LARGE}/procmon.log") == LOG
        assert opened.complaints == []
    assert web.ask("/analysis/nobody/artifacts.zip").status == 404


def test_screenshots(web: Web, browser: Browser) -> None:
    """Images are shown; what only has the name of one is not sent."""
    with tab(browser, web) as opened:
        opened.page.goto(f"/analysis/{LARGE}")
        images = opened.page.locator("#screenshots-list img")
        expect(images).to_have_count(2)
        images.first.scroll_into_view_if_needed()
        wait_until(lambda: images.first.evaluate("image => image.naturalWidth") == 1, "the image")
        assert opened.complaints == []
    good = web.ask(f"/analysis/{LARGE}/screenshot/image_0.png")
    assert (good.status, good.headers.get_content_type(), good.body) == (200, "image/png", PNG)
    assert "sandbox" in (good.headers["Content-Security-Policy"] or "")
    assert web.ask(f"/analysis/{LARGE}/screenshot/image_7.png").status == 409
    assert web.ask(f"/analysis/{SMALL}/screenshots").json() == {"names": []}


def test_a_screenshot_that_is_none(fleet: Fleet, web: Web) -> None:
    """Only what begins as a PNG is sent; of a damaged zip it is said that it is none."""
    store(fleet, SMALL, "screenshots.zip", screenshots(evil=b"<svg/>"))
    assert web.ask(f"/analysis/{SMALL}/screenshot/evil.png").status == 409
    store(fleet, SMALL, "screenshots.zip", b"PK" + PNG)
    assert b"is no zip" in web.ask(f"/analysis/{SMALL}/screenshots").body
    fleet.storage.remove(fleet.settings.drakcelery.bucket, f"{SMALL}/screenshots.zip")


def test_the_log_while_it_runs(fleet: Fleet, web: Web, browser: Browser) -> None:
    """Its lines come while somebody has it open, and stay when the analysis is over."""
    push(fleet, "running", name=HOSTILE, timeout=LONG)
    wait_state(fleet, "running", State.RUNNING)
    with tab(browser, web, width=NARROW) as opened:
        page = opened.page
        asked: list[str] = []
        page.on(
            "request", lambda request: asked.append(request.url) if "/running/live" in request.url else None
        )
        page.goto("/analysis/running")
        expect(page.locator("#state")).to_have_text("RUNNING")
        assert asked == []
        page.get_by_text("Log, as it comes").click()
        log = page.get_by_role("log", name="Log of the analysis")
        expect(log).to_contain_text("stage_done")
        expect(log).to_contain_text("prepare")
        assert_fits(opened)
        record = fleet.record("running")
        assert record is not None
        fleet.ledger.cancel(record, reason="enough", crashed=None)
        expect(page.locator("#state")).to_have_text("CANCELLED")
        expect(log).to_contain_text("stage_done")
    assert web.ask("/analysis/running/live").status == web.ask("/analysis/nobody/live").status == 404


def test_a_zip_that_breaks_off(fleet: Fleet, web: Web) -> None:
    """Four are sent at a time, as slowly as somebody reads; one that lacks something ends before its end."""
    store(fleet, SMALL, "large.bin", bytes(32 * 1024**2))
    with contextlib.ExitStack() as stack:
        url = f"{web.address}/analysis/{SMALL}/artifacts.zip"
        slow = [
            stack.enter_context(urllib.request.urlopen(url, timeout=60))  # noqa: S310 - our own address
            for _ in range(4)
        ]
        assert [one.read(2) for one in slow] == [b"PK"] * 4
        answer = web.ask(f"/analysis/{SMALL}/artifacts.zip")
        assert (answer.status, answer.body) == (503, b"4 zips are being sent; try again later")
        fleet.storage.remove(fleet.settings.drakcelery.bucket, f"{SMALL}/large.bin")
        for one in slow:
            with pytest.raises(http.client.IncompleteRead):
                one.read()
    wait_until(lambda: web.ask(f"/analysis/{SMALL}/artifacts.zip").status == 200, "others are sent")
    assert "zip_broken_off" in web.log.read_text()
