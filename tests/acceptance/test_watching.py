"""What watching buys, as people see it: ``drakcelery watch-report`` and the Watching page."""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Route, expect

from drakcelery.embedded.services import Services
from drakcelery.forecast.curve import WatchedRun
from drakcelery.forecast.news import WatchedRuns
from drakcelery.model.news import News
from tests.acceptance.deployment import run
from tests.acceptance.flower_page import (
    HOSTILE,
    NARROW,
    Web,
    accessibility_faults,
    assert_fits,
    chromium,
    flower,
    one_host,
    tab,
)
from tests.faults.fleet import Fleet
from tests.servers import lent
from tests.watched import remember

HOST = "rack-1"
LOGIN = {"Authorization": f"Basic {base64.b64encode(b'alice:secret').decode()}"}


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of which no process runs: its settings and its ledger, in which watched runs are remembered."""
    directory = tmp_path_factory.mktemp("watching")
    options = one_host(HOST)
    with lent(services):
        ours = Fleet(directory / "fleet", services, options)
        with_watch(ours)
        remember(ours.ledger)
        yield ours


def with_watch(fleet: Fleet) -> None:
    """Its settings switch the quiet stop on."""
    path = fleet._config[HOST]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    parser["watch"] = {"enabled": "1", "mode": "active", "min_seconds": "60", "quiet_seconds": "20"}
    with path.open("w") as file:
        parser.write(file)


def report(fleet: Fleet, *words: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Exit status, output and errors of `drakcelery watch-report`."""
    done = run("drakcelery", "watch-report", *words, config=fleet._config[HOST], **(environment or {}))
    return done.returncode, done.stdout, done.stderr


def as_json(fleet: Fleet, *words: str) -> Any:
    """What it prints for a script."""
    status, out, said = report(fleet, "--json", *words)
    assert (status, said) == (0, "")
    return json.loads(out)


def test_the_report(fleet: Fleet) -> None:
    """A line for each profile and quality, all together, the curve, what the settings do, what to paste."""
    status, out, said = report(fleet)
    assert (status, said) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert [row[:3] for row in rows[1:4]] == [
        ["win10-22h2", "high", "400"],
        ["win7-x64", "high", "60"],
        ["win7-x64", "low", "12"],
    ]
    assert rows[4][:2] == ["all", "472"]
    assert "win7-x64 low: Too few runs to recommend settings that keep 98 %: 12 were measured" in out
    assert re.search(r"Now, in active mode, min_seconds = 60 and quiet_seconds = 20: \d+ % of the time", out)
    assert re.search(r"^ +2\.0 % \|- - -", out, re.MULTILINE)
    pasted = configparser.ConfigParser()
    pasted.read_string(out[out.index("[watch]") :])
    given = as_json(fleet)["all"]["recommended"]["rules"]
    assert {key: int(value) for key, value in pasted["watch"].items()} == given


def test_the_json(fleet: Fleet) -> None:
    """It has its version; one profile and another bound give another answer."""
    whole = as_json(fleet)
    assert (whole["version"], whole["keep"], whole["mode"]) == (1, 0.98, "active")
    assert whole["rules"] == {"min_seconds": 60, "quiet_seconds": 20}
    one = as_json(fleet, "--profile", "win10-22h2", "--quality", "high", "--keep", "90")
    assert [(curve["profile"], curve["quality"]) for curve in one["curves"]] == [("win10-22h2", "high")]
    assert (one["keep"], one["all"]["runs"], one["all"]["stopped"]) == (0.9, 400, 40)
    assert one["all"]["recommended"]["saved"] > whole["all"]["recommended"]["saved"]
    assert one["all"]["recommended"]["lost_at_most"] <= 0.1
    assert whole["all"]["recommended"]["lost_at_most"] <= 0.02


def test_where_there_is_nothing(fleet: Fleet) -> None:
    """It says so, and how to begin; a share that cannot be kept is wrong usage."""
    status, out, _ = report(fleet, "--profile", "nobody")
    assert (status, out) == (0, "No such run was watched for news.\n")
    empty = {"DRAKCELERY_REDIS_DB": "7"}
    status, out, _ = report(fleet, environment=empty)
    assert status == 0
    assert out.startswith("No run was watched for news yet. Set [watch] enabled = 1")
    for wrong in ("99.9", "nan"):
        status, _, said = report(fleet, "--keep", wrong)
        assert (status, "Traceback" in said) == (2, False)


def test_tab(fleet: Fleet) -> None:
    """The shell offers the profiles and qualities of which there is something."""
    for option, offered in (("--profile", ["win10-22h2", "win7-x64"]), ("--quality", ["high", "low"])):
        words = f"drakcelery watch-report {option} "
        complete = {"_DRAKCELERY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "3"}
        done = run("drakcelery", config=fleet._config[HOST], **complete)
        assert [line.partition(",")[2] for line in done.stdout.splitlines()] == offered


@pytest.fixture(scope="module")
def web(fleet: Fleet) -> Iterator[Web]:
    """Flower without a login."""
    with flower(fleet, "watching", "drakcelery", "flower") as ours:
        yield ours


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the whole module."""
    with chromium() as ours:
        yield ours


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, 1280])
def test_the_page(
    fleet: Fleet, web: Web, browser: Browser, width: int, scheme: Literal["light", "dark"]
) -> None:
    """It shows what the command says, on a telephone and on a desk, and keeps nobody out."""
    told = as_json(fleet)["all"]
    with tab(browser, web, width=width, scheme=scheme, reduced_motion="reduce") as opened:
        page = opened.page
        page.goto("/fleet")
        if width < 992:
            page.get_by_role("button", name="Toggle navigation").click()
        page.get_by_role("navigation").get_by_role("link", name="Watching", exact=True).click()
        expect(page).to_have_url(re.compile(r"/watching$"))
        expect(page.locator(".app-nav .nav-link.active")).to_have_text("Watching")
        expect(page.locator("#total-mode")).to_have_text("active")
        expect(page.locator("#total-runs")).to_have_text("472")
        expect(page.locator("#says")).to_have_text(f"{told['says']}.")
        expect(page.get_by_role("img", name=re.compile("^All together: slot time saved"))).to_be_visible()
        expect(page.locator("circle.watching-recommended")).to_have_count(1)
        expect(page.locator("path.watching-current")).to_have_count(1)
        expect(page.locator("#paste-text")).to_contain_text(
            f"quiet_seconds = {told['recommended']['rules']['quiet_seconds']}"
        )
        expect(page.locator("#curves tr")).to_have_count(4)
        page.get_by_text("The best rules, as a table").click()
        expect(page.locator("#trials tr")).to_have_count(len(told["trials"]))
        assert_fits(opened)
        assert accessibility_faults(opened) == []
        photograph = os.environ.get("SCREENSHOTS")
        if photograph:
            page.screenshot(path=Path(photograph) / f"watching-{width}-{scheme}.png", full_page=True)
        page.locator("#choice").select_option("win7-x64, low")
        expect(page.locator("#says")).to_contain_text("Too few runs")
        expect(page.locator("#paste")).to_be_hidden()
        assert_fits(opened)


def test_who_may_see_it(fleet: Fleet, web: Web) -> None:
    """Whoever may see the Fleet page: after the login, if there is one. Programs have the same by the API,
    under Flower's own rules."""
    assert web.ask("/watching?json=1").json() == as_json(fleet)
    assert "script-src" not in (policy := web.ask("/watching").headers["Content-Security-Policy"] or "")
    assert policy.startswith("default-src 'self'")
    assert web.ask("/api/watching").status == 401
    with flower(fleet, "guarded", "drakcelery", "flower", FLOWER_BASIC_AUTH="alice:secret") as guarded:
        for path in ("/watching", "/watching?json=1", "/api/watching"):
            assert guarded.ask(path).status == 401, path
            assert guarded.ask(path, headers=LOGIN).status == 200, path


@pytest.mark.parametrize(("runs", "warns"), [(49, False), (50, True)])
def test_when_the_page_warns(web: Web, browser: Browser, runs: int, *, warns: bool) -> None:
    """Of settings that lose too much, once so many runs say so as the alert asks for."""

    def lose(route: Route) -> None:
        answer = route.fetch()
        told = answer.json()
        told["all"]["runs"], told["all"]["current"]["lost"] = runs, 0.5
        route.fulfill(response=answer, json=told)

    with tab(browser, web) as opened:
        opened.page.route("**/watching?json=1*", lose)
        opened.page.goto("/watching")
        expect(opened.page.locator("#total-runs")).to_have_text(str(runs))
        expect(opened.page.locator("#over")).to_be_visible(visible=warns)


def name_hostile(route: Route) -> None:
    """Let the first curve of a report be of a hostile quality."""
    answer = route.fetch()
    told = answer.json()
    told["curves"][0]["quality"] = HOSTILE
    route.fulfill(response=answer, json=told)


def test_a_quality_is_text(services: Services, browser: Browser, tmp_path: Path) -> None:
    """No quality that no task may have is shown, and if one got past that, too, it would stay text. Without
    runs the page says so."""
    with lent(services):
        fleet = Fleet(tmp_path / "fleet", services, one_host(HOST))
        with flower(fleet, "hostile", "drakcelery", "flower") as web, tab(browser, web) as opened:
            page = opened.page
            page.goto("/watching")
            expect(page.locator("#nothing")).to_contain_text("Set [watch] enabled = 1")
            expect(page.locator("#something")).to_be_hidden()
            assert accessibility_faults(opened) == []
        news = News(seconds=60, facts=((1, 1),))
        run = WatchedRun(seconds=60, timeout=60, news=news)
        for quality in (HOSTILE, "high"):
            WatchedRuns(fleet.ledger.news).learn(("win10", quality), run, at=fleet.ledger.now())
        with flower(fleet, "hostile", "drakcelery", "flower") as web, tab(browser, web) as opened:
            page = opened.page
            page.goto("/watching")
            expect(page.locator("#curves th")).to_have_text(["win10, high"])
            page.route("**/watching?json=1*", name_hostile)
            page.reload()
            expect(page.locator("#curves")).to_contain_text("win10, <img src=x")
            assert page.locator("#watching img").count() == 0
            assert page.title() == "Watching · Flower"
            assert_fits(opened)
        assert report(fleet)[0] == 0
