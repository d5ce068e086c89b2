"""An analyst has rules for capa, and two samples: what each shows, in each format, and how they differ."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import expect

from drakcelery.behaviour.difference import Difference
from drakcelery.cli import cli
from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from tests.acceptance.deployment import Deployment, run_here, typist
from tests.acceptance.flower_page import assert_fits, chromium, flower, tab
from tests.conftest import require
from tests.faults.fleet import Fleet, Options
from tests.servers import lent

SAMPLES = Path("samples")
RULES = Path(__file__).parents[1] / "capa_rules"
RUNS = "run a command of the shell"
"""A rule of ours: a call that creates a process has cmd.exe in it."""


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One of its own, as only its io worker has rules; two slots, with the emulator."""
    for name in ("speakeasy", "capa"):
        require(importlib.util.find_spec(name) is not None, f"the extra with {name} is not installed")
    more = {
        "canary": {"enabled": "0"},
        "drakcelery": {"engine": "emulator"},
        "report": {"capa_rules": str(RULES)},
    }
    directory = tmp_path_factory.mktemp("capabilities") / "fleet"
    options = Options(hosts=("rack-1",), slots=2, more=more)
    with lent(services) as servers, Fleet(directory, servers, options) as ours:
        yield ours


@pytest.fixture(scope="module")
def stack(fleet: Fleet) -> Iterator[Deployment]:
    """The fleet, as those outside see it."""
    with Deployment.of_fleet(fleet) as deployment:
        yield deployment


@dataclass(frozen=True, kw_only=True)
class Analyses:
    """The uids of published analyses."""

    first: str
    """Of the 64-bit sample, sent by ``drakcelery submit --wait``."""
    again: str
    """Of the same sample."""
    second: str
    """Of the 32-bit sample, which does other things."""


@pytest.fixture(scope="module")
def uids(stack: Deployment) -> Analyses:
    """Three analyses, in two slots."""
    tasks = [
        stack.send(SAMPLES / name, payload={"timeout": 30}) for name in ("behaviour.exe", "behaviour32.exe")
    ]
    done = stack.drakcelery("submit", "--wait", "--timeout", "30", SAMPLES / "behaviour.exe")
    assert done.returncode == 0, done.stderr
    again, second = map(stack.wait_over, tasks)
    assert again.state is second.state is State.PUBLISHED
    return Analyses(first=done.stdout.strip(), again=again.uid, second=second.uid)


def reported(stack: Deployment, uid: str, form: str) -> str:
    """What ``drakcelery report --format`` prints."""
    done = stack.drakcelery("report", uid, "--format", form)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_people_read(stack: Deployment, uids: Analyses) -> None:
    """The rule and its technique stand in the text, in Markdown, and on the page in HTML."""
    text, page, markup = (reported(stack, uids.first, form) for form in ("text", "markdown", "html"))
    said = f"  {RUNS}  ATT&CK T1059.003 Execution: Command and Scripting Interpreter, Windows Command Shell"
    assert [line for line in text.splitlines() if line.startswith(said)]
    assert f"`{RUNS}`" in page
    assert "T1059.003" in page
    assert (RUNS in markup, "T1059.003" in markup, "<script" in markup) == (True, True, False)


def test_what_programs_read(stack: Deployment, uids: Analyses) -> None:
    """The rule in JSON, the technique in STIX and as a tag of MISP's galaxy; metadata says what capa did."""
    report = json.loads(reported(stack, uids.first, "json"))
    assert RUNS in {one["rule"] for one in report["capabilities"]}
    assert (report["capa"]["failure"], report["capa"]["limit"]) == (None, None)
    assert report["capa"]["rules"] == len(list(RULES.glob("*.yml")))
    metadata = json.loads(stack.content("drakrun", f"{uids.first}/metadata.json"))
    assert metadata["capa"] == report["capa"]
    objects = json.loads(reported(stack, uids.first, "stix"))["objects"]
    patterns = [one for one in objects if one["type"] == "attack-pattern"]
    assert "T1059.003" in {ref["external_id"] for one in patterns for ref in one["external_references"]}
    event = json.loads(reported(stack, uids.first, "misp"))
    tags = {tag["name"] for tag in event.get("Event", event)["Tag"]}
    assert any("T1059.003" in tag for tag in tags)


def test_what_flower_shows(fleet: Fleet, uids: Analyses) -> None:
    """capa's table on the page of the analysis, in a browser."""
    with (
        chromium() as browser,
        flower(fleet, "capabilities", "drakcelery", "flower") as web,
        tab(browser, web) as opened,
    ):
        page = opened.page
        page.goto(f"/analysis/{uids.first}#capabilities", timeout=60_000)
        row = page.get_by_role("table", name="Capabilities").get_by_role("row").filter(has_text=RUNS)
        expect(row).to_contain_text("T1059.003", timeout=30_000)
        expect(row).to_contain_text("C0017")
        assert_fits(opened)


def compared(stack: Deployment, *words: str) -> tuple[int, Difference]:
    """What ``drakcelery diff`` says in JSON, and its exit status."""
    status, said = run_here(cli, "diff", *words, **typist(stack.running.config))
    return status, Difference.model_validate_json(said)


def test_two_analyses_of_one_sample(stack: Deployment, uids: Analyses) -> None:
    """They do not differ, and the exit status says so."""
    done = stack.started("diff", uids.first, uids.again)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Both samples did the same" in done.stdout
    status, found = compared(stack, uids.first, uids.again, "--json")
    assert (status, found.changes, found.is_whole) == (0, (), True)
    assert (found.first.analysis_uid, found.second.analysis_uid) == (uids.first, uids.again)
    assert found.same["capabilities"] >= 1


def test_two_samples(stack: Deployment, uids: Analyses) -> None:
    """What only one of them did, as text, as JSON by either option, and as a page without scripts."""
    text = stack.drakcelery("diff", uids.first, uids.second)
    assert (text.returncode, text.stderr) == (1, "")
    assert "  missing  cmd.exe /c echo drakcelery-sample\n" in text.stdout
    assert "  new  web[.]drakcelery[.]invalid\n" in text.stdout
    status, found = compared(stack, uids.first, uids.second, "--json")
    assert (status, found) == compared(stack, uids.first, uids.second, "--format", "json")
    told = {(one.kind, one.what, one.shown) for one in found.changes}
    assert ("hosts", "missing", "sample.drakcelery.invalid") in told
    assert ("calls", "new", "WinExec") in told
    page = stack.drakcelery("diff", uids.first, uids.second, "--format", "html")
    assert (status, page.returncode) == (1, 1)
    assert page.stdout.startswith("<!DOCTYPE html>")
    assert ("web[.]drakcelery[.]invalid" in page.stdout, "<script" in page.stdout) == (True, False)
    assert run_here(cli, "diff", uids.first, "no-such-uid", **typist(stack.running.config))[0] == 2
