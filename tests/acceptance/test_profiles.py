"""Several hosts with different VMs: who runs what, who waits for whom, and what is refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from drakcelery.cli import cli
from drakcelery.embedded.services import Services
from drakcelery.model.analysis import Place, State
from drakcelery.stages import cancellation
from tests.acceptance.deployment import run_here, typist
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import type_in, wait_published, wait_state
from tests.servers import lent
from tests.waiting import wait_until

PROFILES = {"rack-1": "win7", "rack-2": "win10", "rack-3": "xp"}
LOOK_AHEAD = 1
PATIENCE = 25
"""Seconds; long enough for a worker to come back."""
LONG = 300
"""Seconds that a guest runs, if nobody ends it."""


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts, a slot each, of three profiles; scripts go to win10 by a rule."""
    directory = tmp_path_factory.mktemp("profiles")
    more = {
        "drakcelery": {
            "look_ahead": str(LOOK_AHEAD),
            "offline_patience": str(PATIENCE),
            "default_profile": "win7",
        },
        "profile_rules": {"scripts": "win10 if extension=bat|ps1 and magic=*text*|*batch*"},
    }
    options = Options(
        hosts=tuple(PROFILES), profiles=PROFILES, slots=1, run_seconds=LONG, stop_seconds=1, more=more
    )
    with (
        lent(services),
        Fleet(directory / "fleet", services, options) as ours,
    ):
        yield ours


def typed(fleet: Fleet, *words: str) -> tuple[int, str]:
    """Exit status and output of ``drakcelery …`` on the first host, done by this process."""
    return run_here(cli, *words, **typist(fleet._config["rack-1"]))


def listed(fleet: Fleet, command: str) -> dict[str, Any]:
    """``drakcelery <command> --json``, by the name of the profile or host."""
    status, output = typed(fleet, command, "--json")
    assert status == 0, output
    return {one[command.removesuffix("s")]: one for one in json.loads(output)}


def retire(fleet: Fleet, host: str) -> None:
    """Stop a host's vm worker as an operator does."""
    fleet.signal(f"vm@{host}", signal.SIGTERM)
    wait_until(lambda: host not in {one.host for one in fleet.ledger.fleet.hosts()}, f"{host} is gone")


def test_a_busy_profile_blocks_no_other(fleet: Fleet) -> None:
    """Samples for a full profile wait in line, as `profiles` shows; one for another passes them."""
    busy = [f"win7-{number}" for number in range(5)]
    for uid in busy:
        fleet.push(uid, profile="win7", timeout=LONG)
    wait_state(fleet, busy[0], State.RUNNING)
    fleet.push("win10-1", profile="win10", timeout=1)
    wait_published(fleet, "win10-1")
    record = fleet.record("win10-1")
    assert record is not None
    assert record.host == "rack-2"
    # A host reports within half a second what is free again
    wait_until(lambda: listed(fleet, "profiles")["win10"]["free"] == 1, "the slot of win10 is free again")
    profiles = listed(fleet, "profiles")
    assert (profiles["win7"]["in_flight"], profiles["win7"]["waiting"]) == (1 + LOOK_AHEAD, 3)
    assert profiles["win10"]["waiting"] == 0
    assert type_in(fleet, "drakcelery", "profiles")[1].splitlines()[0].split()[:2] == ["PROFILE", "STATE"]
    for uid in busy:
        # Each cancel frees the place that the next in line takes
        cancellation.cancel(fleet.ledger, wait_state(fleet, uid, State.RUNNING), by="this test")
    wait_until(lambda: not fleet.inbox.lines(), "nobody waits any more")
    wait_until(lambda: fleet.inbox.in_flight() == {}, "nothing is in flight")


def test_a_rule_picks_the_profile(fleet: Fleet) -> None:
    """A script that asks for nothing runs where the rule says, and not on the default profile."""
    fleet.push("by-rule", timeout=1)
    wait_published(fleet, "by-rule")
    record = fleet.record("by-rule")
    assert record is not None
    assert (record.place, record.host) == (Place(profile="win10"), "rack-2")


def test_a_host_without_the_profile_is_refused(fleet: Fleet) -> None:
    """Host and profile exist, but not together: CRASHED, with what the host has."""
    fleet.push("nonsense", host="rack-1", profile="win10")
    record = fleet.wait_over(["nonsense"])["nonsense"]
    assert record.error == "host 'rack-1' has no VM of the profile 'win10'; it has: win7"


@pytest.fixture(scope="module")
def abandoned(fleet: Fleet) -> tuple[str, ...]:
    """Samples of xp, in line and on its way, whose one host died; patience ends while others are tested."""
    fleet.push("before", profile="xp", timeout=LONG)
    wait_state(fleet, "before", State.RUNNING)
    fleet.push("behind", profile="xp", timeout=LONG)
    wait_state(fleet, "behind", State.QUEUED)
    fleet.signal("vm@rack-3", signal.SIGKILL)
    fleet.processes.pop("vm@rack-3").running.wait()  # and nobody starts it again
    fleet.push("in-line", profile="xp", timeout=LONG)
    return "in-line", "behind"


def test_what_is_offline_is_waited_for(fleet: Fleet, abandoned: tuple[str, ...]) -> None:  # noqa: ARG001
    """A sample for a host that is down waits, visibly, and runs as soon as the host is back."""
    retire(fleet, "rack-2")
    fleet.push("patient", host="rack-2", profile="win10", timeout=1)
    wait_until(lambda: listed(fleet, "hosts")["rack-2"]["waiting"] == 1, "hosts shows who waits")
    shown = listed(fleet, "hosts")["rack-2"]
    assert (shown["online"], shown["profiles"]) == (False, ["win10"])
    assert "offline" in typed(fleet, "hosts")[1]
    fleet.respawn()
    wait_published(fleet, "patient")


def test_waiting_has_an_end(fleet: Fleet, abandoned: tuple[str, ...]) -> None:
    """A profile that stays offline ends its samples as CRASHED with the reason, sent on their way or not."""
    for uid in abandoned:
        record = wait_state(fleet, uid, State.FAILED)
        assert record.error is not None
        assert "no VM of the profile 'xp' on any host has been online" in record.error
        assert "offline_patience" in record.error
    assert fleet.inbox.lines() == []
