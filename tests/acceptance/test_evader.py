"""An evader and a fleet with the emulator: both of its analyses tell what only the second one saw."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from tests import evaders
from tests.acceptance.deployment import Deployment
from tests.conftest import require
from tests.faults.fleet import Fleet, Options
from tests.servers import lent
from tests.waiting import wait_until

EVADER = next(one for one in evaders.EVADERS if one.name == "user_name")


@pytest.fixture(scope="module")
def stack(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A slot whose guest is known to be a sandbox's, and one like a machine in use."""
    require(importlib.util.find_spec("speakeasy") is not None, "the emulator extra is not installed")
    more = {
        "canary": {"enabled": "0"},
        "drakcelery": {"engine": "emulator", "default_profile": "sandbox"},
        "emulator_profiles": {str(name): text for name, text in evaders.PROFILES.items()},
        "variants": {"mode": "on", "profiles": "used", "max_share": "1"},
    }
    profiles = {"rack-1": "sandbox", "rack-2": "used"}
    options = Options(hosts=tuple(profiles), slots=1, profiles=profiles, more=more)
    directory = tmp_path_factory.mktemp("evader") / "fleet"
    with (
        lent(services) as servers,
        Fleet(directory, servers, options) as fleet,
        Deployment.of_fleet(fleet) as deployment,
    ):
        yield deployment


def compared(stack: Deployment, uid: str) -> Record | None:
    """The record of a first look, once the second one is published."""
    record = stack.ledger.get(uid)
    return record if record is not None and any(one.news is not None for one in record.variants) else None


def said(stack: Deployment, *words: str | Path, status: int = 0) -> str:
    """What a command prints, in one line."""
    done = stack.drakcelery(*words)
    assert (done.returncode, done.stderr) == (status, "")
    return " ".join(done.stdout.split())


def test_what_only_the_second_look_shows(stack: Deployment, tmp_path: Path) -> None:
    """The first is published at once and shows nothing; the second comes by itself, and each tells of it."""
    done = stack.drakcelery("submit", "--wait", "--timeout", "30", evaders.build(EVADER, tmp_path))
    assert done.returncode == 0, done.stderr
    first = done.stdout.strip()
    (link,) = wait_until(lambda: compared(stack, first), "the second look is published").variants
    second = stack.ledger.get(link.uid)
    assert second is not None
    assert (second.state, link.news) == (State.PUBLISHED, 3)
    assert second.analysis is not None
    assert second.analysis.profile == "used"
    diff = f"drakcelery diff {first} {link.uid}"
    assert f"second look {link.uid}: it showed 3 more things {diff}" in said(stack, "status", first)
    told = said(stack, "status", link.uid)
    assert f"second look at {first}: it showed 3 more things" in told
    assert "because it ended early and did nothing that lasts, asked what the machine is" in told
    assert "changed profile used" in told
    report = said(stack, "report", first)
    assert "clue asked what the machine is GetUserName" in report
    assert f"A second look, {link.uid}: it showed 3 more things. {diff}" in report
    assert "somebody.txt" in said(stack, "report", link.uid)
    assert "somebody.txt" in said(stack, *diff.split()[1:], status=1)
    content = json.loads(stack.content("drakrun", f"{link.uid}/difference.json"))
    assert {one["analysis_uid"] for one in (content["first"], content["second"])} == {first, link.uid}
    assert json.loads(said(stack, "status", link.uid, "--json"))["result"]["news_to_first"] == 3
