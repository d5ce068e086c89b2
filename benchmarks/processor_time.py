"""Whose processor time something takes: ours by process, the servers', Karton's, and the benchmark's own.

On a machine that others use as well, how long something takes is mostly noise, and its processor time is not.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil

from benchmarks.measuring import Result
from benchmarks.stacks import NoOpStack

OURS = ("ingress", "libmagic", "vm worker", "vm pool", "io worker", "io pool", "beat", "supervisor")
"""Groups of our own processes."""
SHARED = ("Valkey", "SeaweedFS", "karton-system", "sender and receiver")
"""Groups that work for a peer as they do for us."""
PEER = "the consumer itself"
"""The group of a peer's own process."""
_GROUPS = {
    "vm": "vm worker",
    "io": "io worker",
    "valkey-server": "Valkey",
    "weed": "SeaweedFS",
    "system": "karton-system",
}
"""By the name in the Procfile, or the program's; others keep their name."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What was spent on a piece of work, in seconds."""

    by_group: Mapping[str, float]
    lasted: float

    @property
    def ours(self) -> float:
        """By all of our own processes."""
        return sum(self.by_group.get(group, 0) for group in OURS)

    @property
    def total(self) -> float:
        """By all processes that have to do with it."""
        return sum(self.by_group.values())


class Meter:
    """Reads the processor time of a stack's processes, and of the benchmark's."""

    def __init__(self, stack: NoOpStack, *, peer: int) -> None:
        """*peer* is the process of a peer; it counts as :data:`PEER`, with its pool."""
        self._stack = stack
        self._peer = psutil.Process(peer)
        self.readings: list[Spent] = []
        """Of each block, in their order."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Note what the block costs; a process that ends meanwhile is not counted."""
        before, begun = self._seconds(), time.monotonic()
        yield
        lasted, after = time.monotonic() - begun, self._seconds()
        spent = {group: seconds - before.get(group, 0.0) for group, seconds in after.items()}
        self.readings.append(Spent(by_group=spent, lasted=lasted))

    def _seconds(self) -> dict[str, float]:
        found = defaultdict[str, float](float)
        found |= {"sender and receiver": time.process_time(), PEER: _seconds_of_all(self._peer)}
        found["supervisor"] += _seconds(psutil.Process(self._stack.pid))
        for name, processes in self._stack.processes().items():
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[_group(name, process, processes)] += _seconds(process)
        return found


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _seconds_of_all(process: psutil.Process) -> float:
    return _seconds(process) + sum(map(_seconds, process.children(recursive=True)))


def _group(name: str, process: psutil.Process, of_its_name: Sequence[psutil.Process]) -> str:
    if "drakcelery.karton.filetype" in process.cmdline():
        return "libmagic"
    if name in ("vm", "io") and process.ppid() in {other.pid for other in of_its_name}:
        return f"{name} pool"
    return _GROUPS.get(name, name)


def spent_rows(spent: Mapping[str, Sequence[Spent]], many: int, names: Mapping[str, str]) -> Iterator[Result]:
    """What one of *many* analyses of nothing takes, and how many cores they keep busy; medians of the runs.

    The figure of the Karton pair stands where a group works for both. Beside all of our processes stands what
    the worker of bare Celery takes for five tasks that do nothing. *names* are the peers'.
    """
    each = "processor time per analysis of nothing"

    def row(
        name: str,
        of: Callable[[Spent], float],
        *,
        unit: str = "ms",
        peer: str | None = None,
        theirs: Callable[[Spent], float] | None = None,
    ) -> Result:
        return Result(
            name=name,
            unit=unit,
            ours=statistics.median(map(of, spent["ours"])),
            peer=statistics.median(map(theirs or of, spent[peer])) if peer else None,
            peer_name=names[peer] if peer else None,
            runs=len(spent["ours"]),
            less_is_better=unit == "ms",
        )

    def of_group(group: str) -> Callable[[Spent], float]:
        return lambda one: one.by_group.get(group, 0) * 1000 / many

    yield row(
        f"{each}, all our processes",
        lambda one: one.ours * 1000 / many,
        peer="celery",
        theirs=of_group(PEER),
    )
    yield from (row(f"{each}, {group}", of_group(group)) for group in OURS)
    yield from (row(f"{each}, {group}", of_group(group), peer="karton") for group in SHARED)
    yield row(f"{each}, all processes", lambda one: one.total * 1000 / many, peer="karton")
    yield row(
        "cores busy while analyses of nothing pass in bulk",
        lambda one: one.total / one.lasted,
        unit="cores",
        peer="karton",
    )
