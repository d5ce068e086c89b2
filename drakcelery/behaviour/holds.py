"""What forbids that a run is stopped, though nothing new comes: something is pending. Pure.

Sleeps. delaymon and the system call log ``NtDelayExecution`` when it begins. apimon's lines come when a
function has returned: its sleep is over, so they hold nothing. The emulator only puts its clock forward,
unless its guest is told to sleep: there a stop may come later than it could. delaymon has milliseconds,
DRAKVUF's negative if they count from now (``src/plugins/delaymon``), the system call hundreds of nanoseconds,
if it has the number and not where it stands. A program that sleeps equally long again and again, with nothing
new in between, is idle.

Connections. socketmon has a line when one is made, and for what is sent, but none when one is closed: it is
alive for a while after the last line. Tasks. When one fires is not known, nor whether what a service of
Windows starts is one: it is waited for as long as the shortest interval takes, three times.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drakcelery.behaviour.events import Event
from drakcelery.behaviour.facts import Facts
from drakcelery.behaviour.methods import Sieve
from drakcelery.model.news import merged

LONG_SLEEP = 10
"""Seconds; a shorter one is over before anybody would stop."""
ENDLESS_SLEEP = 7 * 24 * 3600
"""Seconds; no guest sees the end of it, and most mean for ever."""
EQUAL_SLEEPS = 3
"""Sleeps of one length in a process that hold without anything new in between."""
LIVE_SECONDS = 30
"""How long a connection is alive after a line about it."""
START_SECONDS = 30
"""How long a process has just started."""
TASK_SECONDS = 180
"""How long a scheduled task is waited for: the shortest interval of one is a minute."""
BLIND = "blind"
"""The kind of a period in which not everything could be counted."""
MOST_WAITING = 4096
"""Lines of a block that wait for whose they are to be known."""
_UNIX_EPOCH = 11_644_473_600
"""Seconds from 1601 to 1970: absolute times of Windows count from the former."""
_MOST_NAMES = 4096


@dataclass(frozen=True, slots=True)
class _Pending:
    """Something that one of the sample's processes may have begun."""

    pid: int | None
    at: int
    """The number of the event."""
    seconds: float | None = None
    """How long it sleeps; None: it has a connection."""


class Holds:
    """The periods in which a stop is forbidden, by seconds of the run.

    Attributes:
        left_out: sleeps and connections of which it is not known whose they are, since there were too many.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._periods: dict[str, list[tuple[int, int]]] = {}
        self._waiting: list[_Pending] = []
        self.left_out = 0
        self._delays = Sieve(["NtDelayExecution"])
        self._slept: Counter[tuple[int | None, int]] = Counter()

    def read(self, groups: Mapping[str, Sequence[bytes]]) -> None:
        """The lines of a block of the log by plugin."""
        delays = (*groups.get("delaymon", ()), *self._delays.among(groups.get("syscall", ())))
        found = (*_sleeps(delays), *_connections(groups.get("socketmon", ())))
        room = MOST_WAITING - len(self._waiting)
        self._waiting += found[:room]
        self.left_out += max(0, len(found) - room)

    def settle(self, second: int, *, is_news: bool) -> None:
        """Say of what came since the last time whether it is the sample's, once its facts are counted."""
        if is_news:
            self._slept.clear()
        for one in self._waiting:
            if self._facts.kin.has_pid(one.pid, one.at):
                self._hold(one, second)
        self._waiting.clear()
        if any(process.begun for process in self._facts.new_processes):
            self.add("process", second, second + START_SECONDS)
        if self._facts.new_tasks:
            self.add("task", second, second + TASK_SECONDS)

    def _hold(self, one: _Pending, second: int) -> None:
        if one.seconds is None:
            self.add("connection", second, second + LIVE_SECONDS)
        elif LONG_SLEEP <= one.seconds < ENDLESS_SLEEP:
            key = (one.pid, int(one.seconds))
            if len(self._slept) < _MOST_NAMES or key in self._slept:
                self._slept[key] += 1
            if self._slept[key] <= EQUAL_SLEEPS:
                self.add("sleep", second, second + int(one.seconds) + 1)

    def add(self, kind: str, first: int, last: int) -> None:
        """Something of this *kind* forbids a stop from *first* to *last*."""
        periods = self._periods.setdefault(kind, [])
        if periods and first <= periods[-1][1] + 1:
            periods[-1] = (periods[-1][0], max(periods[-1][1], last))
        else:
            periods.append((first, last))

    def last(self) -> int:
        """The last second of all periods."""
        return max((periods[-1][1] for periods in self._periods.values()), default=0)

    def last_in_guest(self, bound: int) -> int:
        """The last second of the periods that end until *bound*, and in which something goes on in the guest:
        that not everything could be counted is no reason to go on."""
        kinds = (periods for kind, periods in self._periods.items() if kind != BLIND)
        return max((periods[-1][1] for periods in kinds if periods[-1][1] <= bound), default=0)

    def all(self) -> list[tuple[int, int]]:
        """The periods of all kinds together."""
        return merged(period for periods in self._periods.values() for period in periods)


def _sleeps(lines: Iterable[bytes]) -> Iterator[_Pending]:
    for line in lines:
        event = Event.parse(line)
        seconds = None if event is None else _slept(event)
        if event is not None and seconds is not None and seconds >= LONG_SLEEP:
            yield _Pending(event.pid, event.uid, seconds)


def _slept(event: Event) -> float | None:
    """How long a thread sleeps, in seconds; None if the line does not tell."""
    found = event.fields.get("DelayIntervalMs")
    if isinstance(found, int | float) and not isinstance(found, bool):
        seconds = found / 1000
    else:
        ticks = event.number("DelayInterval")
        if event.method != "NtDelayExecution" or ticks is None or ticks < 2**63:
            return None  # where the number stands
        seconds = (ticks - 2**64) / 10**7
    if seconds <= 0:
        return -seconds
    if seconds < _UNIX_EPOCH:
        return seconds
    return seconds - _UNIX_EPOCH - (event.time or 0.0)


def _connections(lines: Iterable[bytes]) -> Iterator[_Pending]:
    for line in lines:
        event = Event.parse(line)
        if event is not None and _is_remote(event.text("RemoteIp", 64)):
            owner = event.process("OwnerPID")
            yield _Pending(owner or event.pid, event.uid)


def _is_remote(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_multicast or found.is_unspecified)
