"""The processes of a report: their names, and the tree that their parents make. Pure.

A report that somebody else wrote may have processes that are their own ancestors.
"""

from __future__ import annotations

import ntpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drakcelery.behaviour.report import Report, ReportedProcess, Seen
from drakcelery.operators.report.document import Entry, Part
from drakcelery.operators.report.values import LONG, SHORT, shown

NAMED = 3
"""Processes that are named beside what they did."""
DEEPEST = 8
"""Generations that are indented; of more, only the number is told."""
_FIRST_ERROR = 0x8000_0000
"""NTSTATUS values from here on are warnings and errors, which are known by their hexadecimal form."""


@dataclass(kw_only=True, slots=True)
class Node:
    """A process in a tree. Not frozen, which takes three times as long to make; there are thousands."""

    process: ReportedProcess
    depth: int = 0
    lasts: tuple[bool, ...] = ()
    """As :attr:`Entry.lasts`."""
    position: int = 1
    """Its place among those with the same parent, from 1."""
    siblings: int = 1
    """How many these are, itself included."""
    children: int = 0


def _never(_: int) -> bool:
    return False


class Cast:
    """The processes of a report by their numbers.

    Attributes:
        own: the numbers of those that belong to the sample.
    """

    def __init__(self, report: Report) -> None:
        self.all = {one.seqid: one for one in report.processes}
        self.own = {number for number, one in self.all.items() if one.origin != "windows"}
        self._first = {number for number, process in self.all.items() if process.origin == "sample"}
        self._began = report.run.started

    def name(self, number: int) -> str:
        """``cmd.exe (1140)``."""
        process = self.all.get(number)
        return f"process {number}" if process is None else f"{_image(process)} ({process.pid})"

    def is_own(self, one: Seen) -> bool:
        """Whether the sample did it. The recorded traffic tells no process: all of it counts as its own."""
        return not one.processes or not self.own.isdisjoint(one.processes)

    def did(self, one: Seen) -> Iterator[Part]:
        """Who did it, if it was not the sample's first process, and how often."""
        numbers = tuple(number for number in one.processes if number in self.own) or one.processes
        if any(number not in self._first for number in numbers):
            more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
            yield Part(", ".join(map(self.name, numbers[:NAMED])) + more, label="by")
        if one.count > 1:
            yield Part(f"{one.count} times", "words")

    def tree(self, wanted: Collection[int], limit: int = LONG) -> Iterator[Entry]:
        """A line for each of the processes with the numbers *wanted*. Parents come before their children."""
        for one in self.walk(wanted):
            yield Entry(tuple(self._parts(one.process, limit)), depth=one.depth, lasts=one.lasts)

    def walk(self, wanted: Collection[int], is_folded: Callable[[int], bool] = _never) -> Iterator[Node]:
        """The processes with the numbers *wanted* as a tree, parents before their children; without what is
        below one that *is_folded*."""
        children: dict[int | None, list[int]] = {}
        for number in sorted(wanted, key=self.order):
            parent = self.all[number].parent
            children.setdefault(parent if parent in wanted and parent != number else None, []).append(number)
        seen: set[int] = set()
        # One that is its own ancestor hangs below no root
        roots = children.get(None, [])
        for place, root in enumerate((*roots, *sorted(wanted)), start=1):
            top = Node(process=self.all[root], position=min(place, len(roots) or 1), siblings=len(roots) or 1)
            yield from self._branch(top, children, seen, is_folded)

    def _branch(
        self,
        top: Node,
        children: Mapping[int | None, Sequence[int]],
        seen: set[int],
        is_folded: Callable[[int], bool],
    ) -> Iterator[Node]:
        waiting: list[tuple[Iterator[Node], bool]] = [(iter((top,)), False)]
        while waiting:
            nodes, hidden = waiting[-1]
            node = next(nodes, None)
            if node is None:
                waiting.pop()
                continue
            number = node.process.seqid
            if number in seen:
                continue
            seen.add(number)
            below = [one for one in children.get(number, ()) if one not in seen]
            if not hidden:
                node.children = len(below)
                yield node
            waiting.append((self._children(node, below), hidden or is_folded(number)))

    def _children(self, node: Node, numbers: Sequence[int]) -> Iterator[Node]:
        """Made one at a time: of a process with very many, a page shows few."""
        for place, number in enumerate(numbers, start=1):
            yield Node(
                process=self.all[number],
                depth=node.depth + 1,
                lasts=(*node.lasts, place == len(numbers))[-DEEPEST:],
                position=place,
                siblings=len(numbers),
            )

    def with_ancestors(self, numbers: Iterable[int]) -> set[int]:
        """*numbers*, and those of the ancestors of these processes."""
        wanted: set[int] = set()
        for number in numbers:
            current: int | None = number
            while current is not None and current in self.all and current not in wanted:
                wanted.add(current)
                current = self.all[current].parent
        return wanted

    def order(self, number: int) -> tuple[float, int]:
        """The key by which processes are sorted: those that were there before the sample come first."""
        return self.all[number].started or 0.0, number

    def _parts(self, process: ReportedProcess, limit: int) -> Iterator[Part]:
        own = process.origin != "windows"
        yield Part(self.name(process.seqid), "value" if own else "quiet")
        if process.origin == "sample":
            yield Part("the sample", "alert")
        if process.origin == "injected" or process.injected_by:
            yield Part(self.names(process.injected_by) or "the sample", label="injected by")
        if process.started is not None and process.started >= self._began > 0:
            yield Part(f"+{process.started - self._began:.1f} s", "words")
        yield from self._end(process)
        if process.command_line or process.image:
            yield Part(shown(process.command_line or process.image, limit), "value" if own else "quiet")

    def _end(self, process: ReportedProcess) -> Iterator[Part]:
        if process.exit_code is not None or process.exit_status:
            yield Part(exit_words(process), label="exit")
        elif process.ended is not None:
            yield Part("ended", "words")
        if process.killed_by is not None and process.killed_by != process.seqid:
            yield Part(self.name(process.killed_by), label="ended by")

    def names(self, numbers: Iterable[int]) -> str:
        """The first few of *numbers*, by name."""
        return ", ".join(map(self.name, list(numbers)[:NAMED]))


def _image(process: ReportedProcess) -> str:
    return shown(ntpath.basename(process.image or "") or "unknown", SHORT)


def exit_words(process: ReportedProcess) -> str:
    """``0``, ``0xc0000005 ACCESS_VIOLATION``; empty if it is not known how it ended."""
    code = process.exit_code
    number = "" if code is None else hex(code) if abs(code) >= _FIRST_ERROR else str(code)
    status = shown(process.exit_status or "", SHORT)
    return " ".join(filter(None, (number, status if code else "")))
