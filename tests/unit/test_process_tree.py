"""The processes as procmon tells of them, and ``process_tree.json`` in the form of DRAKVUF Sandbox v0.21."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.behaviour import command_line, processes
from drakcelery.behaviour.process_tree import MOST_DEPTH, process_tree
from drakcelery.behaviour.processes import Processes
from drakcelery.engines.speakeasy_guest.naming import escaped


class Procmon:
    """Lines of procmon, and the processes that they tell of."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.processes = Processes(self.left_out)
        self._number = 0

    def add(self, **fields: Any) -> None:
        """A line."""
        self._number += 1
        common = {"Plugin": "procmon", "TimeStamp": f"{self._number}.5", "EventUID": hex(self._number)}
        self.processes.add(json.dumps({**common, **fields}).encode())

    def running(self, pid: int, ppid: int, image: str = "x.exe") -> None:
        """It was there before."""
        self.add(PID=pid, PPID=ppid, RunningProcess=image)

    def created(self, pid: int, by: int, status: str = "0x0", line: str = "") -> None:
        """*by* started it."""
        new = {"Status": status, "NewPid": pid, "CommandLine": line, "ImagePathName": "new.exe"}
        self.add(Method="NtCreateUserProcess", PID=by, PPID=0, **new)

    def says(self, pid: int, ppid: int) -> None:
        """Any other line of it."""
        self.add(Method="NtProtectVirtualMemory", PID=pid, PPID=ppid, ProcessName="seen.exe")

    def tree(self) -> list[dict[str, Any]]:
        """``process_tree.json``, as a reader of JSON has it."""
        tree: list[dict[str, Any]] = json.loads(orjson.dumps(process_tree(self.processes)[0]))
        return tree


def shape(tree: list[dict[str, Any]]) -> list[Any]:
    """Only pids, as nested lists."""
    return [[entry["pid"], *shape(entry["children"])] for entry in tree]


def test_each_field() -> None:
    """They have v0.21's names and meanings; the form of a root, and of one that it started and that ended."""
    procmon = Procmon()
    procmon.running(4, 0, "System")
    procmon.created(8, by=4, line=r"a.exe \"b c\"")
    procmon.add(Method="NtTerminateProcess", PID=4, PPID=0, ExitPid=8, ExitStatus="0x1", ExitStatusStr="one")
    procmon.add(Method="MmCleanProcessAddressSpace", PID=4, PPID=0, ExitPid=8)
    nothing = {"exit_code": None, "exit_code_str": None, "killed_by": None}
    child = {
        "seqid": 1,
        "pid": 8,
        "ppid": 4,
        "procname": "new.exe",
        "args": ["a.exe", "b c"],
        "ts_from": 2.5,
        "ts_to": 4.5,
        "evtid_from": 2,
        "evtid_to": 4,
        "exit_code": 1,
        "exit_code_str": "one",
        "killed_by": 0,
        "children": [],
    }
    root = {"seqid": 0, "pid": 4, "ppid": 0, "procname": "System", "args": []}
    times = {"ts_from": 0.0, "ts_to": None, "evtid_from": 0, "evtid_to": None}
    assert procmon.tree() == [{**root, **times, **nothing, "children": [child]}]


def test_the_tree() -> None:
    """Unknown parents are roots; a failed start makes nothing; a pid may come again."""
    procmon = Procmon()
    procmon.running(4, 0)
    procmon.running(8, 99)
    procmon.created(12, by=8)
    procmon.created(16, by=12, status="0xc0000022")
    procmon.created(12, by=4)
    procmon.created(20, by=12)
    assert shape(procmon.tree()) == [[4, [12, [20]]], [8, [12]]]
    first, second = (one for one in procmon.processes if one.pid == 12)
    assert (first.ended, first.ended_at) == (5.5, 4)
    assert procmon.processes.at(12, 4) is first
    assert procmon.processes.at(12, 5) is second


def test_one_that_only_its_own_lines_tell_of() -> None:
    """It joins the tree with its first line, as a child of the parent that it names."""
    procmon = Procmon()
    procmon.running(4, 0)
    procmon.says(8, 4)
    procmon.says(8, 4)
    assert shape(procmon.tree()) == [[4, [8]]]
    assert procmon.tree()[0]["children"][0]["procname"] == "seen.exe"


def test_one_that_gets_more_rights() -> None:
    """A service starts it: its later lines name the parent that asked for it, and it moves there."""
    procmon = Procmon()
    for pid in (4, 8):
        procmon.running(pid, 0)
    procmon.created(12, by=4)
    procmon.created(16, by=8)
    procmon.says(12, 8)
    assert shape(procmon.tree()) == [[4], [8, [16], [12]]]
    procmon.says(12, 8)
    procmon.says(12, 8)
    assert shape(procmon.tree()) == [[4], [8, [16], [12]]]


def test_no_process_is_its_own_ancestor() -> None:
    """Lines that say so are not believed."""
    procmon = Procmon()
    procmon.running(4, 0)
    procmon.created(8, by=4)
    procmon.created(12, by=8)
    procmon.says(8, 12)
    procmon.says(4, 4)
    assert shape(procmon.tree()) == [[4, [8, [12]]]]


def test_a_long_line_of_ancestors() -> None:
    """The tree ends at a depth that readers of JSON stand; the list has all."""
    procmon = Procmon()
    procmon.running(1, 0)
    for pid in range(2, 3 * MOST_DEPTH):
        procmon.created(pid, by=pid - 1)
    assert len(list(procmon.processes)) == 3 * MOST_DEPTH - 1
    assert process_tree(procmon.processes)[1] == 2 * MOST_DEPTH - 1
    assert len(procmon.tree()) == 1


def test_too_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is bounded, and what it does not take is counted; so is the text of command lines."""
    monkeypatch.setattr(processes, "MOST_PROCESSES", 3)
    monkeypatch.setattr(processes, "MOST_CHARACTERS", 5)
    procmon = Procmon()
    procmon.running(4, 0)
    for pid in (8, 12, 16, 20):
        procmon.created(pid, by=4, line="1234")
    assert [one.command_line for one in procmon.processes] == ["", "1234", ""]
    assert procmon.left_out == {"processes": 2, "command_lines": 1}


@given(st.text(max_size=50))
def test_a_command_line_is_as_it_was(text: str) -> None:
    """The emulator escapes it as DRAKVUF does, and that is undone, whatever is in it."""
    assert command_line.unescape(escaped(text)) == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (r'"C:\Program Files\a.exe" /x "b c"', [r"C:\Program Files\a.exe", "/x", "b c"]),
        (r"a \\server\share b\\" + '"c d\\"e"', ["a", r"\\server\share", 'b\\c d"e']),
        ('a "b ""c"" d"', ["a", 'b "c', "d"]),  # newer programs see one more quote
        ("   ", []),
        ("\\" * 30000, ["\\" * 30000]),
    ],
)
def test_arguments(text: str, arguments: list[str]) -> None:
    """As older programs of Windows see them, by Microsoft's rules, and as v0.21 does."""
    assert command_line.split(text) == arguments


def test_what_is_not_escaped_stays() -> None:
    """A log of an earlier emulator has command lines as they are."""
    assert command_line.unescape(r"C:\Windows\System32\cmd.exe") == r"C:\Windows\System32\cmd.exe"
