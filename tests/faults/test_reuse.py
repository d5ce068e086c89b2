"""An ingress that is killed while it reuses an analysis: another one goes on, and each is published once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drakcelery.embedded.services import Services
from drakcelery.failpoints import REUSE_POINTS
from drakcelery.model.analysis import State
from tests.faults.account import Observer
from tests.faults.fleet import RECEIVER, Fleet, Options
from tests.servers import lent
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

OPTIONS = Options(hosts=("rack-1",), lease_seconds=15, more={"reuse": {"enabled": "1"}})
"""A host that is silent for half a lease, as on a machine that is very busy, does not say what it has: then
nothing is reused."""


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host, and an ingress that lets analyses be reused."""
    directory = tmp_path_factory.mktemp("reuse")
    with lent(services) as servers, Fleet(directory / "fleet", servers, OPTIONS) as ours:
        yield ours


def test_an_ingress_is_killed_wherever_it_reuses(fleet: Fleet) -> None:
    """At each failpoint in turn; the one at which a task waits for a twin is reached by another task."""
    uids = [point.replace(".", "-") for point in REUSE_POINTS]
    for uid, point in zip(uids, REUSE_POINTS, strict=True):
        fleet.plan(uid, point, "child")
    fleet.plan("first", "run.detonated", "hold")
    fleet.push("first", content="known", reuse=3600)
    wait_until(lambda: fleet.times_fired("first"), "the first analysis is under way")
    fleet.push("ingress-twin_waits", content="known", reuse=3600)
    wait_until(lambda: fleet.respawn(), "the ingress dies as its task waits for the twin")
    fleet.let_go("first")
    for uid in uids:
        if uid != "ingress-twin_waits":
            fleet.push(uid, content="known", reuse=3600)
    fleet.wait_over(["first", *uids])
    for uid in uids:
        record = fleet.record(uid)
        assert record is not None
        assert record.analysis is not None
        assert record.analysis.reuse.miss is None, record.analysis.reuse.refused
        assert (uid, record.state, record.reused_from) == (uid, State.PUBLISHED, "first")
        assert fleet.fired(uid) is not None
    observer = Observer(fleet.backend, RECEIVER)
    wait_until(lambda: not observer.look().on_their_way, "karton-system has routed everything")
    assert dict(observer.look().published) == dict.fromkeys(("first", *uids), 1)
