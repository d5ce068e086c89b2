"""The emulator's log: DRAKVUF's form, whatever the program puts into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.engines.speakeasy_guest.record.journal import MAX_LINE, Journal, clean, line_of

CONTEXT = {"PID": 7, "PPID": 4, "TID": 9, "UserName": "SessionID", "UserId": 1, "ProcessName": "a.exe"}


def journal(path: Path, *, limit: int = 1 << 20, plugins: tuple[str, ...] = ("apimon", "memdump")) -> Journal:
    """A journal that stops nobody."""
    return Journal(path, plugins=plugins, limit=limit, context=lambda: CONTEXT, on_trouble=lambda: None)


def test_a_line_starts_as_drakvufs_do(tmp_path: Path) -> None:
    """The plugin comes first, then the time as text, the process, the method, and the event's own fields."""
    journal(tmp_path / "log").write("apimon", "CreateFileW", Event="api_called")
    line = (tmp_path / "log").read_bytes()
    assert line.startswith(b'{"Plugin": "apimon", "TimeStamp": "')
    record = json.loads(line)
    assert list(record) == ["Plugin", "TimeStamp", *CONTEXT, "Method", "EventUID", "Event"]
    assert float(record["TimeStamp"]) > 0
    assert record["Method"] == "CreateFileW"


def test_only_wanted_plugins_write(tmp_path: Path) -> None:
    """A plugin that the job did not ask for leaves no line."""
    log = journal(tmp_path / "log")
    log.write("regmon", "NtSetValueKey", Key="k")
    assert (tmp_path / "log").read_bytes() == b""
    assert (log.wants("apimon"), log.wants("regmon")) == (True, False)


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param('a\nb\r\u2028\x00\x1b[2J"', id="line breaks, escape codes and quotes"),
        pytest.param("\ud800 alone \udfff", id="lone surrogates"),
        pytest.param(b"\xff\xfe\x00bytes", id="bytes that are no text"),
        pytest.param("\u202egnp.exe", id="right-to-left override"),
        pytest.param("x" * 10_000_000, id="ten million characters"),
        pytest.param([["x" * 5000] * 500] * 500, id="nested lists"),
        pytest.param({"k" * 999: "v" * 99_999}, id="a mapping"),
        pytest.param(10**5000, id="a huge number"),
        pytest.param(-(2**80), id="a small number"),
    ],
)
def test_hostile_values_stay_one_bounded_line(hostile: Any) -> None:
    """Whatever an argument holds, it is one line of ASCII JSON of bounded length that every parser reads."""
    line = line_of({"Plugin": "apimon", "Arguments": [hostile], "FileName": hostile})
    assert len(line) <= MAX_LINE
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert b"\x1b" not in line
    assert json.loads(line)["Plugin"] == "apimon"
    assert orjson.loads(line)["Plugin"] == "apimon"


@given(st.recursive(st.text() | st.binary() | st.integers() | st.none(), st.lists, max_leaves=20))
def test_any_value_can_be_written(value: Any) -> None:
    """No text, bytes, number or list makes a line that cannot be read back."""
    assert "Value" in json.loads(line_of({"Plugin": "regmon", "Value": value}))


def test_short_text_is_left_alone() -> None:
    """Ordinary names come through as they are."""
    assert clean("C:\\Users\\Zażółć\\名前.exe") == "C:\\Users\\Zażółć\\名前.exe"


def test_a_full_log_keeps_room_for_dumps(tmp_path: Path) -> None:
    """At the limit ordinary lines are dropped and the run is told to stop; a dump's line still fits."""
    stopped: list[bool] = []
    path = tmp_path / "log"
    log = Journal(
        path,
        plugins=("apimon", "memdump"),
        limit=16_000,
        context=lambda: CONTEXT,
        on_trouble=lambda: stopped.append(True),
    )
    for _ in range(200):
        log.write("apimon", "Sleep")
    full = path.stat().st_size
    log.write("memdump", "FinishAnalysis", DumpFilename="400000_0123456789abcdef")
    assert full <= 15_000
    assert stopped == [True]
    assert log.trouble == "the log reached the limit of 16000 bytes"
    assert json.loads(path.read_bytes().splitlines()[-1])["Plugin"] == "memdump"


def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    """A log that is there already, or a link, is an error and not overwritten."""
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "log").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="log"):
        journal(tmp_path / "log")
    assert (tmp_path / "victim").read_text() == "precious"
