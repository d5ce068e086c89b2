"""Reports for tests: of a sample that did one thing, and of one that chose every text in it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from drakcelery.behaviour.report import Report
from drakcelery.operators.report.lists import ADDRESSES

SEEN = {"count": 1, "first": 1700000001.0, "last": 1700000001.0, "processes": [1]}
Fields = dict[str, Any]


def process(seqid: int, *, parent: int | None = None, origin: str = "started", **more: Any) -> Fields:
    """A process of the report."""
    return {"seqid": seqid, "pid": 100 + seqid, "parent": parent, "origin": origin, **more}


SAMPLE = process(1, parent=0, origin="sample", image="C:\\x\\malwar.exe", exit_code=0, started=1700000000.5)
WINDOWS = process(0, origin="windows", image="\\Device\\HarddiskVolume2\\Windows\\explorer.exe")


_SHELL = {"id": "T1059.001", "tactic": "Execution", "technique": "Interpreter", "subtechnique": "PowerShell"}
_INJECTION = {"id": "T1055", "tactic": "Defense Evasion", "technique": "Process Injection"}
CAPABILITIES = [
    {**SEEN, "rule": "one", "attack": [_SHELL, _INJECTION]},
    {**SEEN, "rule": "two", "attack": [_SHELL, {"id": "T1", "tactic": "x", "technique": "no such"}]},
]


def report(**changes: Any) -> Report:
    """A report of a run in which the sample did nothing, with *changes*."""
    fields: Fields = {
        "analysis_uid": "a-1",
        "sample": {"sha256": "ab" * 32, "name": "malwar.exe", "magic": "PE32"},
        "run": {
            "engine": "replay 1",
            "host": "rack-1",
            "slot": "vm-2",
            "started": 1700000000,
            "finished": 1700000075,
            "snapshot_version": 1,
            "start_command": "C:\\x\\malwar.exe",
            "net_enable": False,
            "timeout": 600,
            "plugins": ["procmon"],
        },
        "ending": {
            "execution": "executed",
            "complete": True,
            "observed": "nothing",
            "summary": "The sample did nothing.",
        },
        "processes": [WINDOWS, SAMPLE],
        **changes,
    }
    return Report.model_validate(fields)


def file(path: str, **more: Any) -> Fields:
    """A file that the sample wrote."""
    return {**SEEN, "path": path, "actions": ["written"], **more}


def hostile(value: str) -> Report:
    """A report in which all that a sample chooses is *value*."""
    network = {
        "names": [{**SEEN, "name": value, "sources": ["dns"], "addresses": [value] * (ADDRESSES + 1)}],
        "connections": [{**SEEN, "protocol": value, "address": value, "port": 1}],
        "http": [
            {**SEEN, "method": value, "url": value, "host": value, "address": value, "port": 1}
            | {"user_agent": value}
        ],
        "tls": [{**SEEN, "name": value, "address": value, "port": 1}],
    }
    return report(
        sample={"sha256": value, "name": value, "magic": value},
        processes=[SAMPLE | {"image": value, "command_line": value, "exit_status": value, "exit_code": 1}],
        files=[file(value, renamed_to=value, autostart=value, executable=True, sha256=value)],
        registry=[{**SEEN, "action": "set", "key": value, "value_name": value, "value": value}],
        services=[{**SEEN, "name": value, "actions": ["created"], "program": value}],
        tasks=[{**SEEN, "name": value, "evidence": ["file"]}],
        mutexes=[{**SEEN, "name": value}],
        wmi=[{**SEEN, "method": value, "text": value}],
        injections=[{**SEEN, "target": 7, "methods": [value]}],
        dumps=[{**SEEN, "name": value, "base": value, "reason": value, "method": value, "in_zip": True}],
        calls=[{**SEEN, "function": value, "category": value}],
        network=network,
        capabilities=[
            {**SEEN, "rule": value, "attack": [{"id": number, "tactic": value, "technique": value}]}
            for number in (value, "T1059.001")
        ],
        indicators={"hosts": [value], "addresses": [value], "urls": [value], "sha256": [value]},
        left_out={value: 1},
        plugins=[{"plugin": value, "lines": 1}],
        ending={"execution": value, "observed": "activity", "summary": value, "complete": True},
    )


MARKS = tuple("`|\\ #-\n\r\t\x00\x9b\u202e\u2066\u2028\ufeff[<>$~*e")
PIECES = ("``", "```", "~~~", "\x1b[2J", "<img src=x onerror=alert(1)>", "<!--", "&lt;", "**", "![", "@me")
LINKS = ("](http://evil.example/a)", "http://evil.example/", "https://e.example:1/")
NASTY = st.lists(st.sampled_from((*MARKS, *PIECES, *LINKS)), max_size=12).map("".join)
