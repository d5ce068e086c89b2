"""``process_tree.json``, as DRAKVUF Sandbox v0.21 writes it. Pure.

``as_dict`` of its ``drakrun/analyzer/postprocessing/process_tree.py`` has the form: the processes without a
known parent, each with its children.
"""

from __future__ import annotations

from typing import Any

from drakcelery.behaviour.processes import Process, Processes

NAME = "process_tree.json"
MOST_DEPTH = 100
"""Generations: readers of JSON end at some depth, as v0.21's own writer does."""


def process_tree(processes: Processes) -> tuple[list[dict[str, Any]], int]:
    """The tree, and how many processes it leaves out since they are too deep in it."""
    roots: list[dict[str, Any]] = []
    shown = 0
    waiting = [(process, roots, 1) for process in processes if process.parent is None]
    for process, siblings, depth in waiting:
        entry = _entry(process)
        siblings.append(entry)
        shown += 1
        if depth < MOST_DEPTH:
            waiting += [(child, entry["children"], depth + 1) for child in process.children.values()]
    return roots, len(processes.all) - shown


def _entry(process: Process) -> dict[str, Any]:
    return {
        "seqid": process.seqid,
        "pid": process.pid,
        "ppid": process.noted_ppid,
        "procname": process.image,
        "args": process.arguments(),
        "ts_from": process.begun,
        "ts_to": process.ended,
        "evtid_from": process.begun_at,
        "evtid_to": process.ended_at,
        "exit_code": process.exit_code,
        "exit_code_str": process.exit_status,
        "killed_by": process.killed_by,
        "children": [],
    }
