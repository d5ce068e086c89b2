"""What Flower's pages show: rows, the fleet, one analysis; and to whom Flower answers."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from drakcelery.errors import SettingsError
from drakcelery.flower import live, reading
from drakcelery.flower.analysis_page import analysis_view
from drakcelery.flower.application import templates
from drakcelery.flower.fleet_page import FleetView, fleet_view, likely_next
from drakcelery.flower.reading import Reading
from drakcelery.flower.rows import row, spans
from drakcelery.flower.safety import (
    Asked,
    is_loopback,
    is_own_name,
    path_prefix,
    refusal,
    require_safe,
    takes_samples,
)
from drakcelery.forecast.simulation import Range
from drakcelery.model.analysis import Analysis, Failure, Fault, ObjectRef, Place, Priority, Stage, State
from drakcelery.model.records import CanaryStatus, HostStatus, Line, Record, SlotStatus
from drakcelery.model.result import Result

WIN10 = Place(profile="win10")
SOON = Range(low=1_010.0, middle=1_020.0, high=1_030.0)


def record(uid: str = "a", *, profile: str = "win10", host: str | None = None, **more: Any) -> Record:
    """A record of an analysis that has run for 20 of its 60 seconds, unless *more* says otherwise."""
    analysis = Analysis(
        uid=uid,
        task_uid=f"{{root}}:{uid}",
        root_uid="root",
        priority=Priority.NORMAL,
        sample=ObjectRef(bucket="karton", key=uid, name=f"{uid}.exe", sha256="ab" * 32, size=7),
        magic="PE32",
        extension="exe",
        quality="high",
        file_name="malwar",
        timeout=60,
        plugins=("procmon",),
        profile=profile,
        target_host=host,
    )
    values: dict[str, Any] = {
        "uid": uid,
        "task_uid": analysis.task_uid,
        "root_uid": "root",
        "state": State.RUNNING,
        "attempt": 1,
        "first_attempt": 1,
        "analysis": analysis,
        "received": 970.0,
        "updated": 980.0,
        "updated_text": "980.0",
        "entered": {State.QUEUED: 970.5, State.PREPARING: 975.0, State.RUNNING: 980.0},
    }
    return Record.model_validate({**values, **more})


def waiting(uid: str, **more: Any) -> Record:
    """A record of an analysis that has no slot yet."""
    return record(uid, **{"state": State.QUEUED, "entered": {State.QUEUED: 990.0}, "received": 990.0, **more})


def host(name: str, *slots: SlotStatus, draining: bool = False) -> HostStatus:
    """A host that is alive."""
    return HostStatus(host=name, engine="replay", slots=slots, draining=draining)


def busy(name: str, uid: str, *, profile: str = "win10", state: str = "running") -> SlotStatus:
    """A slot that has a guest."""
    return SlotStatus(name=name, profile=profile, state=state, uid=uid, attempt=1, since=980.0)


def free(name: str, *, profile: str = "win10") -> SlotStatus:
    """A slot that has none."""
    return SlotStatus(name=name, profile=profile, state="free", since=900.0)


def view(*hosts: HostStatus, **more: Any) -> FleetView:
    """The Fleet page at the time 1000."""
    values: dict[str, Any] = {
        "now": 1000.0,
        "unread": 0,
        "hosts": hosts,
        "places": {},
        "lines": [],
        "in_flight": {},
        "live": [],
        "done": [],
        "starts": {},
        "newcomers": {},
    }
    return fleet_view(**{**values, **more})


# Rows


def test_bars_of_a_first_attempt() -> None:
    """An analysis waits from its reception to its first stage; the last bar goes on."""
    assert [(one.name, one.start, one.end) for one in spans(record())] == [
        ("waiting", 970.0, 975.0),
        ("prepare", 975.0, 980.0),
        ("run", 980.0, None),
    ]


def test_bars_without_gaps() -> None:
    """Each bar begins where the one before ends, and the last ends with the analysis."""
    entered = {
        State.QUEUED: 970.5,
        State.PREPARING: 975.0,
        State.RUNNING: 980.0,
        State.COLLECTING: 990.0,
        State.UPLOADING: 991.0,
    }
    found = spans(record(state=State.PUBLISHED, entered=entered, finished=995.0))
    assert [one.name for one in found] == ["waiting", "prepare", "run", "collect", "upload"]
    assert [one.end for one in found[:-1]] == [one.start for one in found[1:]]
    assert found[-1].end == 995.0


def failure(attempt: int, at: float, *, number: int | None = None) -> Failure:
    """Why an attempt ended."""
    return Failure(
        attempt=attempt,
        number=number or attempt,
        stage=Stage.RUN,
        error="gone",
        host="rack-1",
        slot="vm-1",
        fault=Fault.LOST,
        at=at,
    )


def test_bars_of_a_second_attempt() -> None:
    """What failed attempts took is one bar; then it waited again."""
    again = record(attempt=2, failures=(failure(1, 972.0),))
    assert [(one.name, one.start) for one in spans(again)] == [
        ("earlier", 970.0),
        ("waiting", 972.0),
        ("prepare", 975.0),
        ("run", 980.0),
    ]


@pytest.mark.parametrize("number", [1, 6])
def test_bars_of_an_attempt_that_failed_for_good(number: int) -> None:
    """The stages of the last attempt are shown, though it failed; also in a later life of the uid."""
    failures = (failure(1, 985.0, number=number),)
    counts: dict[str, Any] = {"attempt": number, "first_attempt": number}
    over = record(state=State.FAILED, failures=failures, finished=985.0, **counts)
    assert [(one.name, one.end) for one in spans(over)] == [
        ("waiting", 975.0),
        ("prepare", 980.0),
        ("run", 985.0),
    ]


def test_a_refused_task_is_a_row() -> None:
    """A task that never became an analysis has a reason, and no sample."""
    refused = record(
        state=State.FAILED, analysis=None, refusal="no sample", attempt=0, entered={}, finished=970.0
    )
    shown = row(refused)
    assert (shown.sample, shown.profile, shown.attempts, shown.error) == ("(refused)", None, 0, "no sample")
    assert [one.name for one in shown.spans] == ["waiting"]


def test_a_refused_task_keeps_its_sample() -> None:
    """What the task said about its sample is in its row."""
    sample = ObjectRef(bucket="b", key="k", name="bad\x1b.exe", sha256="a" * 64, size=3)
    refused = record(state=State.FAILED, analysis=None, refusal="no", attempt=0, refused_sample=sample)
    shown = row(refused)
    assert (shown.sample, shown.sha256) == ("bad\ufffd.exe", "a" * 64)
    assert analysis_view(refused, {}, now=1000.0).size == 3


def test_what_a_published_analysis_survived_is_no_error() -> None:
    """The error of an earlier attempt is shown while it may matter, and not after publication."""
    failures = (failure(1, 972.0),)
    assert row(record(attempt=2, failures=failures)).error == "gone"
    assert row(record(attempt=2, failures=failures, state=State.PUBLISHED, finished=999.0)).error is None


def test_names_are_bounded_and_printable() -> None:
    """A sample's name cannot turn the line around, or fill the page."""
    analysis = record().analysis
    assert analysis is not None
    sample = analysis.sample.model_copy(update={"name": "\u202egnp.exe\n" + "x" * 500})
    shown = row(record(analysis=analysis.model_copy(update={"sample": sample}))).sample
    assert shown.startswith("\ufffdgnp.exe\ufffd")
    assert len(shown) <= 81


def test_an_estimate_that_is_too_late_is_not_shown() -> None:
    """Once an analysis has its slot, nobody says when it will start."""
    assert row(waiting("a"), SOON).start == SOON
    assert row(record("a"), SOON).start is None


# The Fleet page


def test_a_slot_shows_what_it_runs() -> None:
    """Sample, since when it runs, and how long it may."""
    (shown,) = view(host("rack-1", busy("vm-1", "a")), live=[record("a")]).hosts[0].slots
    assert (shown.sample, shown.running_since, shown.timeout, shown.attempt) == ("a.exe", 980.0, 60, 1)


def test_a_slot_shows_how_well_it_is() -> None:
    """The score and its reasons, as far as the host tells them; and what is wrong with the snapshots."""
    ill = free("vm-1").model_copy(update={"score": 0.33, "reasons": ("failed 2 of its last 2 runs",)})
    (first, second) = view(host("rack-1", ill, free("vm-2"))).hosts[0].slots
    assert (first.score, first.reasons) == (0.33, ("failed 2 of its last 2 runs",))
    assert (second.score, second.reasons) == (None, ())
    assert (first.is_unwell, second.is_unwell) == (True, False)
    changed = host("rack-1", free("vm-1")).model_copy(update={"snapshot_changed": True})
    assert view(changed).drift == ("the snapshot of rack-1 has changed since its vm worker started",)


def test_a_slot_shows_who_closed_it_and_what_its_canary_found() -> None:
    """As far as its host tells them; of neither more than there is room for."""
    slots = (
        free("vm-1").model_copy(update={"closed_by": "a" * 50, "canary": CanaryStatus(at=1)}),
        free("vm-2").model_copy(update={"canary": CanaryStatus(called=1, at=1, trouble="no log")}),
        free("vm-3").model_copy(update={"canary": CanaryStatus(at=1, trouble="n" * 300)}),
        free("vm-4"),
    )
    shown = view(host("rack-1", *slots)).hosts[0].slots
    assert [one.canary for one in shown] == ["good", "due", f"{'n' * 200}…", None]
    assert [one.closed_by for one in shown] == [f"{'a' * 40}…", None, None, None]


def test_a_slot_ahead_of_the_ledger() -> None:
    """A slot that has another attempt than the ledger says, or an unknown one, shows the uid and no more."""
    slots = (
        view(host("rack-1", busy("vm-1", "a"), busy("vm-2", "unknown")), live=[record("a", attempt=2)])
        .hosts[0]
        .slots
    )
    assert [(one.uid, one.sample, one.timeout) for one in slots] == [
        ("a", None, None),
        ("unknown", None, None),
    ]


def test_an_offline_host_is_there() -> None:
    """A host that the fleet had lately is shown without slots."""
    shown = view(places={Place(profile="win7", host="rack-9"): 400.0}).hosts[0]
    assert (shown.host, shown.online, shown.draining, shown.seen, shown.slots) == (
        "rack-9",
        False,
        False,
        400.0,
        (),
    )


def test_who_waits_for_a_profile() -> None:
    """Those in line and those that are accepted wait; the oldest of both counts."""
    live = [record("a"), waiting("b", received=985.0), waiting("c", profile="win7")]
    lines = [Line(place=WIN10, length=3, since=960.0)]
    shown = view(
        host("rack-1", busy("vm-1", "a"), free("vm-2", profile="win7")),
        live=live,
        lines=lines,
        in_flight={WIN10: 2, Place(profile="win7"): 1},
        newcomers={"win10": SOON},
    )
    win10, win7 = shown.queues
    assert (win10.busy, win10.queued, win10.in_line, win10.oldest, win10.newcomer) == (1, 1, 3, 960.0, SOON)
    assert (win7.busy, win7.queued, win7.in_line, win7.oldest, win7.free) == (0, 1, 0, 990.0, 1)
    assert [one.uid for one in shown.analyses] == ["c", "b", "a"]


def test_the_slot_that_is_free_first_gets_the_next() -> None:
    """The oldest that waits comes where a guest has to stop first."""
    late = record("late", entered={State.RUNNING: 995.0})
    soon = record("soon", entered={State.RUNNING: 950.0})
    hosts = [host("rack-1", busy("vm-1", "late"), busy("vm-2", "soon"))]
    live = [late, soon, waiting("b"), waiting("c")]
    found = likely_next(hosts, live, {"b": SOON})
    assert {key: (one.uid, one.start) for key, one in found.items()} == {
        ("rack-1", "vm-2"): ("b", SOON),
        ("rack-1", "vm-1"): ("c", None),
    }


def test_next_fits() -> None:
    """Another profile, another host, a slot out of use: nothing comes there."""
    hosts = [
        host("rack-1", busy("vm-1", "a"), busy("vm-2", "d", state="draining")),
        host("rack-2", busy("vm-1", "e", profile="win7")),
    ]
    live = [record("a"), record("d"), record("e", profile="win7")]
    assert likely_next(hosts, [*live, waiting("b", profile="xp")], {}) == {}
    assert likely_next(hosts, [*live, waiting("b", host="rack-3")], {}) == {}
    found = likely_next(hosts, [*live, waiting("b"), waiting("c")], {})
    assert {key: one.uid for key, one in found.items()} == {("rack-1", "vm-1"): "b"}


# The Analysis page


def test_timeline() -> None:
    """Attempts in their order, numbered from 1 whatever an earlier life of the uid has counted.

    The links are to the tasks of this life, and past an attempt that nobody had taken up (R20).
    """
    failures = (failure(1, 970.6, number=6),)
    again = record(attempt=8, first_attempt=6, failures=failures, host="rack-1", slot="vm-1")
    events = analysis_view(again, {}, now=1000.0).timeline
    assert [(one.what, one.attempt) for one in events] == [
        ("received", None),
        ("attempt failed", 1),
        ("queued", 2),
        ("preparing", 2),
        ("running", 2),
    ]
    assert [one.task for one in events] == [None, "a/6/run", None, "a/8/prepare", "a/8/run"]


def test_only_tasks_that_flower_knows_are_links() -> None:
    """Flower forgets tasks; a link to such a one would lead nowhere."""
    shown = analysis_view(record(), {}, now=1000.0).linking({"a/1/run"}.__contains__)
    assert [one.task for one in shown.timeline if one.task] == ["a/1/run"]


@pytest.mark.parametrize("state", list(State))
def test_what_may_be_done(state: State) -> None:
    """What is over may be asked for again, unless something forbids it; anything else cancelled."""
    shown = analysis_view(record(state=state), {"metadata.json": 3}, now=1000.0)
    assert (shown.may_cancel, shown.may_retry, shown.no_retry) == (not state.is_over, state.is_over, None)
    gone = analysis_view(record(state=state), {}, now=1000.0, no_retry="gone")
    assert (gone.may_retry, gone.no_retry) == (False, "gone" if state.is_over else None)
    assert [(one.name, one.size) for one in shown.artifacts] == [("metadata.json", 3)]


def test_navigation_has_one_entry_more() -> None:
    """Flower's navigation bar is the one that we know, and gets our page; its other templates are its own."""
    found = templates()
    text = found.dict["navbar.html"]
    assert text.count("reverse_url('fleet')") == 1
    assert text.index("reverse_url('fleet')") < text.index("reverse_url('workers')")
    assert {"base.html", "workers.html", "fleet.html", "analysis.html"} <= set(found.dict)


def test_our_pages_load_little() -> None:
    """What only Flower's lists need is not on our pages, and stays on Flower's."""
    found = templates().dict
    assert 'extends "lean.html"' in found["fleet.html"]
    assert 'extends "base.html"' in found["tasks.html"]
    unused = ("moment", "datatables")
    assert not [name for name in unused if name in found["lean.html"]]
    assert [name for name in unused if name in found["base.html"]] == list(unused)
    assert all(name in found["lean.html"] for name in ("bootstrap", "jquery", "flower.js", "theme.js"))


# Reading


def test_one_reading_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks while a reading is at work, or within its age, gets its answer; later there is another."""
    count, go = 0, threading.Event()

    def read() -> int:
        nonlocal count
        assert go.wait(30)
        count += 1
        return count

    async def ask(pool: ThreadPoolExecutor) -> None:
        one = Reading(pool, read)
        first = [asyncio.ensure_future(one.get()) for _ in range(5)]
        await asyncio.sleep(0)
        go.set()
        assert await asyncio.gather(*first) == [1] * 5
        assert await one.get() == 1
        monkeypatch.setattr(reading, "AGE", 0.0)
        assert await one.get() == 2

    with ThreadPoolExecutor(2) as pool:
        asyncio.run(ask(pool))


def test_a_reading_that_failed_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error reaches all who wait for it, and the next reading may succeed."""
    answers: list[Any] = [OSError("away"), "there"]

    def read() -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return str(answer)

    async def ask(pool: ThreadPoolExecutor) -> None:
        one = Reading(pool, read)
        both = await asyncio.gather(one.get(), one.get(), return_exceptions=True)
        assert [str(error) for error in both] == ["away", "away"]
        monkeypatch.setattr(reading, "AGE", 0.0)
        assert await one.get() == "there"

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(ask(pool))


# Who may reach it


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("", False),
        ("0.0.0.0", False),  # noqa: S104 - is not listened on
        ("::", False),
        ("192.0.2.7", False),
        ("flower.example", False),
        ("localhost.example", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    """Only addresses that no other machine reaches count as loopback; any other needs a login."""
    assert is_loopback(address) is loopback
    if loopback:
        require_safe(address=address, unix_socket="", has_login=False, allow_unauthenticated=False)
    else:
        with pytest.raises(SettingsError, match=r"without a login.*allow_unauthenticated = 1"):
            require_safe(address=address, unix_socket="", has_login=False, allow_unauthenticated=False)


@pytest.mark.parametrize(
    "given", [{"has_login": True}, {"allow_unauthenticated": True}, {"unix_socket": "/s"}]
)
def test_what_makes_it_safe(given: dict[str, Any]) -> None:
    """A login, a word from the operator, or a socket in the file system: then Flower may listen."""
    given = {"unix_socket": "", "has_login": False, "allow_unauthenticated": False, **given}
    require_safe(address="0.0.0.0", **given)  # noqa: S104 - is not listened on


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("127.0.0.1:5555", True),
        ("192.0.2.7", True),
        ("[::1]:5555", True),
        ("localhost:5555", True),
        ("evil.example:5555", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[::1", False),
    ],
)
def test_own_names(name: str, own: bool) -> None:
    """A Host header with a domain may come from a page whose domain points here."""
    assert is_own_name(name) is own


@pytest.mark.parametrize(
    ("host", "names", "any_name", "refused"),
    [
        ("127.0.0.1:5555", (), False, False),
        ("evil.example:5555", (), False, True),
        ("evil.example", ("flower.example",), True, True),
        ("Flower.Example:443", ("flower.example",), False, False),
        ("flower.example.evil.example", ("flower.example",), False, True),
        ("anything.example", (), True, False),
        ("localhost.", (), False, True),
        ("[::1", (), False, True),
    ],
)
def test_names_it_answers_to(host: str, names: tuple[str, ...], any_name: bool, refused: bool) -> None:
    """Only its own names, those allowed, or any behind a login that allows none in particular (S9)."""
    asked = Asked(method="GET", host=host, fetched_from="same-origin", origin=None)
    assert (refusal(asked, names=names, any_name=any_name) is not None) is refused


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (None, ""),
        ("/", ""),
        ("flower", "flower"),
        ("/flower/", "flower"),
        ("/tools/flower-2.2_a~b", "tools/flower-2.2_a~b"),
    ],
)
def test_a_prefix(given: str | None, path: str) -> None:
    """With slashes or without, of one step or several."""
    assert path_prefix(given) == path


@pytest.mark.parametrize(
    "given",
    [
        "a b",
        "a//b",
        "../flower",
        "flower/.",
        "fl(o)wer",
        "f?l",
        "http://flower.example",
        '"><b>',
        "fl\u00f6wer",
        "a\n",
    ],
)
def test_no_prefix(given: str) -> None:
    """What an address cannot have as it is, or means something else there, is refused with a sentence."""
    with pytest.raises(SettingsError, match=r"--url-prefix .*expected a path such as /flower"):
        path_prefix(given)


@pytest.mark.parametrize(
    ("fetched_from", "origin", "refused"),
    [
        ("same-origin", "http://evil.example", False),
        ("same-site", "http://localhost:5555", True),
        ("cross-site", None, True),
        ("none", None, True),
        ("", None, True),
        (None, "http://localhost:5555", False),
        (None, "https://flower.example", False),
        (None, "http://localhost:8000", True),
        (None, "null", True),
        (None, "http://[::1", True),
        (None, "", True),
        (None, None, False),
    ],
)
def test_pages_that_may_ask_for_a_change(fetched_from: str | None, origin: str | None, refused: bool) -> None:
    """Another page's request is refused, also of another port of this machine; to look changes nothing."""
    asked = Asked(method="POST", host="localhost:5555", fetched_from=fetched_from, origin=origin)
    assert (refusal(asked, names=("flower.example",), any_name=False) is not None) is refused
    looking = Asked(method="GET", host="localhost:5555", fetched_from=fetched_from, origin=origin)
    assert refusal(looking, names=("flower.example",), any_name=False) is None


def test_the_page_says_what_came_of_it() -> None:
    """Complete or not, why, and what the emulator lacked; names of the program's are cleaned (E5)."""
    result = Result.of(
        {
            "engine": "emulator speakeasy-1",
            "execution": "executed",
            "complete": False,
            "reason": "the emulation broke off \x1b[31m" + "x" * 5000,
            "missing_functions": [{"name": "a.\x1b[1m", "count": 3, "guessed": True}],
        }
    )
    view = analysis_view(record(state=State.PUBLISHED, finished=1_000.0, result=result), {}, now=1_000.0)
    assert (view.execution, view.complete) == ("executed", False)
    assert view.missing_functions == ("a.\ufffd[1m (3)",)
    assert view.reason is not None
    assert view.reason.startswith("the emulation broke off \ufffd[31mx")
    assert len(view.reason) <= 2001
    before = analysis_view(record(state=State.PUBLISHED, finished=1_000.0), {}, now=1_000.0)
    assert (before.execution, before.complete, before.reason) == (None, None, None)


# The log, as it comes


def test_one_question_for_all_who_look_at_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is asked once in some seconds; each gets what it has not seen, of the newest lines."""
    asked = 0

    def read() -> list[dict[str, Any]]:
        nonlocal asked
        asked += 1
        return [{"created": 1.0, "levelname": "INFO", "action": f"a{asked}\x1b", "uid": "x", "took": 3}] * 300

    async def ask(pool: ThreadPoolExecutor) -> None:
        logs = live.LiveLogs(pool)
        both = await asyncio.gather(*(logs.get("a-1", 0, lambda: read) for _ in range(2)))
        assert [(len(one.lines), one.next) for one in both] == [(300, 300)] * 2
        assert (both[0].lines[0].action, both[0].lines[0].more, asked) == ("a1\ufffd", "took=3", 1)
        assert (await logs.get("a-1", 300, lambda: read)).lines == ()
        monkeypatch.setattr(live, "PAUSE", 0.0)
        later = await logs.get("a-1", 300, lambda: read)
        assert (asked, [one.number for one in later.lines]) == (2, list(range(300, 600)))
        assert [one.number for one in (await logs.get("a-1", 0, lambda: read)).lines] == list(range(400, 900))

    with ThreadPoolExecutor(2) as pool:
        asyncio.run(ask(pool))


def test_logs_that_nobody_looks_at_are_forgotten() -> None:
    """No more are followed than there is room for."""

    async def ask(pool: ThreadPoolExecutor) -> None:
        logs = live.LiveLogs(pool)
        for number in range(live.MOST + 5):
            await logs.get(f"a-{number}", 0, lambda: list)
        assert len(logs._followed) == live.MOST
        assert "a-0" not in logs._followed

    with ThreadPoolExecutor(2) as pool:
        asyncio.run(ask(pool))


@pytest.mark.parametrize(
    ("address", "unix_socket", "has_login", "expected"),
    [
        ("127.0.0.1", "", False, True),
        ("192.0.2.1", "", False, False),
        ("192.0.2.1", "", True, True),
        ("192.0.2.1", "/run/flower.sock", False, True),
    ],
)
def test_where_samples_are_taken(address: str, unix_socket: str, has_login: bool, expected: bool) -> None:
    """From whoever has logged in, or is on this machine; not behind a proxy that says who somebody is."""
    assert takes_samples(address=address, unix_socket=unix_socket, has_login=has_login) is expected
