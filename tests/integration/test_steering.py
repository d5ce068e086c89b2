"""Steering with real workers: what is closed stays closed, who asks is answered, logs are read from afar."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.bin import control
from celery.bin.base import CLIContext

from drakcelery.broker.routing import prepare_queue
from drakcelery.cli import cli
from drakcelery.embedded.services import Services
from drakcelery.errors import StackError
from drakcelery.host.drains import Closed
from drakcelery.host.slot import Slot
from drakcelery.host.slots import SlotTable
from drakcelery.model.analysis import Failure, Stage, State
from drakcelery.model.records import HostStatus, Record
from drakcelery.operators import steering
from drakcelery.stages import cancellation
from drakcelery.worker import remote_control as _commands  # noqa: F401 registers them with Celery
from tests.acceptance.deployment import PROGRAMS, execute, run_here, typist
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import sample_task, type_in, wait_free, wait_gone, wait_published, wait_state
from tests.servers import lent
from tests.terminal import terminal
from tests.waiting import wait_until

HOST, OTHER = "rack-1", "rack-2"
LONG = 600
"""Seconds that a run takes, unless its task asks for less."""
ME = "alice@console"


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts with two slots each."""
    directory = tmp_path_factory.mktemp("steering")
    options = Options(hosts=(HOST, OTHER), slots=2, run_seconds=LONG, stop_seconds=1)
    with (
        lent(services),
        Fleet(directory / "fleet", services, options) as ours,
    ):
        yield ours


@pytest.fixture(scope="module")
def app(fleet: Fleet) -> Iterator[Celery]:
    """What asks the fleet's workers."""
    with Celery(broker=fleet.settings.broker_url, control="drakcelery.worker.mailbox:Control") as ours:
        yield ours


@pytest.fixture(autouse=True)
def as_before(fleet: Fleet, app: Celery) -> Iterator[None]:
    """Nothing runs, and everything is open, after each test."""
    yield
    for record in fleet.ledger.live():
        cancellation.cancel(fleet.ledger, record, by="the test that began it")
    for host, slots in fleet.slots().items():
        steering.undrain(app, host, by=ME)
        for slot in slots:
            steering.undrain(app, host, slot=slot.name, by=ME)
            if slot.status == "quarantined":
                steering.release(app, host, slot=slot.name, by=ME)
    for host in (HOST, OTHER):
        wait_free(fleet, host)


def typed(fleet: Fleet, *words: str, host: str = HOST) -> tuple[int, str]:
    """Exit status and output of ``drakcelery …`` on a host, done by this process."""
    return run_here(cli, *words, **typist(fleet._config[host]))


def celery(app: Celery, kind: str, *words: str) -> tuple[int, str]:
    """The same of ``celery -A drakcelery inspect …`` and ``… control …``."""
    command = {"inspect": control.inspect, "control": control.control}[kind]
    return run_here(command, *words, obj=CLIContext(app=app, no_color=True, workdir=None))


def replies(app: Celery, kind: str, *words: str) -> dict[str, Any]:
    """What each worker says, by ``--json``."""
    return parsed(celery(app, kind, *words, "--json"))


def parsed(typed: tuple[int, str]) -> dict[str, Any]:
    """The replies in what ``--json`` printed, by worker."""
    status, output = typed
    assert status == 0, output
    answer = json.loads(output)
    if isinstance(answer, list):  # of control
        return {name: reply for one in answer for name, reply in one.items()}
    assert isinstance(answer, dict)
    return answer


def running(fleet: Fleet, uid: str, *, host: str = HOST, timeout: int = LONG) -> Record:
    """An analysis, once its guest runs on *host*."""
    fleet.push(uid, host=host, timeout=timeout)
    return wait_state(fleet, uid, State.RUNNING)


def states(status: HostStatus) -> dict[str, str]:
    return {slot.name: slot.state for slot in status.slots}


def slot_of(fleet: Fleet, record: Record) -> Slot:
    return next(slot for slot in fleet.slots()[str(record.host)] if slot.name == record.slot)


# celery inspect, celery control


def test_inspect_slots(fleet: Fleet, app: Celery) -> None:
    """Each vm worker tells what its slots do, and for whom; the io workers are silent."""
    record = running(fleet, "seen")
    assert record.analysis is not None
    answer = parsed(type_in(fleet, "celery", "-A", "drakcelery", "inspect", "slots", "--json"))
    assert set(answer) == {f"vm@{HOST}", f"vm@{OTHER}"}
    rows = {row["slot"]: row for row in answer[f"vm@{HOST}"]}
    busy = rows.pop(str(record.slot))
    since = busy.pop("since")
    assert abs(time.time() - datetime.fromisoformat(since).timestamp()) < 120
    assert busy == {
        "slot": record.slot,
        "profile": "default",
        "state": "running",
        "analysis": "seen",
        "sample": record.analysis.sample_label,
        "attempt": 1,
        "closed_by": None,
        "score": 1.0,
        "reasons": [],
    }
    (free,) = rows.values()
    assert (free["state"], free["analysis"], free["sample"]) == ("free", None, None)
    assert "seen.bat" in celery(app, "inspect", "slots")[1]


def test_inspect_active_is_readable(fleet: Fleet, app: Celery) -> None:
    """A stage at work says which analysis it is by its id, and which sample by its arguments."""
    record = running(fleet, "active")
    assert record.analysis is not None
    (task,) = replies(app, "inspect", "active")[f"vm@{HOST}"]
    assert (task["id"], task["hostname"]) == ("active/1/run", f"vm@{HOST}")
    assert (task["args"], task["kwargs"]) == (f"({record.analysis.sample_label}, attempt 1)", "")


def test_inspect_analysis(fleet: Fleet, app: Celery) -> None:
    """The host that has it answers alone; of one that is nowhere yet, every vm worker tells the same."""
    record = running(fleet, "asked")
    (answer,) = replies(app, "inspect", "analysis", "asked").items()
    name, told = answer
    assert name == f"vm@{HOST}"
    assert (told["state"], told["slot"], told["slot_state"]) == ("RUNNING", record.slot, "running")
    assert (told["host"], told["attempt"], told["next_stage"], told["errors"]) == (HOST, 1, "run", [])
    assert set(told["entered"]) == {"QUEUED", "PREPARING", "RUNNING"}


@pytest.mark.parametrize(
    ("command", "arguments", "error"),
    [
        ("analysis", {"uid": "../../etc/passwd"}, "expected that of an analysis"),
        ("analysis", {}, "expected that of an analysis"),
        ("cancel", {"uid": ["a"]}, "expected that of an analysis"),
        ("cancel", {"uid": "no-such"}, "no analysis no-such in the ledger"),
        ("cancel", {"uid": "no-such", "by": "\x1b[2J"}, "expected who asks"),
        ("drain", {"slot": "vm-9"}, "host rack-1 has no slot 'vm-9'; it has: vm-1, vm-2"),
        ("drain", {"slto": "vm-1"}, "drain: got an unexpected keyword argument 'slto'"),
        ("quarantine", {}, "expected the name of a slot"),
        ("quarantine", {"slot": None}, "expected the name of a slot"),
        ("release", {"slot": None}, "expected the name of a slot"),
        ("release", {"slot": "vm-1"}, "slot vm-1 of rack-1 is not in quarantine: it is free"),
    ],
)
def test_wrong_arguments_are_refused(
    fleet: Fleet, app: Celery, command: str, arguments: dict[str, Any], error: str
) -> None:
    """Whatever comes over the broker is checked, and nothing is changed."""
    with pytest.raises(StackError, match=re.escape(error)):
        steering.ask(app, f"vm@{HOST}", command, **arguments)
    assert not any(slot.drain for slot in fleet.slots()[HOST])


def test_errors_are_shown_as_celery_does(fleet: Fleet, app: Celery) -> None:
    """A sentence for people, ``{"error": …}`` for programs."""
    _, said = celery(app, "inspect", "analysis", "no-such")
    assert "ERROR" in said
    assert "no analysis no-such in the ledger" in said
    answer = parsed(type_in(fleet, "celery", "-A", "drakcelery", "control", "release", "vm-1", "--json"))
    assert set(answer) == {f"vm@{HOST}", f"vm@{OTHER}"}
    assert answer[f"vm@{OTHER}"] == {"error": "slot vm-1 of rack-2 is not in quarantine: it is free"}


def test_a_log_is_asked_for_by_numbers(fleet: Fleet, app: Celery) -> None:
    """Only the host that has it answers, and what is no number there is said."""
    running(fleet, "x")
    answer = steering.ask(app, f"vm@{HOST}", "analysis_log", uid="x")
    assert answer is not None
    assert json.loads(answer["lines"][0])["action"] == "sample_fetched"
    for wrong in (-1, "1", 2**70, None):
        with pytest.raises(StackError, match="expected a number from 0 on"):
            steering.ask(app, f"vm@{HOST}", "analysis_log", uid="x", offset=wrong)
    assert steering.ask(app, f"vm@{OTHER}", "analysis_log", timeout=1, uid="x") is None


def test_one_host_is_asked(app: Celery) -> None:
    """HOST/SLOT concerns that host alone, and Celery's --destination works; io workers do not answer."""
    (reply,) = replies(app, "control", "drain", f"{OTHER}/vm-2").items()
    assert reply[0] == f"vm@{OTHER}"
    told = HostStatus.model_validate(reply[1]["ok"])
    assert (states(told), told.draining) == ({"vm-1": "free", "vm-2": "drained"}, False)
    assert set(replies(app, "control", "undrain", "-d", f"vm@{OTHER}")) == {f"vm@{OTHER}"}
    status, output = celery(app, "inspect", "slots", "-d", f"io@{HOST}")
    assert status != 0
    assert "No nodes replied" in output


def test_control_cancel(fleet: Fleet, app: Celery) -> None:
    """Asked of all, one cancels it; none calls that an error. The reason names who asked."""
    running(fleet, "unwanted")
    answer = replies(app, "control", "cancel", "unwanted")
    assert set(answer) == {f"vm@{HOST}", f"vm@{OTHER}"}
    assert all(reply == {"ok": "cancelled unwanted"} for reply in answer.values())
    record = wait_state(fleet, "unwanted", State.CANCELLED)
    assert record.refusal == "cancelled by celery control"
    wait_gone(fleet, "unwanted")
    fleet.push("over", timeout=1)
    wait_published(fleet, "over")
    for reply in replies(app, "control", "cancel", "over").values():
        assert reply == {"error": "analysis over is over already: PUBLISHED"}


# Draining


def test_a_drained_slot(fleet: Fleet, app: Celery) -> None:
    """Its guest finishes, nothing new begins there, and the other slot of the host goes on."""
    record = running(fleet, "last", timeout=3)
    status = steering.drain(app, HOST, slot=str(record.slot), by=ME)
    assert states(status)[str(record.slot)] == "draining"
    wait_published(fleet, "last")
    fleet.push("next", host=HOST, timeout=1)
    wait_published(fleet, "next")
    following = fleet.record("next")
    assert following is not None
    assert following.slot != record.slot
    assert slot_of(fleet, record).status == "drained"
    assert ME in typed(fleet, "slots")[1]


def test_a_drained_host_survives_its_worker(fleet: Fleet, app: Celery) -> None:
    """Killed or stopped, the next vm worker takes nothing new, until it is told to."""
    steering.drain(app, HOST, by=ME)
    for number in (signal.SIGKILL, signal.SIGTERM):
        fleet.signal(f"vm@{HOST}", number, group=number is signal.SIGKILL)
        wait_until(lambda: fleet.respawn() == [f"vm@{HOST}"], "the worker ended, and is started again")
        wait_until(lambda: steering.ask(app, f"vm@{HOST}", "slots", timeout=1), "the next one answers")
        wait_until(lambda: _is_drained(fleet, HOST), "and reports that it is drained")
    fleet.push("for-rack-1", host=HOST, timeout=1)
    fleet.push("for-anyone", timeout=1)
    wait_published(fleet, "for-anyone")
    assert fleet.record("for-rack-1") is None  # it waits in Karton
    assert json.loads(typed(fleet, "hosts", "--json")[1])[0]["draining"]
    steering.undrain(app, HOST, by=ME)
    wait_published(fleet, "for-rack-1")


def _states_reported(fleet: Fleet, host: str) -> list[str]:
    """The states of a host's slots as it has reported them, which is what others see."""
    reports = (one for one in fleet.ledger.fleet.hosts() if one.host == host)
    return sorted(state for one in reports for state in states(one).values())


def _is_drained(fleet: Fleet, host: str) -> bool:
    told = next((status for status in fleet.ledger.fleet.hosts() if status.host == host), None)
    return told is not None and told.draining and set(states(told).values()) == {"drained"}


def test_quarantine_and_release(app: Celery) -> None:
    """A slot in quarantine is not tried again by itself, and is not opened by undraining its host."""
    status = steering.quarantine(app, HOST, slot="vm-1", by=ME)
    assert states(status) == {"vm-1": "quarantined", "vm-2": "free"}
    assert states(steering.drain(app, HOST, by=ME)) == {"vm-1": "quarantined", "vm-2": "drained"}
    assert states(steering.undrain(app, HOST, by=ME)) == {"vm-1": "quarantined", "vm-2": "free"}
    assert states(steering.release(app, HOST, slot="vm-1", by=ME)) == {"vm-1": "free", "vm-2": "free"}
    with pytest.raises(StackError, match="vm-1 of rack-1 is not in quarantine: it is free"):
        steering.release(app, HOST, slot="vm-1", by=ME)


def test_a_slot_of_a_drained_host(app: Celery) -> None:
    """It cannot be undrained by itself; the sentence says what to do."""
    steering.drain(app, HOST, by=ME)
    with pytest.raises(StackError, match="host rack-1 is drained as a whole: undrain the host, not vm-1"):
        steering.undrain(app, HOST, slot="vm-1", by=ME)


def test_nobody_answers(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is not there, and a broker that is not there, are each a sentence, in bounded time."""
    monkeypatch.setattr(steering, "ANSWER_SECONDS", 1)
    with pytest.raises(StackError, match="vm@rack-9 did not answer within"):
        steering.drain(app, "rack-9", by=ME)
    with Celery(broker="redis://127.0.0.1:1/0") as nowhere, pytest.raises(StackError, match="broker"):
        steering.drain(nowhere, HOST, by=ME)


def test_drain_on_the_command_line(fleet: Fleet) -> None:
    """The host as it is then is shown, or printed as JSON."""
    status, said = type_in(fleet, "drakcelery", "drain", f"{HOST}/vm-2")
    assert status == 0, said
    assert re.search(r"vm-2 +default +drained by \S+@", said)
    status, said = typed(fleet, "undrain", f"{HOST}/vm-2", "--json")
    assert status == 0, said
    assert states(HostStatus.model_validate_json(said)) == {"vm-1": "free", "vm-2": "free"}


def test_what_was_sent_to_a_drained_host_goes_elsewhere(fleet: Fleet, app: Celery) -> None:
    """A later attempt that preferred the host, and waits in its own queue, does not wait for its undrain."""
    for number in range(2):
        running(fleet, f"busy-{number}", host=OTHER)
    fleet.signal(f"vm@{HOST}", signal.SIGSTOP)
    fleet.push("wanderer", timeout=1)
    record = wait_state(fleet, "wanderer", State.QUEUED)
    failure = Failure(attempt=1, stage=Stage.PREPARE, error="no restore", host=OTHER, at=0)
    wait_until(lambda: (found := fleet.record("wanderer")) and found.sent == 1, "its first attempt was sent")
    fleet.ledger.fail("wanderer", 1, failure, task_uid=record.task_uid, final=False, crashed=None)
    with redis.Redis.from_url(fleet.settings.broker_url, decode_responses=True) as broker:
        wait_until(
            lambda: broker.llen(prepare_queue("default", HOST)), "its second waits for the host that is free"
        )
    SlotTable(fleet.state_dir(HOST), quarantine_after=3).close(None, Closed.DRAINED, by=ME)
    fleet.signal(f"vm@{HOST}", signal.SIGCONT)
    steering.cancel_by_uid(fleet.ledger, "busy-0", by=ME)
    wait_published(fleet, "wanderer")
    after = fleet.record("wanderer")
    assert after is not None
    assert (after.host, after.attempt, after.attempts) == (OTHER, 3, 2)
    assert _is_drained(fleet, HOST)
    steering.undrain(app, HOST, by=ME)
    wait_free(fleet, HOST)  # and the message that was left behind changes nothing
    assert fleet.record("wanderer") == after


# Retry


def test_retry(fleet: Fleet) -> None:
    """What was cancelled is analysed again beside it, under a uid that is printed alone; what runs is not."""
    running(fleet, "again")
    status, said = typed(fleet, "retry", "again")
    assert (status, said) == (
        1,
        "Error: analysis again is RUNNING: it can be asked for again when it is over, or is cancelled\n",
    )
    assert typed(fleet, "cancel", "again")[0] == 0
    cancelled = fleet.record("again")
    assert cancelled is not None
    status, said = typed(fleet, "retry", "again", "--timeout", str(LONG - 1), "--host", OTHER)
    assert status == 0, said
    uid = said.removesuffix("\n")
    record = wait_state(fleet, uid, State.RUNNING)
    assert (record.attempts, record.host) == (1, OTHER)
    assert record.analysis is not None
    assert (record.analysis.timeout, record.analysis.retry_of) == (LONG - 1, "again")
    assert fleet.record("again") == cancelled.model_copy(update={"retries": (uid,)})
    assert _shown(fleet, "again", "retried as") == uid
    assert _shown(fleet, uid, "retry of") == "again"


def _shown(fleet: Fleet, uid: str, name: str) -> str:
    """What `status` says on the line *name*."""
    status, said = typed(fleet, "status", uid)
    assert status == 0, said
    (line,) = (line for line in said.splitlines() if line.startswith(name))
    return line.removeprefix(name).strip()


def test_retry_of_what_is_published(fleet: Fleet) -> None:
    """The stored analysis keeps its uid, which its task asked for; the new one has another, and runs."""
    fleet.push("kept", timeout=1)
    wait_published(fleet, "kept")
    record = fleet.record("kept")
    assert record is not None
    task = sample_task(fleet, record)
    task.payload_persistent["override_uid"] = "kept"  # as a service further up may ask for it
    fleet.ledger.declare(task)
    status, said = typed(fleet, "retry", "kept", "--wait")
    assert status == 0, said
    uid = said.split()[0]
    again = fleet.record(uid)
    assert again is not None
    assert again.state is State.PUBLISHED
    assert fleet.record("kept") == record.model_copy(update={"retries": (uid,)})


# Logs


def test_logs_of_what_runs(fleet: Fleet) -> None:
    """Its lines come from its host, to a machine that is not that host."""
    record = running(fleet, "far", host=OTHER)
    status, said = typed(fleet, "logs", "far", host=HOST)
    assert status == 0, said
    first, *lines = said.splitlines()
    assert f"running attempt=1 host={OTHER} slot={record.slot}" in first
    assert [line.split()[1:3] for line in lines[:2]] == [
        ["prepare", "sample_fetched"],
        ["prepare", "slot_restored"],
    ]


def test_logs_are_followed(fleet: Fleet) -> None:
    """From a time at which Karton still has the sample to the end, each line once and in order."""
    config = fleet._config[HOST]
    follower = subprocess.Popen(
        [str(PROGRAMS / "drakcelery"), "logs", "told", "-f", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DRAKCELERY_CONFIG": str(config)},
    )
    with follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["action"] == "waits in Karton"
        fleet.push("told", timeout=3)
        events = [json.loads(line) for line in follower.stdout]
        assert follower.wait(60) == 0
    actions = [event["action"] for event in events]
    wanted = ["sample_fetched", "slot_restored", "run_done", "collected", "uploading", "published"]
    # Each by its last line: a state of the ledger, such as uploading, may be told before the log of it
    last = [action for action in dict.fromkeys(reversed(actions)) if action in wanted]
    assert last[::-1] == wanted
    assert actions[-1] == "published"
    lines = [json.dumps(event, sort_keys=True) for event in events]
    assert len(set(lines)) == len(lines)


def test_logs_of_what_is_over(fleet: Fleet) -> None:
    """They come from the bucket; a failed analysis tells its reasons, a refused one that it was refused."""
    fleet.push("done", timeout=1)
    wait_published(fleet, "done")
    status, said = typed(fleet, "logs", "done", "--follow")
    assert status == 0, said
    assert "run_done execution=executed" in said
    assert "published" in said.splitlines()[-1]
    fleet.push("wrong", profile="no-such-profile")
    fleet.wait_over(["wrong"])
    status, said = typed(fleet, "logs", "wrong")
    assert status == 0, said
    assert "failed attempt=0 error=no host has the VM profile 'no-such-profile'" in said
    status, said = typed(fleet, "logs", "no-such")
    assert (status, said.startswith("Error: no analysis no-such")) == (1, True)


def test_a_hostile_line(fleet: Fleet) -> None:
    """What a sample got into a log does not reach the terminal as it is."""
    record = running(fleet, "hostile")
    workspace = fleet.state_dir(HOST) / "workspaces" / f"hostile.{record.attempt}"
    with (workspace / "drakrun.log").open("ab") as log:
        log.write(json.dumps({"action": "\x1b[2J\u202eevil", "stage": "run", "a": "b\r\nc"}).encode() + b"\n")
        log.write(b"\x1b]0;no JSON\x07\n")

    def shown(text: str) -> str | None:
        status, said = typed(fleet, "logs", "hostile")
        assert status == 0, said
        return said if text in said else None

    said = wait_until(lambda: shown("no JSON"), "the last of them is shown")
    assert "evil" in said
    assert not set(said) & {"\x1b", "\x07", "\r", "\u202e"}
    _, said = typed(fleet, "logs", "hostile", "--json")
    assert not set(said) & {"\x1b", "\x07", "\r", "\u202e"}
    # The run goes on, and may have said more since
    assert "\x1b]0;no JSON\x07" in [json.loads(line)["action"] for line in said.splitlines()]


# top


def test_top_once(fleet: Fleet, app: Celery) -> None:
    """Not on a terminal it prints one frame: slots, queues, rates, what ended."""
    running(fleet, "shown")
    steering.drain(app, OTHER, by=ME)
    fleet.push("ended", timeout=1)
    wait_published(fleet, "ended")
    wait_until(
        lambda: _states_reported(fleet, HOST) == ["free", "running"], "the host says that a slot is free"
    )
    status, said = typed(fleet, "top")
    assert status == 0, said
    assert re.search(rf"{HOST}/vm-\d +default +running +\d:\d\d +10:00 +shown.bat", said)
    assert re.search(rf"{OTHER}/vm-1 +default +drained +\d+:\d\d +- +\({ME}\)", said)
    assert re.search(r"default +1 +4 +2 +1 +0 +-", said)
    assert re.search(r"PER MINUTE, of 5 +taken \d+\.\d +published \d+\.\d", said)
    assert re.search(r"\d:\d\d +PUBLISHED +\d:\d\d +ended +ended.bat", said)


def test_top_on_a_terminal(fleet: Fleet) -> None:
    """Eighty columns by twenty-four lines hold a frame; it changes by itself, and q ends it."""
    program = (PROGRAMS / "drakcelery", "top", "--config", fleet._config[HOST])
    with terminal(program) as top:
        wait_until(lambda: top.shows(rf"{HOST}/vm-1 +default +free"), "the first frame")
        running(fleet, "live-view")
        wait_until(lambda: top.shows(r"running +\d:\d\d +10:00 +live-view.bat"), "the frame changes")
        top.type("xq")
        assert top.process.wait(30) == 0


def test_completion(fleet: Fleet) -> None:
    """The shell is offered uids, hosts and slots; and nothing where Redis is away."""
    fleet.push("complete-me", timeout=1)
    wait_published(fleet, "complete-me")
    assert _offered(fleet._config[HOST], "retry compl", own_process=True) == ["complete-me"]
    assert _offered(fleet._config[HOST], "drain rack") == [HOST, OTHER]
    assert _offered(fleet._config[HOST], f"drain {HOST}/") == [f"{HOST}/", f"{HOST}/vm-1", f"{HOST}/vm-2"]
    assert _offered(fleet._config[HOST], f"canary {HOST}/vm-1 {HOST}/vm") == [f"{HOST}/vm-1", f"{HOST}/vm-2"]
    assert _offered(Path("/nonexistent"), "drain rack") == []


def _offered(config: Path, line: str, *, own_process: bool = False) -> list[str]:
    words = f"drakcelery {line}"
    variables = {
        "_DRAKCELERY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    if own_process:
        done = execute(PROGRAMS / "drakcelery", config=config, **variables)
        status, output = done.returncode, done.stdout
    else:
        status, output = run_here(cli, **typist(config), **variables)
    assert status == 0
    return [one.partition(",")[2] for one in output.split()]
