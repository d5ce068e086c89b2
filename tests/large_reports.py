"""Reports as large as ours get, in which a sample chose every word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakcelery.behaviour.report import Report

BEGAN = 1_700_000_000
EVIL = "<img src=x onerror=\"document.title='had'\">\u202e\x1b[31m'\"&`http://evil.example/"
"""Markup, a script, a text that runs backwards, an escape sequence and a link."""
PROCESSES, ENTRIES, FEW = 20_000, 5_000, 1_000
"""The limits of a report (docs/report.md)."""


def seen(number: int, processes: int = PROCESSES) -> dict[str, Any]:
    """What every entry has."""
    at = BEGAN + 0.01 * (number % 60_000)
    return {"count": number % 7 + 1, "first": at, "last": at + 1, "processes": [number % processes]}


def hostile_report(
    uid: str = "a-1", *, processes: int = PROCESSES, entries: int = ENTRIES, few: int = FEW
) -> Report:
    """A report with so many processes, and so many entries in each list.

    Process 0 is the sample's; each has four children, and each third belongs to Windows.
    """
    return Report.model_validate(
        {
            "analysis_uid": uid,
            "sample": {"sha256": "ab" * 32, "name": EVIL, "magic": EVIL},
            "run": _RUN,
            "ending": {"execution": "executed", "observed": "activity", "summary": f"It was watched. {EVIL}"},
            "processes": [_process(number) for number in range(processes)],
            "files": [_file(number, processes) for number in range(entries)],
            "registry": [_value(number, processes) for number in range(entries)],
            "network": _network(entries, processes),
            "dumps": [_dump(number, processes) for number in range(entries)],
            **_system(few, processes),
            "indicators": {
                "hosts": [f"{number}.evil.example" for number in range(few)],
                "addresses": [_address(number) for number in range(few)],
                "urls": [_url(number) for number in range(few)],
                "sha256": [f"{number:064x}" for number in range(few)],
            },
            "plugins": [{"plugin": "procmon", "lines": 1_000_000}],
            "left_out": {"processes": 80_000},
        }
    )


_RUN = {
    "engine": "replay 1",
    "host": "rack-1",
    "slot": "vm-1",
    "started": BEGAN,
    "finished": BEGAN + 600,
    "snapshot_version": 1,
    "start_command": EVIL,
    "net_enable": True,
    "timeout": 600,
    "plugins": ["procmon"],
}


def _process(number: int) -> dict[str, Any]:
    return {
        "seqid": number,
        "pid": 1000 + number,
        "parent": (number - 1) // 4 if number else None,
        "image": f"C:\\{EVIL}\\{number}.exe",
        "command_line": f"{number}.exe {EVIL} {'x' * 280}",
        "started": BEGAN + number * 0.01,
        "exit_code": 0xC0000005 if number % 5 == 0 else 0,
        "origin": "sample" if number == 0 else "windows" if number % 3 == 2 else "started",
    }


def _file(number: int, processes: int) -> dict[str, Any]:
    return {
        "path": f"C:\\Users\\{EVIL}\\{number:05}.{'exe' if number % 2 else 'txt'}",
        "actions": ["created", "written"] if number % 3 else ["renamed" if number % 2 else "deleted"],
        "renamed_to": EVIL if number % 6 == 3 else None,
        "executable": number % 2 == 1,
        "autostart": "Startup folder" if number % 10 == 0 else None,
        **seen(number, processes),
    }


def _value(number: int, processes: int) -> dict[str, Any]:
    return {
        "action": "set" if number % 4 else "deleted",
        "key": f"\\REGISTRY\\MACHINE\\Software\\{EVIL}\\{number:05}",
        "value_name": EVIL if number % 2 else None,
        "value": "y" * 200,
        "autostart": "Run key" if number % 10 == 1 else None,
        **seen(number, processes),
    }


def _network(entries: int, processes: int) -> dict[str, Any]:
    to = {"address": "2001:db8::1", "port": 443}

    def each(make: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**make(number), **seen(number, processes)} for number in range(entries)]

    return {
        "names": each(lambda one: {"name": f"{one}.evil.example", "sources": ["dns"]}),
        "connections": each(lambda one: {"protocol": "TCPv4", "address": _address(one), "port": 80}),
        "http": each(lambda one: {"method": "GET", "url": _url(one), "host": EVIL, **to}),
        "tls": each(lambda one: {"name": f"tls-{one}.evil.example", **to}),
    }


def _address(number: int) -> str:
    return f"198.51.{number // 250}.{number % 250}"


def _url(number: int) -> str:
    return f"http://{number}.evil.example/{EVIL}"


def _dump(number: int, processes: int) -> dict[str, Any]:
    return {
        "name": f"{number:x}_{number:016x}",
        "base": hex(0x400000 + number),
        "size": 4096,
        "reason": EVIL,
        "method": "NtWriteVirtualMemory",
        "in_zip": number % 2 == 0,
        **seen(number, processes),
    }


def _system(few: int, processes: int) -> dict[str, Any]:
    numbers = range(few)
    return {
        "injections": [
            {"target": 2, "methods": ["NtWriteVirtualMemory"], **seen(one, processes)} for one in numbers
        ],
        "services": [
            {"name": f"{one} {EVIL}", "actions": ["created"], **seen(one, processes)} for one in numbers
        ],
        "tasks": [{"name": f"{one} {EVIL}", "evidence": ["file"], **seen(one, processes)} for one in numbers],
        "mutexes": [{"name": f"{one} {EVIL}", **seen(one, processes)} for one in numbers],
        "wmi": [{"method": "ExecQuery", "text": f"{one} {EVIL}", **seen(one, processes)} for one in numbers],
        "capabilities": [_capability(one, processes) for one in numbers],
        "calls": [
            {"function": f"Function{one}", "category": "network", **seen(one, processes)} for one in numbers
        ],
    }


def _capability(number: int, processes: int) -> dict[str, Any]:
    attack = {"id": "T1059.003", "tactic": "Execution", "technique": EVIL, "subtechnique": f"Shell {number}"}
    mbc = {"id": "C0016", "objective": "File System", "behavior": EVIL}
    return {"rule": f"{number} {EVIL}", "attack": [attack], "mbc": [mbc], **seen(number, processes)}
