"""Samples that are dropped onto Flower's Fleet page: a real fleet with the replay engine, a real browser."""

from __future__ import annotations

import base64
import http.client
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import pyzipper
from playwright.sync_api import Browser, Locator, expect

from drakcelery.embedded.services import Services
from tests.acceptance.flower_page import (
    HOSTILE,
    NARROW,
    WIDE,
    Tab,
    Web,
    assert_fits,
    chromium,
    flower,
    started_flower,
    tab,
)
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import wait_published
from tests.waiting import wait_until

LARGEST = 100_000
LOGIN = {"Authorization": f"Basic {base64.b64encode(b'alice:secret').decode()}"}
DROP = """
([files]) => {
  const data = new DataTransfer();
  for (const [name, content] of files) data.items.add(new File([content], name));
  for (const type of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}
"""


@pytest.fixture(scope="module")
def fleet(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:  # noqa: ARG001 - a check
    """One host, whose guests end at once; samples are small."""
    directory = tmp_path_factory.mktemp("flower-submit")
    options = Options(hosts=("rack-1",), slots=1, more={"drakcelery": {"max_sample_size": str(LARGEST)}})
    with Services(directory / "servers") as servers, Fleet(directory / "fleet", servers, options) as ours:
        wait_until(lambda: ours.ledger.fleet.hosts() and ours.ledger.bound(), "the fleet is there")
        yield ours


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Flower has its temporary files."""
    return tmp_path_factory.mktemp("rooms")


@pytest.fixture(scope="module")
def web(fleet: Fleet, rooms: Path) -> Iterator[Web]:
    """Flower without a login, on the loopback interface."""
    with started_flower(fleet, "plain", "drakcelery", "flower", TMPDIR=str(rooms)) as ours:
        yield ours


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the whole module."""
    with chromium() as ours:
        yield ours


def lines(opened: Tab) -> Locator:
    """What became of the files."""
    return opened.page.locator("#submit-list li")


def uid_in(line: Locator) -> str:
    """The uid of the analysis to which a line links."""
    expect(line.get_by_role("link")).to_have_count(1, timeout=30_000)
    return line.get_by_role("link").inner_text()


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_dropped_files(fleet: Fleet, web: Web, browser: Browser, width: int) -> None:
    """One that can be analysed is, whatever its name; each that cannot has a line with the reason."""
    with tab(browser, web, width=width) as opened:
        opened.page.goto("/fleet")
        files = [[f"{HOSTILE}", "rem"], ["notes.txt", "nothing to run"], ["big.bat", "x" * (LARGEST + 1)]]
        opened.page.evaluate(DROP, [files])
        expect(lines(opened)).to_have_count(3)
        good = lines(opened).filter(has_text="onerror")
        uid = uid_in(good)
        expect(lines(opened).filter(has_text="notes.txt")).to_contain_text(
            "cannot tell how to start notes.txt"
        )
        expect(lines(opened).filter(has_text="big.bat")).to_contain_text("max_sample_size")
        assert opened.page.locator("#submit.is-over").count() == 0
        assert opened.page.title() != "had"
        assert_fits(opened)
        good.get_by_role("link").click()
        expect(opened.page).to_have_url(re.compile(rf"/analysis/{uid}$"))
    wait_published(fleet, uid)
    record = fleet.record(uid)
    assert record is not None
    assert record.sample is not None
    assert record.sample.name == HOSTILE.rpartition("/")[2]


def test_a_zip_that_is_chosen(fleet: Fleet, web: Web, browser: Browser, rooms: Path, tmp_path: Path) -> None:
    """By keyboard as by mouse; with a password of its own; each of its files has a line. Nothing is left."""
    archive = tmp_path / "mail.zip"
    with pyzipper.AESZipFile(archive, "w", encryption=pyzipper.WZ_AES) as file:
        file.setpassword("Pässword".encode())
        file.writestr("x/a.bat", b"rem a")
        file.writestr("x/b.txt", b"b")
    with tab(browser, web) as opened:
        opened.page.goto("/fleet")
        chooser = opened.page.get_by_label("Drop files or zips")
        chooser.focus()
        expect(chooser).to_be_focused()
        chooser.set_input_files(archive)
        expect(lines(opened).first).to_contain_text("no known password opens the zip mail.zip")
        opened.page.keyboard.press("Tab")
        expect(opened.page.get_by_label("Password of zips")).to_be_focused()
        opened.page.keyboard.type("Pässword")
        chooser.set_input_files(archive)
        expect(lines(opened)).to_have_count(3)
        uid = uid_in(lines(opened).filter(has_text="a.bat"))
        expect(lines(opened).filter(has_text="b.txt")).to_contain_text("cannot tell how to start")
        expect(opened.page.locator("#submit-status")).to_have_text("mail.zip: 1 handed in, 1 refused")
        assert opened.complaints == []
    wait_published(fleet, uid)
    assert [path.name for path in rooms.iterdir()] == []
    assert "Pässword" not in web.log.read_text()


def post(web: Web, body: bytes, headers: Mapping[str, str], *, name: str = "x.bat") -> tuple[int, Any]:
    """Send a file as a program does: status and answer."""
    address = urllib.parse.urlsplit(web.address)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        path = f"{address.path}/fleet/submit?{urllib.parse.urlencode({'name': name})}"
        connection.request("POST", path, body=body, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, orjson.loads(answer.read())
    finally:
        connection.close()


def test_who_may_not(fleet: Fleet, web: Web) -> None:
    """Without the token, without the login, from another page, in read-only mode; nothing is handed in."""
    before = {record.uid for record in (*fleet.ledger.live(), *fleet.ledger.done(newest=100))}
    assert post(web, b"rem", {})[0] == 403
    assert post(web, b"rem", {**web.token(), "Sec-Fetch-Site": "cross-site"})[0] == 403
    with flower(fleet, "guarded", "drakcelery", "flower", FLOWER_BASIC_AUTH="alice:secret") as guarded:
        token = guarded.token(**LOGIN)
        assert post(guarded, b"rem", {name: token[name] for name in ("Cookie", "X-XSRFToken")})[0] == 401
        status, answer = post(guarded, b"rem", token)
        assert status == 200
        (one,) = answer["files"]
        wait_published(fleet, one["uid"])
    with flower(fleet, "read-only", "drakcelery", "flower", FLOWER_READ_ONLY="true") as read_only:
        assert post(read_only, b"rem", read_only.token()) == (403, {"message": "Read only mode is enabled"})
        assert b'id="submit"' not in read_only.ask("/fleet").body
    after = {record.uid for record in (*fleet.ledger.live(), *fleet.ledger.done(newest=100))}
    assert after == before | {one["uid"]}
    assert not fleet.inbox.has_work()


def test_too_large(web: Web, rooms: Path) -> None:
    """It is refused by what its header says, before it comes, with the setting's name."""
    status, answer = post(web, bytes(LARGEST + 1), web.token())
    assert status == 413
    assert answer["message"].endswith(f"at most {LARGEST} bytes are accepted ([drakcelery] max_sample_size)")
    assert [path.name for path in rooms.iterdir()] == []


def test_a_sample_that_breaks_off(web: Web, rooms: Path) -> None:
    """The browser is gone in the middle: nothing is left, and others are taken."""
    address = urllib.parse.urlsplit(web.address)
    for _ in range(10):
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        connection.putrequest("POST", "/fleet/submit?name=x.bat")
        for name, value in {**web.token(), "Content-Length": "50000"}.items():
            connection.putheader(name, value)
        connection.endheaders(b"rem")
        wait_until(lambda: any(rooms.iterdir()), "it has begun")
        connection.close()
        wait_until(lambda: not any(rooms.iterdir()), "nothing is left")
    assert post(web, b"rem", web.token(), name="notes.txt")[0] == 200
