"""Flower behind the nginx of docs/reverse-proxy.md, below a path, by TLS and by name."""

from __future__ import annotations

import base64
import io
import re
import urllib.request
import zipfile
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from drakcelery.settings.sections import DrakcelerySection
from tests.acceptance import proxy
from tests.acceptance.flower_page import Web, chromium, flower, one_host, push, tab
from tests.acceptance.proxy import LOGIN, NAME, PREFIX, Proxy, nginx
from tests.faults.fleet import Fleet
from tests.faults.watch import wait_published, wait_state
from tests.servers import lent

HOST = "rack-1"
COMMAND = ("drakcelery", "flower", f"--url-prefix={PREFIX}")
BASIC = {"Authorization": f"Basic {base64.b64encode(LOGIN.encode()).decode()}"}
SECURITY = (
    *("Content-Security-Policy", "Cross-Origin-Resource-Policy", "Referrer-Policy"),
    *("X-Content-Type-Options", "Cache-Control"),
)


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host with a published analysis."""
    options = one_host(HOST)
    directory = tmp_path_factory.mktemp("reverse-proxy")
    with lent(services) as ours, Fleet(directory / "fleet", ours, options) as made:
        push(made, "published", name="invoice.bat", timeout=1)
        wait_published(made, "published")
        yield made


@pytest.fixture(scope="module")
def behind(fleet: Fleet) -> Iterator[Web]:
    """Flower as the page says: a prefix, a name, no login of its own, on the loopback interface."""
    names = {"DRAKCELERY_FLOWER_ALLOWED_HOSTS": NAME}
    with flower(fleet, "behind", *COMMAND, prefix=PREFIX, **names) as ours:
        yield ours


@pytest.fixture(scope="module")
def front(behind: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The page's nginx before it, which asks for the login."""
    with nginx(tmp_path_factory.mktemp("nginx") / "one", behind) as ours:
        yield ours


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for which the name leads here."""
    expect.set_options(timeout=30_000)
    with chromium(f"--host-resolver-rules=MAP {NAME} 127.0.0.1") as ours:
        yield ours
    expect.set_options()


def test_the_pages_work(fleet: Fleet, front: Proxy, browser: Browser) -> None:
    """Links, files, data, the live log, a search and a button: all below the path, none fails."""
    push(fleet, "running", name="agent.bat")
    wait_state(fleet, "running", State.RUNNING)
    asked: list[str] = []
    failed: list[str] = []
    user, _, password = LOGIN.partition(":")
    login = {"username": user, "password": password}
    with tab(browser, front.web, ignore_https_errors=True, http_credentials=login) as opened:
        page = opened.page
        page.on("request", lambda one: asked.append(one.url))
        page.on("response", lambda one: failed.append(one.url) if one.status >= 400 else None)
        page.goto(front.address)
        page.get_by_role("link", name="Fleet", exact=True).click()
        expect(page).to_have_url(f"{front.address}/fleet")
        expect(page.locator("#live-text")).to_have_text("Live")
        page.get_by_label("Beginning of a uid").fill("run")
        page.get_by_role("button", name="Find").click()
        expect(page.locator("#analyses > *")).to_have_count(1)
        page.get_by_role("link", name="agent.bat").last.click()
        expect(page).to_have_url(f"{front.address}/analysis/running")
        page.get_by_text("Log, as it comes").click()
        expect(page.locator("#live-lines")).to_contain_text("run_replayed")
        page.get_by_text("Log, as it comes").click()  # asked for what is over, it would say so
        page.get_by_role("button", name="Cancel").click()
        page.locator("#confirm").get_by_role("button", name="Cancel the analysis").click()
        expect(page.locator("#toast-container")).to_contain_text("analysis running is cancelled")
        expect(page.locator("#state")).to_have_text("CANCELLED")
        page.goto(f"{front.address}/analysis/published")
        expect(page.get_by_role("treeitem").first).to_be_visible()
        page.get_by_role("button", name="Read drakrun.log").click()
        expect(page.locator("#text-lines")).to_contain_text("slot_restored")
        assert opened.complaints == []
    assert failed == []
    assert {url for url in asked if not url.startswith((f"{front.address}/", "data:"))} <= {front.address}


def test_who_is_let_in(behind: Web, front: Proxy) -> None:
    """Who has the proxy's login, under the proxy's name; a request that only claims that name is not."""
    page = f"{PREFIX}/fleet"
    assert front.ask(page).status == 401
    wrong = {"Authorization": f"Basic {base64.b64encode(b'alice:wrong').decode()}"}
    assert front.ask(page, headers=wrong).status == 401
    assert front.ask(page, headers=BASIC).status == 200
    answer = front.ask(page, headers={**BASIC, "Host": "evil.example", "X-Forwarded-Host": NAME})
    assert (answer.status, b"allowed_hosts" in answer.body) == (403, True)
    assert behind.ask("/fleet", headers={"Host": "evil.example", "X-Forwarded-Host": NAME}).status == 403


def test_no_change_by_another_page(front: Proxy) -> None:
    """A page of another site is refused through the proxy as well, whatever else it sends."""
    cookies = front.ask(f"{PREFIX}/fleet", headers=BASIC).headers["Set-Cookie"]
    (token,) = re.findall(r"_xsrf=([^;]+)", cookies)
    own = {**BASIC, "Cookie": f"_xsrf={token}", "X-XSRFToken": token, "Content-Length": "0"}
    path = f"{PREFIX}/analysis/published/cancel"
    assert front.ask(path, method="POST", headers={**own, "Sec-Fetch-Site": "same-origin"}).status == 409
    for foreign in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = front.ask(
            path, method="POST", headers={**own, **foreign, "X-Forwarded-Host": "evil.example"}
        )
        assert (answer.status, b"own pages" in answer.body) == (403, True)


@pytest.mark.parametrize(
    "path", ["/fleet", "/analysis/published", "/analysis/nobody", "/fleet/find", "/nothing"]
)
def test_what_protects_the_browser_stays(behind: Web, front: Proxy, path: str) -> None:
    """Flower's security headers come through once and unchanged; nginx adds that TLS is a must."""
    direct, answer = behind.ask(path), front.ask(f"{PREFIX}{path}", headers=BASIC)
    assert answer.status == direct.status
    for name in SECURITY:
        assert answer.headers.get_all(name) == direct.headers.get_all(name), name
        assert len(answer.headers.get_all(name) or ()) == 1, name
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_parts_and_downloads(front: Proxy) -> None:
    """A part of a file, an artifact by S3 and a part of it, all as a zip; the proxy keeps nothing of it."""
    part = {**BASIC, "Range": "bytes=3-11"}
    script = front.ask(f"{PREFIX}/fleet/static/page.js", headers=BASIC).body
    answer = front.ask(f"{PREFIX}/fleet/static/page.js", headers=part)
    assert (answer.status, answer.body) == (206, script[3:12])
    sent = front.ask(f"{PREFIX}/analysis/published/artifact/metadata.json", headers=BASIC)
    assert sent.status == 302
    request = urllib.request.Request(sent.headers["Location"], headers={"Range": "bytes=0-0"})  # noqa: S310 - our S3
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - our S3
        assert (response.status, response.read()) == (206, b"{")
    whole = front.ask(f"{PREFIX}/analysis/published/artifacts.zip", headers=BASIC)
    with zipfile.ZipFile(io.BytesIO(whole.body)) as made:
        assert made.testzip() is None
        assert "published/metadata.json" in made.namelist()
    assert front.kept() == []


def test_the_login_of_flower(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without nginx's login Flower's own is asked for through it, and Flower knows who it was."""
    names = {"DRAKCELERY_FLOWER_ALLOWED_HOSTS": NAME, "FLOWER_BASIC_AUTH": LOGIN, "FLOWER_URL_PREFIX": PREFIX}
    push(fleet, "guarded", name="other.bat")
    wait_state(fleet, "guarded", State.RUNNING)
    directory = tmp_path_factory.mktemp("nginx") / "two"
    with (
        flower(fleet, "login", "drakcelery", "flower", prefix=PREFIX, **names) as ours,
        nginx(directory, ours, has_login=False) as front,
    ):
        page = front.ask(f"{PREFIX}/fleet", headers={"Accept": "text/html"})
        assert (page.status, b"Please log in" in page.body) == (401, True)
        assert page.headers["WWW-Authenticate"].startswith("Basic ")
        answer = front.ask(f"{PREFIX}/fleet", headers=BASIC)
        (token,) = re.findall(r"_xsrf=([^;]+)", answer.headers["Set-Cookie"])
        own = {**BASIC, "Cookie": f"_xsrf={token}", "X-XSRFToken": token, "Origin": f"https://{NAME}"}
        answer = front.ask(f"{PREFIX}/analysis/guarded/cancel", method="POST", headers=own)
        assert answer.json() == {"message": "analysis guarded is cancelled"}
    record = fleet.record("guarded")
    assert record is not None
    assert record.error == "cancelled by flower:alice"


def test_a_sample_fits_through() -> None:
    """The proxy lets through what the settings allow, and some more for what goes with it."""
    (megabytes,) = re.findall(r"client_max_body_size +(\d+)m;", proxy.documented())
    assert 1.01 < int(megabytes) * 1024**2 / DrakcelerySection().max_sample_size < 1.1
