"""A short storm, and what the storm is made of; ``make chaos`` has the long one."""

from __future__ import annotations

import json
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.account import Seen, Totals
from tests.faults.forecast import KINDS, Plan, schedule
from tests.faults.proxy import LOOPBACK, Proxy
from tests.faults.storm import brewing
from tests.waiting import PATIENCE

SHORT = Plan(
    seed=7, duration=32, analyses=30, gap=(1.0, 1.6), frozen=(4.2, 8.4), lease=7, run_seconds=0.5, odd=26
)


@pytest.mark.slow
def test_a_short_storm(server_programs: None, tmp_path: Path) -> None:  # noqa: ARG001 - a check
    """Whatever is killed, frozen and cut off: every sample is published once, or CRASHED with a reason."""
    happened: list[str] = []
    with brewing(SHORT, tmp_path, happened.append) as storm:
        totals = storm.run()
        assert totals.promise_is_kept, "\n".join((totals.table(), *happened))
        assert totals.received == SHORT.analyses
        assert totals.reused > 0
        assert set(storm.faults) == {fault.kind for fault in schedule(SHORT)} == set(KINDS)
        assert storm.held() == []


def test_a_seed_makes_a_storm() -> None:
    """The same seed plans the same storm, another seed another one; every kind of fault is in it."""
    plan = Plan(seed=1, duration=300)
    assert schedule(plan) == schedule(plan)
    assert schedule(plan) != schedule(Plan(seed=2, duration=300))
    assert {fault.kind for fault in schedule(plan)} == set(KINDS)
    assert all(0 < fault.at < 300 for fault in schedule(plan))


def test_the_account(tmp_path: Path) -> None:
    """Each way to break the promise shows in the totals, and in the report that is written."""
    seen = Seen(
        published=Counter({"once": 1, "twice": 2, "both": 1}),
        crashed={"crashed": "why", "both": "why", "no-reason": ""},
        on_their_way=0,
    )

    def count_odd(*ends: str, refused: tuple[bool, ...] = ()) -> Totals:
        times: dict[str, Any] = {"seed": 1, "seconds": 2.0, "kills": 3, "recoveries": []}
        return Totals.of(seen, [], odd=ends, refused=refused, **times)

    def count(*uids: str) -> Totals:
        return Totals.of(seen, uids, seed=1, seconds=2.0, kills=3, recoveries=[1.0, 2.0, 6.0])

    assert count("once", "crashed").promise_is_kept
    assert not count_odd("published", "open").promise_is_kept
    assert count_odd("published", "crashed", "quarantined", refused=(True,)).promise_is_kept
    assert not count_odd(refused=(True, False)).promise_is_kept
    for broken in ("twice", "both", "no-reason", "never-seen"):
        assert not count("once", broken).promise_is_kept, broken
    totals = count("once", "twice", "both", "crashed", "no-reason", "never-seen")
    totals.write(tmp_path / "chaos.json")
    assert json.loads((tmp_path / "chaos.json").read_text()) == {
        "seed": 1,
        "seconds": 2.0,
        "received": 6,
        "published": 3,
        "crashed": 2,
        "lost": 2,
        "published_twice": 2,
        "kills": 3,
        "odd": 0,
        "odd_open": 0,
        "intruders": 0,
        "intruders_admitted": 0,
        "reused": 0,
        "reused_across": 0,
        "recovery_p50_s": 2.0,
        "recovery_max_s": 6.0,
    }


def test_the_proxy_drops_connections() -> None:
    """What is sent arrives until its connection is dropped; the next one works while the server is there."""
    with socket.create_server((LOOPBACK, 0)) as server, Proxy(server.getsockname()[1]) as proxy:
        for _ in range(2):
            with socket.create_connection((LOOPBACK, proxy.port), timeout=PATIENCE) as client:
                far, _ = server.accept()
                with far:
                    far.settimeout(PATIENCE)
                    client.sendall(b"there")
                    assert far.recv(5) == b"there"
                    far.sendall(b"back")
                    assert client.recv(4) == b"back"
                    assert proxy.drop() == 1
                    with pytest.raises(ConnectionResetError):
                        client.recv(1)
        server.close()
        with (
            pytest.raises(ConnectionResetError),  # by the connect already, where the proxy is faster
            socket.create_connection((LOOPBACK, proxy.port), timeout=PATIENCE) as client,
        ):
            client.recv(1)
