"""What a fleet tells: traces, as a collector sees them, one for each analysis; and its logs."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import Stage, State
from drakcelery.model.records import Record
from tests.collector import Span, header, spans
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import type_in, wait_state
from tests.servers import lent
from tests.waiting import wait_until
from tests.webhook import OK, SLOW, Receiver, receiving

HOSTS = ("rack-1", "rack-2")
STAGES = [stage.value for stage in Stage]
ROAD_SECONDS = 20.0
"""What an analysis may take here: less than two requests to a collector that hangs."""


AT_NO_STAGE = frozenset(
    (
        *("vm_worker_ready", "stopping", "stopped", "reconciled", "traces_not_sent", "traces_sent_again"),
        *("slot_cleaned", "slot_probed", "stale_holder", "workspace_removed"),  # the janitor's
        *("takes_nothing", "takes_samples", "waits_for_name", "worker_ousted"),  # of the host as a whole
        *("io_worker_is_older", "engine_lacks"),
    )
)
PAST_THE_LOG = (
    "SecurityWarning",
    "absolutely not",
    "--uid option",
    "User information",
    "_warn_or_raise",
    "Warm",
)
"""What Celery writes for root, before logging is set up, and at a warm shutdown."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    """Takes what it is sent."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def fleet(
    services: Services,
    collector: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Two hosts that send their spans to the collector."""
    directory = tmp_path_factory.mktemp("traces")
    endpoint = f"http://127.0.0.1:{collector.port}"
    more = {
        "tracing": {"endpoint": endpoint, "request_headers": '{"X-Token": "of the collector"}'},
        "drakcelery": {"log_format": "json"},
    }
    with (
        lent(services) as servers,
        Fleet(
            directory / "fleet", servers, Options(hosts=HOSTS, slots=2, run_seconds=600, more=more)
        ) as ours,
    ):
        yield ours


def trace_of(task_uid: str) -> str:
    """The id of a trace, as docs/tracing.md tells people to find it."""
    return hashlib.sha256(task_uid.encode()).hexdigest()[:32]


def arrived(collector: Receiver, record: Record) -> list[Span]:
    """The spans of an analysis, once its root is there and each of its spans has a parent."""

    def whole() -> list[Span]:
        found = [span for span in spans(collector.taken) if span.trace == trace_of(record.task_uid)]
        known = {span.id for span in found} | {""}
        roots = [span for span in found if not span.parent]
        return found if roots and all(span.parent in known for span in found) else []

    return wait_until(whole, f"the trace of {record.uid} arrives")


def settled(collector: Receiver, record: Record, count: int) -> list[Span]:
    """As :func:`arrived`, with *count* spans, each there once and within its parent."""
    wait_until(lambda: len(arrived(collector, record)) >= count, f"{count} spans of {record.uid} arrive")
    found = arrived(collector, record)
    by_id = {span.id: span for span in found}
    assert len(by_id) == len(found) == count, [(span.name, span.id) for span in found]
    for span in found:
        parent = by_id.get(span.parent, span)
        assert parent.start <= span.start <= span.end <= parent.end, (span, parent)
        assert (span["uid"], span.attributes["karton.task_uid"]) == (record.uid, record.task_uid)
        assert span.resource["service.name"] == "drakcelery"
    return found


def named(found: Sequence[Span], name: str) -> list[Span]:
    """Those of a name, in their order."""
    return [span for span in found if span.name == name]


def over(fleet: Fleet, uid: str) -> Record:
    """The record of an analysis that was pushed, once it is over."""
    return fleet.wait_over([uid])[uid]


def test_a_trace_of_one_attempt(fleet: Fleet, collector: Receiver) -> None:
    """Root, ingress, attempt and its five stages, from several processes, say what was done, and where."""
    fleet.push("plain", timeout=1)
    record = over(fleet, "plain")
    found = settled(collector, record, 8)
    (root,), (attempt,), (ingress,) = (named(found, name) for name in ("analysis", "attempt", "ingress"))
    assert (root.parent, attempt.parent, ingress.parent) == ("", root.id, root.id)
    stages = [span for span in found if span.parent == attempt.id]
    assert [span.name for span in stages] == STAGES
    assert root.start == pytest.approx(record.received, abs=1e-5)
    assert record.analysis is not None
    for span in (root, attempt, *stages):
        assert span["sample_sha256"] == record.analysis.sample.sha256
        assert (span["host"], span["slot"], span["profile"]) == (record.host, record.slot, "default")
        assert not span.failed
    assert (root["outcome"], root["attempts"], attempt["attempt"]) == ("published", 1, record.attempt)
    assert {span["outcome"] for span in stages} == {"done"}
    assert len({span.resource["process.pid"] for span in found}) >= 3  # ingress, vm, io


def test_the_token_goes_with_each_request_and_nowhere_else(fleet: Fleet, collector: Receiver) -> None:
    """A collector that asks for a token gets it; no log has it."""
    fleet.push("token", timeout=1)
    arrived(collector, over(fleet, "token"))
    assert {header(post, "X-Token") for post in collector.posts} == {"of the collector"}
    logs = [path.read_text() for path in (fleet.directory / "log").glob("*.log")]
    assert "of the collector" not in "".join(logs)


@pytest.mark.parametrize("action", ["exception", "child"])
def test_a_trace_of_two_attempts(fleet: Fleet, collector: Receiver, action: str) -> None:
    """One trace over both attempts; the second is linked to the first, which says why it failed.

    Where the process died, its stage's span died with it; its worker says how the attempt ended.
    """
    uid = f"twice-{action}"
    fleet.plan(uid, "run.detonated", action)
    fleet.push(uid, timeout=1)
    record = over(fleet, uid)
    assert (record.state, record.attempts) == (State.PUBLISHED, 2)
    found = settled(collector, record, 11 if action == "exception" else 10)
    (root,) = named(found, "analysis")
    first, second = named(found, "attempt")
    assert (first["outcome"], second["outcome"], root["outcome"]) == ("failed", "published", "published")
    assert (root["attempts"], second.links, first.links) == (2, (first.id,), ())
    assert first.failed
    assert first.message == first["error"] == record.failures[0].error
    assert (first["host"], second["host"]) == (record.failures[0].host, record.host)
    assert first.end <= second.start + 1e-4  # Lua's JSON has 14 digits
    tried = ["prepare", "run"] if action == "exception" else ["prepare"]
    assert [span.name for span in found if span.parent == first.id] == tried
    assert [span.name for span in found if span.parent == second.id] == STAGES
    if action == "exception":
        (run,) = (span for span in found if span.parent == first.id and span.name == "run")
        assert (run.failed, run["outcome"]) == (True, "failed")
        assert "the fault suite wants this" in str(run["error"])


def test_a_trace_of_a_cancelled_analysis(fleet: Fleet, collector: Receiver) -> None:
    """The command that cancels ends the trace; the stage that was at work says that it stopped."""
    fleet.push("unwanted", timeout=600)
    record = wait_state(fleet, "unwanted", State.RUNNING)
    status, output = type_in(fleet, "drakcelery", "cancel", "unwanted")
    assert status == 0, output
    wait_until(lambda: named(arrived(collector, record), "run"), "the stage ends as well")
    found = arrived(collector, record)
    (root,), (run,) = named(found, "analysis"), named(found, "run")
    assert root["outcome"] == "cancelled"
    assert run["outcome"] in ("superseded", "failed")  # the latter where the janitor took its guest first
    assert str(root["error"]).startswith("cancelled by ")
    assert not root.failed


def test_a_trace_of_a_refused_task(fleet: Fleet, collector: Receiver) -> None:
    """What never became an analysis is one failed span with the reason."""
    fleet.push("nowhere", host="no-such-host")
    record = over(fleet, "nowhere")
    (root,) = arrived(collector, record)
    assert (root.name, root["outcome"], root.failed) == ("analysis", "refused", True)
    assert "no-such-host" in root.message


def test_a_collector_that_hangs_delays_nothing(fleet: Fleet, collector: Receiver) -> None:
    """Analyses are published as fast as usual, processes end in time, and spans come again when it
    answers."""
    collector.always = SLOW
    try:
        uids = [f"hanging-{number}" for number in range(6)]
        before = len(collector.posts)
        for uid in uids:
            fleet.push(uid, timeout=1)
        for record in fleet.wait_over(uids).values():
            assert record.state is State.PUBLISHED
            assert record.finished is not None
            assert record.finished - record.received < ROAD_SECONDS
        wait_until(lambda: len(collector.posts) > before, "the collector is asked, and says nothing")
        begun = time.monotonic()
        fleet.signal("ingress", signal.SIGTERM)
        fleet.signal("io@rack-1", signal.SIGTERM)
        for name in ("ingress", "io@rack-1"):
            assert fleet.processes[name].running.wait(30) == 0
        assert time.monotonic() - begun < ROAD_SECONDS
    finally:
        collector.always = OK
    fleet.respawn()
    fleet.push("afterwards", timeout=1)
    assert named(arrived(collector, over(fleet, "afterwards")), "analysis")


# Logs


def logged(fleet: Fleet) -> Iterator[tuple[str, dict[str, Any]]]:
    """(process, line) for each line of every log; what is no JSON is what Celery writes past its log."""
    for path in (fleet.directory / "log").glob("*.log"):
        for line in path.read_text().splitlines():
            if line.startswith("{"):
                yield path.stem, json.loads(line)
            elif line:
                assert any(words in line for words in PAST_THE_LOG), (path.stem, line)


def test_every_line_says_what_happened_and_where(fleet: Fleet) -> None:
    """Each line of each process has an action and a host; libraries' have their words apart."""
    seen = set()
    for process, line in logged(fleet):
        assert re.fullmatch("[a-z_]+", line["action"]), line
        assert line["host"] == fleet.processes[process].host or "uid" in line, (process, line)
        assert (line["action"] == "library") == ({"logger", "message"} <= set(line)), line
        seen.add((process.partition("@")[0], line["action"]))
    processes = {name.partition("@")[0] for name in fleet.processes}
    assert {process for process, _ in seen} == processes
    assert {(process, "library") for process in processes - {"ingress"}} <= seen


def test_lines_about_an_analysis_say_which(fleet: Fleet) -> None:
    """Wherever an analysis is at work, its uid, attempt, stage, host and slot are in the line."""
    found = [line for process, line in logged(fleet) if process.startswith(("vm@", "io@"))]
    for line in found:
        if line["action"] not in AT_NO_STAGE | {"library"}:
            assert {"uid", "attempt", "stage", "host", "slot"} <= set(line), line
    ended = [line for line in found if line["action"] == "next_attempt" and line["uid"] == "twice-child"]
    assert [line["stage"] for line in ended] == ["run"]  # said by the worker, for its process that died
