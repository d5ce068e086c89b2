"""What a worker that begins is told by the others."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import kombu.pidbox
import pytest
from celery.worker import state as celery_state

from tests.bench import Bench
from tests.heart.workers import Rack
from tests.heart.workers import rack as rack_of
from tests.waiting import wait_until

LATE = 4711
"""A neighbour's clock: it has sent so many events."""


@pytest.fixture
def rack(bench: Bench) -> Iterator[Rack]:
    """A host, and Celery's list of what was revoked as it was before."""
    before = list(celery_state.revoked)
    with rack_of(bench) as ours:
        yield ours
    celery_state.revoked.clear()
    celery_state.revoked.update(before)


@contextlib.contextmanager
def neighbour(rack: Rack, *revoked: str) -> Iterator[list[str]]:
    """Another worker's mailbox, which knows what was *revoked*; yields what it is told."""
    told: list[str] = []
    over = threading.Event()

    def hello(_state: Any, from_node: str, revoked: list[str], **_: object) -> dict[str, Any]:
        told.extend((from_node, *revoked))
        return {"revoked": known, "clock": LATE}

    known = list(revoked)
    connection = rack.app.connection_for_read()
    channel = connection.default_channel
    mailbox: kombu.pidbox.Mailbox = rack.app.control.mailbox  # type: ignore[attr-defined] # the stubs lack it
    mailbox.Node("io@elsewhere", handlers={"hello": hello}, channel=channel).listen()

    def listen() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=0.1)

    thread = threading.Thread(target=listen, name="neighbour")
    thread.start()
    try:
        yield told
    finally:
        over.set()
        thread.join()
        connection.release()


def test_what_was_revoked_before_is_known(rack: Rack) -> None:
    """The others say what was revoked, and how late it is by Celery's clock; they are told the same."""
    celery_state.revoked.add("ours")
    with neighbour(rack, "theirs") as told, rack.vm_worker():
        wait_until(lambda: "theirs" in celery_state.revoked, "it knows what was revoked")
        assert rack.app.clock.value > LATE  # type: ignore[attr-defined] # as above
        assert told == [f"vm@{rack.bench.context.host}", "ours"]


def test_the_worker_s_own_thread_takes_it_over(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads what is revoked for each message, and nothing guards that."""
    threads = []
    take_over = celery_state.merge_revoked  # type: ignore[attr-defined] # the stubs lack it

    def merged(task_ids: Any) -> None:
        threads.append(threading.current_thread().name)
        take_over(task_ids)

    monkeypatch.setattr(celery_state, "merge_revoked", merged)
    with neighbour(rack, "theirs"), rack.vm_worker():
        wait_until(lambda: "theirs" in celery_state.revoked, "it knows what was revoked")
    assert threads
    assert "hello" not in threads


def test_nobody_else_is_there(rack: Rack) -> None:
    """A worker that hears nothing keeps what it knows."""
    celery_state.revoked.add("ours")
    with rack.vm_worker():
        wait_until(lambda: not any(one.name == "hello" for one in threading.enumerate()), "it has asked")
        assert list(celery_state.revoked) == ["ours"]
