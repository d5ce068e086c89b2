"""The replay engine: what it plays, and a guest that behaves like one."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from drakcelery.engines import Detonation, create
from drakcelery.engines.replay import ReplayEngine
from drakcelery.errors import EngineError, SettingsError
from drakcelery.model.analysis import Execution
from drakcelery.settings import DrakcelerySection, ReplaySection, Settings
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
