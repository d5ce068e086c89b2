"""A Flower process on a fleet, and a browser that looks at it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, Literal

import orjson
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, sync_playwright

from drakcelery.embedded import ports, supervision
from drakcelery.karton import submit
from drakcelery.karton.kept import Wishes
from tests.conftest import require
from tests.faults import forks
from tests.faults.fleet import Fleet, Options
from tests.waiting import wait_until

CHROMIUM = Path("/usr/bin/chromium")
"""Debian's; playwright's own browsers are downloads."""
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HOSTILE = "<img src=x onerror=\"document.title='had';alert('had')\"> 'n' \u202efdp.bat"
NARROW, WIDE = 360, 1400
"""Widths of a telephone and of a window on a desk, in CSS pixels."""
PROFILE = "win10-22h2"
LONG = 600
"""Seconds that a guest runs, if nobody ends it."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What Flower answers."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """The body, which is JSON."""
        assert (self.headers["Content-Type"] or "").startswith("application/json"), self
        return orjson.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Web:
    """A Flower that answers."""

    address: str
    log: Path

    def ask(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """Ask as a program does: no cookies, and redirects are not followed."""
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.address}{path}", method=method, headers=dict(headers or {})
        )
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=30) as response:
                return Answer(status=response.status, headers=response.headers, body=response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(status=error.code, headers=error.headers, body=error.read())

    def token(self, **headers: str) -> dict[str, str]:
        """The XSRF token that a page brings, as a script of that page sends it back."""
        cookies = self.ask("/fleet", headers=headers).headers.get_all("Set-Cookie") or []
        found = [match[1] for text in cookies if (match := re.match(r"_xsrf=([^;]+)", text))]
        assert found, "the page sets no XSRF cookie"
        return {**headers, "Cookie": f"_xsrf={found[0]}", "X-XSRFToken": found[0]}


def start(
    fleet: Fleet,
    program: str,
    *arguments: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
    is_fork: bool = True,
) -> subprocess.Popen[bytes] | forks.Fork:
    """Start *program* on the settings of the fleet's first host: as a fork, or as ``python -m …``."""
    variables = {
        **os.environ,
        "DRAKCELERY_CONFIG": str(fleet.config),
        **(environment or {}),
    }
    if is_fork:
        return forks.stem("typed").start(
            arguments, program=program, environment=variables, directory=fleet.directory, log=log
        )
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=variables,
            cwd=fleet.directory,
            preexec_fn=supervision._die_with(os.getpid()),
        )


@contextmanager
def flower(
    fleet: Fleet, name: str, program: str, *arguments: str, prefix: str = "", **environment: str
) -> Iterator[Web]:
    """Flower, started by a command on a free port and below the path *prefix*, until the end of the block.

    It is a fork (:mod:`tests.faults.forks`).
    """
    command = (program, *arguments)
    with _serving(fleet, name, command, environment, prefix=prefix, is_fork=True) as web:
        yield web


@contextmanager
def started_flower(
    fleet: Fleet, name: str, program: str, *arguments: str, **environment: str
) -> Iterator[Web]:
    """As :func:`flower`, a process that imports all by itself."""
    command = (program, *arguments)
    with _serving(fleet, name, command, environment, prefix="", is_fork=False) as web:
        yield web


@contextmanager
def _serving(
    fleet: Fleet,
    name: str,
    command: tuple[str, ...],
    environment: Mapping[str, str],
    *,
    prefix: str,
    is_fork: bool,
) -> Iterator[Web]:
    port = ports.assign((name,), kept={})[name]
    log = fleet.directory / "log" / f"flower-{name}.log"
    variables = {"DRAKCELERY_FLOWER_PORT": str(port), **environment}
    process = start(fleet, *command, log=log, environment=variables, is_fork=is_fork)
    web = Web(address=f"http://127.0.0.1:{port}{prefix}", log=log)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return web.ask("/healthcheck").status == 200
        except OSError:
            return False

    try:
        wait_until(answers, "Flower answers", timeout=240)
        yield web
    finally:
        process.terminate()
        process.wait()


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """A browser that nobody sees, with further *options*."""
    require(CHROMIUM.exists(), f"{CHROMIUM} is not installed (Debian: apt-get install chromium)")
    arguments = [one for one in (*ARGUMENTS, *options) if one != "--headless"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(kw_only=True)
class Tab:
    """A page in the browser, and what went wrong in it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of its console, uncaught exceptions, dialogs that it opened."""

    def listen(self) -> None:
        """Note what goes wrong from now on."""
        self.page.on("console", self._said)
        self.page.on("pageerror", self._failed)
        self.page.on("dialog", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _failed(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _asked(self, dialog: Dialog) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()


@contextmanager
def tab(
    browser: Browser,
    web: Web,
    *,
    width: int = 1400,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
    **more: Any,
) -> Iterator[Tab]:
    """A new tab, without cookies, as wide as that; *more* goes to playwright's context."""
    context = browser.new_context(
        base_url=web.address, viewport={"width": width, "height": height}, color_scheme=scheme, **more
    )
    opened = Tab(page=context.new_page())
    opened.listen()
    try:
        yield opened
    finally:
        context.close()


def one_host(host: str, *, slots: int = 2, run_seconds: float = LONG, **ours: str) -> Options:
    """A host whose VMs have the profile that :func:`push` asks for; *ours* are keys of ``[drakcelery]``."""
    more = {"drakcelery": {"default_profile": PROFILE, **ours}, "profile_rules": {}}
    return Options(
        hosts=(host,),
        slots=slots,
        profiles={host: PROFILE},
        run_seconds=run_seconds,
        restore_seconds=0.1,
        more=more,
    )


def push(
    fleet: Fleet, uid: str, *, name: str = "probe.bat", timeout: int = LONG, profile: str = PROFILE
) -> None:
    """Have a sample of that name analysed as *uid*."""
    sample = fleet.directory / name
    sample.write_text(f"rem {uid}")
    task = submit.sample_task(sample, Wishes(timeout=timeout, profile=profile))
    task.payload["override_uid"] = uid
    assert fleet._producer.send_task(task)
    sample.unlink()


def assert_fits(opened: Tab) -> None:
    """Nothing of the page is wider than the window, and nothing went wrong in it."""
    assert opened.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert opened.complaints == []


def accessibility_faults(opened: Tab, *, only_colours: bool = False) -> list[str]:
    """What axe-core finds amiss in the page as it is: the rule, how bad it is, where."""
    if not opened.page.evaluate("'axe' in window"):
        opened.page.evaluate(Axe().axe_script)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if only_colours:  # without the one that axe-core does not ask for by itself
        options |= {"runOnly": ["cat.color"], "rules": {"color-contrast-enhanced": {"enabled": False}}}
    found = opened.page.evaluate("options => axe.run(options).then(({violations}) => violations)", options)
    return [f"{one['id']} ({one['impact']}): {node['target']}" for one in found for node in one["nodes"]]
