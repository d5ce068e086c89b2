"""Two machines of one name, as cloned images are: the second refuses to start, and nothing ends for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from drakcelery.embedded.services import Services
from drakcelery.ledger.host_names import HostNames
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import wait_free, wait_published
from tests.servers import lent
from tests.waiting import wait_until

HOST, TWIN, OTHER = "rack-1", "twin", "rack-2"
OTHERS = "karton.drakrun-other"


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host; the configurations of a machine that has its name, and of one of another deployment."""
    directory = tmp_path_factory.mktemp("twins")
    options = Options(
        hosts=(HOST,),
        slots=2,
        of_host={TWIN: {"drakcelery": {"host": HOST}}, OTHER: {"drakrun": {"identity": OTHERS}}},
    )
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        for machine in (TWIN, OTHER):
            ours._config[machine] = ours._configure(machine, servers.redis, servers.s3)
        wait_free(ours, HOST)
        yield ours


def start(fleet: Fleet, machine: str, role: str) -> str:
    """Start a worker of a machine; its name."""
    fleet._spawn(f"{role}@{machine}", machine, ("ingress",) if role == "ingress" else ("worker", role))
    return f"{role}@{machine}"


def refused(fleet: Fleet, machine: str, role: str) -> str:
    """What a worker says that refuses to start."""
    name = start(fleet, machine, role)
    process = fleet.processes.pop(name).running
    wait_until(lambda: process.poll() is not None, f"{name} ends")
    assert process.returncode != 0
    return (fleet.directory / "log" / f"{name}.log").read_text()


def named(fleet: Fleet) -> str | None:
    """The state directory of the machine that has the name."""
    holder = HostNames(fleet.ledger._redis).holder(HOST)
    return holder.machine.state_dir if holder else None


@pytest.mark.slow
def test_two_deployments_on_one_redis(fleet: Fleet) -> None:
    """Neither host nor ingress of another identity starts; the samples are published as they should (R10)."""
    for role in ("ingress", "vm", "io"):
        said = refused(fleet, OTHER, role)
        assert f"identity = {fleet.ledger.identity}" in said
        assert f"this one is {OTHERS}" in said
    fleet.push("ours")
    wait_published(fleet, "ours")
    record = fleet.record("ours")
    assert record is not None
    assert record.analysis is not None
    assert (record.host, record.analysis.identity) == (HOST, fleet.ledger.identity)


@pytest.mark.slow
def test_two_machines_of_one_name(fleet: Fleet) -> None:
    """Each sample is published at its first attempt, by the machine that has the name (R5)."""
    uids = [f"twins-{number}" for number in range(6)]
    for uid in uids:
        fleet.push(uid)
    for role in ("vm", "io"):
        said = refused(fleet, TWIN, role)
        assert f"the host name {HOST} is another machine's" in said
        assert str(fleet.state_dir(HOST)) in said
        assert str(fleet.state_dir(TWIN)) in said
    wait_published(fleet, *uids)
    assert [fleet.ledger.get(uid).attempts for uid in uids] == [1] * len(uids)  # type: ignore[union-attr] # published

    for role in ("vm", "io"):
        fleet.signal(f"{role}@{HOST}", signal.SIGKILL, group=True)
        fleet.processes.pop(f"{role}@{HOST}").running.wait()
    for role in ("vm", "io"):
        start(fleet, TWIN, role)
    wait_until(lambda: named(fleet) == str(fleet.state_dir(TWIN)), "the twin has the name")
    fleet.push("after")
    wait_published(fleet, "after")
    assert f"the host name {HOST} is another machine's" in refused(fleet, HOST, "vm")
