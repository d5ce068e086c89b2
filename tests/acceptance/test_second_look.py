"""A second look goes the road of any sample: by ingress, to a host of another profile, and to Karton."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from drakcelery.cli import cli
from drakcelery.embedded.services import Services
from drakcelery.ledger.keys import variants_key
from drakcelery.ledger.variantkeys import VARIANTS
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from tests.acceptance.deployment import run_here, typist
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import wait_published
from tests.guest_log import SAMPLE, Log
from tests.servers import lent
from tests.waiting import wait_until

PROFILES = {"rack-1": "sandbox", "rack-2": "used"}
UID = "evader"


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts of two profiles; what they play is a sample that looks for a debugger and ends."""
    more = {
        "drakcelery": {"default_profile": "sandbox"},
        "variants": {"mode": "on", "profiles": "used", "max_share": "1"},
    }
    options = Options(hosts=tuple(PROFILES), profiles=PROFILES, slots=1, more=more)
    directory = tmp_path_factory.mktemp("looks") / "fleet"
    with lent(services), Fleet(directory, services, options) as ours:
        log = Log().started()
        log.add("apimon", "IsDebuggerPresent", Event="api_called", CLSID=None, Arguments=[])
        log.add("procmon", "NtTerminateProcess", ExitPid=0, ExitStatus="0x0", ExitStatusStr="SUCCESS")
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in log.lines)
        name = json.dumps(SAMPLE)[1:-1]
        played = text.replace(name, name.replace("malwar.exe", f"{UID}.bat"))
        (directory / "run" / "drakmon.log").write_text(played, encoding="utf-8")
        yield ours


def looked_twice(fleet: Fleet) -> Record | None:
    """The record of the first look, once the second one is published."""
    record = fleet.record(UID)
    is_told = record is not None and record.variants and record.variants[0].news is not None
    return record if is_told else None


def test_an_evader_is_looked_at_twice(fleet: Fleet) -> None:
    """The first is published before the second one, of another profile, begins; each names the other."""
    fleet.push(UID)
    wait_published(fleet, UID)
    first = wait_until(lambda: looked_twice(fleet), "the second look is published")
    (link,) = first.variants
    second = fleet.record(link.uid)
    assert second is not None
    assert (first.state, second.state) == (State.PUBLISHED, State.PUBLISHED)
    assert (first.host, second.host) == ("rack-1", "rack-2")
    assert second.analysis is not None
    assert (second.analysis.variant_of, second.root_uid) == (UID, first.root_uid)
    assert second.variants == ()
    assert "debugger" in second.analysis.variant_why
    status, told = run_here(cli, "status", UID, **typist(fleet._config["rack-1"]))
    assert (status, f"{link.uid}: it showed nothing more" in told) == (0, True)
    fleet.ledger._redis.delete(VARIANTS[1].pattern, variants_key(first.root_uid))
