"""How much of a slot's time is a guest's, with a toolchain that costs what DRAKVUF Sandbox's does.

As :mod:`benchmarks.utilisation`, by the engine ``drakvuf``: each run leaves 100 MB of log and 200 MB of
dumps. A guest's time is that of its ``xl restore`` and of DRAKVUF. What the other simulated tools take, and
the start of each, is neither that nor waste: they are Python, the real ones are not. All else is waste,
drakrun's own time too.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report, simulated_xen
from benchmarks.dumps import write_dumps
from benchmarks.measuring import MB, Result
from tests.xen.host import End, XenHost

RESTORE_SECONDS = 1.0
LOG, DUMPS = 100 * MB, 200 * MB
WARM_SECONDS = 1
"""Of analyses after which a process has asked for what it keeps."""

Times = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Load:
    """Analyses of one length: how many with drakrun's library, without it, and of each if ``quick``."""

    run_seconds: int
    slots: tuple[str, ...]
    samples: int
    peer_samples: int
    quick: int

    @property
    def name(self) -> str:
        """In the table."""
        seconds = RESTORE_SECONDS + self.run_seconds
        slots = "1 slot" if len(self.slots) == 1 else f"{len(self.slots)} slots"
        return f"slot utilisation, {seconds:.0f} s analyses, {slots}, {simulated_xen.REAL}"


LOADS = (
    Load(run_seconds=30, slots=("vm-1", "vm-2"), samples=8, peer_samples=4, quick=0),
    Load(run_seconds=3, slots=("vm-1",), samples=12, peer_samples=5, quick=3),
)


def measure(*, quick: bool) -> list[Result]:
    """The share of time in which a slot has what it is there for; quick: short analyses only."""
    with tempfile.TemporaryDirectory() as directory:
        recorded = Path(directory)
        report.write_log(recorded / "drakmon.log", LOG)
        write_dumps(recorded / "dumps", DUMPS)
        return [_compared(load, recorded, quick=quick) for load in LOADS if load.quick or not quick]


def _compared(load: Load, recorded: Path, *, quick: bool) -> Result:
    samples, peer_samples = (load.quick, load.quick) if quick else (load.samples, load.peer_samples)
    return Result(
        name=load.name,
        unit="%",
        ours=100 * _measured(load, recorded, samples=samples, library=True),
        peer=100 * _measured(load, recorded, samples=peer_samples, library=False),
        peer_name=simulated_xen.PEER,
        limit=100,
        runs=samples,
    )


def _measured(load: Load, recorded: Path, *, samples: int, library: bool) -> float:
    cost = simulated_xen.TOOLCHAINS[simulated_xen.REAL]
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        host = XenHost.create(directory / "xen", restore_seconds=RESTORE_SECONDS, import_seconds=cost)
        with (recorded / "drakmon.log").open("rb") as log:
            dumps = [(path.name.partition("_")[0], path.read_bytes()) for path in _dumps(recorded)]
            host.play(log=log, dumps=dumps)
        stack = simulated_xen.running(host, directory / "stack", slots=load.slots, library=library)
        with host, stack as (ours, _):
            simulated_xen.analyse(ours, len(load.slots), slots=load.slots, timeout=WARM_SECONDS)
            known = len(host.ends())
            # Out of step, so that what the tools take can be told from slot to slot
            apart = load.run_seconds / len(load.slots)
            simulated_xen.analyse(ours, samples, slots=load.slots, timeout=load.run_seconds, apart=apart)
            ends = host.ends()[known:]
    return statistics.mean(share(ends, slot) for slot in load.slots)


def _dumps(recorded: Path) -> list[Path]:
    return sorted((recorded / "dumps").iterdir())


def share(ends: Sequence[End], slot: str) -> float:
    """Of the time from the first restore in *slot* to its last guest's end, that of restores and of DRAKVUF.

    What the simulated tools take beside is part of neither.
    """
    guests = [(end.begun, end.ended) for end in ends if _is_guest(end, slot)]
    first = guests[0][0]
    last = max(end.ended for end in ends if end.words == ("xl", "destroy", slot))
    tools = [end for end in ends if end.words[0] != "drakrun" and first < end.begun and end.ended <= last]
    times = [(max(first, end.started), end.begun if _lasts(end) else end.ended) for end in tools]
    used = length(guests)
    return used / (last - first - (length([*guests, *times]) - used))


def _is_guest(end: End, slot: str) -> bool:
    """Whether it is a restore or DRAKVUF, of that slot."""
    if end.words[0] == "drakvuf":
        return slot in end.words
    return end.words[:2] == ("xl", "restore") and Path(end.words[2]).stem == slot


def _lasts(end: End) -> bool:
    """Whether it works for as long as a guest is there."""
    return end.words[0] in {"drakvuf", "tcpdump"} or end.words[:2] == ("xl", "restore")


def length(times: Iterable[Times]) -> float:
    """Seconds that any of them covers."""
    covered, until = 0.0, float("-inf")
    for begin, end in sorted(times):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered
