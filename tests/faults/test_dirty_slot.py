"""An engine that fails without saying so: the host lives on, and its slot is not given out."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import said_of, type_in, wait_free, wait_published, wait_state
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host with one slot."""
    directory = tmp_path_factory.mktemp("trouble")
    short = {"drakcelery": {"quarantine_seconds": "5"}}  # a busy machine makes enough tries for one
    options = Options(hosts=(HOST,), slots=1, run_seconds=1.5, more=short)
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        yield ours


def shown_state(fleet: Fleet) -> str:
    """The slot's state, as operators see it."""
    status, shown = type_in(fleet, "drakcelery", "slots", "--json")
    assert status == 0, shown
    return str(json.loads(shown)[0]["slots"][0]["state"])


@pytest.mark.slow
def test_a_slot_that_cannot_be_cleaned_is_not_given_out(fleet: Fleet) -> None:
    """While a guest cannot be destroyed its slot takes nothing; once it can be, the waiting sample runs."""
    wait_free(fleet, HOST)
    fleet.push("before")
    wait_state(fleet, "before", State.RUNNING)
    guest = fleet.state_dir(HOST) / "engine" / "vm-1.guest"
    guest.unlink()
    guest.mkdir()
    wait_until(lambda: said_of(fleet, HOST).slots[0].state == "dirty", "the slot is dirty")
    assert shown_state(fleet) in ("dirty", "quarantined")  # which it is after some more tries
    record = fleet.record("before")
    assert record is not None
    assert not record.state.is_over
    guest.rmdir()
    wait_published(fleet, "before")
    wait_free(fleet, HOST)
