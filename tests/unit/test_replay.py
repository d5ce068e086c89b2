"""The replay engine: what it plays, and a guest that behaves like one."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drakcelery.engines import Detonation, create
from drakcelery.engines.replay import ReplayEngine
from drakcelery.engines.timed_log import TimedLog
from drakcelery.errors import EngineError, SettingsError
from drakcelery.model.analysis import Execution
from drakcelery.model.news import WatchPlan
from drakcelery.settings import DrakcelerySection, ReplaySection, Settings
from tests.guest_log import Log, opened
from tests.waiting import wait_until

DUMP = "1000_00000000000000aa"


def record(run_dir: Path) -> Path:
    """A recorded run: two plugins and a bad line, two dumps, traffic."""
    (run_dir / "dumps").mkdir(parents=True)
    lines = [json.dumps({"Plugin": plugin, "n": 1}) for plugin in ("procmon", "filetracer", "procmon")]
    (run_dir / "drakmon.log").write_text("\n".join([*lines, "{bad"]))
    (run_dir / "dumps" / DUMP).write_bytes(b"MZ")
    (run_dir / "dumps" / "other").write_bytes(b"o")
    (run_dir / "dump.pcap").write_bytes(b"pcap")
    return run_dir


def engine(tmp_path: Path, run_dir: Path | None = None, **section: Any) -> ReplayEngine:
    """The engine as the settings make it."""
    settings = Settings(
        drakcelery=DrakcelerySection(engine="replay", state_dir=tmp_path / "state"),
        replay=ReplaySection(run_dir=run_dir or record(tmp_path / "recorded"), **section),
    )
    made = create(settings.engine, settings)
    assert isinstance(made, ReplayEngine)
    return made


def job(tmp_path: Path, *, uid: str = "uid-1", timeout: int = 60) -> Detonation:
    """A job in slot vm-1."""
    raw = tmp_path / f"raw-{uid}"
    raw.mkdir(exist_ok=True)
    return Detonation(
        uid=uid,
        slot="vm-1",
        sample=tmp_path / "sample.exe",
        extension="exe",
        magic="PE32",
        start_command="%f",
        plugins=("procmon",),
        timeout=timeout,
        raw=raw,
        hooks=None,
    )


def test_it_plays_the_record(tmp_path: Path) -> None:
    """The log comes without the plugins that were not asked for, dumps and traffic as they were recorded."""
    replay, one = engine(tmp_path), job(tmp_path)
    replay.accept(one)
    snapshot = replay.prepare(one)
    outcome = replay.run(one)
    assert one.log.read_text() == '{"Plugin": "procmon", "n": 1}\n' * 2 + "{bad\n"
    assert {path.name: path.read_bytes() for path in one.dumps.iterdir()} == {DUMP: b"MZ", "other": b"o"}
    assert one.pcap.read_bytes() == b"pcap"
    assert outcome.snapshot == snapshot
    assert outcome.execution is Execution.EXECUTED
    assert outcome.engine == replay.version() == f"replay {snapshot.sha256[:12]}"
    assert outcome.started <= outcome.finished


def test_factors_multiply(tmp_path: Path) -> None:
    """The log is repeated, and each dump copied under names of its own that stay DRAKVUF's."""
    replay, one = engine(tmp_path, log_factor=3, dumps_factor=2), job(tmp_path)
    replay.prepare(one)
    replay.run(one)
    assert one.log.read_text().count("procmon") == 6
    assert sorted(path.name for path in one.dumps.iterdir()) == [
        DUMP,
        "1001_00000000000000aa",
        "other",
        "other.1",
    ]


def test_an_empty_record_plays_nothing(tmp_path: Path) -> None:
    """Every recorded file is optional."""
    (tmp_path / "empty").mkdir()
    replay, one = engine(tmp_path, tmp_path / "empty"), job(tmp_path)
    replay.prepare(one)
    assert replay.run(one).execution is Execution.EXECUTED
    assert list(one.raw.iterdir()) == []


def test_a_slot_holds_one_guest(tmp_path: Path) -> None:
    """A second guest in a slot is refused, also by another engine object, until the first is destroyed."""
    first, second = engine(tmp_path), engine(tmp_path, tmp_path / "recorded")
    first.prepare(job(tmp_path))
    with pytest.raises(EngineError, match=r"slot vm-1 holds a guest already"):
        second.prepare(job(tmp_path, uid="uid-2"))
    second.destroy("vm-1")
    second.destroy("vm-1")
    second.prepare(job(tmp_path, uid="uid-2"))


def test_nothing_runs_without_its_own_guest(tmp_path: Path) -> None:
    """A run without prepare, or with the guest of another analysis, is an error."""
    replay = engine(tmp_path)
    with pytest.raises(EngineError, match="is gone"):
        replay.run(job(tmp_path))
    replay.prepare(job(tmp_path, uid="uid-2"))
    with pytest.raises(EngineError, match="that of analysis uid-2"):
        replay.run(job(tmp_path))


def test_destroy_ends_a_run(tmp_path: Path) -> None:
    """A run of an hour ends with an error when its guest is destroyed from elsewhere."""
    replay, one = engine(tmp_path, run_seconds=3600), job(tmp_path, timeout=3600)
    replay.prepare(one)
    errors: list[EngineError] = []

    def run() -> None:
        try:
            replay.run(one)
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    replay.destroy("vm-1")
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert "is gone" in str(errors[0])


def test_it_plays_while_the_guest_runs(tmp_path: Path) -> None:
    """What is recorded is there long before a run of an hour is over, and costs it no time of its own."""
    replay, one = engine(tmp_path, run_seconds=3600), job(tmp_path, timeout=3600)
    replay.prepare(one)

    def run() -> None:
        with contextlib.suppress(EngineError):  # as its guest is destroyed
            replay.run(one)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(one.pcap.exists, "all is played, the traffic last")
    assert thread.is_alive()
    assert one.log.read_text().count("procmon") == 2
    replay.destroy("vm-1")
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_it_waits_as_told_but_not_beyond_the_timeout(tmp_path: Path) -> None:
    """Restoring takes restore_seconds; a run takes run_seconds, or the job's timeout where that is less."""
    replay, one = engine(tmp_path, restore_seconds=0.2, run_seconds=3600), job(tmp_path, timeout=1)
    begin = time.monotonic()
    replay.prepare(one)
    assert time.monotonic() - begin >= 0.2
    begin = time.monotonic()
    assert replay.run(one).execution is Execution.EXECUTED
    assert time.monotonic() - begin >= 1


def test_runs_differ_in_length_where_told(tmp_path: Path) -> None:
    """With run_spread the lengths are scattered around run_seconds, still within the timeout."""
    replay = engine(tmp_path, run_seconds=0.1, run_spread=2)
    lengths = []
    for number in range(12):
        one = job(tmp_path, uid=f"uid-{number}", timeout=1)
        replay.prepare(one)
        begin = time.monotonic()
        replay.run(one)
        lengths.append(time.monotonic() - begin)
        replay.destroy(one.slot)
    assert min(lengths) < 0.1 < max(lengths) < 2
    assert len({round(length, 2) for length in lengths}) > 4


@pytest.mark.parametrize("run_dir", [None, Path("/nowhere")])
def test_a_run_directory_is_required(tmp_path: Path, run_dir: Path | None) -> None:
    """Without a recorded run the engine is refused when it is made, and the setting is named."""
    settings = Settings(
        drakcelery=DrakcelerySection(engine="replay", state_dir=tmp_path),
        replay=ReplaySection(run_dir=run_dir),
    )
    with pytest.raises(SettingsError, match=r"\[replay\] run_dir"):
        create("replay", settings)


def timed_record(run_dir: Path) -> Path:
    """A record of a sample that writes five files within half a second, and one an hour later."""
    run_dir.mkdir()
    log = Log().started()
    for number in range(5):
        opened(log, rf"\??\C:\Users\user\{'abcde'[number]}.txt", "0x4")
    opened(log, r"\??\C:\Users\user\late.txt", "0x4")
    for number, line in enumerate(log.lines):
        line["TimeStamp"] = f"1700000000.{number}00000"
    log.lines[-1]["TimeStamp"] = "1700003600.000000"
    lines = [json.dumps(line) for line in log.lines]
    (run_dir / "drakmon.log").write_text("\n".join([*lines, "{no time"]) + "\n")
    return run_dir


def test_a_timed_record_takes_its_time(tmp_path: Path) -> None:
    """Lines come as far apart as they were recorded, scaled to ``run_seconds``; none is lost."""
    record = timed_record(tmp_path / "recorded")
    with contextlib.closing(TimedLog(record / "drakmon.log", 7200.0)) as log:
        assert log.length == 7200.0
        assert len(list(log.until(0.0))) == 1
        assert len(list(log.until(0.5))) == 2
        assert list(log.until(0.5)) == []
        assert len(list(log.until(7199.0))) == 5
        assert len(list(log.until(7200.0))) == 2  # what has no time comes with the line before it
    with contextlib.closing(TimedLog(record / "drakmon.log", 0.0)) as log:
        assert log.length == 3600.0


def test_a_timed_record_is_played_whole(tmp_path: Path) -> None:
    """Played in an instant it is what was recorded, as often as ``log_factor`` says."""
    record = timed_record(tmp_path / "recorded")
    replay = engine(tmp_path, record, timed=True, run_seconds=0.1, log_factor=2)
    one = job(tmp_path)
    replay.prepare(one)
    assert replay.run(one).watch is None
    recorded = (record / "drakmon.log").read_text().splitlines()
    of_procmon = [line for line in recorded if '"procmon"' in line]
    assert sorted(one.log.read_text().splitlines()) == sorted(2 * [*of_procmon, "{no time"])


PLAN = WatchPlan(min_seconds=1, quiet_seconds=1, mode="active")


def watched(tmp_path: Path, plan: WatchPlan, **section: Any) -> tuple[ReplayEngine, Detonation]:
    """The engine with a timed record, and a prepared job that is watched."""
    replay = engine(tmp_path, timed_record(tmp_path / "recorded"), timed=True, **section)
    one = replace(job(tmp_path), watch=plan, plugins=("filetracer", "procmon", "inject"))
    replay.prepare(one)
    return replay, one


def test_a_run_without_news_is_stopped(tmp_path: Path) -> None:
    """The record goes on for an hour, and the run ends when nothing new has come for a second."""
    replay, one = watched(tmp_path, PLAN)
    outcome = replay.run(one)
    assert outcome.is_quiet_stop
    assert outcome.complete
    assert outcome.watch is not None
    assert outcome.news is not None
    assert outcome.reason == outcome.watch.words
    assert outcome.news.stop_second(PLAN) == outcome.watch.stop_second
    assert outcome.watch.facts == outcome.news.total == 6  # the process, and five files


def test_in_shadow_a_run_is_not_stopped(tmp_path: Path) -> None:
    """It goes on to its end, and says when it would have been stopped, and what came after that."""
    replay, one = watched(tmp_path, PLAN.model_copy(update={"mode": "shadow"}), run_seconds=4.0)
    outcome = replay.run(one)
    assert (outcome.complete, outcome.reason) == (True, None)
    assert outcome.watch is not None
    assert outcome.watch.ended == "itself"
    assert outcome.watch.stop_second is not None
    assert outcome.watch.later == 1


def test_a_run_that_is_busy_goes_on(tmp_path: Path) -> None:
    """News at the timeout lets a run go on until it is quiet, whatever the timeout."""
    plan = WatchPlan(min_seconds=3, quiet_seconds=2, mode="active", extend_to=60)
    replay, one = watched(tmp_path, plan)
    outcome = replay.run(replace(one, timeout=2))
    assert outcome.watch is not None
    assert outcome.watch.ended == "quiet"
    assert outcome.watch.seconds > 2
