"""The quiet stop of one run: what is news, what forbids a stop, and when it comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drakcelery.behaviour import holds
from drakcelery.engines import watching
from drakcelery.engines.growing_log import MOST_BYTES
from drakcelery.engines.watching import Watcher, watcher_of
from drakcelery.model.news import WatchPlan
from tests.guest_log import EXPLORER, SAMPLE, Log, opened
from tests.watching import PLAN, TIMEOUT, Run


def facts_of(tmp_path: Path, log: Log) -> int:
    """How many facts there are in a log."""
    run = Run(tmp_path)
    run.log = log
    run.look(1)
    return run.watcher.finish("itself")[0].facts


def at_once(run: Run) -> None:
    """The sample starts at second 0."""
    run.log.started()
    run.look(0)


def test_a_run_without_news_ends_quietly(tmp_path: Path) -> None:
    """The stop comes in the second after ``min_seconds``, and the run and its news say so."""
    run = Run(tmp_path)
    at_once(run)
    assert run.follow(until=TIMEOUT, since=1) == ("quiet", 11)
    watch, news = run.watcher.finish("quiet")
    assert (watch.ended, watch.stop_second, watch.later, watch.trouble) == ("quiet", 10, 0, None)
    assert watch.facts == news.total > 0
    assert news.stop_second(PLAN) == 10


def test_news_puts_the_stop_off(tmp_path: Path) -> None:
    """A new file at second 9 is the last news: the stop comes 5 s after it."""
    run = Run(tmp_path)
    at_once(run)
    assert run.follow(until=8, since=1) is None
    opened(run.log, r"\??\C:\Users\user\new.txt", "0x4")
    assert run.follow(until=TIMEOUT, since=9) == ("quiet", 15)
    assert run.watcher.finish("quiet")[1].facts[-1] == (9, 1)


def test_what_is_known_is_no_news(tmp_path: Path) -> None:
    """The same file, another one that differs by chance, and what explorer does, put nothing off."""
    run = Run(tmp_path)
    at_once(run)
    opened(run.log, r"\??\C:\Users\user\tmp1a2b.tmp", "0x4")
    assert run.follow(until=6, since=1) is None
    opened(run.log, r"\??\C:\Users\user\tmp1a2b.tmp", "0x8")
    opened(run.log, r"\??\C:\Users\user\tmp9f01.tmp", "0xc")
    run.log.add("regmon", "NtSetValueKey", pid=100, Key=r"\REGISTRY\MACHINE\A", ValueName="b", Value="1")
    assert run.follow(until=TIMEOUT, since=7) == ("quiet", 11)


def test_windows_background_is_no_news(tmp_path: Path) -> None:
    """A file in Windows' Prefetch is none of the sample's facts, a program there is."""
    log = Log().started()
    opened(log, r"\??\C:\Windows\Prefetch\MALWAR.EXE-1.pf", "0x4")
    before = facts_of(tmp_path, log)
    opened(log, r"\??\C:\Windows\Prefetch\evil.exe", "0x8")
    (tmp_path / "again").mkdir()
    assert facts_of(tmp_path / "again", log) == before + 1


def test_shadow_stops_nothing(tmp_path: Path) -> None:
    """In shadow mode, and in a run that measures, it is noted when the stop would have been, and what came
    after it."""
    changes: list[dict[str, Any]] = [{"mode": "shadow"}, {"measures": True}]
    for number, change in enumerate(changes):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = Run(folder, PLAN.model_copy(update=change))
        at_once(run)
        assert run.follow(until=30, since=1) is None
        opened(run.log, r"\??\C:\Users\user\late.exe", "0x4")
        assert run.follow(until=TIMEOUT + 20, since=31) is None
        watch, _ = run.watcher.finish("timeout")
        assert (watch.stop_second, watch.later) == (10, 1)


def test_before_the_sample_starts_nothing_is_stopped(tmp_path: Path) -> None:
    """Seconds count from the line in which DRAKVUF says that it has started the sample."""
    run = Run(tmp_path)
    assert run.follow(until=40) is None
    run.log.started()
    assert run.follow(until=TIMEOUT + 40, since=41) == ("quiet", 41 + 11)


@pytest.mark.parametrize(
    ("plugin", "fields", "stop"),
    [
        ("delaymon", {"DelayIntervalMs": -20000.0}, 31),
        ("delaymon", {"DelayIntervalMs": 20000.0}, 31),
        ("delaymon", {"DelayIntervalMs": (11644473600 + 1700000004.5 + 20) * 1000}, 31),
        ("delaymon", {"DelayIntervalMs": -9000.0}, 11),
        ("delaymon", {"DelayIntervalMs": -(2.0**60)}, 11),
        ("delaymon", {"DelayIntervalMs": "-20000"}, 11),
        ("syscall", {"DelayInterval": hex(2**64 - 20 * 10**7)}, 31),
        ("syscall", {"DelayInterval": "0x36ee80"}, 11),
    ],
)
def test_a_pending_sleep_holds(tmp_path: Path, plugin: str, fields: dict[str, Any], stop: int) -> None:
    """A sleep of 20 s that begins at second 4 holds until second 25; a short or endless one does not, nor one
    whose length is not told."""
    run = Run(tmp_path)
    at_once(run)
    run.follow(until=3, since=1)
    run.log.add(plugin, "NtDelayExecution", **fields)
    assert run.follow(until=TIMEOUT, since=4) == ("quiet", stop)


def test_a_sleep_of_others_holds_nothing(tmp_path: Path) -> None:
    """Explorer's sleep is not the sample's."""
    run = Run(tmp_path)
    at_once(run)
    run.log.add("delaymon", "NtDelayExecution", pid=100, DelayIntervalMs=-20000.0)
    assert run.follow(until=TIMEOUT, since=1) == ("quiet", 11)


def test_an_idle_loop_holds_only_a_while(tmp_path: Path) -> None:
    """Equal sleeps, one after the other with no news in between, hold three times."""
    run = Run(tmp_path)
    at_once(run)
    for begin in range(1, TIMEOUT, 10):
        run.log.add("delaymon", "NtDelayExecution", DelayIntervalMs=-10000.0)
        if (ended := run.follow(until=begin + 9, since=begin)) is not None:
            break
    assert ended == ("quiet", 38)


def test_a_connection_holds(tmp_path: Path) -> None:
    """A connection to another machine is alive for 30 s, and one within the guest is none."""
    run = Run(tmp_path)
    at_once(run)
    run.log.add("socketmon", "TcpSend", OwnerPID=200, RemoteIp="127.0.0.1", RemotePort=80, Protocol="TCPv4")
    run.follow(until=3, since=1)
    run.log.add("socketmon", "TcpSend", OwnerPID=200, RemoteIp="192.0.2.1", RemotePort=80, Protocol="TCPv4")
    assert run.follow(until=TIMEOUT, since=4) == ("quiet", 4 + 30 + 5 + 1)


def test_growing_traffic_holds(tmp_path: Path) -> None:
    """As long as the recorded traffic grows by more than Windows' own, the run goes on."""
    run = Run(tmp_path)
    at_once(run)
    for second in range(1, 21):
        with run.job.pcap.open("ab") as file:
            file.write(bytes(8192))
        assert run.look(second) is None
    assert run.follow(until=TIMEOUT, since=21) == ("quiet", 34)


def test_a_process_that_has_just_started_holds(tmp_path: Path) -> None:
    """What the sample starts has 30 s to begin."""
    run = Run(tmp_path)
    at_once(run)
    child: dict[str, Any] = {
        "Status": "0x0",
        "NewPid": 300,
        "ImagePathName": r"C:\a.exe",
        "CommandLine": "a.exe",
    }
    run.log.add("procmon", "NtCreateUserProcess", **child)
    assert run.follow(until=TIMEOUT, since=1) == ("quiet", 1 + 30 + 5 + 1)


def test_a_scheduled_task_holds(tmp_path: Path) -> None:
    """A task that the sample registers is waited for, here until the timeout."""
    run = Run(tmp_path)
    at_once(run)
    opened(run.log, r"\??\C:\Windows\System32\Tasks\Updater", "0x4")
    assert run.follow(until=TIMEOUT + 60, since=1) is None
    assert run.watcher.finish("timeout")[0].stop_second is None


def test_what_a_process_did_before_it_was_the_samples(tmp_path: Path) -> None:
    """A process that the sample writes into belongs to it from then on, with what it does later."""
    run = Run(tmp_path)
    at_once(run)
    opened(run.log, r"\??\C:\Users\user\mine.txt", "0x4")
    opened(run.log, r"\??\C:\Users\user\explorers.txt", "0x8")
    run.log.lines[-1].update(PID=100, ProcessName=EXPLORER)
    run.follow(until=3, since=1)
    before = len(run.watcher._facts)
    run.log.add("memdump", "NtWriteVirtualMemory", TargetPID=100, DumpFilename="1000_aa", DumpSize="0x10")
    run.look(4)
    # the injection, the dump, explorer as one of the sample's processes, and its file
    assert len(run.watcher._facts) == before + 4


def test_a_busy_run_goes_on(tmp_path: Path) -> None:
    """With ``extend_to`` a run with news at its timeout goes on until it is quiet."""
    run = Run(tmp_path, PLAN.model_copy(update={"extend_to": 200}))
    at_once(run)
    for second in range(1, 101):
        if second % 4 == 0:
            opened(run.log, rf"\??\C:\Users\user\{'abcdefgh'[second % 8]}\{'-' * second}.txt", "0x4")
        assert run.look(second) is None
    assert run.follow(until=200, since=101) == ("quiet", 106)


def test_a_run_that_is_not_busy_ends_at_its_timeout(tmp_path: Path) -> None:
    """With ``extend_to`` a run that waits for a sleep beyond that has no longer one."""
    plan = PLAN.model_copy(update={"extend_to": 100})
    run = Run(tmp_path, plan)
    at_once(run)
    run.log.add("delaymon", "NtDelayExecution", DelayIntervalMs=-3_600_000.0)
    assert run.follow(until=100, since=1) == ("timeout", TIMEOUT)
    assert run.watcher.finish("timeout")[0].stop_second is None


def test_a_log_that_is_too_fast_holds(tmp_path: Path) -> None:
    """What was not read in time may be news: no stop, and the run says why."""
    run = Run(tmp_path)
    at_once(run)
    run.follow(until=12 - 4, since=1)
    line = json.dumps({"Plugin": "regmon", "Method": "NtQueryValueKey"}).encode() + b"\n"
    with run.job.log.open("ab") as file:
        file.write(line * (2 * MOST_BYTES // len(line) + 10))
    assert run.follow(until=TIMEOUT, since=9) == ("quiet", 16)
    assert run.watcher.finish("quiet")[0].trouble == "the log grew faster than it could be read"


def test_a_full_list_forbids_every_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts beyond the most that are counted are not taken for none."""
    run = Run(tmp_path)
    monkeypatch.setattr(run.watcher._facts, "_most", 3)
    at_once(run)
    for name in "abcdef":
        opened(run.log, rf"\??\C:\Users\user\{name}.txt", "0x4")
    assert run.follow(until=TIMEOUT, since=1) is None
    assert run.watcher.finish("timeout")[0].trouble == "there was more than can be counted"


def test_a_log_that_is_replaced_forbids_every_stop(tmp_path: Path) -> None:
    """A link or another file in place of the log, or a shorter one, ends the watching, not the run."""
    for number, how in enumerate(("link", "file", "short")):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = Run(folder)
        at_once(run)
        if how == "short":
            run.job.log.write_bytes(b"")
        else:
            run.job.log.rename(folder / "elsewhere")
            run.job.log.symlink_to(folder / "elsewhere") if how == "link" else run.job.log.write_bytes(b"x")
        assert run.follow(until=TIMEOUT, since=1) is None
        watch, _ = run.watcher.finish("timeout")
        assert watch.stop_second is None
        assert watch.trouble is not None


def test_an_error_of_ours_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in the reading, the run takes its time, and says that it was not watched."""
    run = Run(tmp_path)
    at_once(run)
    monkeypatch.setattr(run.watcher._facts, "count", lambda _: 1 // 0)
    assert run.follow(until=TIMEOUT, since=1) is None
    assert run.watcher.finish("timeout")[0].trouble == "reading it failed: ZeroDivisionError"


def test_the_last_lines_count(tmp_path: Path) -> None:
    """What was written since the last look is news of a run that was not stopped early."""
    run = Run(tmp_path)
    at_once(run)
    opened(run.log, r"\??\C:\Users\user\last.txt", "0x4")
    run.write()
    before = run.watcher.finish("itself")[1].total
    assert before == facts_of_the_same(tmp_path)


def facts_of_the_same(tmp_path: Path) -> int:
    """The facts of a started sample that writes a file."""
    (tmp_path / "same").mkdir()
    log = Log().started()
    opened(log, r"\??\C:\Users\user\last.txt", "0x4")
    return facts_of(tmp_path / "same", log)


def test_hostile_lines(tmp_path: Path) -> None:
    """Lines of wrong types, endless ones and none at all are no facts, and break nothing."""
    run = Run(tmp_path)
    at_once(run)
    odd = [
        b"{", b"", b"[]", b'{"Plugin": 1}', b'{"Plugin": "delaymon", "DelayIntervalMs": true}',
        b'{"Plugin": "delaymon", "DelayIntervalMs": 1e308, "TimeStamp": "x"}',
        b'{"Plugin": "syscall", "Method": "NtDelayExecution", "DelayInterval": []}',
        b'{"Plugin": "socketmon", "RemoteIp": "::ffff:300.1.1.1", "OwnerPID": -1}',
        b'{"Plugin": "socketmon", "RemoteIp": 7, "OwnerPID": "a"}', b"x" * 3_000_000,
    ]  # fmt: skip
    with run.job.log.open("ab") as file:
        file.write(b"\n".join(odd) + b"\n")
    assert run.follow(until=TIMEOUT, since=1) == ("quiet", 11)
    assert run.watcher.finish("quiet")[0].trouble is None


def test_a_sample_of_which_windows_does_not_tell_the_pid(tmp_path: Path) -> None:
    """ShellExecute starts it, and DRAKVUF gets no handle of it: the pid is 0, and the run begins all the
    same, but not with a file that is copied in."""
    for method, begins in (("ShellExec", True), ("WriteFile", False)):
        folder = tmp_path / method
        folder.mkdir()
        run = Run(folder)
        run.log.started()
        run.log.lines[0].update(Method=method, InjectedPid=0)
        assert run.follow(until=TIMEOUT) == (("quiet", 11) if begins else None)
        assert run.watcher.finish("quiet")[0].seconds == (11 if begins else 0)


def test_what_cannot_be_read_is_no_reason_to_go_on(tmp_path: Path) -> None:
    """A busy run may take longer; one whose log cannot be read, from the first or later, takes its time."""
    for number, start in enumerate((True, False)):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = Run(folder, PLAN.model_copy(update={"extend_to": 200}))
        if start:
            at_once(run)
            run.job.log.unlink()
        (folder / "elsewhere").touch()
        run.job.log.symlink_to(folder / "elsewhere")
        assert run.follow(until=200, since=1 if start else 0) == ("timeout", TIMEOUT)
        assert run.watcher.finish("timeout")[0].trouble is not None


def test_a_late_look(tmp_path: Path) -> None:
    """Where nobody could look for a while, what has come may have come at any time of it: that time forbids
    a stop, and is none in which one would have come."""
    run = Run(tmp_path)
    at_once(run)
    assert run.follow(until=4, since=1) is None
    opened(run.log, r"\??\C:\Users\user\late.txt", "0x4")
    assert run.look(30) is None
    assert run.follow(until=TIMEOUT, since=31) == ("quiet", 36)
    watch, news = run.watcher.finish("quiet")
    assert (watch.stop_second, watch.later) == (35, 0)
    assert news.held == ((4, 30),)


def test_a_broken_watch_on_a_busy_host(tmp_path: Path) -> None:
    """However rarely it is looked at, no stop would have come in a run whose log cannot be read."""
    run = Run(tmp_path)
    at_once(run)
    run.job.log.unlink()
    for second in range(1, TIMEOUT, 7):
        assert run.look(second) is None
    assert run.watcher.finish("timeout")[0].stop_second is None


def test_more_sleeps_than_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are too many at once to know whose they are, no stop comes any more."""
    monkeypatch.setattr(holds, "MOST_WAITING", 2)
    run = Run(tmp_path)
    at_once(run)
    for pid in (100, 100, 200):
        run.log.add("delaymon", "NtDelayExecution", pid=pid, DelayIntervalMs=-20000.0)
    assert run.follow(until=TIMEOUT, since=1) is None
    assert run.watcher.finish("timeout")[0].trouble == "there was more than can be counted"


def test_long_texts_are_counted_bit_by_bit(tmp_path: Path) -> None:
    """A look counts for so long at most; until the rest is counted, no stop comes, and nothing is lost."""
    run = Run(tmp_path)
    at_once(run)
    before = len(run.watcher._facts)
    for name in "abcdef":
        opened(run.log, rf"\??\C:\Users\user\{name}.txt", "0x4")
    run.write()
    list(map(run.watcher._reader.read, run.watcher._log.more(lambda: False)))
    late = iter([False, False, True])
    assert run.watcher._facts.count(lambda: next(late)) == 2
    assert run.watcher._facts.is_behind
    assert run.watcher._facts.count(lambda: False) == 4
    assert not run.watcher._facts.is_behind
    assert len(run.watcher._facts) == before + 6


def test_who_is_not_watched(tmp_path: Path) -> None:
    """A job without a plan has no watcher."""
    run = Run(tmp_path)
    assert isinstance(watcher_of(run.job), Watcher)
    assert watching.watcher_of(type(run.job)(**{**vars(run.job), "watch": None})) is None


def test_the_longest_run(tmp_path: Path) -> None:
    """A job's bound is its timeout, or what a busy run may take."""
    assert Run(tmp_path).job.longest == TIMEOUT
    (tmp_path / "longer").mkdir()
    plan = WatchPlan(min_seconds=1, quiet_seconds=1, mode="active", extend_to=90)
    assert Run(tmp_path / "longer", plan).job.longest == 90
    assert SAMPLE.endswith("malwar.exe")
