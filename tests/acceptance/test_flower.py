"""Our pages in Flower, on a real fleet with the replay engine and in a real browser.

With ``SCREENSHOTS=<directory>`` the pages are photographed into it: docs/images/ is made so.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from tests.acceptance.deployment import PROGRAMS, execute
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
    push,
    start,
    started_flower,
    tab,
)
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import start_server, stop_server, wait_free, wait_published, wait_state
from tests.terminal import terminal
from tests.waiting import wait_until

HOSTS = ("rack-1", "rack-2")
PROFILES = {"rack-1": "win10-22h2", "rack-2": "win7-x64"}
SLOTS = 3
SCENE = 150
"""The same of those that are looked at."""
DRAKCELERY = PROGRAMS / "drakcelery"
LOGIN = {"Authorization": f"Basic {base64.b64encode(b'alice:secret').decode()}"}


@pytest.fixture(scope="module")
def servers(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:  # noqa: ARG001 - a check
    """Valkey and SeaweedFS of their own: a test stops one of them."""
    with Services(tmp_path_factory.mktemp("servers")) as ours:
        yield ours


@pytest.fixture(scope="module")
def fleet(servers: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts of three slots each, of two profiles; a run lasts as long as its timeout says."""
    directory = tmp_path_factory.mktemp("flower")
    more = {
        "drakcelery": {"default_profile": "win10-22h2", "look_ahead": "1"},
        "profile_rules": {},
    }
    options = Options(
        hosts=HOSTS, slots=SLOTS, profiles=PROFILES, run_seconds=LONG, restore_seconds=0.5, more=more
    )
    with Fleet(directory / "fleet", servers, options) as ours:
        yield ours


@pytest.fixture(scope="module")
def web(fleet: Fleet) -> Iterator[Web]:
    """Flower as most people have it: on the loopback interface, without a login."""
    with started_flower(fleet, "plain", "celery", "-A", "drakcelery", "flower") as ours:
        yield ours


@pytest.fixture(scope="module")
def guarded(fleet: Fleet) -> Iterator[Web]:
    """Flower with a login, started by our own command."""
    with flower(fleet, "guarded", "drakcelery", "flower", FLOWER_BASIC_AUTH="alice:secret") as ours:
        yield ours


@pytest.fixture(scope="module")
def read_only(fleet: Fleet) -> Iterator[Web]:
    """Flower for looking only, behind a path of its own, and with its API open."""
    options = ("--read-only", "--url-prefix=watch")
    with flower(
        fleet,
        "read-only",
        *("celery", "-A", "drakcelery", "flower", *options),
        prefix="/watch",
        FLOWER_UNAUTHENTICATED_API="true",
    ) as ours:
        yield ours


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the whole module."""
    with chromium() as ours:
        yield ours


def wait_clear(fleet: Fleet) -> None:
    """End what still runs, and what follows it, so that the next test finds the fleet empty."""

    def ended() -> bool:
        left = [*fleet.inbox.lines(), *fleet.inbox.accepted(), *(live := list(fleet.ledger.live()))]
        for record in live:
            fleet.ledger.cancel(record, reason="the test is over", crashed=None)
        return not left

    wait_until(ended, "nothing is under way")
    for host in HOSTS:
        wait_free(fleet, host)


@pytest.fixture
def clear(fleet: Fleet) -> Iterator[None]:
    """The fleet is empty after the test."""
    yield
    wait_clear(fleet)


def photograph(opened: Tab, name: str, *, whole: bool = True) -> None:
    """Keep a picture of the *whole* page, or of what the window shows, if somebody asked for pictures."""
    directory = os.environ.get("SCREENSHOTS")
    if directory:
        opened.page.screenshot(path=Path(directory) / f"{name}.png", full_page=whole)


def slot(opened: Tab, host: str, name: str) -> Locator:
    """The tile of a slot."""
    return opened.page.locator(f'[data-host="{host}"] .fleet-slot').filter(has_text=name)


def confirm(opened: Tab, word: str) -> None:
    """Say yes in the dialog that asks."""
    opened.page.locator("#confirm").get_by_role("button", name=word, exact=True).click()


@pytest.fixture(scope="module")
def situation(fleet: Fleet, web: Web) -> None:  # noqa: ARG001 - Flower sees the tasks
    """Analyses of every kind: published, failed and tried again, running, waiting."""
    fleet.plan("resumed", "run.running", "child")
    push(fleet, "resumed", name="invoice-4711.bat", timeout=3, profile="win7-x64")
    push(fleet, "short", name="macro.ps1", timeout=2)
    push(fleet, "shorter", name="setup.bat", timeout=1)
    wait_published(fleet, "short", "shorter", "resumed")
    for number, (name, profile) in enumerate(
        [
            ("order_2207.bat", "win10-22h2"),
            ("quote.ps1", "win10-22h2"),
            ("agent.bat", "win7-x64"),
            ("update-KB5034441.bat", "win10-22h2"),
            ("loader.bat", "win10-22h2"),
            ("dropper.bat", "win10-22h2"),
        ],
        start=1,
    ):
        push(fleet, f"scene-{number}", name=name, profile=profile, timeout=SCENE)
        if number <= SLOTS:
            wait_state(fleet, f"scene-{number}", State.RUNNING)
    wait_state(fleet, "scene-4", State.RUNNING)
    wait_state(fleet, "scene-5", State.QUEUED)
    wait_until(lambda: fleet.inbox.lines(), "the last one stands in line")


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_fleet_page(situation: None, web: Web, browser: Browser, width: int) -> None:  # noqa: ARG001
    """The Fleet page shows slots, queues and analyses, on a telephone and on a desk; Flower leads there."""
    with tab(browser, web, width=width) as opened:
        page = opened.page
        page.goto("/")
        if width < 992:
            page.get_by_role("button", name="Toggle navigation").click()
        page.get_by_role("navigation").get_by_role("link", name="Fleet", exact=True).click()
        expect(page).to_have_url(re.compile(r"/fleet$"))
        expect(page.locator(".app-nav .nav-link.active")).to_have_text("Fleet")
        running = slot(opened, "rack-2", "vm-1")
        expect(running).to_contain_text("agent.bat")
        expect(running).to_contain_text(re.compile(r"\d+:\d\d / 2:30"))
        expect(page.locator("#total-used")).to_have_text("4 of 6")
        expect(page.locator("#total-waiting")).to_have_text("2")
        expect(page.locator('[data-profile="win10-22h2"] [data-part="waiting"]')).to_have_text("2")
        expect(page.locator(".fleet-slot-next")).to_have_count(2 * SLOTS)
        expect(page.locator(".fleet-slot-next:visible")).to_contain_text("next: loader.bat")
        expect(page.locator('[data-uid="short"]')).to_contain_text("PUBLISHED")
        parts = page.locator('[data-uid="resumed"] .fleet-bar span')
        assert [part.get_attribute("class") for part in parts.all()] == [
            f"bar-{name}" for name in ("earlier", "waiting", "prepare", "run", "collect", "upload")
        ]
        assert_fits(opened)
        photograph(opened, f"fleet-{width}", whole=width == WIDE)


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_analysis_page(situation: None, web: Web, browser: Browser, width: int) -> None:  # noqa: ARG001
    """The Analysis page tells what happened over the attempts, and links to Celery's tasks and artifacts."""
    with tab(browser, web, width=width) as opened:
        page = opened.page
        page.goto("/fleet")
        page.get_by_role("link", name="invoice-4711.bat", exact=True).click()
        expect(page.locator("#state")).to_have_text("PUBLISHED")
        events = page.locator("#timeline strong").all_text_contents()
        assert events == [
            *("received", "attempt failed", "queued", "preparing", "running", "collecting", "uploading"),
            "published",
        ]
        failed = page.locator(".fleet-event", has_text="attempt failed")
        expect(failed).to_contain_text("rack-2/vm-1")
        expect(failed).to_contain_text("lost")
        tasks = [link.get_attribute("href") for link in page.get_by_role("link", name="Celery task").all()]
        assert [urllib.parse.unquote(href or "") for href in tasks] == [
            "/task/resumed/1/run",
            *(f"/task/resumed/2/{stage}" for stage in ("prepare", "run", "collect", "upload", "publish")),
        ]
        expect(page.locator("#artifacts")).to_contain_text("dumps.zip")
        expect(page.locator("#artifacts")).to_contain_text("metadata.json")
        assert_fits(opened)
        photograph(opened, f"analysis-{width}", whole=width == WIDE)
        page.get_by_role("link", name="Celery task run").last.click()
        expect(page.locator(".task-name-value")).to_have_text("drakcelery.run")


def test_top_is_recorded(situation: None, fleet: Fleet, browser: Browser) -> None:  # noqa: ARG001
    """`drakcelery top` on a terminal shows the same fleet, and goes on by itself; kept for the docs."""
    program = (DRAKCELERY, "top", "--config", fleet._config[HOSTS[0]])
    with terminal(program, columns=100, lines=32) as top:
        wait_until(lambda: top.shows(r"rack-2/vm-1 +win7-x64 +running .*agent\.bat"), "the slots")
        push(fleet, "passing", name="passing.bat", timeout=2, profile="win7-x64")
        wait_until(
            lambda: top.shows(r"PUBLISHED +\d:\d\d +passing +passing\.bat"), "what has ended meanwhile"
        )
        top.type("q")
        assert top.process.wait(30) == 0
    directory = os.environ.get("SCREENSHOTS")
    if directory:
        top.keep(Path(directory) / "top.cast")
        page = browser.new_page(viewport={"width": 1000, "height": 600})
        page.set_content(top.last_frame())
        page.locator("svg").screenshot(path=Path(directory) / "top.png")
        page.close()


def test_dark(situation: None, web: Web, browser: Browser) -> None:  # noqa: ARG001
    """Flower's dark theme holds for our pages."""
    with tab(browser, web) as opened:
        opened.page.emulate_media(color_scheme="dark")
        opened.page.goto("/fleet")
        expect(opened.page.locator("html")).to_have_attribute("data-bs-theme", "dark")
        expect(slot(opened, "rack-2", "vm-1")).to_be_visible()
        background = opened.page.locator(".fleet-host").first.evaluate(
            "element => getComputedStyle(element).backgroundColor"
        )
        assert background == "rgb(27, 34, 25)"
        assert_fits(opened)


def test_download(situation: None, web: Web, browser: Browser, tmp_path: Path) -> None:  # noqa: ARG001
    """An artifact is saved, not shown, from an address that is good for a minute."""
    answer = web.ask("/analysis/short/artifact/metadata.json")
    assert answer.status == 302
    where = urllib.parse.urlsplit(answer.headers["Location"])
    assert where.netloc == urllib.parse.urlsplit(fleet_s3(web)).netloc
    query = dict(urllib.parse.parse_qsl(where.query))
    assert query["X-Amz-Expires"] == "60"
    assert query["response-content-disposition"] == 'attachment; filename="metadata.json"'
    assert web.ask("/analysis/short/artifact/nothing").status == 404
    assert web.ask("/analysis/nobody/artifact/metadata.json").status == 404
    with tab(browser, web) as opened:
        opened.page.goto("/analysis/short")
        with opened.page.expect_download() as download:
            opened.page.get_by_role("link", name="metadata.json").click()
        assert download.value.suggested_filename == "metadata.json"
        download.value.save_as(tmp_path / "metadata.json")
        assert '"engine"' in (tmp_path / "metadata.json").read_text()
        assert opened.complaints == []


def test_live(fleet: Fleet, situation: None, web: Web, browser: Browser) -> None:  # noqa: ARG001
    """What happens in the fleet is seen without a reload, and a cancelled analysis leaves its slot."""
    with tab(browser, web) as opened:
        page = opened.page
        page.goto("/fleet")
        expect(page.locator("#live-text")).to_have_text("Live")
        page.evaluate("window.loadedOnce = true")
        tile = slot(opened, "rack-2", "vm-2")
        expect(tile).to_have_attribute("data-state", "free")
        push(fleet, "live", name="live.bat", profile="win7-x64")
        expect(tile).to_have_attribute("data-state", "running", timeout=30_000)
        expect(tile).to_contain_text("live.bat")
        row = page.locator('[data-uid="live"]')
        expect(row).to_contain_text("RUNNING")
        record = fleet.record("live")
        assert record is not None
        fleet.ledger.cancel(record, reason="enough", crashed=None)
        expect(row).to_contain_text("CANCELLED", timeout=30_000)
        expect(tile).to_have_attribute("data-state", "free", timeout=30_000)
        assert page.evaluate("window.loadedOnce")
        assert opened.complaints == []


def test_cancel_and_retry(fleet: Fleet, web: Web, browser: Browser, clear: None) -> None:  # noqa: ARG001
    """Cancel asks first, and says who it was; its sample is analysed again beside it."""
    push(fleet, "unwanted", profile="win7-x64")
    wait_state(fleet, "unwanted", State.RUNNING)
    with tab(browser, web) as opened:
        page = opened.page
        page.goto("/analysis/unwanted")
        expect(page.locator("#state")).to_have_text("RUNNING")
        page.get_by_role("button", name="Cancel", exact=True).click()
        expect(page.locator("#confirm")).to_be_visible()
        page.locator("#confirm").get_by_role("button", name="No", exact=True).click()
        expect(page.locator("#confirm")).to_be_hidden()
        expect(page.locator("#state")).to_have_text("RUNNING")
        page.get_by_role("button", name="Cancel", exact=True).click()
        expect(page.locator("#confirm")).to_have_css("opacity", "1")
        expect(page.locator("#confirm-yes")).to_be_in_viewport(ratio=1)
        photograph(opened, "cancel", whole=False)
        confirm(opened, "Cancel the analysis")
        expect(page.locator("#state")).to_have_text("CANCELLED")
        expect(page.locator("#error")).to_have_text("cancelled by flower")
        expect(page.locator(".toast")).to_contain_text("analysis unwanted is cancelled")
        page.get_by_role("button", name="Analyse again", exact=True).click()
        confirm(opened, "Analyse again")
        expect(page.locator(".toast").last).to_contain_text("of the same sample is in Karton")
        page.locator("#retries").get_by_role("link").click()
        expect(page.locator("#retries")).to_contain_text("A retry of unwanted")
        expect(page.locator("#state")).to_have_text("RUNNING", timeout=30_000)
        page.goto("/fleet")
        expect(page.get_by_role("link", name="retry of unwanted").first).to_be_visible()
        is_hidden = "one => one.scrollWidth > one.clientWidth || !one.firstChild.clientWidth"
        hidden = page.locator(".fleet-row-sample").evaluate_all(f"all => all.filter({is_hidden}).length")
        assert hidden == 0, "a row has its name, and what is beside it, in its own cell"
        assert_fits(opened)


def test_drain(fleet: Fleet, web: Web, browser: Browser, clear: None) -> None:  # noqa: ARG001
    """Drain asks first; nothing new begins on that host until it is undrained."""
    with tab(browser, web) as opened:
        page = opened.page
        page.goto("/fleet")
        host = page.locator('[data-host="rack-2"]')
        host.get_by_role("button", name="Drain", exact=True).click()
        confirm(opened, "Drain")
        expect(host).to_contain_text("Draining")
        expect(slot(opened, "rack-2", "vm-3")).to_have_attribute("data-state", "drained")
        push(fleet, "patient", profile="win7-x64", timeout=1)
        expect(page.locator('[data-profile="win7-x64"] [data-part="waiting"]')).to_have_text(
            "1", timeout=30_000
        )
        host.get_by_role("button", name="Undrain", exact=True).click()
        confirm(opened, "Undrain")
        expect(host).to_contain_text("Online")
        wait_published(fleet, "patient")
        assert opened.complaints == []


def test_a_slot_in_quarantine(fleet: Fleet, web: Web, browser: Browser, clear: None) -> None:  # noqa: ARG001
    """Its whole name is read on a telephone, too, and who put it there."""
    config = fleet._config["rack-1"]
    assert execute(DRAKCELERY, "quarantine", "rack-1/vm-3", config=config).returncode == 0
    with tab(browser, web, width=NARROW) as opened:
        opened.page.goto("/fleet")
        tile = slot(opened, "rack-1", "vm-3")
        expect(tile).to_contain_text(re.compile(r"quarantined.*for \d+:\d\d · by .+@", re.DOTALL))
        assert tile.locator("strong").evaluate("name => name.scrollWidth <= name.clientWidth")
        assert_fits(opened)
    assert execute(DRAKCELERY, "release", "rack-1/vm-3", config=config).returncode == 0


def test_hostile_name(fleet: Fleet, web: Web, browser: Browser, clear: None) -> None:  # noqa: ARG001
    """A sample whose name is markup and script stays a name, on both pages."""
    push(fleet, "hostile", name=HOSTILE, profile="win7-x64")
    wait_state(fleet, "hostile", State.RUNNING)
    shown = HOSTILE.replace("\u202e", "\ufffd")
    with tab(browser, web) as opened:
        page = opened.page
        page.goto("/fleet")
        expect(page.locator('[data-uid="hostile"] .fleet-row-name')).to_have_text(shown)
        expect(page.locator(".fleet-slot-sample").filter(has_text="<img")).to_have_count(1)
        page.locator('[data-uid="hostile"] .fleet-row-name').click()
        expect(page.locator("#sample")).to_have_text(shown)
        expect(page.locator("#state")).to_have_text("RUNNING")
        assert page.locator("main img").count() == 0
        assert page.title() == "Analysis hostile · Flower"
        assert opened.complaints == []


def fleet_s3(web: Web) -> str:
    """Where artifacts are, as the page's own Flower was told."""
    text = (web.log.parent.parent / f"{HOSTS[0]}.ini").read_text()
    found = re.search(r"^address = (.+)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


CHANGES = ("/fleet/host/rack-2/drain", "/analysis/guarded/cancel", "/analysis/guarded/retry")


@pytest.fixture(scope="module")
def victim(fleet: Fleet) -> None:
    """An analysis that nobody should be able to cancel."""
    push(fleet, "guarded", profile="win7-x64")
    wait_state(fleet, "guarded", State.RUNNING)


def assert_nothing_happened(fleet: Fleet) -> None:
    """The analysis runs, and no host is drained."""
    record = fleet.record("guarded")
    assert record is not None
    assert record.state is State.RUNNING
    assert not any(host.draining for host in fleet.ledger.fleet.hosts())


@pytest.mark.parametrize("path", CHANGES)
def test_no_change_without_the_token(fleet: Fleet, victim: None, web: Web, path: str) -> None:  # noqa: ARG001
    """Each button needs the XSRF token, with a login or without, and is no link."""
    token = web.token()
    for headers in (
        {},
        {"Cookie": token["Cookie"]},
        {"X-XSRFToken": token["X-XSRFToken"]},
        {"Cookie": token["Cookie"], "X-XSRFToken": web.token()["X-XSRFToken"]},
    ):
        answer = web.ask(path, method="POST", headers=headers)
        assert answer.status == 403, headers
        assert "XSRF" in answer.json()["message"] or "_xsrf" in answer.json()["message"]
    assert web.ask(path, headers=token).status == 405
    assert_nothing_happened(fleet)


@pytest.mark.parametrize("path", CHANGES)
def test_no_change_without_login(fleet: Fleet, victim: None, guarded: Web, path: str) -> None:  # noqa: ARG001
    """Flower's login holds for buttons; a token that somebody has got hold of does not replace it."""
    token = guarded.token(**LOGIN)
    del token["Authorization"]
    assert guarded.ask(path, method="POST", headers=token).status == 401
    crossing = {**guarded.token(**LOGIN), "Sec-Fetch-Site": "cross-site"}
    assert guarded.ask(path, method="POST", headers=crossing).status == 403
    assert guarded.ask(path, method="POST", headers=LOGIN).status == 403
    assert_nothing_happened(fleet)


@pytest.mark.parametrize("path", CHANGES)
def test_no_change_in_read_only_mode(fleet: Fleet, victim: None, read_only: Web, path: str) -> None:  # noqa: ARG001
    """Read-only mode refuses whoever asks."""
    answer = read_only.ask(path, method="POST", headers=read_only.token())
    assert answer.status == 403
    assert answer.json() == {"message": "Read only mode is enabled"}
    assert_nothing_happened(fleet)


def test_read_only_pages(victim: None, read_only: Web, browser: Browser) -> None:  # noqa: ARG001
    """In read-only mode there are no buttons; behind a path of Flower's own every link still fits."""
    with tab(browser, read_only) as opened:
        page = opened.page
        page.goto(f"{read_only.address}/fleet")
        expect(page.locator("#live-text")).to_have_text("Live")
        expect(page.locator("#hosts").get_by_role("button")).to_have_count(0)
        page.locator('[data-uid="guarded"] .fleet-row-name').click()
        expect(page).to_have_url(re.compile(r"/watch/analysis/guarded$"))
        expect(page.locator("#state")).to_have_text("RUNNING")
        expect(page.locator(".fleet-actions").get_by_role("button")).to_have_count(0)
        assert opened.complaints == []


def test_pages_need_the_login(guarded: Web) -> None:
    """Without Flower's login there is no page, no data and no download."""
    for path in (
        "/fleet",
        "/fleet?json=1",
        "/analysis/guarded",
        "/analysis/guarded/artifact/metadata.json",
        *("/analysis/guarded/report/overview", "/analysis/guarded/indicators"),
        *("/analysis/guarded/text/metadata.json", "/analysis/guarded/artifacts.zip"),
        *("/analysis/guarded/live", "/analysis/guarded/report/timeline"),
        *("/analysis/guarded/screenshots", "/analysis/guarded/screenshot/a.png"),
        *("/api/fleet", "/api/analyses", "/api/analysis/guarded"),
        *("/fleet/find", "/api/find"),
    ):
        assert guarded.ask(path).status == 401, path


def test_api(fleet: Fleet, victim: None, web: Web, guarded: Web, read_only: Web) -> None:  # noqa: ARG001
    """The API answers whom Flower's own API answers."""
    for path in ("/api/fleet", "/api/analyses", "/api/analysis/guarded"):
        assert web.ask(path).status == web.ask("/api/workers").status == 401
        assert read_only.ask(path).status == 200
    assert read_only.ask("/fleet").status == 200
    view = guarded.ask("/api/fleet", headers=LOGIN).json()
    assert {host["host"]: host["online"] for host in view["hosts"]} == dict.fromkeys(HOSTS, True)
    assert [one["uid"] for one in guarded.ask("/api/analyses?limit=1", headers=LOGIN).json()] == ["guarded"]
    for limit in ("0", "1001", "many"):
        assert guarded.ask(f"/api/analyses?limit={limit}", headers=LOGIN).status == 400
    one = guarded.ask("/api/analysis/guarded", headers=LOGIN).json()
    assert (one["row"]["state"], one["row"]["host"], one["may_cancel"]) == ("RUNNING", "rack-2", True)
    assert guarded.ask("/api/analysis/nobody", headers=LOGIN).status == 404
    fleet_secret = fleet.settings.s3.secret_key
    assert fleet_secret is not None
    assert fleet_secret.get_secret_value() not in str(one)


@pytest.mark.parametrize(
    ("asked", "uids"),
    [
        ("text=guar", ["guarded"]),
        ("uid=guarded&limit=1&state=RUNNING&host=rack-2", ["guarded"]),
        ("name=PROBE&since=1h&until=2099-01-01&uid=guar", ["guarded"]),
        ("uid=guarded&profile=nowhere", []),
        ("text=%00%1b%5B%27%25%2A%F0%9F%98%80", []),
    ],
)
def test_search_in_the_api(victim: None, guarded: Web, asked: str, uids: list[str]) -> None:  # noqa: ARG001
    """Finds by what is asked for together, whatever it is."""
    view = guarded.ask(f"/api/find?{asked}", headers=LOGIN).json()
    assert [one["uid"] for one in view["analyses"]] == uids
    assert view["next"] is None


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("limit=0", 400),
        ("limit=%C2%B2", 400),
        ("state=ASLEEP", 400),
        ("since=yesterday", 400),
        ("colour=red", 400),
        ("after=nonsense", 409),
        ("sha256=xyz", 409),
    ],
)
def test_what_the_search_refuses(victim: None, guarded: Web, asked: str, status: int) -> None:  # noqa: ARG001
    """What it cannot look for is an error of whoever asks."""
    assert guarded.ask(f"/api/find?{asked}", headers=LOGIN).status == status
    assert guarded.ask(f"/fleet/find?{asked}", headers=LOGIN).status == status


def test_search_on_the_fleet_page(victim: None, read_only: Web, browser: Browser) -> None:  # noqa: ARG001
    """What is found stands in the place of the analyses, until the search is cleared."""
    with tab(browser, read_only) as opened:
        page = opened.page
        page.goto(f"{read_only.address}/fleet")
        expect(page.locator('[data-uid="guarded"]')).to_be_visible()
        page.get_by_text("More to search by").click()
        page.get_by_label("Host", exact=True).fill("nowhere")
        page.get_by_role("button", name="Find").click()
        expect(page.locator("#find-empty")).to_be_visible()
        expect(page.locator("#analyses > *")).to_have_count(0)
        page.get_by_label("Host", exact=True).fill("rack-2")
        page.get_by_label("Beginning of a uid").fill("guar")
        page.keyboard.press("Enter")
        expect(page.locator("#analyses > *")).to_have_count(1)
        expect(page.locator('[data-uid="guarded"]')).to_be_visible()
        page.get_by_role("button", name="Clear").click()
        expect(page.locator("#find-empty")).to_be_hidden()
        page.goto(f"{read_only.address}/analysis/guar")
        expect(page).to_have_url(re.compile(r"/watch/analysis/guarded$"))
        assert opened.complaints == []


EVERY_KIND = (
    *("/fleet", "/fleet?json=1", "/analysis/guarded", "/api/fleet", "/fleet/static/page.js"),
    *("/", "/workers", "/tasks", "/tasks/datatable", "/broker", "/api/workers", "/metrics", "/healthcheck"),
    *("/static/favicon.ico", "/nothing"),
)
"""Ours and Flower's own."""


def test_no_other_name(web: Web, guarded: Web) -> None:
    """Without a login, a domain that somebody else points to this machine gets nothing (DNS rebinding)."""
    for path in EVERY_KIND:
        answer = web.ask(path, headers={"Host": "evil.example"})
        assert (answer.status, b"allowed_hosts" in answer.body) == (403, True), path
    stranger = {**web.token(), "Host": "evil.example"}
    answer = web.ask("/fleet/host/rack-2/drain", method="POST", headers=stranger)
    assert answer.status == 403
    assert "allow_unauthenticated" in answer.json()["message"]
    assert guarded.ask("/fleet", headers={**LOGIN, "Host": "flower.example"}).status == 200


FOREIGN = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://127.0.0.1:1"},
)
"""What browsers say about pages that are not Flower's."""


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("path", CHANGES)
def test_no_change_by_another_page(
    fleet: Fleet,
    victim: None,  # noqa: ARG001 it runs
    web: Web,
    guarded: Web,
    path: str,
    foreign: dict[str, str],
) -> None:
    """A page that could plant a cookie to match its token is refused, with a login or without (S9)."""
    planted = {"Cookie": f"_xsrf={'a' * 32}", "X-XSRFToken": "a" * 32}
    for token in (planted, web.token()):
        answer = web.ask(path, method="POST", headers={**token, **foreign})
        assert answer.status == 403
        assert "own pages" in answer.json()["message"]
    assert guarded.ask(path, method="POST", headers={**guarded.token(**LOGIN), **foreign}).status == 403
    assert_nothing_happened(fleet)


@pytest.mark.parametrize("foreign", FOREIGN)
def test_no_change_of_flower_s_own_by_another_page(
    fleet: Fleet, read_only: Web, foreign: dict[str, str]
) -> None:
    """Flower's API, open to programs without a login, is not open to other people's web pages (S9)."""
    for path in ("/api/worker/shutdown/vm@rack-2", "/api/task/revoke/guarded", "/api/task/send-task/x"):
        answer = read_only.ask(path, method="POST", headers=foreign)
        assert (answer.status, "own pages" in answer.json().get("message", "")) == (403, True), path
    assert {status.host for status in fleet.ledger.fleet.hosts()} == set(HOSTS)


def test_who_it_was(fleet: Fleet, guarded: Web, clear: None) -> None:  # noqa: ARG001
    """The login's name stands where the deed is seen later."""
    push(fleet, "signed", profile="win7-x64")
    wait_state(fleet, "signed", State.RUNNING)
    answer = guarded.ask("/analysis/signed/cancel", method="POST", headers=guarded.token(**LOGIN))
    assert answer.json() == {"message": "analysis signed is cancelled"}
    record = fleet.record("signed")
    assert record is not None
    assert record.error == "cancelled by flower:alice"
    again = guarded.ask("/analysis/signed/cancel", method="POST", headers=guarded.token(**LOGIN))
    assert again.status == 409
    assert again.json()["message"] == "analysis signed is over already: CANCELLED"


def test_names_that_are_allowed(fleet: Fleet) -> None:
    """Behind a proxy Flower answers to the proxy's name, and its pages may ask for changes (S9)."""
    command = ("celery", "-A", "drakcelery", "flower")
    names = {"DRAKCELERY_FLOWER_ALLOWED_HOSTS": "flower.example, other.example"}
    with flower(fleet, "named", *command, **names) as named:
        for path in ("/fleet", "/workers"):
            assert named.ask(path, headers={"Host": "Flower.example"}).status == 200
            assert named.ask(path, headers={"Host": "evil.example"}).status == 403
        own = {**named.token(), "Host": "flower.example"}
        for sign in ({"Origin": "https://flower.example"}, {"Sec-Fetch-Site": "same-origin"}):
            asked = {**own, **sign}
            answer = named.ask("/fleet/host/rack-9/drain", method="POST", headers=asked)
            assert answer.status in (404, 409, 503), answer.body
        stranger = {**own, "Origin": "https://evil.example"}
        assert named.ask("/fleet/host/rack-2/drain", method="POST", headers=stranger).status == 403


def test_it_says_where_it_listens(web: Web) -> None:
    """Flower's log names the address, which is a loopback one unless somebody chose another."""
    line = next(line for line in web.log.read_text().splitlines() if "flower_listens" in line)
    assert "127.0.0.1" in line


@pytest.mark.parametrize(
    "command",
    [
        ("celery", "-A", "drakcelery", "flower", "--address=0.0.0.0"),
        ("celery", "-A", "drakcelery", "flower", "--address="),
        ("drakcelery", "flower"),
    ],
)
def test_open_to_all_is_refused(fleet: Fleet, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Beyond loopback and without a login Flower ends with a sentence, before it listens."""
    process = start(
        fleet,
        *command,
        log=tmp_path / "log",
        environment={"DRAKCELERY_FLOWER_ADDRESS": "0.0.0.0"},  # noqa: S104 - to be refused
    )
    try:
        assert process.wait(timeout=60) == 1
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        raise
    said = (tmp_path / "log").read_text()
    assert "without a login" in said
    assert "allow_unauthenticated" in said
    assert "Traceback" not in said


def test_away(fleet: Fleet, web: Web, browser: Browser) -> None:
    """A host that goes shows as offline, and the page goes on."""
    with tab(browser, web) as opened:
        page = opened.page
        page.goto("/fleet")
        host = page.locator('[data-host="rack-1"]')
        expect(host).to_contain_text("Online")
        process = fleet.processes["vm@rack-1"].running
        process.terminate()
        process.wait(timeout=60)
        expect(host).to_contain_text("Offline", timeout=30_000)
        expect(host.get_by_role("button")).to_have_count(0)
        assert opened.complaints == []
    fleet.respawn()
    wait_until(lambda: len(fleet.ledger.fleet.hosts()) == len(HOSTS), "the host is back")


def test_servers_away(fleet: Fleet, servers: Services, situation: None, web: Web, browser: Browser) -> None:  # noqa: ARG001
    """Without S3 an analysis is shown, and why its artifacts are not; without Redis the page says so."""
    with tab(browser, web) as opened:
        page = opened.page
        page.goto("/analysis/short")
        expect(page.locator("#artifacts")).to_contain_text("metadata.json")
        # What is asked for before the server stops would be answered with its absence
        expect(page.locator("#report-ending")).not_to_be_empty()
        expect(page.locator(".report-panel:not([hidden]) .report-status")).not_to_be_empty()
        stop_server(servers, "SeaweedFS")
        expect(page.locator("#artifacts-empty")).to_contain_text("does not answer", timeout=30_000)
        expect(page.locator("#state")).to_have_text("PUBLISHED")
        assert web.ask("/analysis/short/artifact/metadata.json").status == 409
        assert opened.complaints == []
        stop_server(servers, "Valkey")
        expect(page.locator("#live-text")).to_have_text("Karton's Redis does not answer", timeout=30_000)
        start_server(servers, "Valkey")
        start_server(servers, "SeaweedFS")
        expect(page.locator("#live-text")).to_have_text("Live", timeout=30_000)
        expect(page.locator("#artifacts")).to_contain_text("metadata.json", timeout=30_000)
