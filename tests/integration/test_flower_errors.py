"""What Flower answers where there is no page: a sentence in our form, and where to go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from flower.urls import settings as flower_settings
from flower.views import BaseHandler
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.options import options

from drakcelery.embedded.ports import LOOPBACK
from drakcelery.flower.application import FleetFlower
from drakcelery.flower.kinds import POLICY, Page
from drakcelery.flower.reading import Reader
from tests.bench import Bench, bench
from tests.ledgers import inbox_of
from tests.objects import put_bytes
from tests.operating import fleet

__all__ = ("bench", "fleet")

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
SECRET = "hunter2"
"""Is in the exception, and in no answer."""


class Broken(Page):
    """A page of ours with a fault in it."""

    def get(self) -> None:
        """Fail as nobody expects."""
        raise RuntimeError(SECRET)


class TheirsBroken(BaseHandler):  # type: ignore[misc] # Flower has no type information
    """The same of Flower's own."""

    def get(self) -> None:
        """Fail as nobody expects."""
        raise RuntimeError(SECRET)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Asks a Flower in this process."""

    address: str

    async def __call__(self, path: str, *, method: str = "GET", **headers: str) -> HTTPResponse:
        """As a browser, unless *headers* say otherwise."""
        return await AsyncHTTPClient().fetch(
            f"{self.address}{path}",
            method=method,
            headers={**BROWSER, **headers},
            body="" if method == "POST" else None,
            follow_redirects=False,
            raise_error=False,
        )


@asynccontextmanager
async def flower(fleet: Bench, *, prefix: str = "", login: str = "") -> AsyncIterator[Asking]:
    """Flower on the bench's Redis and S3."""

    def reader(executor: Executor, remote: Executor) -> Reader:
        ledger = fleet.ledger
        return Reader(
            settings=fleet.context.settings,
            ledger=ledger,
            inbox=inbox_of(ledger),
            executor=executor,
            remote=remote,
        )

    given = {**options.as_dict(), "url_prefix": prefix, "basic_auth": [login] if login else []}
    app: Any = FleetFlower(
        options=SimpleNamespace(**given),
        capp=Celery(set_as_current=False),
        make_reader=reader,
        **{**flower_settings, "static_url_prefix": f"/{prefix}/static/" if prefix else "/static/"},
    )
    app.add_handlers(r".*", [("/broken", Broken), ("/theirs", TheirsBroken)])
    server = HTTPServer(app)
    (socket,) = bind_sockets(0, LOOPBACK)
    server.add_socket(socket)
    try:
        yield Asking(address=f"http://{LOOPBACK}:{socket.getsockname()[1]}")
    finally:
        server.stop()
        app.stop()
        app.executor.shutdown()


def heading(answer: HTTPResponse) -> str:
    """The one heading of the first level."""
    (found,) = re.findall(r"<h1[^>]*>([^<]*)</h1>", answer.body.decode())
    return str(found)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nothing", 404, "There is nothing here"),
        ("/analysis/nobody", 404, "There is no analysis nobody"),
        ("/analysis/over-1/artifact/nothing", 404, "There is nothing here"),
        ("/analysis/over", 409, "This did not work"),
        ("/broken", 500, "Flower could not answer"),
        ("/theirs", 500, "Flower could not answer"),
        ("/task/unknown", 404, "There is nothing here"),
    ],
)
def test_a_page_says_what_happened(fleet: Bench, path: str, status: int, said: str) -> None:
    """One heading, a sentence, a way to the Fleet page; and nothing of what failed inside."""
    fleet.open("over-2")

    async def look() -> None:
        async with flower(fleet) as ask:
            answer = await ask(path)
            text = answer.body.decode()
            assert (answer.code, heading(answer)) == (status, said)
            assert 'href="/fleet"' in text
            assert SECRET not in text
            assert "Traceback" not in text

    asyncio.run(look())


@pytest.mark.parametrize(
    ("path", "status"),
    [("/fleet", 200), ("/fleet?json=1", 200), ("/analysis/over-1", 200), ("/nothing", 404)],
)
def test_only_the_headers(fleet: Bench, path: str, status: int) -> None:
    """HEAD has the status and the headers of GET, and no content; before a login it shows nothing either."""
    fleet.open("over-1")

    async def look() -> None:
        async with flower(fleet) as ask, flower(fleet, login="alice:secret") as guarded:
            whole, head = await ask(path), await ask(path, method="HEAD")
            assert (whole.code, head.code, head.body) == (status, status, b"")
            assert head.headers["Content-Security-Policy"] == whole.headers["Content-Security-Policy"]
            if status == 200:
                assert (await guarded(path, method="HEAD")).code == 401

    asyncio.run(look())


def test_an_analysis_that_has_expired(fleet: Bench) -> None:
    """The page tells one that has left its artifacts from one of which nothing is known."""
    ours = fleet.context.settings
    put_bytes(fleet.context.storage, ours.drakcelery.bucket, "ghost/metadata.json", b"{}")

    async def look() -> None:
        async with flower(fleet) as ask:
            expired = (await ask("/analysis/ghost")).body.decode()
            assert "Its record has expired: records stay for 7 days" in expired
            assert "below ghost/" in expired
            unknown = (await ask("/analysis/nobody")).body.decode()
            assert "The uid may be mistyped" in unknown
            assert 'href="/fleet?text=nobody"' in unknown

    asyncio.run(look())


@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [
        ("/analysis/nobody?json=1", 404, {}),
        ("/analysis/nobody/report/overview", 404, {}),
        ("/nothing", 404, {"Accept": "*/*"}),
        ("/fleet?json=%ff", 400, {}),
        ("/fleet/find?colour=%3Cb%3Ered", 400, {}),
    ],
)
def test_a_script_gets_a_sentence(fleet: Bench, path: str, status: int, headers: dict[str, str]) -> None:
    """Not a page, which it could not show."""

    async def look() -> None:
        async with flower(fleet) as ask:
            answer = await ask(path, **headers)
            assert (answer.code, answer.headers["Content-Type"]) == (status, "text/plain; charset=UTF-8")
            assert b"<p" not in answer.body
            assert b"log says why" not in answer.body, "it does not: who asked is mistaken"

    asyncio.run(look())


def test_what_is_shown_before_a_login(fleet: Bench) -> None:
    """A page without anything of Flower's, to a name that is not its own, and to whom has not logged in."""

    async def look() -> None:
        async with flower(fleet) as ask, flower(fleet, login="alice:secret") as guarded:
            stranger = await ask("/fleet", Host="evil.example")
            nobody = await guarded("/fleet")
            assert (stranger.code, heading(stranger)) == (403, "This is not allowed")
            assert "allowed_hosts" in stranger.body.decode()
            assert (nobody.code, heading(nobody)) == (401, "Please log in")
            assert nobody.headers["WWW-Authenticate"].startswith("Basic ")
            for answer in (stranger, nobody):
                assert "Set-Cookie" not in answer.headers
                assert not re.search(r"(?:href|src)=", answer.body.decode())
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; style-src 'sha256-")

    asyncio.run(look())


def test_below_a_prefix(fleet: Bench) -> None:
    """Whatever is asked for, links and redirects keep the prefix; what is not below it says so."""

    async def look() -> None:
        async with flower(fleet, prefix="tools/flower") as ask:
            begins = await ask("/tools/flower")
            assert (begins.code, begins.headers["Location"]) == (302, "/tools/flower/")
            short = await ask("/tools/flower/analysis/over-")
            assert (short.code, short.headers["Location"]) == (302, "/tools/flower/analysis/over-1")
            for path in ("/fleet", "/tools/flower/nothing", "/tools/flower/fleet", "/", "/tools"):
                answer = await ask(path)
                links = re.findall(r'(?:href|src|action)="(/[^"]*)"', answer.body.decode())
                assert links, path
                assert not [link for link in links if not link.startswith("/tools/flower/")], path
            outside = await ask("/fleet")
            assert outside.code == 404
            assert "below /tools/flower/" in outside.body.decode()
            assert outside.headers["Content-Security-Policy"] == POLICY

    asyncio.run(look())


@pytest.mark.parametrize(
    "header",
    [
        {"X-Forwarded-Host": "evil.example"},
        {"X-Forwarded-Proto": "https", "X-Scheme": "https"},
        {"X-Forwarded-For": "192.0.2.1", "X-Real-Ip": "192.0.2.1"},
        {"X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil"},
        {"Forwarded": "for=192.0.2.1;host=evil.example;proto=https"},
    ],
)
def test_what_a_request_says_of_a_proxy(fleet: Bench, header: dict[str, str]) -> None:
    """Whoever asks can write such headers: they change nothing, neither in a page nor in who is let in."""

    async def look() -> None:
        async with flower(fleet) as ask:
            plain, told = await ask("/nothing"), await ask("/nothing", **header)
            assert (told.code, told.body) == (plain.code, plain.body)
            assert b"evil" not in told.body
            names = {"Host": "evil.example", **header}
            assert (await ask("/fleet", **names)).code == 403
            foreign = {"Origin": "http://evil.example", **header}
            assert (await ask("/analysis/over-1/cancel", method="POST", **foreign)).code == 403

    asyncio.run(look())
