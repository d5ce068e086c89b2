"""A host whose vm worker lives and which cannot take a sample: it says so, and nothing is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from drakcelery.embedded.services import Services
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import said_of, type_in, wait_free, wait_published
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host with two slots."""
    directory = tmp_path_factory.mktemp("halted")
    options = Options(hosts=(HOST,), slots=2)
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        wait_free(ours, HOST)
        yield ours


def shown(fleet: Fleet) -> tuple[str | None, set[str]]:
    """Why the host takes nothing, and the states of its slots, as operators see it."""
    status, text = type_in(fleet, "drakcelery", "slots", "--json")
    assert status == 0, text
    (host,) = json.loads(text)
    return host["halted"], {slot["state"] for slot in host["slots"]}


def says(fleet: Fleet) -> tuple[str | None, set[str]]:
    """The same, as the host reports it."""
    status = said_of(fleet, HOST)
    return status.halted, {slot.state for slot in status.slots}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_nothing_is_taken_while_nobody_could_collect_it(fleet: Fleet, number: signal.Signals) -> None:
    """An io worker that is dead, or frozen, closes its host until it is back (R8)."""
    wait_until(lambda: says(fleet) == (None, {"free"}), "the host is open")
    wait_until(lambda: shown(fleet) == (None, {"free"}), "operators see it")
    fleet.signal(f"io@{HOST}", number, group=True)
    wait_until(lambda: says(fleet) == ("no_io_worker", {"halted"}), "the host is halted")
    wait_until(lambda: shown(fleet) == ("no_io_worker", {"halted"}), "operators see it")
    uid = f"waits-{number.name.lower()}"
    fleet.push(uid)
    wait_until(lambda: fleet.backend.redis.llen(f"karton.queue.normal:{fleet.ledger.identity}"), "it waits")
    assert fleet.record(uid) is None
    fleet.signal(f"io@{HOST}", signal.SIGCONT, group=True)
    wait_published(fleet, uid)  # which starts again what has ended
    record = fleet.record(uid)
    assert record is not None
    assert record.attempts == 1
