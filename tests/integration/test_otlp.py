"""Spans on their way to a collector that is there, that hangs, that is gone, or that nobody can trust."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from drakcelery.errors import SettingsError
from drakcelery.settings import load
from drakcelery.telemetry import otlp, tracing
from drakcelery.telemetry.otlp import QUEUED_SPANS, Spans
from drakcelery.telemetry.spans import ROOT, Span, attempt_key, span_id, trace_id
from tests import reference
from tests.collector import header, spans
from tests.waiting import wait_until
from tests.webhook import CLOSE, OK, SLOW, Receiver, make_certificates, receiving

PATH = "/v1/traces"


def span(number: int) -> Span:
    """An attempt of some analysis."""
    return Span(
        name="attempt",
        task_uid="{root}:task",
        key=attempt_key(number),
        parent=ROOT,
        start=1000.25,
        end=1001.5,
        attributes={"drakcelery.attempt": number},
        links=(attempt_key(number - 1),),
        error="it failed",
    )


@contextmanager
def sending(receiver: Receiver, ca_file: Path | None = None) -> Iterator[Spans]:
    """What sends to *receiver* until the block ends."""
    endpoint = f"{receiver.scheme}://127.0.0.1:{receiver.port}{PATH}"
    ours = Spans(endpoint, {"X-Token": "secret"}, {"service.name": "test"}, ca_file=ca_file)
    try:
        yield ours
    finally:
        ours.close()


def said(logs: list[EventDict], action: str) -> list[EventDict]:
    """The lines with that action."""
    return [line for line in logs if line["event"] == action]


def test_a_span_arrives_as_it_was_told() -> None:
    """Ids follow from the Karton task; times, attributes, links, error and token are as given."""
    with receiving() as receiver, sending(receiver) as ours:
        ours.emit(span(2))
        wait_until(lambda: receiver.taken, "it arrives")
        (got,) = spans(receiver.taken)
        assert (got.name, got.start, got.end, got["attempt"]) == ("attempt", 1000.25, 1001.5, 2)
        assert got.trace == f"{trace_id('{root}:task'):032x}"
        assert got.id == f"{span_id('{root}:task', attempt_key(2)):016x}"
        assert got.parent == f"{span_id('{root}:task', ROOT):016x}"
        assert got.links == (f"{span_id('{root}:task', attempt_key(1)):016x}",)
        assert (got.failed, got.message) == (True, "it failed")
        assert got.resource == {"service.name": "test", "process.pid": os.getpid()}
        assert header(receiver.taken[0], "X-Token") == "secret"


def test_a_trace_is_found_as_documented() -> None:
    """The command in docs/tracing.md gives the id of the trace."""
    page = (reference.ROOT / "docs" / "tracing.md").read_text(encoding="utf-8")
    (command,) = (line for line in page.splitlines() if line.startswith("printf "))
    task_uid = command.split("'")[1]
    done = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True)  # noqa: S607 as typed
    assert done.stdout.strip() == f"{trace_id(task_uid):032x}"


def test_the_last_spans_are_sent_at_the_end() -> None:
    """What is queued when a process ends is sent before it does; what comes after that is not."""
    with receiving() as receiver:
        with sending(receiver) as ours:
            for number in range(1, 600):
                ours.emit(span(number))
        ours.emit(span(1000))
        assert sorted(int(one["attempt"]) for one in spans(receiver.taken)) == list(range(1, 600))
        assert 2 <= len(receiver.taken) <= 4  # in batches


def test_a_collector_that_hangs_costs_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a span never waits, the queue is bounded, and the end takes no longer than it may."""
    monkeypatch.setattr(otlp, "REQUEST_SECONDS", 600)  # the answer comes when the receiver ends, not before
    with receiving() as receiver:
        receiver.always = SLOW
        with sending(receiver) as ours:
            ours.emit(span(1))
            wait_until(lambda: receiver.posts, "the collector is asked, and says nothing")
            for number in range(2 * QUEUED_SPANS):
                ours.emit(span(number))
            assert len(ours._outbox._waiting) <= QUEUED_SPANS
            assert ours._outbox._thread.is_alive()
        assert ours._outbox._thread.is_alive(), "the end has not waited for the answer"
        assert len(receiver.posts) == 1, "nothing was answered, and nothing has waited for it"
    wait_until(lambda: not ours._outbox._thread.is_alive(), "the thread ends with the request")


def test_an_outage_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line when spans are lost, with the reason, however many are; one when they arrive again."""
    monkeypatch.setattr(otlp, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(otlp, "GATHER_SECONDS", 0.01)
    with capture_logs() as logs, receiving() as receiver, sending(receiver) as ours:
        receiver.always = CLOSE
        for number in range(3):
            ours.emit(span(number))
            wait_until(lambda number=number: ours._outbox._lost > number, "it is lost")  # type: ignore[misc] # mypy cannot type a lambda with a default
        (line,) = said(logs, "traces_not_sent")
        assert line["endpoint"].endswith(PATH)
        assert "batch" in line["error"]
        assert "secret" not in str(line)
        receiver.always = OK
        ours.emit(span(4))
        wait_until(lambda: said(logs, "traces_sent_again"), "it is said")
        assert [one["lost"] for one in said(logs, "traces_sent_again")] == [3]
        assert len(said(logs, "traces_not_sent")) == 1


def test_a_refusal_is_said() -> None:
    """A collector that does not want the spans is as good as none, and the log has its answer."""
    with capture_logs() as logs, receiving() as receiver, sending(receiver) as ours:
        receiver.always = 401
        ours.emit(span(1))
        (line,) = wait_until(lambda: said(logs, "traces_not_sent"), "it is said")
        assert "401" in line["error"]


def test_tls_is_checked(tmp_path: Path) -> None:
    """A collector with a certificate of one's own authority is trusted where that is named, only there."""
    certificates = make_certificates(tmp_path)
    with receiving(certificates) as receiver:
        with sending(receiver, certificates / "ca.pem") as ours:
            ours.emit(span(1))
            wait_until(lambda: receiver.taken, "it arrives")
        with capture_logs() as logs, sending(receiver) as ours:
            ours.emit(span(2))
            wait_until(lambda: said(logs, "traces_not_sent"), "it is refused")
        assert len(spans(receiver.taken)) == 1


def test_a_forked_process_sends_for_itself(tmp_path: Path) -> None:
    """After a fork, start makes a new sender: each process sends its own spans, once."""
    config = tmp_path / "drakcelery.ini"
    with receiving() as receiver:
        config.write_text(f"[tracing]\nendpoint = http://127.0.0.1:{receiver.port}\n")
        done = subprocess.run(
            [sys.executable, "-c", _FORKING, str(config)],
            timeout=60,
            check=True,
            capture_output=True,
            text=True,
        )
        parent, child = (int(word) for word in done.stdout.split())
        found = {(int(one["attempt"]), one.resource["process.pid"]) for one in spans(receiver.taken)}
        assert found == {(1, parent), (2, child), (3, parent)}
        assert len(spans(receiver.taken)) == 3


_FORKING = """
import os, pathlib, sys
from drakcelery.telemetry import tracing
from drakcelery.settings import load
from tests.integration.test_otlp import span

settings = load(pathlib.Path(sys.argv[1]), environment={})
tracing.start(settings)
tracing._send(span(1))
child = os.fork()
if child == 0:
    tracing.start(settings)
    tracing._send(span(2))
    tracing.stop()
    os._exit(0)
os.waitpid(child, 0)
tracing._send(span(3))
tracing.stop()
print(os.getpid(), child)
"""


def test_off_is_free() -> None:
    """Without an endpoint nothing that makes or sends spans is so much as imported."""
    code = (
        "import sys, drakcelery.celery\n"
        "from drakcelery.telemetry import tracing\n"
        "from drakcelery.settings import load\n"
        "tracing.start(load(None, environment={}))\n"
        "tracing.stop()\n"
        "ours = ('drakcelery.telemetry.otlp', 'opentelemetry.exporter', 'opentelemetry.sdk.trace')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=60, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for traces without the extra is told what to install; nothing starts half."""
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "drakcelery.telemetry.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    settings = load(None, environment={"DRAKCELERY_TRACING_ENDPOINT": "https://collector.example.org:4318"})
    with pytest.raises(
        SettingsError, match=r"traces need opentelemetry.*pip install 'drakcelery\[tracing\]'"
    ):
        tracing.start(settings)
    assert tracing._PROCESS.spans is None


def test_what_goes_wrong_here_costs_no_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the making of a span is logged, and goes no further."""

    def fail() -> None:
        raise RuntimeError("the ledger is away")

    monkeypatch.setattr(tracing._PROCESS, "spans", object())
    with capture_logs() as logs:
        tracing.refused("task", fail)
    assert [line["event"] for line in logs] == ["span_not_made"]
